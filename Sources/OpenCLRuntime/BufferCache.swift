import COpenCL

/// Free buffers of a device with memory of its own, by size.
struct BufferCache {
  private var free: [Int: [BufferPool.Allocation]] = [:]
  private var sizes: [Int] = []  // of `free`, sorted, without repeats
  private var freeBytes = 0
  /// Bytes held from the driver, in use or free.
  private(set) var reserved = 0

  /// A buffer of about `byteCount` bytes, kept or new; nil when the driver has none.
  ///
  /// - Parameters:
  ///   - peak: highest bytes in use so far: free memory beyond a quarter of it goes back before more is taken.
  ///   - context: of the driver; without one this only plans, and buffers have no memory.
  mutating func take(_ byteCount: Int, peak: Int, context: cl_context?) -> BufferPool.Allocation? {
    let capacity = Self.sizeClass(byteCount)
    if let fit = takeFree(capacity) { return fit }
    releaseFree(until: max(peak / 4 - capacity, 0))
    var allocation = create(capacity, context)
    if allocation == nil {
      releaseFree(until: 0)
      allocation = create(capacity, context)
    }
    if allocation != nil { reserved += capacity }
    return allocation
  }

  mutating func put(_ allocation: BufferPool.Allocation) {
    let size = allocation.capacity
    if free[size, default: []].isEmpty { sizes.insert(size, at: position(of: size)) }
    free[size, default: []].append(allocation)
    freeBytes += size
  }

  /// Gives free buffers back to the driver, largest first, until at most `limit` bytes are left.
  mutating func releaseFree(until limit: Int) {
    while let size = sizes.last, freeBytes > limit, let allocation = free[size]?.popLast() {
      if let memory = allocation.memory { clReleaseMemObject(memory) }
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

  private func create(_ capacity: Int, _ context: cl_context?) -> BufferPool.Allocation? {
    guard let context else { return BufferPool.Allocation(memory: nil, capacity: capacity, arenaOffset: nil) }
    var status: cl_int = 0
    let memory = clCreateBuffer(context, cl_mem_flags(CL_MEM_READ_WRITE), capacity, nil, &status)
    guard status == CL_SUCCESS else { return nil }
    return BufferPool.Allocation(memory: memory, capacity: capacity, arenaOffset: nil)
  }

  private mutating func takeFree(_ capacity: Int) -> BufferPool.Allocation? {
    let index = position(of: capacity)
    guard index < sizes.count, sizes[index] <= capacity + capacity / 4, let allocation = free[sizes[index]]?.popLast()
    else { return nil }
    let size = sizes[index]
    if free[size]?.isEmpty ?? true { sizes.remove(at: index) }
    freeBytes -= size
    return allocation
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
