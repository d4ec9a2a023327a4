import COpenCL

/// Copies large arrays to a device with memory of its own while the device computes.
///
/// On one in-order queue a copy would wait for the step before it, and that step's successor for the copy. Here the host fills
/// one of two pinned buffers, a second queue copies it to a staging buffer on the device, and the main queue, once that is done,
/// copies from there to where the values belong, at the speed of the device's own memory. Neither the host nor the device
/// waits as long as the step is longer than the copy.
struct UploadRing {
  /// Smaller copies are not worth the way.
  static let minimum = 64 << 10

  private struct Slot {
    var capacity: Int
    /// Host memory that the device reads directly.
    var pinned: cl_mem
    var pointer: UnsafeMutableRawPointer
    var staging: cl_mem
    /// The latest copy from `pinned` to `staging`.
    var uploaded: cl_event?
    /// The latest copy from `staging` to its place.
    var consumed: cl_event?
  }

  private var queue: cl_command_queue?
  private var slots: [Slot?] = [nil, nil]
  private var next = 0

  /// What a ring works with.
  struct Target {
    var context: cl_context
    var deviceID: cl_device_id
    var deviceName: String
    /// The queue in whose order the values arrive.
    var queue: cl_command_queue
    var isProfiling: Bool
  }

  /// Copies `source` to the start of `memory` once earlier work of the main queue is done; returns when `source` may change.
  ///
  /// - Returns: the event of the copy to the device, which the caller releases.
  mutating func enqueue(_ source: UnsafeRawBufferPointer, to memory: cl_mem?, _ target: Target) throws -> cl_event? {
    func check(_ status: cl_int, _ call: String) throws { try checkStatus(status, call, target.deviceName) }
    let queue = try uploadQueue(target)
    var slot = try freeSlot(for: source.count, queue, target)
    guard let base = source.baseAddress else { return nil }
    slot.pointer.copyMemory(from: base, byteCount: source.count)

    var uploaded: cl_event?
    let waits: [cl_event?] = slot.consumed.map { [$0] } ?? []
    try check(
      clEnqueueWriteBuffer(
        queue, slot.staging, cl_bool(CL_FALSE), 0, source.count, slot.pointer, cl_uint(waits.count),
        waits.isEmpty ? nil : waits, &uploaded), "clEnqueueWriteBuffer")
    try check(clFlush(queue), "clFlush")
    var consumed: cl_event?
    try check(
      clEnqueueCopyBuffer(target.queue, slot.staging, memory, 0, 0, source.count, 1, &uploaded, &consumed),
      "clEnqueueCopyBuffer")

    for case let old? in [slot.uploaded, slot.consumed] { clReleaseEvent(old) }
    (slot.uploaded, slot.consumed) = (uploaded, consumed)
    slots[next] = slot
    next = (next + 1) % slots.count
    if let uploaded { clRetainEvent(uploaded) }
    return uploaded
  }

  /// Gives memory and queue back; all copies must be done.
  mutating func release() {
    for index in slots.indices { free(index) }
    if let queue { clReleaseCommandQueue(queue) }
    queue = nil
  }

  private mutating func uploadQueue(_ target: Target) throws -> cl_command_queue {
    if let queue { return queue }
    var status: cl_int = 0
    let flags = target.isProfiling ? cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE) : 0
    guard let made = clCreateCommandQueue(target.context, target.deviceID, flags, &status) else {
      throw OpenCLError.callFailed(call: "clCreateCommandQueue", code: status, device: target.deviceName)
    }
    queue = made
    return made
  }

  /// The next slot, whose pinned memory may be written.
  private mutating func freeSlot(for byteCount: Int, _ queue: cl_command_queue, _ target: Target) throws -> Slot {
    if let slot = slots[next] {
      // Two copies ago: done, unless the host has run far ahead.
      var uploaded = slot.uploaded
      if uploaded != nil { try checkStatus(clWaitForEvents(1, &uploaded), "clWaitForEvents", target.deviceName) }
      if slot.capacity >= byteCount { return slot }
      var consumed = slot.consumed
      if consumed != nil {
        clFlush(target.queue)
        try checkStatus(clWaitForEvents(1, &consumed), "clWaitForEvents", target.deviceName)
      }
      free(next)
    }
    var status: cl_int = 0
    func memory(_ flags: Int32) throws -> cl_mem {
      guard
        let memory = clCreateBuffer(
          target.context, cl_mem_flags(CL_MEM_READ_WRITE) | cl_mem_flags(flags), byteCount, nil, &status)
      else {
        throw OpenCLError.callFailed(
          call: "clCreateBuffer of \(formatBytes(byteCount)) for uploads", code: status, device: target.deviceName)
      }
      return memory
    }
    let pinned = try memory(CL_MEM_ALLOC_HOST_PTR)
    let pointer = clEnqueueMapBuffer(
      queue, pinned, cl_bool(CL_TRUE), cl_map_flags(CL_MAP_WRITE), 0, byteCount, 0, nil, nil, &status)
    guard let pointer, status == CL_SUCCESS else {
      clReleaseMemObject(pinned)
      throw OpenCLError.callFailed(call: "clEnqueueMapBuffer", code: status, device: target.deviceName)
    }
    let slot = Slot(capacity: byteCount, pinned: pinned, pointer: pointer, staging: try memory(0))
    slots[next] = slot
    return slot
  }

  private mutating func free(_ index: Int) {
    guard let slot = slots[index] else { return }
    for case let event? in [slot.uploaded, slot.consumed] { clReleaseEvent(event) }
    if let queue {
      clEnqueueUnmapMemObject(queue, slot.pinned, slot.pointer, 0, nil, nil)
      clFinish(queue)
    }
    clReleaseMemObject(slot.pinned)
    clReleaseMemObject(slot.staging)
    slots[index] = nil
  }
}
