import ArgumentParser
import CommandSupport
import Foundation
import Fovea

/// Who decodes photos.
struct DecodingOptions: ParsableArguments {
  @Option(help: "Threads that decode photos. Default: one for each core.")
  var workers: Int?

  var threads: Int { workers ?? ProcessInfo.processInfo.activeProcessorCount }

  func validate() throws {
    if let workers, workers < 1 { throw ValidationError("--workers must be at least 1, not \(workers)") }
  }
}

/// How photos are read, for commands that put them through a model.
struct LoadingOptions: ParsableArguments {
  @Option(help: "Photos a step.")
  var batchSize = 32

  @OptionGroup var decoding: DecodingOptions

  func validate() throws {
    guard (1...4096).contains(batchSize) else {
      throw ValidationError("--batch-size must be 1 to 4096, not \(batchSize)")
    }
  }

  /// The photos in their own order, at the model's input size.
  func loader(
    for dataset: any ImageDataset, _ model: ModelDescription, onBadImage: BadImagePolicy = .skip
  ) -> BatchLoader {
    BatchLoader(
      dataset, batchSize: min(batchSize, dataset.count), height: model.inputHeight, width: model.inputWidth,
      shuffle: false, workers: decoding.threads, onBadImage: onBadImage)
  }
}
