import Foundation
import NeuralNetwork
import Testing

@Suite struct SafetensorsTests {
  private let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "fovea-safetensors-\(UInt64.random(in: 0...UInt64.max))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func write(header: String, data: [UInt8] = [], length: UInt64? = nil) throws -> String {
    let path = folder + "/\(UInt64.random(in: 0...UInt64.max)).safetensors"
    var bytes = Data()
    withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { bytes.append(contentsOf: $0) }
    bytes.append(Data(header.utf8))
    bytes.append(contentsOf: data)
    try bytes.write(to: URL(fileURLWithPath: path))
    return path
  }

  @Test func roundTrip() throws {
    let path = folder + "/a.safetensors"
    let values: [Float] = [1, -2.5, .infinity, .leastNonzeroMagnitude, 0, 3]
    try SafetensorsWriter.write(
      [("b/kernel", [2, 3], values), ("a", [], [7]), ("empty", [0, 4], [])], metadata: ["k": "v \"quoted\" ü"], to: path
    )
    let file = try SafetensorsFile(contentsOf: path)
    #expect(file.names == ["a", "b/kernel", "empty"])
    #expect(file.metadata == ["k": "v \"quoted\" ü"])
    #expect(try file.floats("b/kernel", shape: [2, 3]) == values)
    #expect(try file.floats("a") == [7])
    #expect(try file.floats("empty").isEmpty)
    #expect(throws: SafetensorsError.self) { try file.floats("b/kernel", shape: [3, 2]) }
    #expect(throws: SafetensorsError.self) { try file.floats("missing") }
  }

  @Test func bytesDependOnContentAlone() throws {
    let (one, two) = (folder + "/1.safetensors", folder + "/2.safetensors")
    try SafetensorsWriter.write([("a", [1], [1]), ("b", [1], [2])], metadata: ["x": "1", "y": "2"], to: one)
    try SafetensorsWriter.write([("b", [1], [2]), ("a", [1], [1])], metadata: ["y": "2", "x": "1"], to: two)
    #expect(try Data(contentsOf: URL(fileURLWithPath: one)) == Data(contentsOf: URL(fileURLWithPath: two)))
  }

  @Test func otherFloatTypesAreConverted() throws {
    // 1.5 and −2 as float16, bfloat16 and float64.
    let data: [UInt8] =
      [0x00, 0x3e, 0x00, 0xc0] + [0xc0, 0x3f, 0x00, 0xc0] + [0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]
    let path = try write(
      header: #"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"#
        + #""b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},"d":{"dtype":"F64","shape":[2],"data_offsets":[8,24]}}"#,
      data: data)
    let file = try SafetensorsFile(contentsOf: path)
    for name in ["h", "b", "d"] { #expect(try file.floats(name) == [1.5, -2], "\(name)") }
  }

  /// Damaged or hostile files: each is refused with one line that names the file.
  @Test(arguments: [
    ("not JSON", "{", 0), ("an array", "[]", 0), ("no dtype", #"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4),
    ("no shape", #"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4),
    ("no offsets", #"{"a":{"dtype":"F32","shape":[1]}}"#, 4),
    ("unknown dtype", #"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4),
    ("negative extent", #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
    ("overflowing shape", #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, 4),
    ("offsets beyond the file", #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
    ("reversed offsets", #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
    ("offsets that do not fit the shape", #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, 8),
    (
      "overlapping tensors",
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
      12
    ), ("metadata that is no text", #"{"__metadata__":{"k":1}}"#, 0),
  ]) func hostileHeaders(_ name: String, _ header: String, _ bytes: Int) throws {
    let path = try write(header: header, data: Array(repeating: 0, count: bytes))
    let error = #expect(throws: SafetensorsError.self, "\(name)") { try SafetensorsFile(contentsOf: path) }
    #expect(error?.description.contains(path) ?? false, "\(name)")
    #expect(!(error?.description.contains("\n") ?? true), "\(name)")
  }

  @Test func hostileLengths() throws {
    for length in [100, UInt64.max, 1 << 40] as [UInt64] {
      let path = try write(header: "{}", length: length)
      #expect(throws: SafetensorsError.self, "\(length)") { try SafetensorsFile(contentsOf: path) }
    }
    let short = folder + "/short"
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: short))
    #expect(throws: SafetensorsError.self) { try SafetensorsFile(contentsOf: short) }
  }

  @Test func unwritableFoldersLeaveNothing() {
    let path = folder + "/missing/a.safetensors"
    #expect(throws: (any Error).self) { try SafetensorsWriter.write([("a", [1], [1])], to: path) }
    #expect((try? FileManager.default.contentsOfDirectory(atPath: folder))?.isEmpty ?? false)
  }
}
