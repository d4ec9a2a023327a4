import Foundation
import NeuralNetwork
import OpenCLRuntime
import Testing

@testable import Training

@Suite struct TraceTests {
  private func events(_ text: String) throws -> [[String: Any]] {
    let root = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    return try #require(root["traceEvents"] as? [[String: Any]])
  }

  @Test func lanesAndTimes() throws {
    let trace = Trace(
      spans: [
        Trace.Span(
          name: "second", lane: "b", start: 5_000_000_002_000, end: 5_000_000_002_500, arguments: ["bytes": 8]),
        Trace.Span(name: "\"first\" <é>", lane: "a", start: 5_000_000_000_500, end: 5_000_000_003_000),
      ], facts: ["device": "d"])
    let events = try events(trace.json())
    let lanes = events.filter { $0["name"] as? String == "thread_name" }
    #expect(lanes.map { ($0["args"] as? [String: String])?["name"] } == ["a", "b"])
    #expect(lanes.map { $0["tid"] as? Int } == [1, 2])
    let spans = events.filter { $0["ph"] as? String == "X" }
    #expect(spans.map { $0["name"] as? String } == ["\"first\" <é>", "second"])
    #expect(spans.map { $0["ts"] as? Double } == [0, 1.5] && spans.map { $0["dur"] as? Double } == [2.5, 0.5])
    #expect(spans.map { $0["tid"] as? Int } == [1, 2])
    #expect((spans[1]["args"] as? [String: Double]) == ["bytes": 8])
  }

  @Test func whatEnclosesComesFirst() throws {
    func span(_ name: String, _ start: UInt64, _ end: UInt64) -> Trace.Span {
      Trace.Span(name: name, lane: "a", start: start, end: end)
    }
    let trace = Trace(spans: [span("inner", 5, 7), span("last", 9, 10), span("outer", 5, 9)])
    let names = try events(trace.json()).filter { $0["ph"] as? String == "X" }.map { $0["name"] as? String }
    #expect(names == ["outer", "inner", "last"])
  }

  @Test func deviceTimesAreBroughtToTheHostsClock() {
    let start = ClockReading(host: 1000, offset: Device.ClockOffset(nanoseconds: 900, uncertainty: 1))
    // The device's clock fell behind by 10 ns in 1000.
    let end = ClockReading(host: 2000, offset: Device.ClockOffset(nanoseconds: 910, uncertainty: 1))
    #expect([100, 600, 1090].map { start.hostTime(of: $0, until: end) } == [1000, 1505, 2000])
    #expect(start.hostTime(of: 50, until: start) == 950)
  }

  @Test func firstStepsAreTracedAndChangeNothing() throws {
    let folder = TemporaryPath()
    let directory = try RunDirectory(folder.path)
    let plain = try TinyRun(epochs: 1)
    try plain.loop.run()
    let device = try Device(DeviceSelection.pick("cpu"))
    let recorder = TraceRecorder(path: directory.path(of: "trace.json"), steps: 3)
    let run = try TinyRun(epochs: 1, callbacks: [recorder], on: device)
    try run.loop.run()
    #expect(try run.outcome() == plain.outcome())
    #expect(!device.isProfiling)

    let text = try folder.text("trace.json")
    let spans = try events(text).filter { $0["ph"] as? String == "X" }
    func lane(_ number: Int) -> [(name: String, start: Double, end: Double)] {
      spans.filter { $0["tid"] as? Int == number }.map { span in
        let start = span["ts"] as? Double ?? .nan
        return (span["name"] as? String ?? "", start, start + (span["dur"] as? Double ?? .nan))
      }
    }
    let (steps, launches) = (lane(1), lane(2))
    #expect(steps.map(\.name) == ["step 1", "step 2", "step 3"])
    #expect(launches.filter { $0.name.hasSuffix("update") }.count == 3)
    // The queue is in order: half a nanosecond for the rounding of microseconds.
    #expect(zip(launches, launches.dropFirst()).allSatisfy { $0.end <= $1.start + 5e-4 })
    // On one clock, a step's loss is on the host after the device has computed it.
    let root = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let facts = try #require(root["otherData"] as? [String: String])
    let uncertainty = try #require(facts["clock_uncertainty_us"].flatMap(Double.init))
    // Two reads a step: loss and number of correct ones.
    let reads = launches.filter { $0.name == "copy to host" }
    #expect(reads.count == 6)
    for (index, read) in reads.enumerated() {
      #expect(read.end <= steps[index / 2].end + uncertainty + 1e-3)
    }
  }

  @Test func anEpochThatEndsBeforeIsEnough() throws {
    let folder = TemporaryPath()
    let directory = try RunDirectory(folder.path)
    let run = try TinyRun(
      epochs: 2, callbacks: [TraceRecorder(path: directory.path(of: "t.json"), steps: 100)],
      on: Device(DeviceSelection.pick("cpu")))
    try run.loop.run()
    let steps = try events(folder.text("t.json")).compactMap { $0["name"] as? String }.filter { $0.hasPrefix("step ") }
    #expect(steps == (1...6).map { "step \($0)" })
  }
}
