import Foundation

/// What happened when, as a file of the Trace Event Format that Perfetto (ui.perfetto.dev) and chrome://tracing show:
/// a lane for each thread or queue, all on one clock.
public struct Trace: Sendable {
  /// Something that took time.
  public struct Span: Sendable {
    /// What the lane shows.
    public var name: String
    /// Spans of a lane nest or follow each other: viewers draw others wrongly.
    public var lane: String
    /// In nanoseconds of `DispatchTime.uptimeNanoseconds`.
    public var start: UInt64
    /// In nanoseconds of `DispatchTime.uptimeNanoseconds`.
    public var end: UInt64
    /// Shown when the span is chosen.
    public var arguments: [String: Double]

    /// Creates a span.
    public init(name: String, lane: String, start: UInt64, end: UInt64, arguments: [String: Double] = [:]) {
      self.name = name
      self.lane = lane
      self.start = start
      self.end = end
      self.arguments = arguments
    }
  }

  /// In any order.
  public var spans: [Span]
  /// Facts about the trace as a whole.
  public var facts: [String: String]

  /// Creates a trace.
  public init(spans: [Span], facts: [String: String] = [:]) {
    self.spans = spans
    self.facts = facts
  }

  /// The file. Times are microseconds since the first span; lanes are in the order of their names.
  public func json() throws -> String {
    let origin = spans.map(\.start).min() ?? 0
    let lanes = Dictionary(
      uniqueKeysWithValues: Set(spans.map(\.lane)).sorted().enumerated().map { ($0.element, $0.offset + 1) })
    func microseconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1000 }
    var events = [Event(name: "process_name", ph: "M", tid: 0, args: ["name": .text("Fovea")])]
    for (lane, number) in lanes.sorted(by: { $0.value < $1.value }) {
      events.append(Event(name: "thread_name", ph: "M", tid: number, args: ["name": .text(lane)]))
      events.append(
        Event(name: "thread_sort_index", ph: "M", tid: number, args: ["sort_index": .number(Double(number))]))
    }
    // What encloses others comes before them.
    events += spans.sorted { ($0.start, $1.end) < ($1.start, $0.end) }.map { span in
      Event(
        name: span.name, ph: "X", tid: lanes[span.lane] ?? 0, ts: microseconds(span.start - origin),
        dur: microseconds(span.end - span.start), args: span.arguments.mapValues { .number($0) })
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // A line for each event, so that the file can be searched.
    let lines = try events.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
    let other = String(decoding: try encoder.encode(facts), as: UTF8.self)
    return "{\"displayTimeUnit\":\"ms\",\"otherData\":\(other),\"traceEvents\":[\n"
      + lines.joined(separator: ",\n") + "\n]}\n"
  }

  private struct Event: Encodable {
    enum Argument: Encodable {
      case text(String)
      case number(Double)

      func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let text): try container.encode(text)
        case .number(let number): try container.encode(number)
        }
      }
    }

    var name: String
    /// The kind of event: M tells about a lane, X is a span.
    var ph: String
    var pid = 1
    var tid: Int
    var ts: Double?
    var dur: Double?
    var args: [String: Argument]
  }
}
