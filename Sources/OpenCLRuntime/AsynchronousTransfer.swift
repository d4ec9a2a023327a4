import COpenCL

// Transfers that the host does not wait for. A blocking transfer on an in-order queue waits for everything enqueued
// before it, which would stop the host from preparing the next step.

extension Buffer {
  /// Copies bytes to the start of the buffer once earlier work is done; returns once the source may be changed.
  public func enqueueWrite(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes(enqueueWrite)
  }

  /// Copies numbers to the start of the buffer once earlier work is done; returns once the source may be changed.
  public func enqueueWrite(_ values: [Float]) {
    values.withUnsafeBytes(enqueueWrite)
  }

  private func enqueueWrite(_ source: UnsafeRawBufferPointer) {
    precondition(source.count <= byteCount, "Buffer.enqueueWrite: \(source.count) bytes do not fit \(byteCount)")
    guard source.count > 0, !device.forbidsInRecording(.hostWrite(call: "Buffer.enqueueWrite")) else { return }
    if device.description.kind != .cpu, source.count >= UploadRing.minimum {
      device.upload(source, to: self)
    } else {
      enqueueWrite(HostBytes(source))
    }
  }

  private func enqueueWrite(_ host: HostBytes) {
    var written: cl_event?
    defer { if let written { clReleaseEvent(written) } }
    device.enqueueCopy("clEnqueueWriteBuffer", "copy to device", bytes: host.memory.count) { queue in
      let status = clEnqueueWriteBuffer(
        queue, memory, cl_bool(CL_FALSE), 0, host.memory.count, host.memory.baseAddress, 0, nil, &written)
      guard status == CL_SUCCESS, let event = written else { return (status, nil) }
      // The box is released by the callback.
      let keeper = Unmanaged.passRetained(host)
      let callback = clSetEventCallback(
        event, CL_COMPLETE,
        { _, _, keeper in
          if let keeper { Unmanaged<HostBytes>.fromOpaque(keeper).release() }
        }, keeper.toOpaque())
      return (callback, event)
    }
  }

  /// Starts copying the first `count` floats to the host; `PendingRead.wait` gives them.
  public func enqueueRead(floats count: Int, at offset: Int = 0) -> PendingRead {
    precondition((offset + count) * 4 <= byteCount, "Buffer.enqueueRead: out of range")
    let read = PendingRead(device: device, count: count)
    if device.forbidsInRecording(.hostRead(call: "Buffer.enqueueRead")) { return read }
    device.enqueueCopy("clEnqueueReadBuffer", "copy to host", bytes: count * 4) { queue in
      let status = clEnqueueReadBuffer(
        queue, memory, cl_bool(CL_FALSE), offset * 4, count * 4, read.values.baseAddress, 0, nil, &read.event)
      return (status, read.event)
    }
    device.flush()
    return read
  }
}

/// A copy to the host under way.
public final class PendingRead: @unchecked Sendable {
  fileprivate let values: UnsafeMutableBufferPointer<Float>
  fileprivate var event: cl_event?
  private let device: Device

  fileprivate init(device: Device, count: Int) {
    self.device = device
    values = .allocate(capacity: count)
    values.initialize(repeating: .nan)
  }

  /// Waits for the copy, and only for it and what was enqueued before; throws the device's failure if there was one.
  public func wait() throws -> [Float] {
    precondition(!device.isPlanning, "PendingRead.wait: a planning device has no values")
    try device.checkNotRecording("PendingRead.wait")
    if event != nil {
      try checkStatus(clWaitForEvents(1, &event), "clWaitForEvents", device.description.name)
    }
    try device.checkFailure()
    return Array(values)
  }

  deinit {
    // The device still writes here until the event is complete.
    if event != nil {
      clWaitForEvents(1, &event)
      clReleaseEvent(event)
    }
    values.deallocate()
  }
}

/// Host memory that the device reads later.
private final class HostBytes {
  let memory: UnsafeMutableRawBufferPointer

  init(_ source: UnsafeRawBufferPointer) {
    memory = .allocate(byteCount: source.count, alignment: 64)
    memory.copyMemory(from: source)
  }

  deinit { memory.deallocate() }
}
