import Dispatch
import Fovea

/// A loader's batches as the training loop takes them, whole or cut into micro-batches.
struct LoaderSource: BatchSource {
  private let loader: BatchLoader
  private let microBatch: Int
  private let waiting: Waiting?

  /// Told when a batch was waited for: from and until when, in nanoseconds of `DispatchTime`'s clock.
  typealias Waiting = (UInt64, UInt64) -> Void

  /// - Parameter microBatch: photos of the batches handed out; divides the loader's batch size, which is the default.
  ///   What is drawn for a whole batch, such as the share of a mixture, holds for all of its parts.
  init(loader: BatchLoader, microBatch: Int? = nil, waiting: Waiting? = nil) {
    self.loader = loader
    self.microBatch = microBatch ?? loader.batchSize
    self.waiting = waiting
    precondition(
      loader.batchSize % self.microBatch == 0,
      "LoaderSource: batches of \(loader.batchSize) in parts of \(self.microBatch)")
  }

  var batchesPerEpoch: Int { (loader.imagesPerEpoch + microBatch - 1) / microBatch }

  func epoch(_ epoch: Int, startingAt start: Int) -> any BatchIterator {
    let parts = loader.batchSize / microBatch
    return Iterator(
      stream: loader.epoch(epoch, startingAt: start / parts), skipping: start % parts, microBatch: microBatch,
      waiting: waiting, shape: { [$0, loader.height, loader.width, 3] })
  }

  private final class Iterator: BatchIterator {
    private let stream: BatchStream
    private let microBatch: Int
    private let waiting: Waiting?
    private let shape: (Int) -> Shape
    /// Of the batch that is being handed out, in their order.
    private var parts: ArraySlice<TrainingBatch> = []
    private var skipping: Int

    init(
      stream: BatchStream, skipping: Int, microBatch: Int, waiting: Waiting?, shape: @escaping (Int) -> Shape
    ) {
      self.stream = stream
      self.skipping = skipping
      self.microBatch = microBatch
      self.waiting = waiting
      self.shape = shape
    }

    var waitSeconds: Double { stream.waitSeconds }

    func next() throws -> TrainingBatch? {
      while parts.isEmpty {
        let start = DispatchTime.now().uptimeNanoseconds
        guard let batch = try stream.next() else { return nil }
        waiting?(start, DispatchTime.now().uptimeNanoseconds)
        let whole = TrainingBatch(
          pixels: batch.pixels, shape: shape(batch.count), labels: batch.labels, partners: batch.partners,
          share: batch.share, indices: batch.indices)
        parts = whole.split(into: microBatch).dropFirst(skipping)
        skipping = 0
      }
      return parts.removeFirst()
    }
  }
}
