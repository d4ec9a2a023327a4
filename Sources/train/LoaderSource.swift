import Fovea

/// A loader's batches as the training loop takes them.
struct LoaderSource: BatchSource {
  let loader: BatchLoader

  var batchesPerEpoch: Int { loader.stepsPerEpoch }

  func epoch(_ epoch: Int, startingAt start: Int) -> any BatchIterator {
    Iterator(
      stream: loader.epoch(epoch, startingAt: start), shape: { [$0, loader.height, loader.width, 3] })
  }

  private final class Iterator: BatchIterator {
    private let stream: BatchStream
    private let shape: (Int) -> Shape

    init(stream: BatchStream, shape: @escaping (Int) -> Shape) {
      self.stream = stream
      self.shape = shape
    }

    var waitSeconds: Double { stream.waitSeconds }

    func next() throws -> TrainingBatch? {
      try stream.next().map {
        TrainingBatch(
          pixels: $0.pixels, shape: shape($0.count), labels: $0.labels, partners: $0.partners, share: $0.share,
          indices: $0.indices)
      }
    }
  }
}
