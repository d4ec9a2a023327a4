/// The element types that the safetensors format knows.
enum SafetensorsDType: String {
  case bool = "BOOL"
  case f4 = "F4"
  case f6e2m3 = "F6_E2M3"
  case f6e3m2 = "F6_E3M2"
  case u8 = "U8"
  case i8 = "I8"
  case f8e5m2 = "F8_E5M2"
  case f8e4m3 = "F8_E4M3"
  case f8e8m0 = "F8_E8M0"
  case i16 = "I16"
  case u16 = "U16"
  case f16 = "F16"
  case bf16 = "BF16"
  case i32 = "I32"
  case u32 = "U32"
  case f32 = "F32"
  case c64 = "C64"
  case f64 = "F64"
  case i64 = "I64"
  case u64 = "U64"

  var bits: Int {
    switch self {
    case .f4: 4
    case .f6e2m3, .f6e3m2: 6
    case .bool, .u8, .i8, .f8e5m2, .f8e4m3, .f8e8m0: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }
}

/// A tensor's name, compared by its bytes as the format does. Swift's own comparison takes the two ways to write é, as
/// one scalar or as two, for the same.
struct ExactName: Hashable {
  let text: String

  static func == (first: ExactName, second: ExactName) -> Bool { first.text.utf8.elementsEqual(second.text.utf8) }

  func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
  }
}

/// The number of elements of `shape`; nil when it is beyond the largest integer.
func elementCount(of shape: [Int]) -> Int? {
  var count = 1
  for size in shape {
    let product = count.multipliedReportingOverflow(by: size)
    guard !product.overflow else { return nil }
    count = product.partialValue
  }
  return count
}

/// One tensor of a safetensors header, checked.
struct SafetensorsEntry {
  let dtype: SafetensorsDType
  let shape: [Int]
  let elements: Int
  /// The tensor's bytes, counted from the end of the header.
  let bytes: Range<Int>
}

/// The JSON header of a safetensors file.
///
/// Read by a parser of its own, because a general one accepts what the format forbids: it keeps the last of two equal
/// keys in silence, and turns integers beyond 2⁵³ into floating-point numbers. The header has a fixed depth, so hostile
/// nesting cannot exhaust the stack.
struct SafetensorsHeader {
  private(set) var metadata: [String: String] = [:]
  private(set) var entries: [ExactName: SafetensorsEntry] = [:]

  /// Parses `text`, the header of the file at `path`, and checks that its tensors fill `dataBytes` bytes exactly.
  init(parsing text: [UInt8], dataBytes: Int, path: String) throws {
    guard String(validating: text, as: UTF8.self) != nil else {
      throw SafetensorsError(path: path, reason: .headerNotUTF8)
    }
    var parser = HeaderParser(text: text, path: path)
    // The format wants the brace at once: white space may only follow.
    guard text.first == UInt8(ascii: "{") else { throw parser.expected("'{'") }
    var hasMetadata = false
    try parser.parseObject { parser, name in
      if name == "__metadata__" {
        guard !hasMetadata else { throw parser.duplicate(name) }
        hasMetadata = true
        metadata = try parser.parseStrings()
      } else {
        let key = ExactName(text: name)
        guard entries[key] == nil else { throw parser.duplicate(name) }
        entries[key] = try parser.parseEntry(of: name)
      }
    }
    try parser.parseEnd()
    try checkLayout(dataBytes: dataBytes, path: path)
  }

  /// The format wants every byte to belong to exactly one tensor, so that a file cannot hide data or mean two things.
  private func checkLayout(dataBytes: Int, path: String) throws {
    let ordered = entries.sorted {
      ($0.value.bytes.lowerBound, $0.value.bytes.upperBound) < ($1.value.bytes.lowerBound, $1.value.bytes.upperBound)
    }
    func fail(_ problem: String) -> SafetensorsError { SafetensorsError(path: path, reason: .layout(problem)) }
    var end = 0
    for (key, entry) in ordered {
      let name = key.text
      guard entry.bytes.upperBound <= dataBytes else {
        throw fail("tensor \(quoted(name)) ends at byte \(entry.bytes.upperBound) of only \(dataBytes) bytes of data")
      }
      guard entry.bytes.lowerBound >= end else { throw fail("tensor \(quoted(name)) overlaps another") }
      guard entry.bytes.lowerBound == end else { throw fail("there is a hole before tensor \(quoted(name))") }
      end = entry.bytes.upperBound
    }
    guard end == dataBytes else { throw fail("the last \(dataBytes - end) bytes belong to no tensor") }
  }
}

/// A parser for the JSON of a header and nothing else. Positions are bytes; the text is valid UTF-8.
private struct HeaderParser {
  let text: [UInt8]
  let path: String
  private var position = 0

  init(text: [UInt8], path: String) {
    self.text = text
    self.path = path
  }

  // MARK: Errors

  func expected(_ what: String) -> SafetensorsError {
    SafetensorsError(path: path, reason: .headerSyntax("expected \(what)", position: position))
  }

  func duplicate(_ key: String) -> SafetensorsError {
    SafetensorsError(path: path, reason: .duplicateKey(key))
  }

  // MARK: What a header holds

  /// Parses `{"key": value, …}`; `value` parses what follows each colon.
  mutating func parseObject(_ value: (inout HeaderParser, String) throws -> Void) throws {
    try parse("{")
    guard !skip("}") else { return }
    repeat {
      let key = try parseString()
      try parse(":")
      try value(&self, key)
    } while skip(",")
    try parse("}")
  }

  mutating func parseStrings() throws -> [String: String] {
    var strings: [String: String] = [:]
    try parseObject { parser, key in
      guard strings[key] == nil else { throw parser.duplicate(key) }
      strings[key] = try parser.parseString()
    }
    return strings
  }

  mutating func parseEntry(of tensor: String) throws -> SafetensorsEntry {
    let path = path
    func invalid(_ problem: String) -> SafetensorsError {
      SafetensorsError(path: path, reason: .invalidEntry(tensor: tensor, problem))
    }
    var typeName: String?
    var shape: [Int]?
    var offsets: [Int]?
    try parseObject { parser, key in
      switch key {
      case "dtype":
        guard typeName == nil else { throw parser.duplicate(key) }
        typeName = try parser.parseString()
      case "shape":
        guard shape == nil else { throw parser.duplicate(key) }
        shape = try parser.parseIntegers(in: "shape", invalid)
      case "data_offsets":
        guard offsets == nil else { throw parser.duplicate(key) }
        offsets = try parser.parseIntegers(in: "data_offsets", invalid)
      default:
        throw invalid("has an unknown field \(quoted(key))")
      }
    }
    guard let typeName else { throw invalid("has no dtype") }
    guard let shape else { throw invalid("has no shape") }
    guard let offsets else { throw invalid("has no data_offsets") }
    guard let dtype = SafetensorsDType(rawValue: typeName) else {
      throw invalid("has the unknown dtype \(quoted(typeName))")
    }
    guard offsets.count == 2 else { throw invalid("has \(offsets.count) data_offsets, not 2") }
    guard offsets[0] <= offsets[1] else { throw invalid("ends before it begins: data_offsets \(offsets)") }

    guard let elements = elementCount(of: shape), let bits = elementCount(of: [elements, dtype.bits]) else {
      throw invalid("has a shape too large to count: \(summary(of: shape))")
    }
    guard bits % 8 == 0, bits / 8 == offsets[1] - offsets[0] else {
      throw invalid(
        "has data_offsets \(offsets) of \(offsets[1] - offsets[0]) bytes, which do not fit \(typeName) "
          + summary(of: shape))
    }
    return SafetensorsEntry(dtype: dtype, shape: shape, elements: elements, bytes: offsets[0]..<offsets[1])
  }

  /// A shape for a message, which has to stay one readable line whatever the file says.
  private func summary(of shape: [Int]) -> String {
    shape.count <= 8 ? "\(shape)" : "\(Array(shape.prefix(8)))… of \(shape.count) dimensions"
  }

  private mutating func parseIntegers(in field: String, _ invalid: (String) -> SafetensorsError) throws -> [Int] {
    var integers: [Int] = []
    try parse("[")
    guard !skip("]") else { return integers }
    repeat {
      skipSpace()
      if current == UInt8(ascii: "-") { throw invalid("has a negative number in its \(field)") }
      let start = position
      var value = 0
      while let digit = current, UInt8(ascii: "0")...UInt8(ascii: "9") ~= digit {
        let tens = value.multipliedReportingOverflow(by: 10)
        let sum = tens.partialValue.addingReportingOverflow(Int(digit - UInt8(ascii: "0")))
        guard !tens.overflow, !sum.overflow else { throw invalid("has a number too large in its \(field)") }
        value = sum.partialValue
        position += 1
      }
      guard position > start else { throw expected("an integer") }
      if position - start > 1, text[start] == UInt8(ascii: "0") { throw invalid("has a leading zero in its \(field)") }
      if let next = current, ".eE".utf8.contains(next) {
        throw invalid("has a number that is no integer in its \(field)")
      }
      integers.append(value)
    } while skip(",")
    try parse("]")
    return integers
  }

  mutating func parseEnd() throws {
    skipSpace()
    guard position == text.count else { throw expected("the header's end") }
  }

  // MARK: JSON

  private var current: UInt8? { position < text.count ? text[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
  }

  private mutating func skip(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard current == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func parse(_ character: Unicode.Scalar) throws {
    guard skip(character) else { throw expected("'\(character)'") }
  }

  private mutating func parseString() throws -> String {
    skipSpace()
    guard current == UInt8(ascii: "\"") else { throw expected("a string") }
    position += 1
    var bytes: [UInt8] = []
    while let byte = current {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        return String(decoding: bytes, as: UTF8.self)
      case UInt8(ascii: "\\"):
        bytes += Array(String(try parseEscape()).utf8)
      case 0..<0x20:
        position -= 1
        throw expected("no control character in a string")
      default:
        bytes.append(byte)
      }
    }
    throw expected("the end of a string")
  }

  /// Parses what follows a backslash.
  private mutating func parseEscape() throws -> Character {
    guard let byte = current else { throw expected("an escape") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Character(Unicode.Scalar(byte))
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let first = try parseHex()
      if let scalar = Unicode.Scalar(first) { return Character(scalar) }
      // A pair of UTF-16 surrogates stands for one scalar.
      guard UTF16.isLeadSurrogate(UInt16(first)), current == UInt8(ascii: "\\") else {
        throw expected("a surrogate pair")
      }
      position += 1
      guard current == UInt8(ascii: "u") else { throw expected("a surrogate pair") }
      position += 1
      let second = try parseHex()
      guard UTF16.isTrailSurrogate(UInt16(second)),
        let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
      else { throw expected("a surrogate pair") }
      return Character(scalar)
    default:
      position -= 1
      throw expected("an escape")
    }
  }

  private mutating func parseHex() throws -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw expected("four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
