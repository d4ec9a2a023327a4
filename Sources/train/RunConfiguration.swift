import Fovea

/// All choices of a run with the defaults filled in; `config.json`.
struct RunConfiguration: Codable {
  var data: String?
  var model: ModelDescription
  /// The file of weights that the run started from; nil where these were random.
  var weights: String?
  var epochs: Int
  var earlyStopping: Int?
  var batchSize: Int
  var accumulate: Int
  /// Images that the device takes at once, a divisor of the batch size; nil where it takes whole batches.
  var microBatch: Int?
  var optimizer: String
  var learningRate: Float
  var schedule: String
  var plateauPatience: Int
  var plateauFactor: Float
  var warmup: Int
  var weightDecay: Float
  var clipNorm: Float?
  var ema: Float?
  var labelSmoothing: Float
  var classWeights: [Float]?
  var flip: Bool
  var crop: Float?
  var jitter: Float
  var mixup: Float
  var seed: UInt64
  var steps: Int?
  var limit: Int?
  var validationSplit: Double
  var workers: Int
  var device: String
  var trainingImages: Int
  var validationImages: Int
  var classNames: [String]
  /// See ``ImageDataset/fingerprint``, in hexadecimal: of the training and the validation images.
  var dataFingerprints: [String]
  /// The command line, without what says where a run goes on.
  var arguments: [String]

  /// Steps in an epoch, as long as no picture turns out to be bad.
  var stepsPerEpoch: Int {
    let batches = (trainingImages + batchSize - 1) / batchSize
    return (batches + accumulate - 1) / accumulate
  }

  /// Training steps of the run, as long as no picture turns out to be bad.
  var totalSteps: Int { min(stepsPerEpoch * epochs, steps ?? .max) }

  /// Images that the device takes at once, over which BatchNorm's statistics are.
  var imagesAtOnce: Int { microBatch ?? batchSize }

  /// Batches, or micro-batches, in a step.
  var batchesPerStep: Int { accumulate * (batchSize / imagesAtOnce) }

  /// Images in a step: `64`, or `2 × 64` with accumulation, and the micro-batches where there are any.
  var batchText: String {
    (accumulate > 1 ? "\(accumulate) × " : "") + "\(batchSize)"
      + (microBatch.map { " in micro-batches of \($0)" } ?? "")
  }

  /// Model, weights and what trains them, also on a planning device.
  ///
  /// - Parameter start: puts the weights in place that the run begins with, before anything follows them.
  func trainer(
    of classifier: ImageClassifier, on device: Device, start: (ParameterArena) throws -> Void = { _ in }
  ) rethrows -> Trainer {
    let arena = ParameterArena(classifier, on: device, seed: seed)
    let optimizer = Optimizer(
      rule, schedule: learningRateSchedule(total: totalSteps), clipNorm: clipNorm,
      lossScale: model.lossScale(on: device), arena: arena)
    try start(arena)
    return Trainer(
      arena: arena, optimizer: optimizer, classes: model.classes, labelSmoothing: labelSmoothing,
      classWeights: classWeights, average: ema.map { WeightAverage(of: arena, decay: $0) }
    ) { classifier($0).logits }
  }

  /// What happens to training pictures.
  var augmentation: Augmentation {
    var augmentation = Augmentation()
    (augmentation.flip, augmentation.crop, augmentation.jitter, augmentation.mixup) = (flip, crop, jitter, mixup)
    return augmentation
  }

  /// The same in words.
  var augmentationText: String {
    let parts = [
      flip ? "mirrored" : nil, crop.map { "cut to \($0) of the area or more" },
      jitter > 0 ? "colours by up to ± \(jitter)" : nil, mixup > 0 ? "mixed with α \(mixup)" : nil,
    ]
    let words = parts.compactMap { $0 }
    return words.isEmpty ? "none" : words.joined(separator: ", ")
  }

  /// The update rule by name.
  var rule: OptimizerRule {
    switch OptimizerName(rawValue: optimizer) ?? .sgd {
    case .sgd: .sgd(weightDecay: weightDecay)
    case .momentum: .sgd(momentum: 0.9, weightDecay: weightDecay)
    case .nesterov: .sgd(momentum: 0.9, nesterov: true, weightDecay: weightDecay)
    case .adam: .adam()
    case .adamw: .adamW(weightDecay: weightDecay)
    }
  }

  /// What lowers the learning rate between epochs.
  var plateau: ReduceOnPlateau? {
    schedule == ScheduleName.plateau.rawValue
      ? ReduceOnPlateau(factor: plateauFactor, patience: plateauPatience) : nil
  }

  /// The learning rate over `total` steps.
  func learningRateSchedule(total: Int) -> LearningRateSchedule {
    let rest = max(total - warmup, 1)
    let schedule: LearningRateSchedule =
      switch ScheduleName(rawValue: schedule) ?? .constant {
      case .constant, .plateau: .constant(learningRate)
      case .cosine: .cosine(learningRate, steps: rest)
      case .step: .step(learningRate, every: max((rest + 2) / 3, 1), factor: 0.1)
      }
    return schedule.warmedUp(over: warmup)
  }
}
