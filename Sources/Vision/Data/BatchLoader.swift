import Foundation
import NeuralNetwork
import Synchronization

/// What to do about a picture that cannot be decoded.
public enum BadImagePolicy: String, Sendable, CaseIterable {
  /// Leave it out, and record it.
  case skip
  /// End with an error.
  case fail
}

/// Decodes and squashes a data set's pictures on threads of its own and hands them out in batches.
///
/// Which pictures come in which order depends on the seed and the epoch alone, never on the number of workers or on
/// timing. A bad picture's place is taken by the next one of the epoch's order: batches stay full up to the epoch's last.
public final class BatchLoader: Sendable {
  /// Where the pictures come from.
  public let dataset: any ImageDataset
  /// Pictures in every batch but an epoch's last.
  public let batchSize: Int
  /// Rows of the pictures handed out.
  public let height: Int
  /// Columns of the pictures handed out.
  public let width: Int
  /// Threads that decode.
  public let workers: Int

  private let seed: UInt64
  private let shuffle: Bool
  private let augmentation: Augmentation
  private let prefetch: Int
  private let onBadImage: BadImagePolicy
  private let observer: (@Sendable (LoaderActivity) -> Void)?
  private let skips: Mutex<[SkippedFile]>
  private let waited = Mutex(Duration.zero)

  /// - Parameters:
  ///   - seed: of the order; a `shuffle` of false keeps the data set's own order.
  ///   - augmentation: random changes to the pictures, drawn from the seed too.
  ///   - workers: threads, by default one for each core.
  ///   - prefetch: batches kept ready ahead of the consumer; besides these about one batch is in the making.
  ///   - skipped: bad pictures of an earlier run, which are not tried again. Resuming in the middle of an epoch takes
  ///     them to find the same pictures; every other one of the steps already done is taken to be good.
  ///   - observer: told by the threads what they do, for traces.
  public init(
    _ dataset: any ImageDataset, batchSize: Int, height: Int, width: Int, seed: UInt64 = 0, shuffle: Bool = true,
    augmentation: Augmentation = Augmentation(), workers: Int = ProcessInfo.processInfo.activeProcessorCount,
    prefetch: Int = 3, onBadImage: BadImagePolicy = .skip,
    skipped: [SkippedFile] = [], observer: (@Sendable (LoaderActivity) -> Void)? = nil
  ) {
    precondition(batchSize > 0 && height > 0 && width > 0, "BatchLoader: batches of \(batchSize)×\(height)×\(width)")
    precondition(workers > 0 && prefetch > 0, "BatchLoader: \(workers) workers, \(prefetch) batches ahead")
    self.dataset = dataset
    self.batchSize = batchSize
    self.height = height
    self.width = width
    self.seed = seed
    self.shuffle = shuffle
    self.augmentation = augmentation
    self.workers = workers
    self.prefetch = prefetch
    self.onBadImage = onBadImage
    self.observer = observer
    skips = Mutex(skipped)
  }

  /// The bad pictures met so far, each once, in the order in which their batches were handed out.
  public var skipped: [SkippedFile] { skips.withLock { $0 } }

  /// Batches in an epoch, as far as is known: bad pictures not met yet make it smaller.
  public var stepsPerEpoch: Int { (imagesPerEpoch + batchSize - 1) / batchSize }

  /// Pictures in an epoch, as far as is known.
  public var imagesPerEpoch: Int { dataset.count - skipped.count }

  /// Time that `next()` spent waiting for pictures, over all epochs.
  public var waitSeconds: Double { waited.withLock { $0 } / .seconds(1) }

  /// Positions in the data set in the epoch's order, bad pictures included.
  public func order(epoch: Int) -> [Int] {
    guard shuffle else { return Array(0..<dataset.count) }
    var random = RandomNumbers(seed, streams.order, UInt64(epoch))
    return random.permutation(dataset.count)
  }

  /// The most bytes of decoded pictures that an epoch under way holds, besides the batches it has handed out: those that
  /// are ready, the one in the making twice (with mixup three times), and about a batch of single pictures. What a photo
  /// takes while it is decoded in its own size comes on top.
  public var largestBytesHeld: Int {
    let making = augmentation.mixup > 0 ? 3 : 2
    return ((prefetch - 1 + making + 1) * batchSize + workers) * height * width * 3
  }

  /// Starts decoding an epoch (counted from 0), at batch `step` of it.
  public func epoch(_ epoch: Int, startingAt step: Int = 0) -> BatchStream {
    precondition(epoch >= 0 && step >= 0, "BatchLoader: epoch \(epoch), step \(step)")
    let bad = Set(skipped.map(\.index))
    let order = order(epoch: epoch).filter { !bad.contains($0) }
    return BatchStream(
      loader: self,
      BatchPipeline(
        dataset, Array(order.dropFirst(step * batchSize)), batchSize: batchSize, height: height, width: width,
        augmentation: EpochAugmentation(augmentation, seed: seed, epoch: epoch, firstBatch: step), workers: workers,
        prefetch: prefetch, onBadImage: onBadImage, observer: observer))
  }

  fileprivate func record(_ files: [SkippedFile], waited time: Duration) {
    waited.withLock { $0 += time }
    guard !files.isEmpty else { return }
    skips.withLock { known in
      // Two epochs may be under way and meet the same picture.
      let indices = Set(known.map(\.index))
      known += files.filter { !indices.contains($0.index) }
    }
  }
}

/// One epoch's batches. Letting go of it ends its threads, also before the epoch's end.
public final class BatchStream {
  /// Time that `next()` spent waiting for pictures.
  public private(set) var waitSeconds = 0.0
  private let loader: BatchLoader
  private let pipeline: BatchPipeline

  fileprivate init(loader: BatchLoader, _ pipeline: BatchPipeline) {
    self.loader = loader
    self.pipeline = pipeline
    pipeline.start()
  }

  deinit { pipeline.stop() }

  /// The next batch, nil after the epoch's last.
  ///
  /// - Throws: `DatasetError`: a bad picture when these are not to be skipped, after all batches that are complete
  ///   without it; or not a single good picture.
  public func next() throws -> ImageBatch? {
    let start = ContinuousClock.now
    let delivery = pipeline.next()
    let time = ContinuousClock.now - start
    waitSeconds += time / .seconds(1)
    loader.record(delivery.skipped, waited: time)
    return try delivery.batch.get()
  }
}
