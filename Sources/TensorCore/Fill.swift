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

      kernel void copy(global const float *x, int xOffset, int xStride, global float *y, int yOffset, int yStride) {
        y[yOffset + (long)get_global_id(1) * yStride + get_global_id(0)] =
            x[xOffset + (long)get_global_id(1) * xStride + get_global_id(0)];
      }
      """)
}

extension Tensor {
  /// Overwrites all values with `value`.
  public func fill(_ value: Float) {
    precondition(dtype == .float32, "fill: the tensor holds \(dtype)")
    willBeOverwritten()
    if value == 0, isContiguous {
      storage.buffer.zero(at: elementOffset * 4, count: shape.count * 4)
      return
    }
    device.launch(
      .fill, "fill", global: [channels, rows],
      [.buffer(storage.buffer), .int(elementOffset), .int(pixelStride), .float(value)],
      cost: LaunchCost("fill \(shape)", bytes: Double(shape.count * 4)))
  }

  /// Overwrites all values with those of `other`, which has the same shape.
  public func overwrite(with other: Tensor) {
    precondition(shape == other.shape, "overwrite: \(shape) with \(other.shape)")
    willBeOverwritten()
    device.launch(
      .fill, "copy", global: [channels, rows],
      [
        .buffer(other.storage.buffer), .int(other.elementOffset), .int(other.pixelStride), .buffer(storage.buffer),
        .int(elementOffset), .int(pixelStride),
      ],
      cost: LaunchCost("copy \(shape)", bytes: Double(shape.count * 8)))
  }
}
