/// How far a run has come: with the weights and the optimizer's state everything that continuing it takes, because the
/// order of the images and all random numbers follow from the seed, the epoch and the step.
public struct TrainingProgress: Codable, Sendable, Equatable {
  /// Epochs trained and validated.
  public var epoch = 0
  /// Training steps done in the epoch that follows these; all of them when only its validation is left.
  public var step = 0
  /// Training steps done in all epochs.
  public var totalSteps = 0
  /// Training scores of the epoch so far.
  public var scores = Scores()
  /// Seconds spent on training steps of the epoch so far.
  public var seconds = 0.0
  /// Of these, seconds spent waiting for images.
  public var waitSeconds = 0.0
  /// The learning rate at the start of the epoch.
  public var learningRate: Float = 0
  /// The finished epochs.
  public var history = TrainingHistory()
  /// Whether nothing is left to do.
  public var isFinished = false

  /// A run that has not begun.
  public init() {}

  /// Training images per second in the epoch so far.
  public var imagesPerSecond: Double { Double(scores.images) / max(seconds, 1e-9) }

  /// Share of the training time of the epoch so far that went into waiting for images, 0…1.
  public var waitShare: Double { waitSeconds / max(seconds, 1e-9) }

  mutating func endEpoch(_ record: EpochRecord) {
    history.append(record)
    epoch += 1
    step = 0
    scores = Scores()
    seconds = 0
    waitSeconds = 0
  }
}
