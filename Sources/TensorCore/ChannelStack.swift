import OpenCLRuntime

/// One buffer whose channels are filled slab by slab; the first k channels are the concatenation of the slabs so far.
///
/// A dense block owns one: each layer reads `prefix` and writes the next `slab`, and nothing is ever copied together.
public struct ChannelStack: Sendable {
  private let storage: Storage
  private let shape: Shape
  /// Channels filled so far.
  public private(set) var filled = 0

  /// Memory for `shape`, whose innermost extent is the number of channels when full.
  public init(shape: Shape, on device: Device, dtype: DType = .float32) {
    // On a CPU rows that are a multiple of 512 bytes would compete for the same few lines of its caches.
    let competes = device.isCPU && shape.channels * dtype.byteCount % 512 == 0
    let padding = competes ? 64 / dtype.byteCount : 0
    storage = Storage(device: device, rows: shape.rows, channels: shape.channels + padding, dtype: dtype)
    self.shape = shape
  }

  /// The next `channels` channels, to be written by the caller before anything reads them.
  public mutating func appendSlab(channels: Int) -> Tensor {
    precondition(
      filled + channels <= shape.channels,
      "ChannelStack: \(channels) more channels do not fit after \(filled) of \(shape.channels)")
    defer { filled += channels }
    return Tensor(storage: storage, shape: shape.withChannels(channels), channels: filled..<filled + channels)
  }

  /// All channels filled so far, as one tensor.
  public var prefix: Tensor {
    Tensor(storage: storage, shape: shape.withChannels(filled), channels: 0..<filled)
  }
}
