import COpenCL
import Foundation
import Synchronization

/// An opened OpenCL device: its context, one in-order queue, a pool of buffers and the programs built for it.
///
/// **Errors.** Launches and allocations do not throw, so that tensor code reads like arithmetic. The first failure is
/// kept, later launches are skipped, and every call that brings values back to the host (`Buffer.read`, `synchronize`,
/// `checkFailure`) throws it. Nothing computed after a failure can therefore be mistaken for a result.
public final class Device: @unchecked Sendable {
  /// What the device is: names, driver, capabilities.
  public let description: DeviceDescription
  /// Where its buffers come from and go back to.
  public let pool: BufferPool
  /// Whether launches are only noted; see `init(planning:)`.
  package let isPlanning: Bool

  /// Nil for a planning device, as is its queue.
  let context: cl_context?
  let state: Mutex<State>

  /// Counts of what the device was asked to do since it was opened.
  public struct Counters: Sendable {
    /// Kernels enqueued.
    public var launches = 0
    /// Programs compiled, one for each combination of text and options.
    public var programsBuilt = 0
    /// Of these, taken from a cache of compiled programs.
    package var programsLoaded = 0
    /// Host time spent on compiling and loading them.
    public var buildSeconds = 0.0
    /// Floating-point operations and bytes moved at the least, of launches while `countsCosts` was set.
    public var flops = 0.0
    /// Bytes moved at the least, of the same launches.
    public var bytes = 0.0
  }

  struct State: @unchecked Sendable {
    var queue: cl_command_queue?
    var isProfiling: Bool
    var failure: OpenCLError?
    var kernels: [KernelKey: cl_kernel] = [:]
    var programs: [ProgramKey: cl_program] = [:]
    var slices: [SlicedLaunch: [LaunchSlice]] = [:]
    var profile = PendingProfile()
    var counters = Counters()
    var launchesSinceFlush = 0
    var cache: [String: any Sendable] = [:]
    var constants: [String: Constant] = [:]
    var countsCosts = false
    var plan: [PlannedLaunch] = []
    var uploads = UploadRing()
    /// What a thread launches is noted here while it captures a step. Other threads' launches run.
    var recordings: [ThreadID: Recording] = [:]
    var isRecording: Bool { !recordings.isEmpty && recordings[.current] != nil }
  }

  /// Memory that lasts as long as the device does. The buffer is only there while someone uses it: it holds the device,
  /// which would otherwise hold itself.
  struct Constant {
    let byteCount: Int
    let allocation: BufferPool.Allocation
    weak var buffer: Buffer?
  }

  struct ProgramKey: Hashable {
    var source: KernelSource
    var options: String
  }

  struct SlicedLaunch: Hashable {
    var global: [Int]
    var groupItems: Int
  }

  struct KernelKey: Hashable {
    var program: ProgramKey
    var name: String
  }

  /// Opens a device of ``DeviceDescription/all()`` or ``DeviceSelection`` with the default kernels and nothing else;
  /// most callers want ``open(_:precision:usesTuning:cacheFolder:profiling:note:)``.
  ///
  /// - Parameter profiling: whether launches are timed from the start.
  /// - Throws: `OpenCLError.callFailed` when the driver gives no context or no queue.
  public init(_ description: DeviceDescription, profiling: Bool = false) throws {
    self.description = description
    isPlanning = false
    pool = BufferPool(arenaSize: description.kind == .cpu ? description.globalMemory : nil)
    var status: cl_int = 0
    var deviceID: cl_device_id? = description.deviceID
    var properties: [cl_context_properties] = [
      cl_context_properties(CL_CONTEXT_PLATFORM),
      cl_context_properties(bitPattern: UInt(bitPattern: Int(bitPattern: description.platformID))), 0,
    ]
    guard let context = clCreateContext(&properties, 1, &deviceID, nil, nil, &status) else {
      throw OpenCLError.callFailed(call: "clCreateContext", code: status, device: description.name)
    }
    self.context = context
    let queue = try Self.makeQueue(context, description, profiling: profiling)
    state = Mutex(State(queue: queue, isProfiling: profiling))
  }

  /// A device that has no memory and runs nothing: what is launched on it is noted, see `takePlan`, and its pool counts
  /// what would be in use. Operations decide there as they do on a device of that description, which need not be the one
  /// that is there and is not opened. Reading values from it is a mistake.
  package init(planning description: DeviceDescription) {
    self.description = description
    isPlanning = true
    pool = BufferPool(planningWithHostMemory: description.kind == .cpu)
    context = nil
    state = Mutex(State(queue: nil, isProfiling: false))
  }

  private static func makeQueue(_ context: cl_context?, _ description: DeviceDescription, profiling: Bool) throws
    -> cl_command_queue
  {
    var status: cl_int = 0
    let flags = profiling ? cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE) : 0
    guard let queue = clCreateCommandQueue(context, description.deviceID, flags, &status) else {
      throw OpenCLError.callFailed(call: "clCreateCommandQueue", code: status, device: description.name)
    }
    return queue
  }

  deinit {
    guard !isPlanning else { return }
    state.withLock { state in
      clFinish(state.queue)
      state.uploads.release()
      for kernel in state.kernels.values { clReleaseKernel(kernel) }
      for program in state.programs.values { clReleaseProgram(program) }
      for constant in state.constants.values { pool.release(constant.allocation) }
    }
    pool.trim()
    state.withLock { _ = clReleaseCommandQueue($0.queue) }
    clReleaseContext(context)
  }

  /// The first failure since the device was opened, if any.
  public var failure: OpenCLError? { state.withLock { $0.failure } }

  /// Whether launches and copies are timed with events, which costs a little for each.
  public var isProfiling: Bool { state.withLock { $0.isProfiling } }

  /// Starts or ends timing. Waits for all work and goes on in a new queue, because OpenCL fixes at a queue's creation
  /// whether it times. What was timed before stays for `takeProfile`.
  public func setProfiling(_ isProfiling: Bool) throws {
    try synchronize()
    try state.withLock { state in
      guard state.isProfiling != isProfiling else { return }
      let queue = try Self.makeQueue(context, description, profiling: isProfiling)
      state.uploads.release()
      clReleaseCommandQueue(state.queue)
      state.queue = queue
      state.isProfiling = isProfiling
    }
  }

  /// Launches and builds since the device was opened.
  public var counters: Counters { state.withLock { $0.counters } }

  /// Whether `counters` adds up what launches cost, which takes a little host time for each.
  public var countsCosts: Bool {
    get { state.withLock { $0.countsCosts } }
    set { state.withLock { $0.countsCosts = newValue } }
  }

  /// Throws the first failure, if there was one.
  public func checkFailure() throws {
    if let failure { throw failure }
  }

  /// Waits until all work is done; throws the first failure.
  public func synchronize() throws {
    try checkNotRecording("Device.synchronize")
    enqueue("clFinish") { clFinish($0) }
    try checkFailure()
  }

  /// Starts the enqueued work without waiting for it.
  public func flush() {
    enqueue("clFlush") { clFlush($0) }
  }

  /// A buffer of `byteCount` bytes with undefined contents.
  public func allocate(byteCount: Int) -> Buffer {
    precondition(byteCount >= 0, "Device.allocate: negative size")
    if let memory = recordedMemory(byteCount: byteCount) { return Buffer(device: self, captured: memory) }
    return Buffer(device: self, byteCount: byteCount, allocation: takeBlock(max(byteCount, 1)))
  }

  /// Memory from the pool; nil when there is none, which the device then carries as its failure.
  func takeBlock(_ byteCount: Int) -> BufferPool.Allocation? {
    if let allocation = pool.allocate(byteCount, context: context) { return allocation }
    let statistics = pool.statistics
    fail(
      .outOfMemory(
        requested: byteCount, inUse: statistics.inUse, reserved: statistics.reserved, device: description.name))
    return nil
  }

  /// Bytes of which a part of a buffer must start at a multiple: at least a few cache lines.
  var bufferAlignment: Int {
    var bits: cl_uint = 0
    clGetDeviceInfo(
      description.deviceID, cl_device_info(CL_DEVICE_MEM_BASE_ADDR_ALIGN), MemoryLayout<cl_uint>.size, &bits, nil)
    return max(Int(bits) / 8, 256)
  }

  /// Enqueues one kernel of `source`, building the program for `options` first if it has not been built yet.
  ///
  /// - Parameters:
  ///   - options: compiler options such as `-D TILE=8`; each combination is a program of its own.
  ///   - global: work-items in up to three dimensions; with `local`, multiples of it.
  ///   - local: work-items per work-group; nil leaves the choice to Fovea on GPUs and to the driver elsewhere, and allows
  ///     any extent of `global`: the kernel must then not ask for its work-group or for the extents of the launch.
  ///   - cost: label, flops and bytes for profiles.
  public func launch(
    _ source: KernelSource, _ kernelName: String, options: String = "", global: [Int], local: [Int]? = nil,
    _ arguments: [KernelArgument], cost: @autoclosure () -> LaunchCost? = nil
  ) {
    precondition((1...3).contains(global.count), "\(kernelName): one to three dimensions")
    if global.contains(0) { return }
    attempt { state in
      let kernel = isPlanning ? nil : try self.kernel(&state, source, kernelName, options)
      let slices = try self.slices(&state, kernel, global, local)
      if state.isRecording {
        let cost = cost() ?? LaunchCost(kernelName)
        state.recordings[.current]?.append(kernel, kernelName, global, local, slices, arguments, cost)
        return
      }
      guard let kernel else {
        state.plan.append(
          PlannedLaunch(
            program: PlannedProgram(source: source.name, kernel: kernelName, options: options), source: source,
            arguments: arguments.map(PlannedArgument.init), global: global, local: local,
            cost: cost() ?? LaunchCost(kernelName)))
        return
      }
      for (index, argument) in arguments.enumerated() {
        try setArgument(index, of: kernel, kernelName, to: argument)
      }
      try enqueue(&state, kernel, kernelName, slices, cost: cost)
    }
  }

  /// The parts of a launch. On GPUs a launch without work-groups gets some here.
  private func slices(
    _ state: inout State, _ kernel: cl_kernel?, _ global: [Int], _ local: [Int]?
  ) throws -> [LaunchSlice] {
    guard local == nil, description.kind == .gpu, let kernel else { return LaunchSlice.slices(global, local: local) }
    var most = 0
    let status = clGetKernelWorkGroupInfo(
      kernel, description.deviceID, cl_kernel_work_group_info(CL_KERNEL_WORK_GROUP_SIZE), MemoryLayout<Int>.size,
      &most, nil)
    try checkStatus(status, "clGetKernelWorkGroupInfo", description.name)
    // On POCL passed off as a GPU groups have one item: it would compile most launches' kernels once more.
    let groupItems = description.compilesForEachGroupSize ? 1 : max(1, min(256, most))
    let key = SlicedLaunch(global: global, groupItems: groupItems)
    if let known = state.slices[key] { return known }
    let slices = LaunchSlice.slices(global, local: nil, groupItems: key.groupItems)
    state.slices[key] = slices
    return slices
  }

  /// Enqueues a kernel whose arguments are set, and counts it.
  func enqueue(
    _ state: inout State, _ kernel: cl_kernel, _ name: String, _ slices: [LaunchSlice], cost: () -> LaunchCost?
  ) throws {
    for (index, slice) in slices.enumerated() {
      var event: cl_event?
      let status = withUnsafeMutablePointer(to: &event) { event in
        clEnqueueNDRangeKernel(
          state.queue, kernel, cl_uint(slice.global.count), slice.offset, slice.global, slice.local, 0, nil,
          state.isProfiling ? event : nil)
      }
      if status != CL_SUCCESS {
        throw OpenCLError.callFailed(
          call: "clEnqueueNDRangeKernel of \(name)", code: status, device: description.name)
      }
      if let event {
        let cost = cost() ?? LaunchCost(name)
        // All of the work counts for the first slice.
        state.profile.events.append((event, index == 0 ? cost : LaunchCost(cost.label)))
      }
    }
    state.counters.launches += 1
    if state.countsCosts, let cost = cost() {
      state.counters.flops += cost.flops
      state.counters.bytes += cost.bytes
    }
    state.launchesSinceFlush += 1
    if state.launchesSinceFlush >= 32 {
      clFlush(state.queue)
      state.launchesSinceFlush = 0
    }
  }

  /// Waits for all work and returns the timed launches and copies since the last call, in launch order.
  public func takeProfile() throws -> [ProfileEntry] {
    try synchronize()
    return state.withLock { $0.profile.drain() }
  }

  /// The launches that a planning device noted since the last call, in their order.
  package func takePlan() -> [PlannedLaunch] {
    state.withLock { state in
      defer { state.plan = [] }
      return state.plan
    }
  }

  /// The kernels that were launched on this device, with the options they were compiled with.
  package var programsInUse: Set<PlannedProgram> {
    state.withLock { state in
      Set(
        state.kernels.keys.map {
          PlannedProgram(source: $0.program.source.name, kernel: $0.name, options: $0.program.options)
        })
    }
  }

  /// Bytes of local memory that the driver says a kernel in use takes for a work-group; nil for one that is not in use.
  /// POCL 5 and 6 say 0 of memory that the kernel declares.
  package func localMemory(of program: PlannedProgram) -> Int? {
    state.withLock { state in
      let known = state.kernels.first {
        $0.key.name == program.kernel && $0.key.program.options == program.options
          && $0.key.program.source.name == program.source
      }
      var bytes: cl_ulong = 0
      guard let known,
        clGetKernelWorkGroupInfo(
          known.value, description.deviceID, cl_kernel_work_group_info(CL_KERNEL_LOCAL_MEM_SIZE),
          MemoryLayout<cl_ulong>.size, &bytes, nil) == CL_SUCCESS
      else { return nil }
      return Int(bytes)
    }
  }

  /// A value that belongs to this device, made by `make` the first time `key` is asked for. It must not hold the device,
  /// nor anything that does, such as a tensor: neither would ever go. See `constant` for memory.
  package func cached<Value: Sendable>(_ key: String, _ make: () -> Value) -> Value {
    if let known = state.withLock({ $0.cache[key] }) as? Value { return known }
    let value = make()
    state.withLock { $0.cache[key] = value }
    return value
  }

  /// Values in this device's memory that never change, such as a table, copied from `values` the first time `key` is asked
  /// for. The memory stays until the device goes.
  package func constant<Value: BitwiseCopyable>(_ key: String, _ values: @autoclosure () -> [Value]) -> Buffer {
    if let buffer = knownConstant(key) { return buffer }
    let values = values()
    let byteCount = values.count * MemoryLayout<Value>.stride
    // They outlive a recording during which they are asked for first.
    return withoutRecording {
      labellingMemory(.constants) {
        guard let allocation = takeBlock(max(byteCount, 1)) else {
          return Buffer(device: self, byteCount: byteCount, allocation: nil)
        }
        let buffer = Buffer(device: self, byteCount: byteCount, constant: allocation)
        values.withUnsafeBytes { buffer.write($0) }
        let isFirst = state.withLock { state in
          guard state.constants[key] == nil else { return false }
          state.constants[key] = Constant(byteCount: byteCount, allocation: allocation, buffer: buffer)
          return true
        }
        // Another thread may have made it meanwhile.
        if !isFirst { pool.release(allocation) }
        return isFirst ? buffer : constant(key, values)
      }
    }
  }

  private func knownConstant(_ key: String) -> Buffer? {
    state.withLock { state in
      guard let constant = state.constants[key] else { return nil }
      if let buffer = constant.buffer { return buffer }
      let buffer = Buffer(device: self, byteCount: constant.byteCount, constant: constant.allocation)
      state.constants[key]?.buffer = buffer
      return buffer
    }
  }

  /// Runs an enqueueing call unless the device has failed, and keeps its failure.
  func enqueue(_ name: String, _ body: (cl_command_queue) -> cl_int) {
    state.withLock { state in
      guard state.failure == nil, let queue = state.queue, !state.isRecording else { return }
      let status = body(queue)
      if status != CL_SUCCESS {
        state.failure = .callFailed(call: name, code: status, device: description.name)
      }
    }
  }

  /// Runs calls unless the device has failed, and keeps their failure.
  func attempt(_ body: (inout State) throws -> Void) {
    state.withLock { state in
      guard state.failure == nil else { return }
      do {
        try body(&state)
      } catch let error as OpenCLError {
        state.failure = error
      } catch {
        preconditionFailure("unexpected error: \(error)")
      }
    }
  }

  /// Runs a call that copies between host and device and gives its event; profiles list it under `label`.
  func enqueueCopy(_ name: String, _ label: String, bytes: Int, _ body: (cl_command_queue) -> (cl_int, cl_event?)) {
    state.withLock { state in
      guard state.failure == nil, let queue = state.queue else { return }
      let (status, event) = body(queue)
      guard status == CL_SUCCESS else {
        state.failure = .callFailed(call: name, code: status, device: description.name)
        return
      }
      if state.isProfiling, let event {
        clRetainEvent(event)
        state.profile.events.append((event, LaunchCost(label, bytes: Double(bytes))))
      }
    }
  }

  /// Copies to a buffer while the device computes; see `UploadRing`.
  func upload(_ source: UnsafeRawBufferPointer, to buffer: Buffer) {
    attempt { state in
      guard let queue = state.queue, let context else { return }
      let target = UploadRing.Target(
        context: context, deviceID: description.deviceID, deviceName: description.name, queue: queue,
        isProfiling: state.isProfiling)
      guard let event = try state.uploads.enqueue(source, to: buffer.memory, target) else { return }
      if state.isProfiling {
        state.profile.events.append((event, LaunchCost("copy to device", bytes: Double(source.count))))
      } else {
        clReleaseEvent(event)
      }
    }
  }

  private func fail(_ error: OpenCLError) {
    state.withLock { if $0.failure == nil { $0.failure = error } }
  }

  private func kernel(_ state: inout State, _ source: KernelSource, _ name: String, _ options: String) throws
    -> cl_kernel
  {
    let key = KernelKey(program: ProgramKey(source: source, options: options), name: name)
    if let kernel = state.kernels[key] { return kernel }
    let program = try self.program(&state, key.program)
    var status: cl_int = 0
    guard let kernel = clCreateKernel(program, name, &status) else {
      throw OpenCLError.callFailed(
        call: "clCreateKernel(\(name)) in \(source.name)", code: status, device: description.name)
    }
    state.kernels[key] = kernel
    return kernel
  }

  private func program(_ state: inout State, _ key: ProgramKey) throws -> cl_program {
    if let program = state.programs[key] { return program }
    let start = DispatchTime.now().uptimeNanoseconds
    // No -cl-fast-relaxed-math: it would change results and hide NaN. Contraction to FMA is allowed by default.
    let options = "-cl-std=CL1.2 \(key.options)\(description.additionalOptions)"
    let cacheKey = ProgramCache.Key(key.source, options: options, on: description)
    let program: cl_program
    if let loaded = load(cacheKey, options) {
      program = loaded
      state.counters.programsLoaded += 1
    } else {
      program = try compile(key, options)
      if let cache = description.programCache, let binary = binary(of: program) { cache.store(binary, for: cacheKey) }
    }
    state.programs[key] = program
    state.counters.programsBuilt += 1
    state.counters.buildSeconds += Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
    return program
  }

  private func compile(_ key: ProgramKey, _ options: String) throws -> cl_program {
    var (text, options) = (key.source.text, options)
    if description.parsesBuiltins, let builtins = key.source.builtins {
      text = builtins + text
      // The guard of Clang's opencl-c.h.
      options += " -D _OPENCL_H_"
    }
    var status: cl_int = 0
    let program = text.withCString { text in
      var text: UnsafePointer<CChar>? = text
      return clCreateProgramWithSource(context, 1, &text, nil, &status)
    }
    guard let program else {
      throw OpenCLError.callFailed(call: "clCreateProgramWithSource", code: status, device: description.name)
    }
    var deviceID: cl_device_id? = description.deviceID
    status = clBuildProgram(program, 1, &deviceID, options, nil, nil)
    guard status == CL_SUCCESS else {
      let log = buildLog(program)
      clReleaseProgram(program)
      throw OpenCLError.buildFailed(program: key.source.name, options: key.options, log: log, device: description.name)
    }
    return program
  }

  /// The program that the cache holds, if it holds one that the driver takes.
  private func load(_ key: ProgramCache.Key, _ options: String) -> cl_program? {
    guard let cache = description.programCache, let binary = cache.binary(for: key) else { return nil }
    let program = binary.withUnsafeBytes { bytes in
      var deviceID: cl_device_id? = description.deviceID
      var size = bytes.count
      var pointer = bytes.bindMemory(to: UInt8.self).baseAddress
      var binaryStatus: cl_int = 0
      var status: cl_int = 0
      return clCreateProgramWithBinary(context, 1, &deviceID, &size, &pointer, &binaryStatus, &status)
    }
    if let program {
      var deviceID: cl_device_id? = description.deviceID
      if clBuildProgram(program, 1, &deviceID, options, nil, nil) == CL_SUCCESS { return program }
      clReleaseProgram(program)
    }
    cache.remove(key)
    return nil
  }

  /// What the driver compiled a program to; nil where it does not tell.
  private func binary(of program: cl_program) -> Data? {
    var size = 0
    guard
      clGetProgramInfo(
        program, cl_program_info(CL_PROGRAM_BINARY_SIZES), MemoryLayout<Int>.size, &size, nil) == CL_SUCCESS, size > 0
    else { return nil }
    var binary = Data(count: size)
    let status = binary.withUnsafeMutableBytes { bytes in
      var pointer = bytes.bindMemory(to: UInt8.self).baseAddress
      return clGetProgramInfo(
        program, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout<UnsafeMutablePointer<UInt8>?>.size, &pointer, nil)
    }
    return status == CL_SUCCESS ? binary : nil
  }

  private func buildLog(_ program: cl_program) -> String {
    var size = 0
    clGetProgramBuildInfo(program, description.deviceID, cl_program_build_info(CL_PROGRAM_BUILD_LOG), 0, nil, &size)
    guard size > 0 else { return "(the driver gave no log)" }
    var bytes = [UInt8](repeating: 0, count: size)
    clGetProgramBuildInfo(program, description.deviceID, cl_program_build_info(CL_PROGRAM_BUILD_LOG), size, &bytes, nil)
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  func setArgument(_ index: Int, of kernel: cl_kernel, _ name: String, to argument: KernelArgument) throws {
    switch argument {
    case .buffer(let buffer): try setArgument(index, of: kernel, name, to: buffer.memory)
    case .int(let value):
      precondition(Int32(exactly: value) != nil, "\(name): argument \(index) = \(value) exceeds 32 bits")
      var number = Int32(value)
      try check(clSetKernelArg(kernel, cl_uint(index), 4, &number), index, name)
    case .float(let value):
      var number = value
      try check(clSetKernelArg(kernel, cl_uint(index), 4, &number), index, name)
    case .local(let bytes):
      try check(clSetKernelArg(kernel, cl_uint(index), bytes, nil), index, name)
    }
  }

  func setArgument(_ index: Int, of kernel: cl_kernel, _ name: String, to memory: cl_mem?) throws {
    var memory = memory
    try check(clSetKernelArg(kernel, cl_uint(index), MemoryLayout<cl_mem?>.size, &memory), index, name)
  }

  private func check(_ status: cl_int, _ argument: Int, _ kernel: String) throws {
    // The text is made for a failure only: there are tens of thousands of these calls a step.
    if status == CL_SUCCESS { return }
    throw OpenCLError.callFailed(
      call: "clSetKernelArg(\(kernel), \(argument))", code: status, device: description.name)
  }
}
