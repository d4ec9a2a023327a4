import OpenCLRuntime

extension KernelSource {
  /// Kernels that the tensor type itself needs.
  static let fill = KernelSource(
    name: "fill",
    text: """
      // One work-item per element of a strided view of rows of channels.
      kernel void fill(global float *y, int offset, int stride, float value) {
        y[offset + (long)get_global_id(1) * stride + get_global_id(0)] = value;
      }

      // The same for 16 bits.
      kernel void fill_short(global ushort *y, int offset, int stride, int value) {
        y[offset + (long)get_global_id(1) * stride + get_global_id(0)] = (ushort)value;
      }

      kernel void copy_short(global const ushort *x, int xOffset, int xStride, global ushort *y, int yOffset,
                             int yStride) {
        y[yOffset + (long)get_global_id(1) * yStride + get_global_id(0)] =
            x[xOffset + (long)get_global_id(1) * xStride + get_global_id(0)];
      }

      kernel void copy(global const float *x, int xOffset, int xStride, global float *y, int yOffset, int yStride) {
        y[yOffset + (long)get_global_id(1) * yStride + get_global_id(0)] =
            x[xOffset + (long)get_global_id(1) * xStride + get_global_id(0)];
      }
      """)
}

extension Tensor {
  /// Overwrites all values with `value`.
  public func fill(_ value: Float) {
    precondition(dtype.isFloatingPoint, "fill: the tensor holds \(dtype)")
    willBeOverwritten()
    let (start, size) = (elementOffset * dtype.byteCount, shape.count * dtype.byteCount)
    if value == 0, isContiguous, start % 4 == 0, size % 4 == 0 {
      storage.buffer.zero(at: start, count: size)
      return
    }
    let short = dtype.isSixteenBit
    device.launch(
      .fill, short ? "fill_short" : "fill", global: [channels, rows],
      [
        .buffer(storage.buffer), .int(elementOffset), .int(pixelStride),
        short ? .int(Int(dtype.bits(of: value))) : .float(value),
      ],
      cost: LaunchCost("fill \(shape)", bytes: Double(size)))
  }

  /// Overwrites all values with those of `other`, which has the same shape and type.
  public func overwrite(with other: Tensor) {
    precondition(
      shape == other.shape && dtype == other.dtype && dtype.isFloatingPoint,
      "overwrite: \(dtype) \(shape) with \(other.dtype) \(other.shape)")
    willBeOverwritten()
    device.launch(
      .fill, dtype.isSixteenBit ? "copy_short" : "copy", global: [channels, rows],
      [
        .buffer(other.storage.buffer), .int(other.elementOffset), .int(other.pixelStride), .buffer(storage.buffer),
        .int(elementOffset), .int(pixelStride),
      ],
      cost: LaunchCost("copy \(shape)", bytes: Double(shape.count * dtype.byteCount * 2)))
  }
}
