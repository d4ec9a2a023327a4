import Foundation
import SwiftProtobuf
import Testing

@testable import TensorBoard

@Suite struct RecordTests {
  // RFC 3720, B.4, and the check value of the catalogue of CRC algorithms.
  @Test(
    arguments: [
      (Array("123456789".utf8), 0xE306_9283), (Array(repeating: 0, count: 32), 0x8A91_36AA),
      (Array(repeating: 0xFF, count: 32), 0x62A8_AB43), (Array(0...31), 0x46DD_794E),
      (Array((0...31).reversed()), 0x113F_DB5C), ([], 0),
    ] as [([UInt8], UInt32)])
  func checksums(bytes: [UInt8], expected: UInt32) {
    #expect(CRC32C.checksum(bytes) == expected)
  }

  /// The bytes that TensorFlow 2.21's `tf.io.TFRecordWriter` writes for these three characters.
  @Test func frame() {
    let expected: [UInt8] = [3, 0, 0, 0, 0, 0, 0, 0, 176, 153, 73, 14, 97, 98, 99, 110, 87, 241, 33]
    #expect(TFRecord.frame(Array("abc".utf8)) == expected)
  }
}

@Suite struct HistogramTests {
  @Test func buckets() {
    let histogram = Histogram([0, 1, 2, 3, 10, 10, .nan, .infinity] as [Float], buckets: 5)
    #expect(histogram.count == 6 && histogram.minimum == 0 && histogram.maximum == 10)
    #expect(histogram.sum == 26 && histogram.sumOfSquares == 214)
    #expect(histogram.limits == [2, 4, 6, 8, 10])
    #expect(histogram.buckets == [2, 2, 0, 0, 2])
  }

  @Test func oneValueAndNone() {
    let one = Histogram([3, 3] as [Float])
    #expect(one.limits == [3.5] && one.buckets == [2])
    let none = Histogram([.nan] as [Float])
    #expect(none.count == 0 && none.buckets.isEmpty && none.limits.isEmpty)
  }
}

@Suite struct EventWriterTests {
  private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path

  /// Reads a file back, checking the frame of each record.
  private func events(_ path: String) throws -> [Tensorboard_Event] {
    var rest = try Array(Data(contentsOf: URL(fileURLWithPath: path)))[...]
    var events: [Tensorboard_Event] = []
    while !rest.isEmpty {
      let length = Int(rest.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) })
      let data = Array(rest.dropFirst(12).prefix(length))
      #expect(Array(rest.prefix(length + 16)) == TFRecord.frame(data))
      events.append(try Tensorboard_Event(serializedBytes: data))
      rest = rest.dropFirst(length + 16)
    }
    return events
  }

  @Test func eventsComeBack() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let writer = try EventWriter(folder: folder + "/a/b")
    try writer.write(scalars: [("loss", 0.5), ("accuracy", .nan)], step: 7)
    try writer.write(image: [1, 2], height: 3, width: 4, tag: "picture", step: 8)
    try writer.write(histograms: [("weights", Histogram([1, 2] as [Float], buckets: 2))], step: 9)
    let events = try events(writer.path)
    #expect(events.map(\.step) == [0, 7, 8, 9])
    #expect(events[0].fileVersion == "brain.Event:2")
    #expect(events.allSatisfy { abs($0.wallTime - Date().timeIntervalSince1970) < 3600 })
    let scalars = events[1].summary.value
    #expect(
      scalars.map(\.tag) == ["loss", "accuracy"] && scalars[0].simpleValue == 0.5 && scalars[1].simpleValue.isNaN)
    let image = events[2].summary.value[0].image
    #expect(image.height == 3 && image.width == 4 && image.colorspace == 3 && image.encodedImageString == Data([1, 2]))
    let histogram = events[3].summary.value[0].histo
    #expect(histogram.bucketLimit == [1.5, 2] && histogram.bucket == [1, 1] && histogram.num == 2)
  }

  @Test func aResumedRunSaysWhereItGoesOn() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let events = try events(EventWriter(folder: folder, after: 5).path)
    #expect(events.count == 2 && events[1].sessionLog.status == .start && events[1].step == 6)
  }
}
