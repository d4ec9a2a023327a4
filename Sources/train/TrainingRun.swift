import ArgumentParser
import CommandSupport
import Fovea
import Foundation

/// One run of the main job: data, model, epochs, and the files it leaves in its folder.
struct TrainingRun {
  private let options: TrainCommand
  private let device: Device
  private let split: DatasetSplit
  private let configuration: RunConfiguration

  /// Opens device and data; nothing is written yet.
  init(_ options: TrainCommand) throws {
    self.options = options
    device = try options.device.open()
    let synthetic = options.data == nil
    let split = try Self.openData(options)
    self.split = split
    let optimizer = options.optimizer ?? (synthetic ? .adam : .sgd)
    let adaptive = optimizer == .adam || optimizer == .adamw
    configuration = RunConfiguration(
      data: options.data,
      model: options.model.description(
        classes: split.training.classNames.count, batchNormMomentum: options.bnMomentum ?? (synthetic ? 0.8 : 0.99)),
      epochs: options.epochs ?? (synthetic ? 3 : 5), batchSize: options.batchSize ?? (synthetic ? 16 : 64),
      optimizer: optimizer.rawValue, learningRate: options.lr ?? (adaptive ? 1e-3 : 1e-2),
      schedule: options.schedule.rawValue, warmup: options.warmup,
      weightDecay: options.weightDecay ?? (optimizer == .adamw ? 0.004 : 0), clipNorm: options.clipNorm,
      labelSmoothing: options.labelSmoothing, seed: options.seed, steps: options.steps, limit: options.limit,
      validationSplit: options.validationSplit,
      workers: options.workers ?? ProcessInfo.processInfo.activeProcessorCount, device: device.description.summary,
      trainingImages: split.training.count, validationImages: split.validation.count,
      classNames: split.training.classNames)
    guard configuration.batchSize <= split.training.count else {
      throw ValidationError(
        "--batch-size \(configuration.batchSize) is larger than the \(split.training.count) training images")
    }
  }

  private static func openData(_ options: TrainCommand) throws -> DatasetSplit {
    guard let directory = options.data else {
      return SyntheticDataset.split(
        training: options.limit ?? 480, validation: max((options.limit ?? 480) / 4, 2), seed: options.seed)
    }
    let split = try DatasetSplit.open(
      directory: directory, validationSplit: options.validationSplit, seed: options.seed)
    guard let limit = options.limit else { return split }
    return DatasetSplit(
      training: split.training.limited(to: limit, seed: options.seed),
      validation: split.validation.limited(to: max(limit / 4, 1), seed: options.seed))
  }

  func execute() throws {
    let folder = try RunDirectory(options.output)
    let model = configuration.model
    let classifier = try model.build()
    let arena = ParameterArena(classifier, on: device, seed: configuration.seed)
    let training = loader(split.training, shuffle: true)
    let validation = loader(split.validation, shuffle: false)
    let total = min(training.stepsPerEpoch * configuration.epochs, configuration.steps ?? .max)
    let optimizer = Optimizer(
      configuration.rule, schedule: configuration.learningRateSchedule(total: total),
      clipNorm: configuration.clipNorm, arena: arena)
    let trainer = Trainer(
      arena: arena, optimizer: optimizer, classes: model.classes, labelSmoothing: configuration.labelSmoothing
    ) { classifier($0).logits }
    try folder.write(jsonText(configuration), to: "config.json")
    describe(classifier, steps: training.stepsPerEpoch)

    var pictures =
      try model.hasResizer
      ? SamplePictures(from: split.validation, model: model, on: device) : nil
    try pictures?.capture(classifier)

    let loop = TrainingLoop(
      trainer, training: LoaderSource(loader: training), validation: LoaderSource(loader: validation),
      epochs: configuration.epochs, stepLimit: total,
      callbacks: [
        ProgressReporter(), RunFiles(folder, model: model.model, loaders: [training, validation]),
      ])
    try loop.run()
    try pictures?.capture(classifier)
    try pictures?.write(to: folder.path(of: "resized.png"))
    say(
      "Wrote \(folder.path): model.safetensors (last), best.safetensors, history.json, history.csv, config.json"
        + (pictures == nil ? "" : ", resized.png"))
  }
}

extension TrainingRun {
  private func loader(_ dataset: any ImageDataset, shuffle: Bool) -> BatchLoader {
    BatchLoader(
      dataset, batchSize: configuration.batchSize, height: configuration.model.inputHeight,
      width: configuration.model.inputWidth, seed: configuration.seed, shuffle: shuffle,
      workers: configuration.workers, onBadImage: options.onBadImage)
  }

  private func describe(_ classifier: ImageClassifier, steps: Int) {
    let c = configuration
    say("Device   \(c.device)")
    say(
      "Data     \(c.data ?? "synthetic, seed \(c.seed)"): \(c.trainingImages) training, \(c.validationImages) validation "
        + "images of \(c.classNames.count) classes (\(c.classNames.joined(separator: ", ")))")
    say(
      "Model    \(c.model.model), \(c.model.inputHeight)×\(c.model.inputWidth) → "
        + "\(c.model.targetHeight)×\(c.model.targetWidth), \(classifier.parameterCount) parameters, "
        + "\(classifier.trainableParameterCount) trainable")
    say(
      "Run      \(c.epochs) epochs of \(steps) steps of \(c.batchSize), \(c.optimizer), learning rate \(c.learningRate), "
        + "seed \(c.seed), \(c.workers) decoding threads")
  }
}
