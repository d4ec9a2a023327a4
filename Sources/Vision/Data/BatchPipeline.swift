import Foundation

/// The threads behind one epoch.
///
/// Pictures are started in order, finish in any order, and are taken up in order again at the frontier: the first
/// position not yet done. Good ones gather there until a batch is full; a worker then puts it together, so that the
/// consumer copies nothing.
final class BatchPipeline: @unchecked Sendable {
  /// What the consumer gets: a batch, nil at the end, or an error; and the bad pictures met on the way to it.
  struct Delivery {
    var batch: Result<ImageBatch?, DatasetError>
    var skipped: [SkippedFile]
  }

  private struct Sample {
    let index: Int
    let pixels: [UInt8]
    let skippedBefore: [SkippedFile]
  }

  private enum Work {
    case decode(position: Int)
    case assemble([Sample], batch: Int)
  }

  private let dataset: any ImageDataset
  private let order: [Int]
  private let batchSize: Int
  private let height: Int
  private let width: Int
  private let augmentation: EpochAugmentation
  private let workers: Int
  private let prefetch: Int
  private let onBadImage: BadImagePolicy
  private let observer: (@Sendable (LoaderActivity) -> Void)?

  // Everything below is touched only while `condition` is locked: hence the unchecked Sendable.
  private let condition = NSCondition()
  private var started = 0  // positions before this have been given to a worker
  private var frontier = 0  // positions before this have been taken up
  private var done: [Int: Result<[UInt8], SkippedFile>] = [:]  // positions from the frontier on
  private var gathered: [Sample] = []
  private var skipped: [SkippedFile] = []  // since the last gathered sample
  private var assembling = false
  private var assembled = 0  // batches, the one in the making included
  private var ready: [Delivery] = []
  private var delivered = 0
  private var failure: DatasetError?
  private var stopped = false
  private var running = 0

  init(
    _ dataset: any ImageDataset, _ order: [Int], batchSize: Int, height: Int, width: Int,
    augmentation: EpochAugmentation, workers: Int, prefetch: Int, onBadImage: BadImagePolicy,
    observer: (@Sendable (LoaderActivity) -> Void)? = nil
  ) {
    self.dataset = dataset
    self.order = order
    self.batchSize = batchSize
    self.height = height
    self.width = width
    self.augmentation = augmentation
    self.workers = workers
    self.prefetch = prefetch
    self.onBadImage = onBadImage
    self.observer = observer
  }

  func start() {
    let threads = min(workers, order.count)
    running = threads
    for number in 0..<threads {
      let thread = Thread { [self] in run(worker: number) }
      thread.name = "image loader \(number)"
      thread.start()
    }
  }

  /// Returns when the last thread has left.
  func stop() {
    condition.lock()
    stopped = true
    condition.broadcast()
    while running > 0 { condition.wait() }
    condition.unlock()
  }

  func next() -> Delivery {
    condition.lock()
    defer { condition.unlock() }
    while true {
      if !ready.isEmpty {
        delivered += 1
        condition.broadcast()
        return ready.removeFirst()
      }
      if isExhausted, !assembling {
        defer { skipped = [] }
        if failure == nil, delivered == 0, let first = skipped.first {
          return Delivery(batch: .failure(.noReadableImage(count: order.count, first: first)), skipped: skipped)
        }
        return Delivery(batch: failure.map { .failure($0) } ?? .success(nil), skipped: skipped)
      }
      condition.wait()
    }
  }

  // MARK: Workers

  private func run(worker: Int) {
    condition.lock()
    while !stopped, !isExhausted {
      guard let work = takeWork() else {
        condition.wait()
        continue
      }
      condition.unlock()
      switch work {
      case .decode(let position):
        let index = order[position]
        let result = observed(worker, .decode(name: dataset.name(at: index))) { decode(index) }
        condition.lock()
        done[position] = result
        advanceFrontier()
      case .assemble(let samples, let batch):
        let delivery = observed(worker, .assemble(pictures: samples.count)) { assemble(samples, batch: batch) }
        condition.lock()
        assembling = false
        ready.append(delivery)
      }
      condition.broadcast()
    }
    running -= 1
    condition.broadcast()
    condition.unlock()
  }

  private func observed<Result>(
    _ worker: Int, _ work: @autoclosure () -> LoaderActivity.Work, _ body: () -> Result
  ) -> Result {
    guard let observer else { return body() }
    let start = DispatchTime.now().uptimeNanoseconds
    let result = body()
    observer(LoaderActivity(worker: worker, work: work(), start: start, end: DispatchTime.now().uptimeNanoseconds))
    return result
  }

  /// Nothing is left to start: all has been taken up, or what follows a failure is not wanted.
  private var isExhausted: Bool {
    failure == nil ? frontier == order.count && gathered.isEmpty : gathered.count < batchSize
  }

  private func takeWork() -> Work? {
    let complete = gathered.count >= batchSize || frontier == order.count && !gathered.isEmpty
    if complete, !assembling, ready.count < prefetch {
      assembling = true
      let samples = Array(gathered.prefix(batchSize))
      gathered.removeFirst(samples.count)
      assembled += 1
      return .assemble(samples, batch: assembled - 1)
    }
    // Bounds what is held: a batch's worth of pictures, and one for each worker to be busy with.
    let held = started - frontier + gathered.count
    guard failure == nil, started < order.count, held < batchSize + workers else { return nil }
    started += 1
    return .decode(position: started - 1)
  }

  private func decode(_ index: Int) -> Result<[UInt8], SkippedFile> {
    do {
      let pixels = try augmentation.pixels(of: index, in: dataset, height: height, width: width)
      precondition(pixels.count == height * width * 3, "\(dataset.name(at: index)): \(pixels.count) bytes")
      return .success(pixels)
    } catch {
      let reason = "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
      return .failure(SkippedFile(index: index, path: dataset.name(at: index), reason: reason))
    }
  }

  private func advanceFrontier() {
    while failure == nil, let result = done.removeValue(forKey: frontier) {
      switch result {
      case .success(let pixels):
        gathered.append(Sample(index: order[frontier], pixels: pixels, skippedBefore: skipped))
        skipped = []
      case .failure(let file):
        skipped.append(file)
        if onBadImage == .fail { failure = .badImage(file) }
      }
      frontier += 1
    }
  }

  private func assemble(_ samples: [Sample], batch number: Int) -> Delivery {
    let size = height * width * 3
    var pixels = [UInt8](unsafeUninitializedCapacity: samples.count * size) { target, count in
      for (slot, sample) in samples.enumerated() {
        sample.pixels.withUnsafeBufferPointer {
          (target.baseAddress! + slot * size).initialize(from: $0.baseAddress!, count: size)
        }
      }
      count = samples.count * size
    }
    let indices = samples.map(\.index)
    let labels = indices.map { Int32(dataset.label(at: $0)) }
    let mixing = augmentation.mixing(batch: number, count: samples.count)
    if let mixing { pixels = mixing.mixed(pixels, size: size) }
    let batch = ImageBatch(
      pixels: pixels, labels: labels, indices: indices, partners: mixing?.partners.map { labels[$0] },
      share: mixing?.share ?? 1)
    return Delivery(batch: .success(batch), skipped: samples.flatMap(\.skippedBefore))
  }
}

extension SkippedFile: Error {}
