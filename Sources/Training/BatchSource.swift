import OpenCLRuntime
import TensorCore

/// Photos with their classes, on the host.
public struct TrainingBatch: Sendable {
  /// Bytes of [count, height, width, channels].
  public let pixels: [UInt8]
  /// [count, height, width, channels].
  public let shape: Shape
  /// The class of each photo, from 0.
  public let labels: [Int32]
  /// Where photos are mixtures of two (mixup), the class of the second; nil where they are not.
  public let partners: [Int32]?
  /// Where photos are mixtures, the share of the one of class `labels`.
  public let share: Float
  /// The position of each photo in its data set, where there is one.
  public let indices: [Int]?

  /// A batch; traps when the counts do not fit together.
  public init(
    pixels: [UInt8], shape: Shape, labels: [Int32], partners: [Int32]? = nil, share: Float = 1, indices: [Int]? = nil
  ) {
    precondition(
      pixels.count == shape.count && labels.count == shape[0] && partners?.count ?? labels.count == labels.count
        && indices?.count ?? labels.count == labels.count,
      "TrainingBatch: \(labels.count) labels and \(pixels.count) bytes for \(shape)")
    self.pixels = pixels
    self.shape = shape
    self.labels = labels
    self.partners = partners
    self.share = share
    self.indices = indices
  }

  /// A batch of that shape without values, for a planning device.
  init(planning shape: Shape) {
    pixels = []
    self.shape = shape
    labels = Array(repeating: 0, count: shape[0])
    partners = nil
    share = 1
    indices = nil
  }

  /// Number of photos.
  public var count: Int { labels.count }

  /// Photos on the device; on one that plans their memory.
  static func photos(_ pixels: [UInt8], shape: Shape, on device: Device) -> Tensor {
    device.isPlanning
      ? Tensor(uninitialized: shape, on: device, dtype: .uint8)
      : Tensor(enqueueing: pixels, shape: shape, on: device)
  }

  /// The same photos in batches of at most `size`, in their order.
  public func split(into size: Int) -> [TrainingBatch] {
    precondition(size > 0, "TrainingBatch: parts of \(size) photos")
    guard count > size else { return [self] }
    let bytes = pixels.count / count
    return stride(from: 0, to: count, by: size).map { start in
      let rows = start..<min(start + size, count)
      return TrainingBatch(
        pixels: Array(pixels[rows.lowerBound * bytes..<rows.upperBound * bytes]),
        shape: Shape([rows.count] + shape.dimensions.dropFirst()), labels: Array(labels[rows]),
        partners: partners.map { Array($0[rows]) }, share: share, indices: indices.map { Array($0[rows]) })
    }
  }
}

/// Where a run's batches come from.
public protocol BatchSource {
  /// Batches in an epoch, as far as is known.
  var batchesPerEpoch: Int { get }

  /// The batches of an epoch (counted from 0), from the one at `start` on. The same numbers give the same batches: runs
  /// are resumed in the middle of an epoch.
  func epoch(_ epoch: Int, startingAt start: Int) -> any BatchIterator
}

/// The batches of one epoch, one after another.
public protocol BatchIterator: AnyObject {
  /// The next batch, nil after the last.
  func next() throws -> TrainingBatch?

  /// Seconds that `next()` has spent waiting.
  var waitSeconds: Double { get }
}
