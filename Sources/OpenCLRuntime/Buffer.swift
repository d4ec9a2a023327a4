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
  private let source: Source

  private enum Source {
    case pool(BufferPool.Allocation)
    case captured(CapturedMemory)
    /// The device's own, which stays.
    case constant(BufferPool.Allocation)
    /// The allocation failed: the device then carries the error, which the next read throws.
    case none
  }

  var memory: cl_mem? {
    switch source {
    case .pool(let allocation), .constant(let allocation): return allocation.memory
    case .captured(let captured):
      precondition(captured.memory != nil, "Buffer: the captured step that made it has given its memory back")
      return captured.memory
    case .none: return nil
    }
  }

  /// What it is in a recording; nil for a buffer that was allocated outside of one.
  var captured: CapturedMemory? {
    if case .captured(let memory) = source { memory } else { nil }
  }

  init(device: Device, byteCount: Int, allocation: BufferPool.Allocation?) {
    self.device = device
    self.byteCount = byteCount
    source = allocation.map { .pool($0) } ?? .none
  }

  init(device: Device, captured: CapturedMemory) {
    self.device = device
    byteCount = captured.byteCount
    source = .captured(captured)
  }

  init(device: Device, byteCount: Int, constant: BufferPool.Allocation) {
    self.device = device
    self.byteCount = byteCount
    source = .constant(constant)
  }

  deinit {
    switch source {
    case .pool(let allocation): device.pool.release(allocation)
    case .captured(let memory): device.endUse(of: memory)
    case .constant, .none: break
    }
  }

  /// Copies host memory into the buffer from byte `offset`; returns once the source may be changed.
  public func write(_ source: UnsafeRawBufferPointer, at offset: Int = 0) {
    precondition(
      offset >= 0 && offset + source.count <= byteCount,
      "Buffer.write: \(source.count) bytes at \(offset) do not fit \(byteCount)")
    guard source.count > 0, !device.forbidsInRecording(.hostWrite(call: "Buffer.write")) else { return }
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
    try device.checkNotRecording("Buffer.read")
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
    let isRecorded = device.record { recording in
      .copy(
        from: recording.place(of: source, argument: 0, of: "Buffer.copy"),
        to: recording.place(of: self, argument: 1, of: "Buffer.copy"), sourceOffset: sourceOffset, offset: offset,
        count: count)
    }
    if isRecorded { return }
    device.enqueue("clEnqueueCopyBuffer") { queue in
      enqueueCopy(queue, from: source.memory, to: memory, sourceOffset: sourceOffset, offset: offset, count: count)
    }
  }

  /// Fills `count` bytes from byte `offset` with zeros (multiples of four).
  public func zero(at offset: Int = 0, count: Int) {
    precondition(offset % 4 == 0 && count % 4 == 0 && offset + count <= byteCount, "Buffer.zero: out of range")
    guard count > 0 else { return }
    let isRecorded = device.record { recording in
      .zero(recording.place(of: self, argument: 0, of: "Buffer.zero"), offset: offset, count: count)
    }
    if isRecorded { return }
    device.enqueue("clEnqueueFillBuffer") { queue in enqueueZero(queue, memory, offset: offset, count: count) }
  }
}

func enqueueCopy(
  _ queue: cl_command_queue, from source: cl_mem?, to target: cl_mem?, sourceOffset: Int, offset: Int, count: Int
) -> cl_int {
  clEnqueueCopyBuffer(queue, source, target, sourceOffset, offset, count, 0, nil, nil)
}

func enqueueZero(_ queue: cl_command_queue, _ memory: cl_mem?, offset: Int, count: Int) -> cl_int {
  var pattern: UInt32 = 0
  return clEnqueueFillBuffer(queue, memory, &pattern, 4, offset, count, 0, nil, nil)
}
