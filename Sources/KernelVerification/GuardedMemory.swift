import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// Memory inside a larger buffer whose every other value must stay as it is, with extra channels on both sides when
/// `margins` are given. Everything starts as a NaN of its own kind, so that a value that was not written, or a
/// neighbour that was read, is seen.
package struct GuardedMemory {
  package let storage: Storage
  package let shape: Shape
  private let margins: (before: Int, after: Int)

  private static let guardCount = 64
  private static let poison: UInt32 = 0x7fc0_1234

  package init(
    _ shape: Shape, margins: (before: Int, after: Int) = (0, 0), on device: Device, dtype: DType = .float32
  ) {
    self.shape = shape
    self.margins = margins
    let width = margins.before + shape.channels + margins.after
    let count = shape.rows * width + 2 * Self.guardCount
    let buffer = device.allocate(byteCount: count * dtype.byteCount)
    if dtype.isSixteenBit {
      // A NaN of either type.
      [UInt16](repeating: Self.shortPoison, count: count).withUnsafeBytes { buffer.write($0) }
    } else {
      [UInt32](repeating: Self.poison, count: count).withUnsafeBytes { buffer.write($0) }
    }
    storage = Storage(buffer: buffer, baseOffset: Self.guardCount, rows: shape.rows, channels: width, dtype: dtype)
  }

  private static let shortPoison: UInt16 = 0x7fe5

  package init(
    _ value: ReferenceTensor, margins: (before: Int, after: Int), on device: Device, dtype: DType = .float32
  ) {
    self.init(Shape(value.shape), margins: margins, on: device, dtype: dtype)
    let width = storage.channels
    let values = value.floats
    for row in 0..<shape.rows {
      let offset = (Self.guardCount + row * width + margins.before) * dtype.byteCount
      let slice = values[row * shape.channels..<(row + 1) * shape.channels]
      if dtype.isSixteenBit {
        slice.map { dtype == .float16 ? $0.half : $0.bfloat }.withUnsafeBytes { storage.buffer.write($0, at: offset) }
      } else {
        slice.withUnsafeBytes { storage.buffer.write($0, at: offset) }
      }
    }
  }

  /// The tensor within the margins.
  package var tensor: Tensor {
    if margins == (0, 0) { return Tensor(storage: storage, shape: shape) }
    return Tensor(storage: storage, shape: shape, channels: margins.before..<margins.before + shape.channels)
  }

  /// Whether all values outside the tensor are as they were.
  package func neighboursAreUntouched() throws -> Bool {
    if storage.device.isPlanning { return true }
    return storage.dtype.isSixteenBit ? try areUntouched(Self.shortPoison) : try areUntouched(Self.poison)
  }

  private func areUntouched<Bits: FixedWidthInteger & BitwiseCopyable>(_ poison: Bits) throws -> Bool {
    let width = storage.channels
    var values = [Bits](repeating: 0, count: shape.rows * width + 2 * Self.guardCount)
    try values.withUnsafeMutableBytes { try storage.buffer.read(into: $0) }
    return values.indices.allSatisfy { index in
      let element = index - Self.guardCount
      let inside =
        element >= 0 && element < shape.rows * width
        && (margins.before..<margins.before + shape.channels).contains(element % width)
      return inside || values[index] == poison
    }
  }
}

/// Fills memory that freed tensors left with NaN, so that the next results start from there.
package func poisonFreeMemory(on device: Device) {
  var kept: [Tensor] = []
  for count in [64, 1024, 16384] {
    for _ in 0..<4 {
      let tensor = Tensor(uninitialized: [count], on: device)
      tensor.fill(.nan)
      kept.append(tensor)
    }
  }
}
