import COpenCL

/// Free buffers of a device with memory of its own, by size.
struct BufferCache {
  private var free: [Int: [cl_mem]] = [:]
  private var sizes: [Int] = []  // of `free`, sorted, without repeats
  private var freeBytes = 0
  /// Bytes held from the driver, in use or free.
  private(set) var reserved = 0

  /// A buffer of about `byteCount` bytes, kept or new; nil when the driver has none.
  ///
  /// - Parameter peak: highest bytes in use so far: free memory beyond a quarter of it goes back before more is taken.
  mutating func take(_ byteCount: Int, peak: Int, context: cl_context) -> BufferPool.Allocation? {
    let capacity = Self.sizeClass(byteCount)
    if let fit = takeFree(capacity) { return fit }
    releaseFree(until: max(peak / 4 - capacity, 0))
    var memory = create(capacity, context)
    if memory == nil {
      releaseFree(until: 0)
      memory = create(capacity, context)
    }
    guard let memory else { return nil }
    reserved += capacity
    return BufferPool.Allocation(memory: memory, capacity: capacity, hostPointer: nil)
  }

  mutating func put(_ allocation: BufferPool.Allocation) {
    let size = allocation.capacity
    if free[size, default: []].isEmpty { sizes.insert(size, at: position(of: size)) }
    free[size, default: []].append(allocation.memory)
    freeBytes += size
  }

  /// Gives free buffers back to the driver, largest first, until at most `limit` bytes are left.
  mutating func releaseFree(until limit: Int) {
    while let size = sizes.last, freeBytes > limit, let memory = free[size]?.popLast() {
      clReleaseMemObject(memory)
      reserved -= size
      freeBytes -= size
      if free[size]?.isEmpty ?? true { sizes.removeLast() }
    }
  }

  /// Sizes grow in steps of an eighth of their power of two, so that at most 12.5 % is wasted and sizes meet again.
  static func sizeClass(_ byteCount: Int) -> Int {
    let minimum = 256
    if byteCount <= minimum { return minimum }
    let highest = 1 << (Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount)
    let step = max(highest / 8, minimum)
    return (byteCount + step - 1) / step * step
  }

  private func create(_ capacity: Int, _ context: cl_context) -> cl_mem? {
    var status: cl_int = 0
    let memory = clCreateBuffer(context, cl_mem_flags(CL_MEM_READ_WRITE), capacity, nil, &status)
    return status == CL_SUCCESS ? memory : nil
  }

  private mutating func takeFree(_ capacity: Int) -> BufferPool.Allocation? {
    let index = position(of: capacity)
    guard index < sizes.count, sizes[index] <= capacity + capacity / 4, let memory = free[sizes[index]]?.popLast()
    else { return nil }
    let size = sizes[index]
    if free[size]?.isEmpty ?? true { sizes.remove(at: index) }
    freeBytes -= size
    return BufferPool.Allocation(memory: memory, capacity: size, hostPointer: nil)
  }

  /// The first position in `sizes` whose value is at least `size`.
  private func position(of size: Int) -> Int {
    var low = 0
    var high = sizes.count
    while low < high {
      let middle = (low + high) / 2
      if sizes[middle] < size { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
