import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure a model on photos whose classes are known: loss, accuracy, each class, the confusion matrix.",
    discussion: """
      Without --data on the photos that the run was validated on. A folder of photos has a sub-folder for each class.
      """)

  @OptionGroup(title: "Trained model") var model: TrainedModelOptions

  @Option(help: ArgumentHelp("Folder of photos. Default: the run's.", valueName: "dir"), completion: .directory)
  var data: String?

  @Option(
    help: """
      validation, training or all. Default: validation; all for a folder named by --data that has no train/ and \
      validation/.
      """)
  var split: Split?

  @Option(help: "Use at most so many photos, drawn at random.")
  var limit: Int?

  @Option(help: "Label smoothing of the loss. Default: the run's, else 0.")
  var labelSmoothing: Double?

  @Flag(
    help: "Estimate BatchNorm's statistics afresh on 16 batches of the training photos, instead of the moving ones.")
  var reestimateStatistics = false

  @OptionGroup(title: "Device") var device: DeviceOptions
  @OptionGroup var loading: LoadingOptions

  @Flag(help: "Print JSON.")
  var json = false

  enum Split: String, ExpressibleByArgument, CaseIterable {
    case training, validation, all
  }

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1, not \(limit)") }
    if let labelSmoothing, !(0..<1).contains(labelSmoothing) {
      throw ValidationError("--label-smoothing must be at least 0 and below 1, not \(labelSmoothing)")
    }
  }

  func run() throws {
    let (_, _, run, _) = try model.resolve()
    let (dataset, training) = try open(for: run)
    let model = try model.load(on: device)
    let labels = try Self.labels(of: dataset, in: model)
    let loader = loading.loader(for: dataset, model.description)
    var result = Evaluation(
      classNames: model.hasClassNames ? model.classNames : dataset.classNames,
      labelSmoothing: labelSmoothing ?? Double(run?.labelSmoothing ?? 0))
    let start = Date()
    if reestimateStatistics {
      try withReestimatedStatistics(of: model, on: training) { try score(loader, labels, model, into: &result) }
    } else {
      try score(loader, labels, model, into: &result)
    }
    result.imagesPerSecond = Double(result.images) / -start.timeIntervalSinceNow
    result.skipped = loader.skipped
    print(json ? try jsonText(result) : result.text)
  }

  private func open(for run: RunDescription?) throws -> (dataset: any ImageDataset, training: any ImageDataset) {
    let seed = run?.seed ?? 0
    let parts: DatasetSplit
    var chosen = split ?? .validation
    var whole: (any ImageDataset)?
    if let data {
      let isSplit = ["train", "validation"].allSatisfy { FolderDataset.isFolder("\(data)/\($0)") }
      if split == nil, !isSplit { chosen = .all }
      if !isSplit { whole = try FolderDataset(data) }
      parts = try DatasetSplit.open(directory: data, validationSplit: run?.validationSplit ?? 0.2, seed: seed)
    } else if let run {
      parts = try run.openData()
    } else {
      throw ValidationError("--weights alone does not say which photos: give --data DIR, or a run with --run DIR")
    }
    let dataset: any ImageDataset =
      switch chosen {
      case .training: parts.training
      case .validation: parts.validation
      case .all: whole ?? JoinedDataset(parts.training, parts.validation)
      }
    return (limit.map { dataset.limited(to: $0, seed: seed) } ?? dataset, parts.training)
  }

  /// For each class of the photos the model's.
  private static func labels(of dataset: any ImageDataset, in model: TrainedModel) throws -> [Int] {
    guard model.hasClassNames else {
      guard dataset.classNames.count == model.description.classes else {
        throw ValidationError(
          "the photos have \(dataset.classNames.count) classes, the weights tell \(model.description.classes) apart")
      }
      return Array(dataset.classNames.indices)
    }
    return try dataset.classNames.map { name in
      guard let index = model.classNames.firstIndex(of: name) else {
        throw ValidationError(
          "the photos' class '\(name)' is none of the model's: \(model.classNames.joined(separator: ", "))")
      }
      return index
    }
  }

  private func score(
    _ loader: BatchLoader, _ labels: [Int], _ model: TrainedModel, into result: inout Evaluation
  ) throws {
    let stream = loader.epoch(0)
    let progress = standardErrorProgress("Evaluate", total: loader.stepsPerEpoch)
    var step = 0
    while let batch = try stream.next() {
      let values = try model(batch).logits.floats()
      let classes = model.description.classes
      for (row, label) in batch.labels.enumerated() {
        result.add(logits: values[row * classes..<(row + 1) * classes], label: labels[Int(label)])
      }
      step += 1
      progress.update(step: step, fields: [("accuracy", String(format: "%.4f", result.accuracy))])
    }
    progress.finish(fields: [])
  }

  private func withReestimatedStatistics(
    of model: TrainedModel, on training: any ImageDataset, _ body: () throws -> Void
  ) throws {
    let trainer = Trainer(
      arena: model.arena, optimizer: Optimizer(.sgd(), schedule: .constant(0), arena: model.arena),
      classes: model.description.classes, labelSmoothing: 0
    ) { model.classifier($0).logits }
    // In the order of training: a folder's own order has one class after the other.
    let loader = BatchLoader(
      training, batchSize: min(loading.batchSize, training.count), height: model.description.inputHeight,
      width: model.description.inputWidth, seed: model.run?.seed ?? 0,
      workers: loading.decoding.threads)
    let stream = loader.epoch(0)
    var batches = 0
    try trainer.withReestimatedStatistics(from: {
      guard batches < TrainingLoop.reestimationBatches, let batch = try stream.next() else { return nil }
      batches += 1
      return TrainingBatch(
        pixels: batch.pixels,
        shape: [batch.count, model.description.inputHeight, model.description.inputWidth, 3], labels: batch.labels)
    }) { try body() }
  }
}

/// Two data sets of the same classes, one after the other.
private struct JoinedDataset: ImageDataset {
  let first: any ImageDataset
  let second: any ImageDataset

  init(_ first: any ImageDataset, _ second: any ImageDataset) {
    self.first = first
    self.second = second
  }

  var classNames: [String] { first.classNames }
  var count: Int { first.count + second.count }
  func label(at index: Int) -> Int { at(index) { $0.label(at: $1) } }
  func name(at index: Int) -> String { at(index) { $0.name(at: $1) } }
  func image(at index: Int) throws -> RGBImage { try at(index) { try $0.image(at: $1) } }

  private func at<Result>(_ index: Int, _ body: (any ImageDataset, Int) throws -> Result) rethrows -> Result {
    try index < first.count ? body(first, index) : body(second, index - first.count)
  }
}
