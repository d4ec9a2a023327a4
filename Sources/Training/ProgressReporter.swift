import Foundation

/// Shows each phase of a run as a ``ProgressLine``.
public final class ProgressReporter: Callback {
  private var line: ProgressLine?

  /// Shows progress on the standard output.
  public init() {}

  /// After an error the line still stands open: what is printed about it gets a line of its own.
  deinit { line?.abandon() }

  /// Begins a line.
  public func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) {
    let title =
      switch phase {
      case .training: "Epoch \(loop.progress.epoch + 1)/\(loop.epochs)"
      case .validation: "  validation, moving statistics"
      case .reestimatedValidation: "  validation, re-estimated statistics"
      }
    line = ProgressLine(title: title, total: steps)
  }

  /// Brings the line up to date.
  public func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) {
    line?.update(step: step, fields: fields(scores, of: phase, in: loop))
  }

  /// Ends the line.
  public func phaseDidEnd(_ phase: TrainingPhase, _ scores: Scores, in loop: TrainingLoop) {
    line?.finish(fields: fields(scores, of: phase, in: loop))
    line = nil
  }

  /// Ends the line where it is.
  public func runWillStop(in loop: TrainingLoop) {
    line?.abandon()
    line = nil
  }

  private func fields(
    _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop
  ) -> [(name: String, value: String)] {
    var fields = [
      (name: "accuracy", value: String(format: "%.4f", scores.accuracy)),
      (name: "loss", value: String(format: "%.4f", scores.loss)),
    ]
    if phase == .training {
      fields.append(("", String(format: "%.1f images/s", loop.progress.imagesPerSecond)))
      fields.append(("data wait", String(format: "%.1f%%", 100 * loop.progress.waitShare)))
    }
    return fields
  }
}
