import COpenCL

/// A recorded step with memory for all it needs, ready to be enqueued as often as one likes.
///
/// Each launch has a kernel object of its own, whose arguments are set when the memory is taken: enqueueing then neither
/// allocates nor sets anything.
final class CapturedLaunches {
  let placement: Placement
  private let device: Device
  private let recording: Recording
  /// One for each command; nil for copies and fills.
  private var kernels: [cl_kernel?] = []
  private var blocks: [BufferPool.Allocation] = []
  private var holdsMemory = false

  init(_ recording: Recording, on device: Device) {
    self.recording = recording
    self.device = device
    placement = Placement(
      recording.lifetimes, alignment: device.bufferAlignment, blockLimit: device.description.maximumAllocation)
  }

  deinit {
    releaseMemory()
    for case let kernel? in kernels { clReleaseKernel(kernel) }
  }

  /// Enqueues the step. A failure is kept by the device.
  func enqueue() {
    if !holdsMemory { takeMemory() }
    device.attempt { state in
      guard let queue = state.queue else { return }
      for (command, kernel) in zip(recording.commands, kernels) {
        switch command {
        case .launch(let launch):
          guard let kernel else { continue }
          try device.enqueue(&state, kernel, launch.name, launch.slices) { launch.cost }
        case .copy(let source, let target, let sourceOffset, let offset, let count):
          let status = enqueueCopy(
            queue, from: source.memory, to: target.memory, sourceOffset: sourceOffset, offset: offset,
            count: count)
          try checkStatus(status, "clEnqueueCopyBuffer", device.description.name)
        case .zero(let target, let offset, let count):
          let status = enqueueZero(queue, target.memory, offset: offset, count: count)
          try checkStatus(status, "clEnqueueFillBuffer", device.description.name)
        }
      }
    }
  }

  /// Gives the memory back until the step is enqueued again; its results are gone then.
  func releaseMemory() {
    // The driver keeps what commands under way use, and later users of the same memory come after them in the queue.
    for memory in recording.memories {
      if let object = memory.memory { clReleaseMemObject(object) }
      memory.memory = nil
    }
    for block in blocks { device.pool.release(block) }
    blocks = []
    holdsMemory = false
  }

  private func takeMemory() {
    for byteCount in placement.blocks {
      guard let block = device.takeBlock(byteCount) else { return releaseMemory() }
      blocks.append(block)
    }
    holdsMemory = true
    if device.isPlanning { return }
    device.attempt { _ in
      for (index, place) in placement.places {
        recording.memories[index].memory = try part(of: blocks[place.block], place)
      }
      let isFirst = kernels.isEmpty
      for (index, command) in recording.commands.enumerated() {
        guard case .launch(let launch) = command else {
          if isFirst { kernels.append(nil) }
          continue
        }
        if isFirst { kernels.append(try copy(of: launch.kernel, launch.name)) }
        if let kernel = kernels[index] { try setArguments(of: kernel, launch, onlyCaptured: !isFirst) }
      }
    }
  }

  private func setArguments(of kernel: cl_kernel, _ launch: Recording.Launch, onlyCaptured: Bool) throws {
    for (index, argument) in launch.arguments.enumerated() {
      switch argument {
      case .place(.captured(let memory)):
        try device.setArgument(index, of: kernel, launch.name, to: memory.memory)
      case .place(.buffer(let buffer)) where !onlyCaptured:
        try device.setArgument(index, of: kernel, launch.name, to: buffer.memory)
      case .value(let value) where !onlyCaptured:
        try device.setArgument(index, of: kernel, launch.name, to: value)
      case .place, .value: break
      }
    }
  }

  /// Another kernel object of the same function.
  private func copy(of kernel: cl_kernel?, _ name: String) throws -> cl_kernel {
    var program: cl_program?
    try checkStatus(
      clGetKernelInfo(
        kernel, cl_kernel_info(CL_KERNEL_PROGRAM), MemoryLayout<cl_program?>.size, &program, nil),
      "clGetKernelInfo(\(name))", device.description.name)
    var status: cl_int = 0
    guard let copy = clCreateKernel(program, name, &status) else {
      throw OpenCLError.callFailed(call: "clCreateKernel(\(name))", code: status, device: device.description.name)
    }
    return copy
  }

  private func part(of block: BufferPool.Allocation, _ place: Placement.Place) throws -> cl_mem {
    var status: cl_int = 0
    let memory: cl_mem?
    if let base = block.hostPointer {
      memory = clCreateBuffer(
        device.context, cl_mem_flags(CL_MEM_READ_WRITE) | cl_mem_flags(CL_MEM_USE_HOST_PTR), place.byteCount,
        base + place.offset, &status)
    } else {
      var region = cl_buffer_region(origin: place.offset, size: place.byteCount)
      memory = clCreateSubBuffer(
        block.memory, cl_mem_flags(CL_MEM_READ_WRITE), cl_buffer_create_type(CL_BUFFER_CREATE_TYPE_REGION), &region,
        &status)
    }
    guard let memory else {
      throw OpenCLError.callFailed(
        call: "a part of \(place.byteCount) bytes of a captured step's memory", code: status,
        device: device.description.name)
    }
    return memory
  }
}
