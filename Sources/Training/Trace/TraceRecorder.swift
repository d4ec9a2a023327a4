import Dispatch
import Foundation
import NeuralNetwork
import OpenCLRuntime
import Synchronization

/// Traces the first training steps of a run: the device's queue, the steps as the host sees them, and whatever else is
/// added meanwhile, such as what the threads of a loader do.
///
/// **One clock.** Everything is brought to `DispatchTime.uptimeNanoseconds` of the host. The device notes the times of
/// launches in a clock of its own. ``Device/clockOffset()`` brackets the offset between the two before the first step and
/// after the last; in between it is interpolated, which makes up for clocks of different speed. The brackets' width is
/// stated in the file as `clock_uncertainty_us`.
public final class TraceRecorder: Callback, Sendable {
  private let path: String
  private let steps: Int

  private struct State {
    var isOpen = true
    var spans: [Trace.Span] = []
    var lastStep: Int?
    var begin: ClockReading?
    var stepStart: UInt64 = 0
  }

  private let state = Mutex(State())

  /// Writes the trace of `steps` training steps to `path` once they are done, or at the end of the epoch or of the run
  /// where that comes first.
  public init(path: String, steps: Int) {
    precondition(steps > 0, "TraceRecorder: \(steps) steps")
    self.path = path
    self.steps = steps
  }

  /// Adds a span; does nothing once the trace has been written. May be called from any thread.
  public func add(_ span: @autoclosure () -> Trace.Span) {
    state.withLock { state in
      guard state.isOpen else { return }
      state.spans.append(span())
    }
  }

  /// Begins with the first phase of training; another phase ends the trace.
  public func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) throws {
    guard phase == .training else { return try finish(on: loop.trainer.device) }
    guard state.withLock({ $0.isOpen && $0.begin == nil }) else { return }
    let device = loop.trainer.device
    try device.setProfiling(true)
    let begin = try ClockReading(device)
    state.withLock { state in
      state.begin = begin
      state.lastStep = loop.progress.totalSteps + self.steps
      state.stepStart = begin.host
    }
  }

  /// Adds the step: from the end of the step before until its loss was on the host.
  public func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) {
    let now = DispatchTime.now().uptimeNanoseconds
    state.withLock { state in
      guard state.isOpen, phase == .training else { return }
      state.spans.append(
        Trace.Span(name: "step \(loop.progress.totalSteps)", lane: "1 Training loop", start: state.stepStart, end: now))
      state.stepStart = now
    }
  }

  /// After the last step that is traced.
  public func wantsRest(after step: Int) -> Bool {
    state.withLock { $0.isOpen && $0.lastStep == step }
  }

  /// Writes the trace.
  public func deviceDidRest(in loop: TrainingLoop) throws {
    try finish(on: loop.trainer.device)
  }

  /// Writes the trace of what there was.
  public func runWillStop(in loop: TrainingLoop) throws {
    try finish(on: loop.trainer.device)
  }

  private func finish(on device: Device) throws {
    guard let begin = state.withLock({ $0.isOpen ? $0.begin : nil }) else { return }
    let launches = try device.takeProfile()
    let end = try ClockReading(device)
    try device.setProfiling(false)
    var spans = state.withLock { state in
      state.isOpen = false
      defer { state.spans = [] }
      return state.spans
    }
    spans += launches.map { launch in
      Trace.Span(
        name: launch.label, lane: "2 Device queue", start: begin.hostTime(of: launch.start, until: end),
        end: begin.hostTime(of: launch.end, until: end), arguments: ["flops": launch.flops, "bytes": launch.bytes])
    }
    let uncertainty = max(begin.offset.uncertainty, end.offset.uncertainty)
    let trace = Trace(
      spans: spans,
      facts: ["device": device.description.summary, "clock_uncertainty_us": "\(Double(uncertainty) / 1000)"])
    try AtomicFile.write(trace.json(), to: path)
  }
}

/// How the device's clock stood to the host's at a moment.
struct ClockReading: Sendable {
  /// The moment, in nanoseconds of the host's clock.
  var host: UInt64
  /// What to add to the device's clock.
  var offset: Device.ClockOffset

  init(host: UInt64, offset: Device.ClockOffset) {
    self.host = host
    self.offset = offset
  }

  /// Compares the clocks now; the device must be profiling.
  init(_ device: Device) throws {
    let offset = try device.clockOffset()
    self.init(host: DispatchTime.now().uptimeNanoseconds, offset: offset)
  }

  /// A time of the device's clock between this reading and `later` in the host's clock.
  func hostTime(of device: UInt64, until later: ClockReading) -> UInt64 {
    let first = Double(offset.nanoseconds)
    let drift = Double(later.offset.nanoseconds) - first
    let elapsed = Double(device) + first - Double(host)
    let share = later.host > host ? min(max(elapsed / Double(later.host - host), 0), 1) : 0
    return UInt64(max(Int64(device) + offset.nanoseconds + Int64((drift * share).rounded()), 0))
  }
}
