import Foundation

/// Trains for some epochs and validates after each.
public final class TrainingLoop {
  /// What trains.
  public let trainer: Trainer
  /// Images to learn from.
  public let training: any BatchSource
  /// Images to measure with.
  public let validation: any BatchSource
  /// Passes over the training images.
  public let epochs: Int
  /// Training steps after which the run ends, whatever the epoch.
  public let stepLimit: Int
  /// How far the run has come.
  public private(set) var progress: TrainingProgress

  private let callbacks: [any Callback]

  /// Batches from which statistics are re-estimated: with 16 of 64 images their sampling error is well below what
  /// another epoch of training changes.
  private static let reestimationBatches = 16

  /// A run over `epochs` epochs and at most `stepLimit` steps.
  public init(
    _ trainer: Trainer, training: any BatchSource, validation: any BatchSource, epochs: Int, stepLimit: Int = .max,
    progress: TrainingProgress = TrainingProgress(), callbacks: [any Callback] = []
  ) {
    self.trainer = trainer
    self.training = training
    self.validation = validation
    self.epochs = epochs
    self.stepLimit = stepLimit
    self.progress = progress
    self.callbacks = callbacks
  }

  /// Trains until the last epoch has been validated.
  public func run() throws {
    while isUnfinished {
      try trainEpoch()
      let record = try validateEpoch()
      progress.endEpoch(record)
      for callback in callbacks { try callback.epochDidEnd(in: self) }
    }
  }

  /// An epoch that has been begun is always validated, even where the limit of steps cuts it short.
  private var isUnfinished: Bool {
    progress.epoch < epochs && (progress.totalSteps < stepLimit || progress.step > 0)
  }

  private func trainEpoch() throws {
    let before = progress
    if before.step == 0 { progress.learningRate = trainer.optimizer.learningRate }
    let stream = training.epoch(before.epoch, startingAt: before.step)
    let start = ContinuousClock.now
    var taken = before.totalSteps
    func measure() {
      progress.seconds = before.seconds + (ContinuousClock.now - start) / .seconds(1)
      progress.waitSeconds = before.waitSeconds + stream.waitSeconds
    }
    try begin(.training, steps: min(training.batchesPerEpoch, before.step + stepLimit - before.totalSteps))
    progress.scores = try trainer.train(
      onto: before.scores,
      next: {
        guard taken < stepLimit, let batch = try stream.next() else { return nil }
        taken += 1
        return batch
      },
      report: { step, scores in
        progress.step = before.step + step
        progress.totalSteps = before.totalSteps + step
        progress.scores = scores
        measure()
        try finish(step: progress.step, scores, of: .training)
      },
      wantsRest: { callbacks.contains { $0.wantsRest(after: taken) } },
      atRest: {
        for callback in callbacks where callback.wantsRest(after: taken) { try callback.deviceDidRest(in: self) }
      })
    measure()
    try end(.training, progress.scores)
  }

  private func validateEpoch() throws -> EpochRecord {
    let moving = try evaluate(.validation)
    let again = training.epoch(progress.epoch, startingAt: 0)
    var batches = 0
    let reestimated = try trainer.withReestimatedStatistics(from: {
      guard batches < Self.reestimationBatches else { return nil }
      batches += 1
      return try again.next()
    }) {
      try evaluate(.reestimatedValidation)
    }
    return EpochRecord(
      epoch: progress.epoch + 1, steps: progress.step, loss: progress.scores.loss, accuracy: progress.scores.accuracy,
      valLoss: moving.loss, valAccuracy: moving.accuracy, valLossReestimated: reestimated.loss,
      valAccuracyReestimated: reestimated.accuracy, seconds: progress.seconds,
      imagesPerSecond: progress.imagesPerSecond, dataWaitShare: progress.waitShare,
      learningRate: Double(progress.learningRate))
  }

  private func evaluate(_ phase: TrainingPhase) throws -> Scores {
    let stream = validation.epoch(0, startingAt: 0)
    try begin(phase, steps: validation.batchesPerEpoch)
    let scores = try trainer.evaluate(
      next: { try stream.next() }, report: { step, scores in try finish(step: step, scores, of: phase) })
    try end(phase, scores)
    return scores
  }

  private func begin(_ phase: TrainingPhase, steps: Int) throws {
    for callback in callbacks { try callback.phaseDidBegin(phase, steps: steps, in: self) }
  }

  private func finish(step: Int, _ scores: Scores, of phase: TrainingPhase) throws {
    for callback in callbacks { try callback.stepDidFinish(step, scores, of: phase, in: self) }
  }

  private func end(_ phase: TrainingPhase, _ scores: Scores) throws {
    for callback in callbacks { try callback.phaseDidEnd(phase, scores, in: self) }
  }
}
