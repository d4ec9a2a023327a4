import OpenCLRuntime

/// Has the device time one training step of the run, so that a report can say where the time goes. The other steps are
/// not slowed; this one and its neighbours lose the overlap with the host.
public final class StepProfiler: Callback {
  /// Where the device's time went in that step, by kind of launch, longest first; empty until it has been timed.
  public private(set) var kernelTimes: [RunReport.KernelTime] = []
  private var stepBefore: Int
  private var isTiming = false

  /// Times the run's third step after `step` steps have been done: the first ones compile kernels and fill caches.
  public init(after step: Int = 0) {
    stepBefore = step + 2
  }

  /// A validation that comes between would be timed too; the step is put off to the next epoch.
  public func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) throws {
    guard isTiming, phase != .training else { return }
    _ = try endTiming(on: loop.trainer.device)
    stepBefore = loop.progress.totalSteps + 1
  }

  /// Before and after the step that is timed.
  public func wantsRest(after step: Int) -> Bool {
    step == stepBefore || isTiming
  }

  /// Begins or ends timing.
  public func deviceDidRest(in loop: TrainingLoop) throws {
    let device = loop.trainer.device
    if isTiming {
      kernelTimes = RunReport.KernelTime.byKind(try endTiming(on: device))
    } else if kernelTimes.isEmpty {
      try device.setProfiling(true)
      isTiming = true
    }
  }

  private func endTiming(on device: Device) throws -> [ProfileEntry] {
    isTiming = false
    try device.setProfiling(false)
    return try device.takeProfile()
  }
}

extension RunReport.KernelTime {
  /// Sums a profile by kind of launch, longest first.
  public static func byKind(_ entries: [ProfileEntry]) -> [RunReport.KernelTime] {
    Dictionary(grouping: entries, by: \.kind).map { kind, entries in
      let seconds = entries.reduce(0) { $0 + $1.seconds }
      let flops = entries.reduce(0) { $0 + $1.flops }
      return RunReport.KernelTime(
        kind: kind, launches: entries.count, seconds: seconds, flopsPerSecond: seconds > 0 ? flops / seconds : 0)
    }
    .sorted { ($1.seconds, $0.kind) < ($0.seconds, $1.kind) }
  }
}
