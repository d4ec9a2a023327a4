import ArgumentParser
import CommandSupport
import Fovea
import Foundation
import NeuralNetwork

/// One run of the main job: data, model, epochs, and the files it leaves in its folder.
struct TrainingRun {
  let options: TrainCommand
  private let description: DeviceDescription
  /// What a resumed run says about its kernels.
  private let kernelsLine: String?
  private let split: DatasetSplit
  /// Of the memory, where --memory-limit asked for it.
  private let plan: MemoryPlan?
  private let cache: ImageCachePlan?
  let configuration: RunConfiguration
  private let firstUse: FirstUse

  /// What a resumed run keeps that its options do not say.
  struct Kept {
    var microBatch: Int?
    /// Nil where the checkpoint does not say, as those of early versions.
    var kernels: KernelChoice?
  }

  /// Finds the device and opens the data; nothing is written yet.
  ///
  /// - Parameters:
  ///   - arguments: the command line behind the options.
  ///   - kept: of the run that is resumed; nil for a new run.
  init(_ options: TrainCommand, arguments: [String], resuming kept: Kept? = nil) throws {
    self.options = options
    var description = try options.device.describe(for: options.model.precision)
    kernelsLine = kept?.kernels?.use(on: &description)
    self.description = description
    let synthetic = options.data == nil
    let split = try DatasetSplit.open(
      data: options.data, limit: options.limit, validationSplit: options.validationSplit, seed: options.seed)
    self.split = split
    let optimizer = options.optimizer ?? .standard(isSynthetic: synthetic)
    let adaptive = optimizer == .adam || optimizer == .adamw
    var configuration = try RunConfiguration(
      data: options.data,
      model: options.warmStart.applied(
        to: options.model.description(
          classes: split.training.classNames.count, batchNormMomentum: options.bnMomentum ?? (synthetic ? 0.8 : 0.99))),
      weights: options.warmStart.weights, epochs: options.epochs ?? (synthetic ? 3 : 5),
      earlyStopping: options.earlyStopping,
      batchSize: options.batchSize ?? (synthetic ? 16 : 64), accumulate: options.accumulate,
      optimizer: optimizer.rawValue, learningRate: options.lr ?? (adaptive ? 1e-3 : 1e-2),
      schedule: options.schedule.rawValue, plateauPatience: options.plateauPatience ?? 10,
      plateauFactor: options.plateauFactor ?? 0.1, warmup: options.warmup,
      weightDecay: options.weightDecay ?? (optimizer == .adamw ? 0.004 : 0), clipNorm: options.clipNorm,
      ema: options.ema, labelSmoothing: options.labelSmoothing,
      classWeights: options.classWeights?.weights(for: split.training), flip: options.flip,
      crop: options.crop, jitter: options.jitter, mixup: options.mixup, seed: options.seed, steps: options.steps,
      limit: options.limit,
      validationSplit: options.validationSplit,
      workers: options.workers ?? ProcessInfo.processInfo.activeProcessorCount, device: description.summary,
      trainingImages: split.training.count, validationImages: split.validation.count,
      classNames: split.training.classNames,
      dataFingerprints: [split.training, split.validation].map { String($0.fingerprint, radix: 16) },
      arguments: arguments)
    guard configuration.batchSize <= split.training.count else {
      throw ValidationError(
        "--batch-size \(configuration.batchSize) is larger than the \(split.training.count) training images")
    }
    // What a resumed run started from is in its checkpoint, as it has become.
    if kept == nil { try options.warmStart.check(configuration.model, on: description) }
    configuration.microBatch = kept?.microBatch
    if let limit = options.memoryLimit {
      plan = try configuration.fit(limit, keepsMicroBatch: kept != nil, on: description)
    } else {
      plan = nil
    }
    self.configuration = configuration
    cache = try options.cache.plan(
      for: [split.training, split.validation], (configuration.model.inputHeight, configuration.model.inputWidth),
      orIn: options.output)
    firstUse = FirstUse(model: configuration.model, batchSize: configuration.imagesAtOnce)
  }

  /// Which kernels it uses.
  var kernels: KernelChoice { KernelChoice(of: description) }

  /// Prints the memory that the run takes.
  func printPlan() throws {
    let report = try MemoryReport(
      configuration, plan ?? configuration.memoryPlan(on: description), limit: options.memoryLimit, description,
      photosOnHost: largestHostBytes)
    say(options.json ? try jsonText(report) : report.text)
  }

  /// The data, from the cache where there is one.
  private func loadedSplit(_ stop: StopRequest) throws -> DatasetSplit {
    guard let cache else { return split }
    let images: ImageCache
    do {
      images = try cache.carryOut(
        workers: configuration.workers, say: { say("Cache    \($0)") }, line: { ProgressLine(title: $0, total: $1) },
        check: { if let status = stop.exitStatus { throw ExitCode(status) } })
    } catch let code as ExitCode {
      say("Stopped before the first step")
      throw code
    }
    say("Cache    \(images.count) photos of \(images.height)×\(images.width), \(formatBytes(images.bytes))")
    return DatasetSplit(training: split.training.cached(in: images), validation: split.validation.cached(in: images))
  }

  /// Trains, from the beginning or from a checkpoint.
  func execute(from checkpoint: Checkpoint? = nil) throws {
    let device = try Device(description)
    KernelPreparation.start(
      model: configuration.model, batchSize: configuration.imagesAtOnce, on: device,
      isNew: try !firstUse.isKnown(description))
    // Signals count from here on: opening device and data leaves nothing to save.
    let stop = StopRequest.onSignals {
      FileHandle.standardError.write(Data("\nStopping after this step; again to stop at once.\n".utf8))
    }
    if ProcessInfo.processInfo.environment[stopsWithParent] != nil { stop.make(atEndOf: STDIN_FILENO) }
    let folder = try openOutputFolder(options.output)
    try folder.claim()
    let checkpoints = CheckpointFolder(run: folder.path)
    if checkpoint == nil { try clear(checkpoints, of: folder) }

    let model = configuration.model
    let configurationText = try jsonText(configuration)
    let kernelsText = try jsonText(kernels)
    try folder.write(configurationText, to: "config.json")
    let classifier = try model.build()
    describe(classifier)
    try firstUse.check(description, say: say)

    let split = try loadedSplit(stop)
    let skipped = try checkpoint.map(SkippedFiles.init) ?? SkippedFiles()
    let trace = options.profile.map { TraceRecorder(path: $0, steps: options.profileSteps) }
    let training = loader(
      split.training, shuffle: true, augmentation: configuration.augmentation, skipped: skipped.training,
      trace: trace)
    let validation = loader(split.validation, shuffle: false, augmentation: Augmentation(), skipped: skipped.validation)
    let trainer = try configuration.trainer(of: classifier, on: device) { arena in
      // What a checkpoint holds has been through this already.
      if checkpoint == nil { try options.warmStart.load(into: arena) }
    }

    // The pictures before training, also those of a resumed run.
    let pictures =
      try model.hasResizer
      ? SamplePictures(from: split.validation, model: model, before: classifier, on: device) : nil
    if let checkpoint {
      try checkpoint.restore(trainer)
      say("Resumed  \(position(checkpoint.progress)), from \(checkpoint.path)")
    }

    let stepsDone = checkpoint?.progress.totalSteps ?? 0
    let log = try StepLog(in: folder, after: stepsDone)
    let profiler = StepProfiler(after: stepsDone + (trace == nil ? 0 : options.profileSteps))
    let tensorBoard = try TensorBoardLogger(
      folder: Self.eventFolder(of: folder), after: stepsDone, log: log, histograms: options.histograms)
    let loop = TrainingLoop(
      trainer,
      training: LoaderSource(
        loader: training, microBatch: configuration.microBatch,
        waiting: trace.map { trace in { trace.add(Trace.Span(waitingFrom: $0, until: $1)) } }),
      validation: LoaderSource(loader: validation, microBatch: configuration.microBatch),
      epochs: configuration.epochs, stepLimit: configuration.totalSteps, accumulation: configuration.batchesPerStep,
      earlyStopping: configuration.earlyStopping.map(EarlyStopping.init), plateau: configuration.plateau,
      // The same images, whatever they are cut into.
      reestimationBatches: TrainingLoop.reestimationBatches * configuration.batchSize / configuration.imagesAtOnce,
      progress: checkpoint?.progress ?? TrainingProgress(),
      callbacks: (trace.map { [$0] } ?? []) + [
        ProgressReporter(), log, profiler, tensorBoard,
        RunFiles(folder, model: model.model, loaders: [training, validation]),
        ReportWriter(
          folder, configuration, classifier, validation: split.validation, pictures: pictures, log: log,
          profiler: profiler, tensorBoard: tensorBoard),
        // After everything else: a checkpoint says that all before it has been done.
        Checkpointer(checkpoints, every: options.checkpointEvery, keep: options.keep) {
          [
            "config.json": configurationText, "kernels.json": kernelsText,
            "skipped.json": try SkippedFiles(training: training.skipped, validation: validation.skipped).json(),
          ]
        },
      ], stop: stop)
    if try loop.run() == .stopped {
      say(
        "Stopped \(position(loop.progress)), saved in \(checkpoints.path(of: loop.progress)); "
          + "to go on: train --resume \(folder.path)")
      throw ExitCode(stop.exitStatus ?? EXIT_FAILURE)
    }
    if loop.hasStoppedEarly, loop.progress.epoch < loop.epochs, let patience = configuration.earlyStopping {
      say("Stopped early: no lower validation loss for \(patience) \(patience == 1 ? "epoch" : "epochs")")
    }
    if let best = loop.progress.history.best { say("Best     \(text(of: best, in: folder))") }
    say(
      "Wrote \(folder.path): report.html, model.safetensors (last), best.safetensors, history.json, history.csv, "
        + "steps.csv, tensorboard, config.json" + (pictures == nil ? "" : ", resized.png"))
  }

  /// Makes room for a new run. A stopped one is not lost by mistake.
  private func clear(_ checkpoints: CheckpointFolder, of folder: RunDirectory) throws {
    if !options.overwrite, let old = checkpoints.newest().checkpoint, !old.progress.isFinished {
      throw ValidationError(
        "\(folder.path) holds a run that was stopped \(position(old.progress)): go on with --resume \(folder.path), "
          + "start over with --overwrite, or choose another --output")
    }
    try checkpoints.removeAll()
    // TensorBoard would draw both runs as one.
    let events = Self.eventFolder(of: folder)
    if FileManager.default.fileExists(atPath: events) { try AtomicFolder.remove(events) }
  }

  private static func eventFolder(of folder: RunDirectory) -> String { folder.path(of: "tensorboard") }

  /// What the best weights reach, and with which statistics.
  private func text(of best: EpochRecord, in folder: RunDirectory) -> String {
    let isReestimated = best.valAccuracyReestimated ?? 0 > best.valAccuracy
    return "epoch \(best.epoch): validation accuracy \(String(format: "%.4f", best.bestValAccuracy)) with "
      + (isReestimated
        ? "re-estimated statistics (fovea evaluate --run \(folder.path) --reestimate-statistics)" : "moving statistics")
  }

  private func position(_ progress: TrainingProgress) -> String {
    progress.isFinished
      ? "after its last epoch, \(progress.epoch)" : "in epoch \(progress.epoch + 1) at step \(progress.step)"
  }
}

/// The pictures that a run has found to be bad, as a checkpoint keeps them: the order of the others depends on them.
private struct SkippedFiles: Codable {
  var training: [SkippedFile] = []
  var validation: [SkippedFile] = []

  init(training: [SkippedFile] = [], validation: [SkippedFile] = []) {
    self.training = training
    self.validation = validation
  }

  init(_ checkpoint: Checkpoint) throws {
    self = try JSONDecoder().decode(Self.self, from: Data(checkpoint.text(of: "skipped.json").utf8))
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
  }
}

extension TrainingRun {
  private func loader(
    _ dataset: any ImageDataset, shuffle: Bool, augmentation: Augmentation, skipped: [SkippedFile],
    trace: TraceRecorder? = nil
  ) -> BatchLoader {
    var observer: (@Sendable (LoaderActivity) -> Void)?
    if let trace { observer = { activity in trace.add(Trace.Span(activity)) } }
    return BatchLoader(
      dataset, batchSize: configuration.batchSize, height: configuration.model.inputHeight,
      width: configuration.model.inputWidth, seed: configuration.seed, shuffle: shuffle,
      augmentation: augmentation, workers: configuration.workers, onBadImage: options.onBadImage, skipped: skipped,
      observer: observer)
  }

  /// Most bytes of photos that the loaders and the training loop hold on the host.
  private var largestHostBytes: Int {
    let model = configuration.model
    let batch = configuration.batchSize * model.inputHeight * model.inputWidth * 3
    let training = loader(split.training, shuffle: true, augmentation: configuration.augmentation, skipped: [])
    let validation = loader(split.validation, shuffle: false, augmentation: Augmentation(), skipped: [])
    // Two steps' photos are on their way to the device while the next ones are gathered. The loader that statistics are
    // re-estimated with ends after the validation.
    return max(
      training.largestBytesHeld + 3 * configuration.accumulate * batch,
      training.largestBytesHeld + validation.largestBytesHeld + 3 * batch)
  }

  private func describe(_ classifier: ImageClassifier) {
    let c = configuration
    say("Device   \(description.header)")
    if let kernelsLine { say(kernelsLine) }
    say(
      "Data     \(c.data ?? "synthetic, seed \(c.seed)"): \(c.trainingImages) training, \(c.validationImages) validation "
        + "images of \(c.classNames.count) classes (\(c.classNames.joined(separator: ", ")))")
    say(
      "Model    \(c.model.model), \(c.model.inputHeight)×\(c.model.inputWidth) → "
        + "\(c.model.targetHeight)×\(c.model.targetWidth), \(classifier.parameterCount) parameters, "
        + "\(classifier.trainableParameterCount) trainable"
        + (c.model.precision.map { $0 == .tf32 ? ", precision tf32" : ", values between layers in \($0.rawValue)" }
          ?? ""))
    if let plan, let limit = options.memoryLimit { say("Memory   \(c.memoryLine(plan, limit))") }
    say(
      "Run      \(c.epochs) epoch\(c.epochs == 1 ? "" : "s") of \(c.stepsPerEpoch) steps of \(c.batchText), "
        + (c.totalSteps < c.epochs * c.stepsPerEpoch ? "\(c.totalSteps) steps in all, " : "")
        + "\(c.optimizer), learning rate \(c.learningRate), seed \(c.seed), \(c.workers) decoding threads")
  }
}

extension Trace.Span {
  /// The training loop had no photos.
  fileprivate init(waitingFrom start: UInt64, until end: UInt64) {
    self.init(name: "waiting for photos", lane: "1 Training loop", start: start, end: end)
  }

  /// What a thread of the loader did.
  fileprivate init(_ activity: LoaderActivity) {
    let name =
      switch activity.work {
      case .decode(let name): name
      case .assemble(let pictures): "batch of \(pictures)"
      }
    self.init(name: name, lane: "0 Image loader \(activity.worker + 1)", start: activity.start, end: activity.end)
  }
}
