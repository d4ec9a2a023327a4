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
  private static let poison = Float(bitPattern: 0x7fc0_1234)

  package init(_ shape: Shape, margins: (before: Int, after: Int) = (0, 0), on device: Device) {
    self.shape = shape
    self.margins = margins
    let width = margins.before + shape.channels + margins.after
    let count = shape.rows * width
    let buffer = device.allocate(byteCount: (count + 2 * Self.guardCount) * 4)
    [Float](repeating: Self.poison, count: count + 2 * Self.guardCount).withUnsafeBytes { buffer.write($0) }
    storage = Storage(buffer: buffer, baseOffset: Self.guardCount, rows: shape.rows, channels: width)
  }

  package init(_ value: ReferenceTensor, margins: (before: Int, after: Int), on device: Device) {
    self.init(Shape(value.shape), margins: margins, on: device)
    let width = storage.channels
    let values = value.floats
    for row in 0..<shape.rows {
      values[row * shape.channels..<(row + 1) * shape.channels].withUnsafeBytes {
        storage.buffer.write($0, at: (Self.guardCount + row * width + margins.before) * 4)
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
    let width = storage.channels
    var values = [UInt32](repeating: 0, count: shape.rows * width + 2 * Self.guardCount)
    try values.withUnsafeMutableBytes { try storage.buffer.read(into: $0) }
    return values.indices.allSatisfy { index in
      let element = index - Self.guardCount
      let inside =
        element >= 0 && element < shape.rows * width
        && (margins.before..<margins.before + shape.channels).contains(element % width)
      return inside || values[index] == Self.poison.bitPattern
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
