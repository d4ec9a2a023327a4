import OpenCLRuntime

extension KernelSource {
  /// Kernels that the tensor type itself needs.
  static let fill = KernelSource(
    name: "fill",
    text: """
      // A work-item for a part of so many rows and channels of a strided view.
      #define FOR_ELEMENTS(row, channel)                                                                             \\
        for (int row = get_global_id(1) * partRows, lastRow = min(row + partRows, rows); row < lastRow; row++)       \\
          for (int channel = get_global_id(0) * partChannels, last = min(channel + partChannels, channels);          \\
               channel < last; channel++)

      kernel void fill(int channels, int rows, int partChannels, int partRows, global float *y, int offset, int stride,
                       float value) {
        FOR_ELEMENTS(row, channel) y[offset + (long)row * stride + channel] = value;
      }

      // The same for 16 bits.
      kernel void fill_short(int channels, int rows, int partChannels, int partRows, global ushort *y, int offset,
                             int stride, int value) {
        FOR_ELEMENTS(row, channel) y[offset + (long)row * stride + channel] = (ushort)value;
      }

      kernel void copy_short(int channels, int rows, int partChannels, int partRows, global const ushort *x,
                             int xOffset, int xStride, global ushort *y, int yOffset, int yStride) {
        FOR_ELEMENTS(row, channel)
          y[yOffset + (long)row * yStride + channel] = x[xOffset + (long)row * xStride + channel];
      }

      kernel void copy(int channels, int rows, int partChannels, int partRows, global const float *x,
                       int xOffset, int xStride, global float *y, int yOffset, int yStride) {
        FOR_ELEMENTS(row, channel)
          y[yOffset + (long)row * yStride + channel] = x[xOffset + (long)row * xStride + channel];
      }
      """)
}

/// How rows of channels are spread over work-items: an element each on GPUs; on CPUs parts of about 16 Ki elements in the
/// order in which they lie in memory.
private struct ElementLaunch {
  let global: [Int]
  let local: [Int]?
  /// The first arguments of the kernel.
  let arguments: [KernelArgument]

  init(_ shape: Shape, areContiguous: Bool, on device: Device) {
    // An `int` of the kernel holds the number of channels.
    let isOneRow = areContiguous && shape.count <= 1 << 30
    let (channels, rows) = isOneRow ? (shape.count, 1) : (shape.channels, shape.rows)
    let partChannels = device.isCPU ? max(1, min(channels, 16384)) : 1
    let partRows = device.isCPU ? max(1, min(rows, 16384 / partChannels)) : 1
    global = [(channels + partChannels - 1) / partChannels, (rows + partRows - 1) / partRows]
    local = device.independent(2)
    arguments = [.int(channels), .int(rows), .int(partChannels), .int(partRows)]
  }
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
    let launch = ElementLaunch(shape, areContiguous: isContiguous, on: device)
    device.launch(
      .fill, short ? "fill_short" : "fill", global: launch.global, local: launch.local,
      launch.arguments + [
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
    let launch = ElementLaunch(shape, areContiguous: isContiguous && other.isContiguous, on: device)
    device.launch(
      .fill, dtype.isSixteenBit ? "copy_short" : "copy", global: launch.global, local: launch.local,
      launch.arguments + [
        .buffer(other.storage.buffer), .int(other.elementOffset), .int(other.pixelStride), .buffer(storage.buffer),
        .int(elementOffset), .int(pixelStride),
      ],
      cost: LaunchCost("copy \(shape)", bytes: Double(shape.count * dtype.byteCount * 2)))
  }
}
