/// What a model is run for; layers that behave differently in training read it.
public enum Phase: Sendable, Equatable {
  /// Moving statistics are used and left alone.
  case inference
  /// Batch statistics are used and the moving ones follow.
  case training
  /// Batch statistics are used, and the moving ones become the plain mean over the batches since the one with index 0.
  case reestimation(batch: Int)

  /// What models on this task run for.
  @TaskLocal public static var current: Phase = .inference
}

/// Runs `body` with training behaviour.
public func withTraining<Result>(_ body: () throws -> Result) rethrows -> Result {
  try Phase.$current.withValue(.training, operation: body)
}
