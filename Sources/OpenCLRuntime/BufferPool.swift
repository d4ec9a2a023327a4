import COpenCL
import Synchronization

/// Keeps freed device memory for the next request of about the same size, and counts bytes.
///
/// A training step asks for the same sizes over and over; going to the driver each time costs page faults and waits.
public final class BufferPool: Sendable {
  /// Bytes in use, their highest value since the last `resetPeak`, and bytes held from the driver.
  public struct Statistics: Sendable {
    public var inUse = 0
    public var peak = 0
    public var reserved = 0
  }

  /// Memory from the driver and its true size in bytes.
  struct Allocation: @unchecked Sendable {
    let memory: cl_mem
    let capacity: Int
  }

  private struct State: @unchecked Sendable {
    var free: [Int: [cl_mem]] = [:]
    var freeSizes: [Int] = []  // sorted, without repeats
    var statistics = Statistics()
  }

  private let state = Mutex(State())

  public var statistics: Statistics { state.withLock { $0.statistics } }

  /// Starts a new peak at the bytes in use now.
  public func resetPeak() { state.withLock { $0.statistics.peak = $0.statistics.inUse } }

  /// Gives all free memory back to the driver.
  public func trim() {
    state.withLock { Self.releaseFree(&$0, until: 0) }
  }

  /// Memory of at least `byteCount` bytes, or nil when the driver has none.
  func allocate(_ byteCount: Int, context: cl_context) -> Allocation? {
    let capacity = Self.sizeClass(byteCount)
    return state.withLock { state in
      if let fit = Self.takeFree(&state, capacity) {
        state.statistics.inUse += fit.capacity
        state.statistics.peak = max(state.statistics.peak, state.statistics.inUse)
        return fit
      }
      // Nothing fits: before growing, give back free memory that growing would otherwise add to.
      Self.releaseFree(&state, until: max(state.statistics.peak / 8 - capacity, 0))
      var status: cl_int = 0
      var memory = clCreateBuffer(context, cl_mem_flags(CL_MEM_READ_WRITE), capacity, nil, &status)
      if memory == nil || status != CL_SUCCESS {
        Self.releaseFree(&state, until: 0)
        memory = clCreateBuffer(context, cl_mem_flags(CL_MEM_READ_WRITE), capacity, nil, &status)
      }
      guard let memory, status == CL_SUCCESS else { return nil }
      state.statistics.inUse += capacity
      state.statistics.reserved += capacity
      state.statistics.peak = max(state.statistics.peak, state.statistics.inUse)
      return Allocation(memory: memory, capacity: capacity)
    }
  }

  func release(_ memory: cl_mem, capacity: Int) {
    state.withLock { state in
      state.statistics.inUse -= capacity
      if state.free[capacity, default: []].isEmpty {
        state.freeSizes.insert(capacity, at: Self.position(of: capacity, in: state.freeSizes))
      }
      state.free[capacity, default: []].append(memory)
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

  private static func takeFree(_ state: inout State, _ capacity: Int) -> Allocation? {
    let index = position(of: capacity, in: state.freeSizes)
    guard index < state.freeSizes.count else { return nil }
    let size = state.freeSizes[index]
    guard size <= capacity + capacity / 4, let memory = state.free[size]?.popLast() else { return nil }
    if state.free[size]?.isEmpty ?? true { state.freeSizes.remove(at: index) }
    return Allocation(memory: memory, capacity: size)
  }

  private static func releaseFree(_ state: inout State, until limit: Int) {
    while let size = state.freeSizes.last, state.statistics.reserved - state.statistics.inUse > limit {
      guard let memory = state.free[size]?.popLast() else { break }
      clReleaseMemObject(memory)
      state.statistics.reserved -= size
      if state.free[size]?.isEmpty ?? true { state.freeSizes.removeLast() }
    }
  }

  /// The first position in `sizes` whose value is at least `size`.
  private static func position(of size: Int, in sizes: [Int]) -> Int {
    var low = 0
    var high = sizes.count
    while low < high {
      let middle = (low + high) / 2
      if sizes[middle] < size { low = middle + 1 } else { high = middle }
    }
    return low
  }

  deinit {
    state.withLock { Self.releaseFree(&$0, until: 0) }
  }
}
