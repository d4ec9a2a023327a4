import Foundation

/// A safetensors file: named tensors behind a JSON header.
///
/// Opening reads and checks the header; a tensor's bytes are read when they are asked for. The file may come from
/// anywhere: whatever it holds, the outcome is its tensors or a ``SafetensorsError``.
///
/// Layout: the header's length as a little-endian 64-bit integer, the header, then the tensors' bytes without holes.
public struct SafetensorsFile: Sendable {
  /// The most bytes that a header may have; the format's own limit.
  public static let maximumHeaderBytes = 100_000_000

  /// The file.
  public let path: String
  /// The strings under `__metadata__`.
  public let metadata: [String: String]
  /// The tensors' names, sorted by their UTF-8 bytes.
  public let names: [String]

  private let entries: [ExactName: SafetensorsEntry]
  private let dataStart: Int
  private let file: OpenFile

  /// Opens the file at `path` and checks its header.
  public init(contentsOf path: String) throws {
    func fail(_ reason: SafetensorsError.Reason) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }
    let file = try OpenFile(reading: path)
    guard file.size >= 8 else { throw fail(.tooShort(bytes: file.size)) }
    var length: UInt64 = 0
    try withUnsafeMutableBytes(of: &length) { try file.read(into: $0, at: 0) }
    length = UInt64(littleEndian: length)
    guard length <= UInt64(min(file.size - 8, Self.maximumHeaderBytes)) else {
      var start = [UInt8](repeating: 0, count: min(file.size, 9))
      try start.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
      // Every header begins so.
      let isCutShort = start.dropFirst(8).allSatisfy { $0 == UInt8(ascii: "{") }
      throw fail(isCutShort ? .headerLength(length, fileBytes: file.size) : .otherFormat(Self.format(start)))
    }
    let text = try [UInt8](unsafeUninitializedCapacity: Int(length)) { buffer, count in
      try file.read(
        into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<Int(length)]), at: 8)
      count = Int(length)
    }
    let dataStart = 8 + Int(length)
    let header = try SafetensorsHeader(parsing: text, dataBytes: file.size - dataStart, path: path)
    self.path = path
    self.metadata = header.metadata
    self.names = header.entries.keys.map(\.text).sorted(by: precedes)
    self.entries = header.entries
    self.dataStart = dataStart
    self.file = file
  }

  /// What other files of weights begin with.
  private static func format(_ start: [UInt8]) -> String? {
    if start.starts(with: [0x89] + Array("HDF\r\n".utf8)) {
      return "an HDF5 file: Scripts/keras_weights.py makes one of Keras's weights"
    }
    if start.starts(with: Array("PK".utf8)) {
      return "a zip file, as PyTorch and Keras write them: `fovea import --help` names what makes one of it"
    }
    return nil
  }

  /// The element type, in the format's words such as `F32`, and the shape of a tensor; nil when there is none.
  public func entry(_ name: String) -> (dtype: String, shape: [Int])? {
    entries[ExactName(text: name)].map { ($0.dtype.rawValue, $0.shape) }
  }

  /// The numbers of a tensor, row by row: F32 as they are, F16 and BF16 widened, F64 rounded.
  ///
  /// - Parameter shape: The shape that the tensor must have; any if nil.
  public func floats(_ name: String, shape: [Int]? = nil) throws -> [Float] {
    func fail(_ reason: SafetensorsError.Reason) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }
    guard let entry = entries[ExactName(text: name)] else { throw fail(.missingTensor(name)) }
    if let shape, shape != entry.shape {
      throw fail(.shapeMismatch(tensor: name, found: entry.shape, expected: shape))
    }
    switch entry.dtype {
    case .f32:
      return try elements(of: entry, as: Float.self)
    case .f64:
      return try elements(of: entry, as: Double.self).map { Float($0) }
    case .bf16:
      return try elements(of: entry, as: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
    case .f16:
      return try elements(of: entry, as: UInt16.self).map { float(half: $0) }
    default:
      throw fail(.notFloatingPoint(tensor: name, dtype: entry.dtype.rawValue))
    }
  }

  /// Reads a tensor's bytes straight into an array of `Element`. Every host that Swift supports is little-endian, as
  /// the format is.
  private func elements<Element: BitwiseCopyable>(of entry: SafetensorsEntry, as: Element.Type) throws -> [Element] {
    try [Element](unsafeUninitializedCapacity: entry.elements) { buffer, count in
      let bytes = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: entry.bytes.count)
      try file.read(into: bytes, at: dataStart + entry.bytes.lowerBound)
      count = entry.elements
    }
  }
}

/// Writes safetensors files.
public enum SafetensorsWriter {
  /// Writes 32-bit tensors to `path`, all of them or nothing.
  ///
  /// The bytes depend on the arguments alone, not on their order: tensors sorted by name, metadata sorted by key.
  public static func write(
    _ tensors: [(name: String, shape: [Int], values: [Float])], metadata: [String: String] = [:], to path: String
  ) throws {
    try write(tensors.map { ($0.name, $0.shape) }, metadata: metadata, to: path) { tensors[$0].values }
  }

  /// Writes 32-bit tensors to `path`, all of them or nothing, asking for the values of one after the other, so that
  /// they need not be in memory together.
  ///
  /// - Parameter values: Gives the numbers of the tensor at an index of `tensors`; called once for each, in the order
  ///   of their names.
  public static func write(
    _ tensors: [(name: String, shape: [Int])], metadata: [String: String] = [:], to path: String,
    values: (Int) throws -> [Float]
  ) throws {
    func fail(_ problem: String) -> SafetensorsError { SafetensorsError(path: path, reason: .cannotRepresent(problem)) }
    let order = tensors.indices.sorted { precedes(tensors[$0].name, tensors[$1].name) }
    var fields: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { precedes($0.key, $1.key) }
      fields.append("\"__metadata__\":{\(pairs.map { "\(json($0.key)):\(json($0.value))" }.joined(separator: ","))}")
    }
    var end = 0
    var counts: [Int] = []
    var names: Set = [ExactName(text: "__metadata__")]
    for index in order {
      let (name, shape) = tensors[index]
      guard names.insert(ExactName(text: name)).inserted else {
        throw fail(
          name == "__metadata__" ? "no tensor may be named __metadata__" : "two tensors are named \(quoted(name))")
      }
      guard shape.allSatisfy({ $0 >= 0 }) else { throw fail("tensor \(quoted(name)) has the negative shape \(shape)") }
      guard let count = elementCount(of: shape), let bytes = elementCount(of: [count, 4]),
        case let (next, overflows) = end.addingReportingOverflow(bytes), !overflows
      else { throw fail("tensor \(quoted(name)) of shape \(shape) is too large") }
      let sizes = shape.map(String.init).joined(separator: ",")
      // The order of the fields is that of the reference implementation, whose files equal ours byte for byte.
      fields.append(
        "\(json(name)):{\"dtype\":\"F32\",\"shape\":[\(sizes)],\"data_offsets\":[\(end),\(next)]}")
      counts.append(count)
      end = next
    }
    var header = Array("{\(fields.joined(separator: ","))}".utf8)
    // Spaces up to a multiple of 8, so that the tensors are aligned for those who map the file.
    header += Array(repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    guard header.count <= SafetensorsFile.maximumHeaderBytes else { throw fail("the header is too long") }

    try AtomicFile.write(to: path) { file in
      try withUnsafeBytes(of: UInt64(header.count).littleEndian) { try file.append($0) }
      try header.withUnsafeBytes { try file.append($0) }
      for (index, count) in zip(order, counts) {
        let numbers = try values(index)
        guard numbers.count == count else {
          let (name, shape) = tensors[index]
          throw fail("tensor \(quoted(name)) of shape \(shape) was given \(numbers.count) numbers")
        }
        try numbers.withUnsafeBytes { try file.append($0) }
      }
    }
  }

  /// `text` as a JSON string.
  private static func json(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\u{8}": result += "\\b"
      case "\u{C}": result += "\\f"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..<"\u{20}": result += String(format: "\\u%04x", scalar.value)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

/// A file held open for reading. It stays the same file when another takes its name meanwhile.
private final class OpenFile: Sendable {
  let size: Int
  private let path: String
  private let descriptor: Int32

  init(reading path: String) throws {
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError("read", path) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw FileError("read", path, reason: "it is not a plain file")
    }
    self.path = path
    self.descriptor = descriptor
    self.size = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// Fills `buffer` with the bytes from `offset` on. Reading instead of mapping: a file that is cut short meanwhile
  /// gives an error and not a crash.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    var filled = 0
    while filled < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
      let count = pread(descriptor, rest.baseAddress, rest.count, off_t(offset + filled))
      if count < 0 {
        guard errno == EINTR else { throw FileError("read", path) }
      } else if count == 0 {
        throw SafetensorsError(path: path, reason: .changedWhileReading)
      } else {
        filled += count
      }
    }
  }
}

/// The order of names in files: by bytes, the same everywhere, unlike Swift's own, which follows Unicode.
private func precedes(_ first: String, _ second: String) -> Bool {
  first.utf8.lexicographicallyPrecedes(second.utf8)
}

/// A 16-bit IEEE number. Written out because `Float16` does not exist on every host.
private func float(half: UInt16) -> Float {
  let sign = UInt32(half & 0x8000) << 16
  let magnitude = UInt32(half & 0x7FFF) << 13
  if magnitude >= 0x7C00 << 13 { return Float(bitPattern: sign | 0x7F80_0000 | magnitude) }
  // 2¹¹² moves the exponent's bias from 15 to 127, and makes normal numbers of the subnormal ones.
  let value = Float(bitPattern: magnitude) * Float(bitPattern: 0x7780_0000)
  return Float(bitPattern: sign | value.bitPattern)
}
