import Foundation
import NeuralNetwork
import Testing

@Suite struct SafetensorsTests {
  // MARK: Writing and reading

  @Test func roundTripKeepsEveryBit() throws {
    try withFolder { folder in
      let special: [Float] = [0, -0.0, 1, .infinity, -.infinity, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .pi]
      let path = "\(folder)/a.safetensors"
      try SafetensorsWriter.write(
        [("special", [2, 4], special), ("scalar", [], [7]), ("empty", [3, 0], []), ("é/ü \"\\\n\u{1}😀", [1], [-1])],
        metadata: ["model": "resizer", "a \"quoted\" key": "tab\tand newline\n"], to: path)
      let file = try SafetensorsFile(contentsOf: path)
      #expect(file.names == ["empty", "scalar", "special", "é/ü \"\\\n\u{1}😀"])
      #expect(file.metadata == ["model": "resizer", "a \"quoted\" key": "tab\tand newline\n"])
      #expect(try file.floats("special").map(\.bitPattern) == special.map(\.bitPattern))
      #expect(try file.floats("scalar", shape: []) == [7])
      #expect(try file.floats("empty", shape: [3, 0]) == [])
      #expect(try file.floats("é/ü \"\\\n\u{1}😀") == [-1])
      #expect(file.entry("special")?.dtype == "F32")
      #expect(file.entry("special")?.shape == [2, 4])
      #expect(file.entry("absent") == nil)
    }
  }

  /// Two names that Swift's comparison takes for one.
  @Test func namesAreComparedByTheirBytes() throws {
    try withFolder { folder in
      let path = "\(folder)/a"
      try SafetensorsWriter.write([("\u{E9}", [1], [1]), ("e\u{301}", [1], [2])], to: path)
      let file = try SafetensorsFile(contentsOf: path)
      #expect(file.names.map { Array($0.utf8) } == [[0x65, 0xCC, 0x81], [0xC3, 0xA9]])
      #expect(try file.floats("\u{E9}") == [1])
      #expect(try file.floats("e\u{301}") == [2])
    }
  }

  @Test func bytesDependOnContentsOnly() throws {
    try withFolder { folder in
      let tensors: [(name: String, shape: [Int], values: [Float])] = [
        ("b", [1], [2]), ("B", [2], [3, 4]), ("a", [1], [1]),
      ]
      try SafetensorsWriter.write(tensors, metadata: ["x": "1", "y": "2"], to: "\(folder)/1")
      try SafetensorsWriter.write(tensors.reversed(), metadata: ["y": "2", "x": "1"], to: "\(folder)/2")
      let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/1"))
      #expect(try bytes == Data(contentsOf: URL(fileURLWithPath: "\(folder)/2")))

      let header =
        #"{"__metadata__":{"x":"1","y":"2"},"B":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#
        + #""a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"#
        + #""b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#
      let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
      var expected = withUnsafeBytes(of: UInt64(padded.utf8.count).littleEndian) { Data($0) } + Data(padded.utf8)
      for value: Float in [3, 4, 1, 2] { withUnsafeBytes(of: value) { expected.append(contentsOf: $0) } }
      #expect(bytes == expected)
    }
  }

  @Test func noTensorsAtAll() throws {
    try withFolder { folder in
      try SafetensorsWriter.write([(name: String, shape: [Int], values: [Float])](), to: "\(folder)/a")
      #expect(try SafetensorsFile(contentsOf: "\(folder)/a").names == [])
    }
  }

  @Test func otherFloatingPointTypesBecomeFloats() throws {
    try withFolder { folder in
      // 1, -2, the smallest subnormal half, infinity, and the largest half.
      let halves: [UInt16] = [0x3C00, 0xC000, 0x0001, 0x7C00, 0x7BFF, 0x8000, 0x7E00]
      let brains: [UInt16] = [0x3F80, 0xC000]
      let doubles: [Double] = [0.1, -1e300]
      var data = Data()
      halves.withUnsafeBytes { data.append(contentsOf: $0) }
      brains.withUnsafeBytes { data.append(contentsOf: $0) }
      doubles.withUnsafeBytes { data.append(contentsOf: $0) }
      data.append(contentsOf: [1, 2, 3, 4])
      let header =
        #"{"h":{"dtype":"F16","shape":[7],"data_offsets":[0,14]},"#
        + #""b":{"dtype":"BF16","shape":[2],"data_offsets":[14,18]},"#
        + #""d":{"dtype":"F64","shape":[2],"data_offsets":[18,34]},"#
        + #""i":{"dtype":"I32","shape":[1],"data_offsets":[34,38]}}"#
      let path = try write(header, data, in: folder)
      let file = try SafetensorsFile(contentsOf: path)
      let read = try file.floats("h")
      #expect(read[..<5] == [1, -2, 0x1p-24, .infinity, 65504])
      #expect(read[5].bitPattern == 0x8000_0000)
      #expect(read[6].isNaN)
      #expect(try file.floats("b") == [1, -2])
      #expect(try file.floats("d") == [0.1, -.infinity])
      expectProblem(path, "tensor 'i' is I32, not F32, F64, F16 or BF16") { _ = try file.floats("i") }
    }
  }

  @Test func valuesAreAskedForInTheOrderOfNames() throws {
    try withFolder { folder in
      var asked: [Int] = []
      try SafetensorsWriter.write([("b", [2]), ("a", [1]), ("c", [1])], to: "\(folder)/a") { index in
        asked.append(index)
        return index == 0 ? [1, 2] : [Float(index)]
      }
      #expect(asked == [1, 0, 2])
      #expect(try SafetensorsFile(contentsOf: "\(folder)/a").floats("b") == [1, 2])
    }
  }

  @Test func aFileOfModelSizeIsFast() throws {
    try withFolder { folder in
      let values = [Float](repeating: 0.5, count: 7_000_000)
      let start = Date()
      try SafetensorsWriter.write([("a", [7_000_000], values)], to: "\(folder)/a")
      #expect(try SafetensorsFile(contentsOf: "\(folder)/a").floats("a") == values)
      // Far above what it takes, far below what a loop over bytes would take in a debug build.
      #expect(Date().timeIntervalSince(start) < 10)
    }
  }

  // MARK: Asking for what is not there

  @Test func missingAndMisshapenTensorsAreNamed() throws {
    try withFolder { folder in
      let path = "\(folder)/a.safetensors"
      try SafetensorsWriter.write([("kernel", [2, 1], [1, 2])], to: path)
      let file = try SafetensorsFile(contentsOf: path)
      expectProblem(path, "holds no tensor 'bias'") { _ = try file.floats("bias") }
      expectProblem(path, "tensor 'kernel' has shape [2, 1], not [1, 2]") {
        _ = try file.floats("kernel", shape: [1, 2])
      }
    }
  }

  @Test func filesThatCannotBeReadAreNamed() throws {
    try withFolder { folder in
      expectLine("cannot read \(folder)/absent: No such file or directory") {
        _ = try SafetensorsFile(contentsOf: "\(folder)/absent")
      }
      expectLine("cannot read \(folder): it is not a plain file") { _ = try SafetensorsFile(contentsOf: folder) }
      expectLine("cannot read /dev/zero: it is not a plain file") { _ = try SafetensorsFile(contentsOf: "/dev/zero") }
    }
  }

  @Test func aFileCutShortAfterOpeningIsAnError() throws {
    try withFolder { folder in
      let path = "\(folder)/a"
      try SafetensorsWriter.write([("a", [1000], [Float](repeating: 1, count: 1000))], to: path)
      let file = try SafetensorsFile(contentsOf: path)
      #expect(truncate(path, 1000) == 0)
      expectProblem(path, "became shorter while it was being read") { _ = try file.floats("a") }
    }
  }

  // MARK: Hostile files

  struct Hostile: Sendable, CustomTestStringConvertible {
    let header: String
    var data = 8
    let problem: String
    var testDescription: String { problem }
  }

  /// A header of one tensor.
  static func entry(_ fields: String) -> String { "{\"a\":{\(fields)}}" }

  /// A header of two tensors, named a and b unless told otherwise.
  static func entries(_ a: String, _ b: String, second: String = "b") -> String {
    "{\"a\":{\(a)},\"\(second)\":{\(b)}}"
  }

  static let hostile: [Hostile] = [
    // JSON
    .init(header: "", problem: "expected '{' at byte 0"),
    .init(header: " {}", data: 0, problem: "expected '{' at byte 0"),
    .init(header: "[]", problem: "expected '{' at byte 0"),
    .init(header: "{", problem: "expected a string at byte 1"),
    .init(header: "{\"a", problem: "expected the end of a string at byte 3"),
    .init(header: "{\"a\"", problem: "expected ':' at byte 4"),
    .init(header: "{\"a\":7}", problem: "expected '{' at byte 5"),
    .init(header: "{} x", data: 0, problem: "expected the header's end at byte 3"),
    .init(header: "{},", data: 0, problem: "expected the header's end at byte 2"),
    .init(header: "{}\u{0}", data: 0, problem: "expected the header's end at byte 2"),
    .init(header: "{\"a\\x\":{}}", problem: "expected an escape at byte 4"),
    .init(header: "{\"\\ud800\":{}}", problem: "expected a surrogate pair at byte 8"),
    .init(header: "{\"\\ud800\\u0041\":{}}", problem: "expected a surrogate pair at byte 14"),
    .init(header: "{\"\\u12g4\":{}}", problem: "expected four hexadecimal digits at byte 6"),
    .init(header: "{\"a\nb\":{}}", problem: "expected no control character in a string at byte 3"),
    .init(header: String(repeating: "{\"a\":", count: 100_000), problem: "has an unknown field 'a'"),
    .init(header: String(repeating: "[", count: 100_000), problem: "expected '{' at byte 0"),
    .init(header: #"{"__metadata__":{"a":1}}"#, data: 0, problem: "expected a string at byte 21"),
    .init(header: #"{"__metadata__":{"a":"1","a":"2"}}"#, data: 0, problem: "the key 'a' occurs twice"),
    .init(header: #"{"__metadata__":{},"__metadata__":{}}"#, data: 0, problem: "the key '__metadata__' occurs twice"),
    // One entry
    .init(header: entry(#""shape":[2],"data_offsets":[0,8]"#), problem: "tensor 'a' has no dtype"),
    .init(header: entry(#""dtype":"F32","data_offsets":[0,8]"#), problem: "tensor 'a' has no shape"),
    .init(header: entry(#""dtype":"F32","shape":[2]"#), problem: "tensor 'a' has no data_offsets"),
    .init(header: entry(""), problem: "tensor 'a' has no dtype"),
    .init(
      header: entry(#""dtype":"F33","shape":[2],"data_offsets":[0,8]"#),
      problem: "tensor 'a' has the unknown dtype 'F33'"),
    .init(header: entry(#""dtype":32,"shape":[2],"data_offsets":[0,8]"#), problem: "expected a string at byte 14"),
    .init(
      header: entry(#""dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]"#),
      problem: "the key 'dtype' occurs twice"),
    .init(header: entry(#""dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1"#), problem: "has an unknown field 'x'"),
    .init(
      header: entry(#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), problem: "has a negative number in its shape"),
    .init(
      header: entry(#""dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]"#),
      problem: "has a negative number in its shape"),
    .init(
      header: entry(#""dtype":"F32","shape":[2.0],"data_offsets":[0,8]"#),
      problem: "has a number that is no integer in its shape"),
    .init(
      header: entry(#""dtype":"F32","shape":[2e0],"data_offsets":[0,8]"#),
      problem: "has a number that is no integer in its shape"),
    .init(
      header: entry(#""dtype":"F32","shape":[02],"data_offsets":[0,8]"#), problem: "has a leading zero in its shape"),
    .init(header: entry(#""dtype":"F32","shape":["2"],"data_offsets":[0,8]"#), problem: "expected an integer at byte"),
    .init(header: entry(#""dtype":"F32","shape":[2,],"data_offsets":[0,8]"#), problem: "expected an integer at byte"),
    .init(header: entry(#""dtype":"F32","shape":null,"data_offsets":[0,8]"#), problem: "expected '[' at byte"),
    .init(
      header: entry(#""dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]"#),
      problem: "has a number too large in its shape"),
    .init(
      header: entry(#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#),
      problem: "has a shape too large to count: [4294967296, 4294967296]"),
    .init(
      header: entry(#""dtype":"F64","shape":[9223372036854775807],"data_offsets":[0,8]"#),
      problem: "has a shape too large to count"),
    .init(header: entry(#""dtype":"F32","shape":[2],"data_offsets":[0]"#), problem: "has 1 data_offsets, not 2"),
    .init(header: entry(#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#), problem: "has 3 data_offsets, not 2"),
    .init(header: entry(#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), problem: "ends before it begins"),
    .init(
      header: entry(#""dtype":"F32","shape":[2],"data_offsets":[-8,0]"#),
      problem: "has a negative number in its data_offsets"),
    .init(
      header: entry(#""dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]"#),
      problem: "has a number too large in its data_offsets"),
    .init(
      header: entry(#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#),
      problem: "has data_offsets [0, 4] of 4 bytes, which do not fit F32 [2]"),
    .init(
      header: entry(#""dtype":"F4","shape":[3],"data_offsets":[0,1]"#),
      problem: "has data_offsets [0, 1] of 1 bytes, which do not fit F4 [3]"),
    // All entries together
    .init(
      header: entry(#""dtype":"F32","shape":[4],"data_offsets":[0,16]"#),
      problem: "tensor 'a' ends at byte 16 of only 8 bytes of data"),
    .init(
      header: entry(#""dtype":"F32","shape":[1],"data_offsets":[9223372036854775803,9223372036854775807]"#),
      problem: "tensor 'a' ends at byte 9223372036854775807 of only 8 bytes of data"),
    .init(
      header: entry(#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#), problem: "there is a hole before tensor 'a'"),
    .init(
      header: entry(#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#), problem: "the last 4 bytes belong to no tensor"
    ),
    .init(header: "{}", problem: "the last 8 bytes belong to no tensor"),
    .init(
      header: entries(
        #""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, #""dtype":"F32","shape":[1],"data_offsets":[2,6]"#),
      problem: "tensor 'b' overlaps another"),
    .init(
      header: entries(
        #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#, #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#),
      problem: "overlaps another"),
    .init(
      header: entries(
        #""dtype":"U8","shape":[4],"data_offsets":[0,4]"#, #""dtype":"U8","shape":[2],"data_offsets":[6,8]"#),
      problem: "there is a hole before tensor 'b'"),
    .init(
      header: entries(
        #""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, #""dtype":"F32","shape":[1],"data_offsets":[4,8]"#,
        second: "a"),
      problem: "the key 'a' occurs twice"),
    // A name may hold anything; a message stays one line.
    .init(header: "{\"a\\n\\u001b[31m\\u202e\":{}}", problem: #"tensor 'a\u{a}\u{1b}[31m\u{202e}' has no dtype"#),
    .init(header: "{\"\(String(repeating: "x", count: 5000))\":{}}", problem: "xxx…' has no dtype"),
  ]

  @Test(arguments: hostile) func hostileHeader(_ hostile: Hostile) throws {
    try withFolder { folder in
      let path = try write(hostile.header, Data(count: hostile.data), in: folder)
      expectProblem(path, hostile.problem) { _ = try SafetensorsFile(contentsOf: path) }
    }
  }

  @Test func hostileLengths() throws {
    try withFolder { folder in
      func expect(_ bytes: [UInt8], size: Int? = nil, _ problem: String) throws {
        let path = "\(folder)/a"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        if let size { #expect(truncate(path, off_t(size)) == 0) }
        expectProblem(path, problem) { _ = try SafetensorsFile(contentsOf: path) }
      }
      try expect([], "0 bytes are too few for a header")
      try expect([2, 0, 0, 0, 0, 0, 0], "7 bytes are too few for a header")
      try expect([0, 0, 0, 0, 0, 0, 0, 0], "expected '{' at byte 0")
      try expect([3, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D], "its header would be 3 bytes long, the file has 10")
      try expect([UInt8](repeating: 0xFF, count: 8), "its header would be 18446744073709551615 bytes long")
      try expect([UInt8](repeating: 0xFF, count: 16), "is not a safetensors file")
      try expect(Array("Just some text.\n".utf8), "is not a safetensors file")
      try expect([0x89] + Array("HDF\r\n\u{1A}\n".utf8) + [0], "is not a safetensors file, but an HDF5 file: ")
      try expect(Array("PK\u{3}\u{4}\u{14}\0\0\0\u{8}".utf8), "is not a safetensors file, but a zip file, ")
      // 100,000,001 bytes in a (sparse) file that is long enough.
      try expect([0x01, 0xE1, 0xF5, 0x05, 0, 0, 0, 0, 0x7B], size: 200_000_000, "a header may have 100000000")
      try expect([4, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x22, 0xFF, 0x22], "its header is not UTF-8")
    }
  }

  @Test func everyTruncationOfAGoodFileIsAnError() throws {
    try withFolder { folder in
      let path = "\(folder)/a"
      try SafetensorsWriter.write([("a", [2], [1, 2]), ("b", [1], [3])], metadata: ["k": "v"], to: path)
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      for count in 0..<whole.count {
        try whole.prefix(count).write(to: URL(fileURLWithPath: path))
        #expect(throws: SafetensorsError.self, "\(count) bytes") { try SafetensorsFile(contentsOf: path) }
      }
    }
  }

  @Test func changedBytesNeverCrash() throws {
    try withFolder { folder in
      let path = "\(folder)/a"
      try SafetensorsWriter.write([("a", [2], [1, 2]), ("b", [1], [3])], metadata: ["k": "v"], to: path)
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      var generator = SeededGenerator(state: 1)
      for _ in 0..<500 {
        var damaged = whole
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
          damaged[Int.random(in: 0..<whole.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        try damaged.write(to: URL(fileURLWithPath: path))
        do {
          let file = try SafetensorsFile(contentsOf: path)
          for name in file.names { _ = try file.floats(name) }
        } catch is SafetensorsError {
        }
      }
    }
  }

  // MARK: Writing what cannot be written

  @Test func writingLeavesTheOldFileAndNoOther() throws {
    try withFolder { folder in
      let path = "\(folder)/a.safetensors"
      try SafetensorsWriter.write([("a", [1], [1])], to: path)
      struct Stop: Error {}
      #expect(throws: Stop.self) {
        try SafetensorsWriter.write([("a", [1]), ("b", [1])], to: path) { index in
          if index == 1 { throw Stop() }
          return [2]
        }
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.safetensors"])
      #expect(try SafetensorsFile(contentsOf: path).floats("a") == [1])
      try SafetensorsWriter.write([("a", [1], [3])], to: path)
      #expect(try SafetensorsFile(contentsOf: path).floats("a") == [3])
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.safetensors"])
    }
  }

  @Test func placesThatCannotBeWritten() throws {
    try withFolder { folder in
      let tensors: [(name: String, shape: [Int], values: [Float])] = [("a", [1], [1])]
      expectLine("cannot write \(folder)/no/a: No such file or directory") {
        try SafetensorsWriter.write(tensors, to: "\(folder)/no/a")
      }
      try Data().write(to: URL(fileURLWithPath: "\(folder)/file"))
      expectLine("cannot write \(folder)/file/a: Not a directory") {
        try SafetensorsWriter.write(tensors, to: "\(folder)/file/a")
      }
      expectLine("cannot write \(folder): it exists and is not a plain file") {
        try SafetensorsWriter.write(tensors, to: folder)
      }
      expectLine("cannot write /dev/null: it exists and is not a plain file") {
        try SafetensorsWriter.write(tensors, to: "/dev/null")
      }
    }
  }

  @Test func tensorsThatCannotBeWritten() throws {
    try withFolder { folder in
      let path = "\(folder)/a"
      func expect(_ tensors: [(name: String, shape: [Int], values: [Float])], _ problem: String) {
        expectProblem(path, problem) { try SafetensorsWriter.write(tensors, to: path) }
        #expect((try? FileManager.default.contentsOfDirectory(atPath: folder)) == [])
      }
      expect([("a", [2], [1])], "tensor 'a' of shape [2] was given 1 numbers")
      expect([("a", [1], [1]), ("a", [1], [1])], "two tensors are named 'a'")
      expect([("a", [-1], [])], "tensor 'a' has the negative shape [-1]")
      expect([("__metadata__", [1], [1])], "no tensor may be named __metadata__")
      expect([("a", [1 << 62, 2], [])], "tensor 'a' of shape [4611686018427387904, 2] is too large")
      expect([("a", [1 << 61], [])], "tensor 'a' of shape [2305843009213693952] is too large")
      // Each fits, both together do not.
      expect([("a", [1 << 60], []), ("b", [1 << 60], [])], "tensor 'b' of shape [1152921504606846976] is too large")
    }
  }

  // MARK: Helpers

  /// Writes a file of `header` and `data`, with the header's true length before them.
  private func write(_ header: String, _ data: Data, in folder: String) throws -> String {
    let path = "\(folder)/hostile.safetensors"
    let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
    try (length + Data(header.utf8) + data).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// Expects a `SafetensorsError` of one line that names the file and contains `problem`.
  private func expectProblem(
    _ path: String, _ problem: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    let error = #expect(throws: SafetensorsError.self, sourceLocation: sourceLocation) { try body() }
    guard let error else { return }
    let line = "\(error)"
    #expect(line.contains(problem) && line.contains(path), "\(line)", sourceLocation: sourceLocation)
    #expect(!line.contains { $0.isNewline } && line.count < 500, sourceLocation: sourceLocation)
  }

  private func expectLine(
    _ line: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    let error = #expect(throws: FileError.self, sourceLocation: sourceLocation) { try body() }
    #expect(error.map { "\($0)" } == line, sourceLocation: sourceLocation)
  }
}

/// Knuth's linear congruential generator: the same damage in every run.
private struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ state >> 33
  }
}

/// Runs `body` with the path of an empty folder, and removes the folder.
private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}
