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
  /// Batches in a step, which update the weights once; see ``Trainer/train(onto:next:report:wantsRest:atRest:)``.
  public let accumulation: Int
  /// Ends the run before its last epoch; nil never does.
  public let earlyStopping: EarlyStopping?
  /// Lowers the learning rate between epochs; nil never does.
  public let plateau: ReduceOnPlateau?
  /// How far the run has come.
  public private(set) var progress: TrainingProgress

  private let reestimationBatches: Int
  private let callbacks: [any Callback]
  private let stop: StopRequest

  /// Batches from which statistics are re-estimated, unless said otherwise: with 16 of 64 images their sampling error is
  /// well below what another epoch of training changes.
  public static let reestimationBatches = 16

  /// A run over `epochs` epochs and at most `stepLimit` steps.
  ///
  /// - Parameters:
  ///   - reestimationBatches: training batches from which statistics are re-estimated.
  ///   - progress: where the run goes on; the trainer's weights and optimizer must be those of that moment.
  ///   - stop: ends the run before its time when it is made.
  public init(
    _ trainer: Trainer, training: any BatchSource, validation: any BatchSource, epochs: Int, stepLimit: Int = .max,
    accumulation: Int = 1, earlyStopping: EarlyStopping? = nil, plateau: ReduceOnPlateau? = nil,
    reestimationBatches: Int = TrainingLoop.reestimationBatches,
    progress: TrainingProgress = TrainingProgress(), callbacks: [any Callback] = [], stop: StopRequest = StopRequest()
  ) {
    self.trainer = trainer
    self.training = training
    self.validation = validation
    self.epochs = epochs
    self.stepLimit = stepLimit
    precondition(accumulation > 0, "TrainingLoop: steps of \(accumulation) batches")
    self.accumulation = accumulation
    self.earlyStopping = earlyStopping
    self.plateau = plateau
    self.reestimationBatches = reestimationBatches
    self.progress = progress
    self.callbacks = callbacks
    self.stop = stop
    // A finished run may have been given more epochs.
    self.progress.isFinished = !isUnfinished
  }

  /// How a run ended.
  public enum Outcome: Sendable {
    /// The last epoch has been validated.
    case finished
    /// The run was asked to stop; it can go on from its progress.
    case stopped
  }

  /// Trains until the last epoch has been validated, or until the run is asked to stop.
  @discardableResult public func run() throws -> Outcome {
    while isUnfinished {
      if let plateau { trainer.optimizer.rateFactor = plateau.rateFactor(after: progress.history) }
      guard try trainEpoch(), let record = try trainer.withResultingWeights(validateEpoch) else {
        for callback in callbacks { try callback.runWillStop(in: self) }
        return .stopped
      }
      progress.endEpoch(record)
      progress.isFinished = !isUnfinished
      for callback in callbacks { try callback.epochDidEnd(in: self) }
    }
    return .finished
  }

  /// Whether the run is over because it no longer got better.
  public var hasStoppedEarly: Bool { earlyStopping?.ends(progress.history) ?? false }

  /// An epoch that has been begun is always validated, even where the limit of steps cuts it short.
  private var isUnfinished: Bool {
    progress.step > 0 || progress.epoch < epochs && progress.totalSteps < stepLimit && !hasStoppedEarly
  }

  /// Returns whether the epoch came to its end.
  private func trainEpoch() throws -> Bool {
    let before = progress
    if before.step == 0 { progress.learningRate = trainer.optimizer.learningRate }
    let stream = training.epoch(before.epoch, startingAt: before.step * accumulation)
    let start = ContinuousClock.now
    var taken = before.totalSteps
    var isCut = false
    func measure() {
      progress.seconds = before.seconds + (ContinuousClock.now - start) / .seconds(1)
      progress.waitSeconds = before.waitSeconds + stream.waitSeconds
    }
    let steps = (training.batchesPerEpoch + accumulation - 1) / accumulation
    let rest = min(steps - before.step, stepLimit - before.totalSteps)
    try begin(.training, steps: before.step + rest)
    do {
      progress.scores = try trainer.train(
        onto: before.scores,
        next: {
          isCut = stop.isMade
          guard !isCut, taken < stepLimit, let batches = try self.batches(of: stream) else { return nil }
          taken += 1
          return batches
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
    } catch TrainingError.lossIsNotFinite(let step, let loss, _) {
      let step = before.step + step
      // The loss was that of these batches with the weights that are still there.
      let again = training.epoch(progress.epoch, startingAt: (step - 1) * accumulation)
      let origin = try batches(of: again)?.lazy.compactMap(trainer.firstNonFinite).first
      throw TrainingError.lossIsNotFinite(step: step, loss: loss, origin: origin)
    }
    measure()
    if !isCut { try end(.training, progress.scores) }
    return !isCut
  }

  /// The batches of the next step; nil after the last.
  private func batches(of stream: any BatchIterator) throws -> [TrainingBatch]? {
    var batches: [TrainingBatch] = []
    while batches.count < accumulation, let batch = try stream.next() { batches.append(batch) }
    return batches.isEmpty ? nil : batches
  }

  /// Returns nil when the run was asked to stop meanwhile: the scores of some of the images mean nothing.
  private func validateEpoch() throws -> EpochRecord? {
    guard let moving = try evaluate(.validation) else { return nil }
    let again = training.epoch(progress.epoch, startingAt: 0)
    var batches = 0
    let reestimated = try trainer.withReestimatedStatistics(from: {
      guard batches < reestimationBatches, !stop.isMade else { return nil }
      batches += 1
      return try again.next()
    }) {
      try evaluate(.reestimatedValidation)
    }
    guard let reestimated else { return nil }
    return EpochRecord(
      epoch: progress.epoch + 1, steps: progress.step, loss: progress.scores.loss, accuracy: progress.scores.accuracy,
      valLoss: moving.loss, valAccuracy: moving.accuracy, valLossReestimated: reestimated.loss,
      valAccuracyReestimated: reestimated.accuracy, seconds: progress.seconds,
      imagesPerSecond: progress.imagesPerSecond, dataWaitShare: progress.waitShare,
      learningRate: Double(progress.learningRate))
  }

  private func evaluate(_ phase: TrainingPhase) throws -> Scores? {
    let stream = validation.epoch(0, startingAt: 0)
    try begin(phase, steps: validation.batchesPerEpoch)
    var isCut = false
    var predictions: [Prediction] = []
    let scores = try trainer.evaluate(
      next: {
        isCut = stop.isMade
        return isCut ? nil : try stream.next()
      }, report: { step, scores in try finish(step: step, scores, of: phase) }, predicted: { predictions += $0 })
    if isCut { return nil }
    try end(phase, scores)
    for callback in callbacks { try callback.validationDidEnd(predictions, of: phase, in: self) }
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
