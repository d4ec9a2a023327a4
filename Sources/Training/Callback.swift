/// What a run is doing.
public enum TrainingPhase: Sendable, Equatable {
  /// Training steps.
  case training
  /// Scoring the validation images with the moving statistics.
  case validation
  /// Scoring them with statistics estimated afresh.
  case reestimatedValidation
}

/// What happens around training: progress, files, checkpoints, logs. Everything has a default that does nothing.
///
/// Methods are called between steps on the thread that trains, in the order in which the callbacks were given. What one
/// throws ends the run.
public protocol Callback: AnyObject {
  /// A phase of `steps` steps begins. Training begins at `loop.progress.step`, which is not 0 in a resumed epoch.
  func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) throws

  /// One more step's numbers are in. `scores` are those of the phase so far. The device may be a step further.
  func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) throws

  /// A phase is over.
  func phaseDidEnd(_ phase: TrainingPhase, _ scores: Scores, in loop: TrainingLoop) throws

  /// A validation is over: what the model said about each image, in the order of the validation source.
  func validationDidEnd(_ predictions: [Prediction], of phase: TrainingPhase, in loop: TrainingLoop) throws

  /// Whether to let the device come to rest after the run's training step `step`, counted from 1, so that weights and
  /// `loop.progress` agree; `deviceDidRest` follows. Costs a step the overlap with the host.
  func wantsRest(after step: Int) -> Bool

  /// The device rests because this callback wanted it.
  func deviceDidRest(in loop: TrainingLoop) throws

  /// An epoch has been trained and validated; its record is the last of `loop.progress.history`. The device rests.
  func epochDidEnd(in loop: TrainingLoop) throws

  /// The run ends before its time because it was asked to. The device rests.
  func runWillStop(in loop: TrainingLoop) throws
}

extension Callback {
  /// Does nothing.
  public func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) throws {}
  /// Does nothing.
  public func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) throws {}
  /// Does nothing.
  public func phaseDidEnd(_ phase: TrainingPhase, _ scores: Scores, in loop: TrainingLoop) throws {}
  /// Does nothing.
  public func validationDidEnd(_ predictions: [Prediction], of phase: TrainingPhase, in loop: TrainingLoop) throws {}
  /// Never wants it.
  public func wantsRest(after step: Int) -> Bool { false }
  /// Does nothing.
  public func deviceDidRest(in loop: TrainingLoop) throws {}
  /// Does nothing.
  public func epochDidEnd(in loop: TrainingLoop) throws {}
  /// Does nothing.
  public func runWillStop(in loop: TrainingLoop) throws {}
}
