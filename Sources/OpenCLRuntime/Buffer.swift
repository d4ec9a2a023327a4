import COpenCL

/// A block of device memory. It goes back to its device's pool when the last reference is gone.
///
/// Because the device has one in-order queue, memory that goes back may be used again at once: work enqueued later runs
/// later.
public final class Buffer: @unchecked Sendable {
  /// The device whose memory it is.
  public let device: Device
  /// Bytes asked for; the memory behind it may be a little larger.
  public let byteCount: Int
  /// Nil when the allocation failed: the device then carries the error, which the next read throws. On a planning device
  /// it has no memory.
  private let allocation: BufferPool.Allocation?

  var memory: cl_mem? { allocation?.memory }

  init(device: Device, byteCount: Int, allocation: BufferPool.Allocation?) {
    self.device = device
    self.byteCount = byteCount
    self.allocation = allocation
  }

  deinit {
    if let allocation { device.pool.release(allocation) }
  }

  /// Copies host memory into the buffer from byte `offset`; returns once the source may be changed.
  public func write(_ source: UnsafeRawBufferPointer, at offset: Int = 0) {
    precondition(
      offset >= 0 && offset + source.count <= byteCount,
      "Buffer.write: \(source.count) bytes at \(offset) do not fit \(byteCount)")
    guard source.count > 0 else { return }
    device.enqueue("clEnqueueWriteBuffer") { queue in
      clEnqueueWriteBuffer(queue, memory, cl_bool(CL_TRUE), offset, source.count, source.baseAddress, 0, nil, nil)
    }
  }

  /// Waits for all earlier work and copies the buffer's bytes from `offset` to host memory.
  public func read(into target: UnsafeMutableRawBufferPointer, at offset: Int = 0) throws {
    precondition(
      offset >= 0 && offset + target.count <= byteCount,
      "Buffer.read: \(target.count) bytes at \(offset) do not fit \(byteCount)")
    precondition(!device.isPlanning, "Buffer.read: a planning device has no values")
    if target.count > 0 {
      device.enqueue("clEnqueueReadBuffer") { queue in
        clEnqueueReadBuffer(queue, memory, cl_bool(CL_TRUE), offset, target.count, target.baseAddress, 0, nil, nil)
      }
    }
    try device.checkFailure()
  }

  /// Copies `count` bytes of `source` on the device.
  public func copy(from source: Buffer, sourceOffset: Int = 0, offset: Int = 0, count: Int) {
    precondition(sourceOffset + count <= source.byteCount && offset + count <= byteCount, "Buffer.copy: out of range")
    guard count > 0 else { return }
    device.enqueue("clEnqueueCopyBuffer") { queue in
      clEnqueueCopyBuffer(queue, source.memory, memory, sourceOffset, offset, count, 0, nil, nil)
    }
  }

  /// Fills `count` bytes from byte `offset` with zeros (multiples of four).
  public func zero(at offset: Int = 0, count: Int) {
    precondition(offset % 4 == 0 && count % 4 == 0 && offset + count <= byteCount, "Buffer.zero: out of range")
    guard count > 0 else { return }
    device.enqueue("clEnqueueFillBuffer") { queue in
      var pattern: UInt32 = 0
      return clEnqueueFillBuffer(queue, memory, &pattern, 4, offset, count, 0, nil, nil)
    }
  }
}
