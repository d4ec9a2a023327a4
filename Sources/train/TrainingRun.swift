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
    configuration = try RunConfiguration(
      data: options.data,
      model: options.warmStart.applied(
        to: options.model.description(
          classes: split.training.classNames.count, batchNormMomentum: options.bnMomentum ?? (synthetic ? 0.8 : 0.99))),
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
    try options.warmStart.load(into: arena)

    var pictures =
      try model.hasResizer
      ? SamplePictures(from: split.validation, model: model, on: device) : nil
    try pictures?.capture(classifier)

    var history = TrainingHistory()
    var bestAccuracy = -1.0
    for epoch in 0..<configuration.epochs where optimizer.step < total {
      let record = try runEpoch(
        epoch, trainer: trainer, training: training, validation: validation, steps: total - optimizer.step)
      history.append(record)
      try history.write(to: folder)
      try arena.save(
        to: folder.path(of: "model.safetensors"), metadata: ["epoch": "\(epoch + 1)", "model": model.model])
      // The better of the two figures: early in training the moving statistics mislead.
      let accuracy = max(record.valAccuracy, record.valAccuracyReestimated ?? 0)
      if accuracy > bestAccuracy {
        bestAccuracy = accuracy
        try arena.save(
          to: folder.path(of: "best.safetensors"), metadata: ["epoch": "\(epoch + 1)", "model": model.model])
      }
      try writeSkipped(training, validation, to: folder)
    }
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

  private func runEpoch(
    _ epoch: Int, trainer: Trainer, training: BatchLoader, validation: BatchLoader, steps limit: Int
  ) throws -> EpochRecord {
    let stream = training.epoch(epoch)
    let steps = min(training.stepsPerEpoch, limit)
    let progress = ProgressLine(title: "Epoch \(epoch + 1)/\(configuration.epochs)", total: steps)
    let start = Date()
    var taken = 0
    let rate = trainer.optimizer.learningRate
    let scores = try trainer.train(
      next: {
        guard taken < limit, let batch = try stream.next() else { return nil }
        taken += 1
        return trainingBatch(batch)
      },
      report: { step, scores in
        progress.update(step: step, fields: fields(scores, seconds: -start.timeIntervalSinceNow, stream))
      })
    let seconds = -start.timeIntervalSinceNow
    progress.finish(fields: fields(scores, seconds: seconds, stream))

    let moving = try evaluate(trainer, validation, "validation, moving statistics")
    var batches = 0
    let again = training.epoch(epoch)
    let reestimated = try trainer.withReestimatedStatistics(from: {
      guard batches < Self.reestimationBatches, let batch = try again.next() else { return nil }
      batches += 1
      return trainingBatch(batch)
    }) {
      try evaluate(trainer, validation, "validation, re-estimated statistics")
    }
    return EpochRecord(
      epoch: epoch + 1, steps: taken, loss: scores.loss, accuracy: scores.accuracy, valLoss: moving.loss,
      valAccuracy: moving.accuracy, valLossReestimated: reestimated.loss,
      valAccuracyReestimated: reestimated.accuracy, seconds: seconds,
      imagesPerSecond: Double(scores.images) / seconds, dataWaitShare: stream.waitSeconds / seconds,
      learningRate: Double(rate))
  }

  /// Batches from which statistics are re-estimated: with 16 of 64 images their sampling error is well below what
  /// another epoch of training changes.
  private static let reestimationBatches = 16

  private func evaluate(_ trainer: Trainer, _ validation: BatchLoader, _ what: String) throws -> Scores {
    let stream = validation.epoch(0)
    let progress = ProgressLine(title: "  \(what)", total: validation.stepsPerEpoch)
    let scores = try trainer.evaluate(
      next: { try stream.next().map(trainingBatch) },
      report: { step, scores in progress.update(step: step, fields: Self.scoreFields(scores)) })
    progress.finish(fields: Self.scoreFields(scores))
    return scores
  }

  private func fields(_ scores: Scores, seconds: Double, _ stream: BatchStream) -> [(name: String, value: String)] {
    Self.scoreFields(scores) + [
      ("", String(format: "%.1f images/s", Double(scores.images) / max(seconds, 1e-9))),
      ("data wait", String(format: "%.1f%%", 100 * stream.waitSeconds / max(seconds, 1e-9))),
    ]
  }

  private static func scoreFields(_ scores: Scores) -> [(name: String, value: String)] {
    [("accuracy", String(format: "%.4f", scores.accuracy)), ("loss", String(format: "%.4f", scores.loss))]
  }

  private func trainingBatch(_ batch: ImageBatch) -> TrainingBatch {
    TrainingBatch(
      pixels: batch.pixels,
      shape: [batch.count, configuration.model.inputHeight, configuration.model.inputWidth, 3], labels: batch.labels)
  }

  private func writeSkipped(_ training: BatchLoader, _ validation: BatchLoader, to folder: RunDirectory) throws {
    let skipped = training.skipped + validation.skipped
    guard !skipped.isEmpty else { return }
    try folder.write(skipped.csv, to: "skipped.csv")
    say("\(skipped.count) files could not be decoded; see \(folder.path(of: "skipped.csv"))")
  }
}
