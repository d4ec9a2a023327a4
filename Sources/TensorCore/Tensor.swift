import OpenCLRuntime

/// An array of numbers on a device: a shape over a storage.
///
/// A tensor is a cheap value; copies share memory. Most tensors are contiguous. A view of some channels of a storage
/// keeps the storage's row stride, so that the first k channels of a channel stack are a tensor without a copy.
public struct Tensor: Sendable {
  /// The memory that the values lie in.
  public let storage: Storage
  /// The extents, outermost first.
  public let shape: Shape
  /// First channel of the storage that this tensor covers.
  public let channelOffset: Int
  /// Elements from one row (pixel) to the next.
  public let pixelStride: Int

  /// New memory of that shape with undefined contents.
  public init(uninitialized shape: Shape, on device: Device, dtype: DType = .float32) {
    self.init(
      storage: Storage(device: device, rows: shape.rows, channels: shape.channels, dtype: dtype), shape: shape)
  }

  /// The whole of `storage` under `shape`.
  public init(storage: Storage, shape: Shape) {
    precondition(
      shape.count == storage.rows * storage.channels,
      "Tensor: shape \(shape) does not have the storage's \(storage.rows * storage.channels) elements")
    self.storage = storage
    self.shape = shape
    channelOffset = 0
    pixelStride = shape.channels
  }

  /// The channels `range` of `storage`; `shape` has them as its innermost extent.
  public init(storage: Storage, shape: Shape, channels range: Range<Int>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= storage.channels && shape.channels == range.count
        && shape.rows == storage.rows,
      "Tensor: channels \(range) with shape \(shape) do not fit a storage of \(storage.rows) × \(storage.channels)")
    self.storage = storage
    self.shape = shape
    channelOffset = range.lowerBound
    pixelStride = storage.channels
  }

  /// Copies `values` (row-major) to the device; traps when there are not as many as `shape` says.
  ///
  /// - Parameter dtype: a type of floating-point numbers, to which they are rounded.
  public init(_ values: [Float], shape: Shape, on device: Device, dtype: DType = .float32) {
    precondition(values.count == shape.count, "Tensor: \(values.count) values for shape \(shape)")
    precondition(dtype.isFloatingPoint, "Tensor: floating-point values as \(dtype)")
    self.init(uninitialized: shape, on: device, dtype: dtype)
    if dtype.isSixteenBit {
      values.map(dtype.bits).withUnsafeBytes { storage.buffer.write($0) }
    } else {
      values.withUnsafeBytes { storage.buffer.write($0) }
    }
  }

  /// Copies bytes, such as pixels, to the device.
  @_disfavoredOverload
  public init(_ values: [UInt8], shape: Shape, on device: Device) {
    precondition(values.count == shape.count, "Tensor: \(values.count) values for shape \(shape)")
    self.init(uninitialized: shape, on: device, dtype: .uint8)
    values.withUnsafeBytes { storage.buffer.write($0) }
  }

  /// Copies 32-bit integers, such as labels, to the device.
  @_disfavoredOverload
  public init(_ values: [Int32], shape: Shape, on device: Device) {
    precondition(values.count == shape.count, "Tensor: \(values.count) values for shape \(shape)")
    self.init(uninitialized: shape, on: device, dtype: .int32)
    values.withUnsafeBytes { storage.buffer.write($0) }
  }

  /// A tensor of zeros.
  public static func zeros(_ shape: Shape, on device: Device) -> Tensor {
    let tensor = Tensor(uninitialized: shape, on: device)
    tensor.storage.buffer.zero(count: shape.count * 4)
    return tensor
  }

  /// The device that holds the values.
  public var device: Device { storage.device }
  /// The type of the values.
  public var dtype: DType { storage.dtype }
  /// Product of all extents but the innermost.
  public var rows: Int { shape.rows }
  /// The innermost extent; 1 for a scalar.
  public var channels: Int { shape.channels }
  /// Bytes of all values, without gaps between rows.
  public var byteCount: Int { shape.count * dtype.byteCount }

  /// Element of the buffer at which the first value lies.
  public var elementOffset: Int { storage.baseOffset + channelOffset }

  /// Whether the values lie without gaps.
  public var isContiguous: Bool { pixelStride == shape.channels || shape.rows <= 1 }

  /// Whether the tensor covers all of its storage.
  public var coversStorage: Bool { shape.count == storage.rows * storage.channels }

  /// The storage's channels that this tensor covers; a reshaped tensor covers all.
  public var channelRange: Range<Int> {
    coversStorage ? 0..<storage.channels : channelOffset..<channelOffset + channels
  }

  /// The channels `range` of this tensor, without a copy.
  public func channels(_ range: Range<Int>) -> Tensor {
    precondition(
      pixelStride == storage.channels, "Tensor.channels: the tensor has been reshaped from \(storage.channels) channels"
    )
    precondition(
      range.lowerBound >= 0 && range.upperBound <= channels, "Tensor.channels: \(range) of \(channels) channels")
    return Tensor(
      storage: storage, shape: shape.withChannels(range.count),
      channels: channelOffset + range.lowerBound..<channelOffset + range.upperBound)
  }

  /// Says that the values are about to be overwritten: statistics computed from them no longer hold.
  public func willBeOverwritten() {
    if storage.statistics?.computed.overlaps(channelRange) ?? false { storage.statistics = nil }
    storage.partialMoments.removeAll { $0.channels.overlaps(channelRange) }
  }

  /// The same values under another shape, without a copy. The tensor must be contiguous.
  public func reshaped(_ shape: Shape) -> Tensor {
    precondition(coversStorage, "reshape: only a tensor that covers its storage can be reshaped, not a channel view")
    precondition(shape.count == self.shape.count, "reshape: \(self.shape) has not as many elements as \(shape)")
    return Tensor(storage: storage, shape: shape)
  }

  /// Waits for the device and copies the values to the host, row-major; those of 16 bits become `float32`. Traps for
  /// types that are not floating-point numbers.
  ///
  /// - Throws: the device's first failure, an `OpenCLError`.
  public func floats() throws -> [Float] {
    precondition(dtype.isFloatingPoint, "floats: the tensor holds \(dtype)")
    guard dtype.isSixteenBit else { return try read(as: Float.self, zero: 0) }
    return try read(as: UInt16.self, zero: 0).map(dtype.value)
  }

  /// Waits for the device and copies bytes to the host, row-major. Traps for another type than `uint8`.
  ///
  /// - Throws: the device's first failure, an `OpenCLError`.
  public func bytes() throws -> [UInt8] {
    precondition(dtype == .uint8, "bytes: the tensor holds \(dtype)")
    return try read(as: UInt8.self, zero: 0)
  }

  /// Waits for the device and returns the only value of a tensor with one element; traps when there are more.
  ///
  /// - Throws: the device's first failure, an `OpenCLError`.
  public func item() throws -> Float {
    precondition(shape.count == 1, "item: the tensor has shape \(shape)")
    return try floats()[0]
  }

  private func read<T>(as type: T.Type, zero: T) throws -> [T] {
    let size = MemoryLayout<T>.size
    var values = [T](repeating: zero, count: shape.count)
    if isContiguous {
      try values.withUnsafeMutableBytes { try storage.buffer.read(into: $0, at: elementOffset * size) }
      return values
    }
    var all = [T](repeating: zero, count: storage.rows * storage.channels)
    try all.withUnsafeMutableBytes { try storage.buffer.read(into: $0, at: storage.baseOffset * size) }
    for row in 0..<rows {
      for channel in 0..<channels {
        values[row * channels + channel] = all[row * pixelStride + channelOffset + channel]
      }
    }
    return values
  }
}

extension Tensor {
  /// Copies bytes to the device without waiting for earlier work.
  @_disfavoredOverload
  public init(enqueueing values: [UInt8], shape: Shape, on device: Device) {
    precondition(values.count == shape.count, "Tensor: \(values.count) values for shape \(shape)")
    self.init(uninitialized: shape, on: device, dtype: .uint8)
    storage.buffer.enqueueWrite(values)
  }

  /// Copies numbers to the device without waiting for earlier work.
  public init(enqueueing values: [Float], shape: Shape, on device: Device) {
    precondition(values.count == shape.count, "Tensor: \(values.count) values for shape \(shape)")
    self.init(uninitialized: shape, on: device)
    storage.buffer.enqueueWrite(values)
  }

  /// Overwrites all values with bytes from the host without waiting for earlier work.
  @_disfavoredOverload
  public func overwrite(enqueueing values: [UInt8]) {
    checkOverwrite(with: values.count, .uint8)
    storage.buffer.enqueueWrite(values)
  }

  /// Overwrites all values with numbers from the host without waiting for earlier work.
  public func overwrite(enqueueing values: [Float]) {
    checkOverwrite(with: values.count, .float32)
    storage.buffer.enqueueWrite(values)
  }

  private func checkOverwrite(with count: Int, _ type: DType) {
    precondition(
      dtype == type && count == shape.count && coversStorage && elementOffset == 0,
      "Tensor.overwrite: \(count) values of \(type) for a tensor of \(dtype), \(shape)\(coversStorage ? "" : ", a view")"
    )
    willBeOverwritten()
  }
}
