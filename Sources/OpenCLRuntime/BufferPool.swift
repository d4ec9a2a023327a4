import COpenCL
import Synchronization

/// Keeps freed device memory for the next requests, and counts bytes.
///
/// A training step asks for the same sizes over and over; going to the driver each time costs page faults and waits.
/// On a CPU device buffers are cut from a `HostArena` and used in place; elsewhere whole buffers are kept by size.
public final class BufferPool: Sendable {
  /// Bytes in use, their highest value since the last `resetPeak`, and bytes held from the driver or the system.
  public struct Statistics: Sendable {
    /// Bytes that buffers hold now.
    public var inUse = 0
    /// Highest value of `inUse` since the last ``BufferPool/resetPeak()``.
    public var peak = 0
    /// Bytes held from the driver or the system, in use or free.
    public var reserved = 0
    /// Highest value of `reserved` so far.
    public var reservedPeak = 0
  }

  /// Memory that a buffer holds, and where it goes back to.
  struct Allocation: @unchecked Sendable {
    /// Nil where the pool only plans.
    let memory: cl_mem?
    let capacity: Int
    /// Where it lies in the arena, if it does.
    let arenaOffset: Int?
    /// The address there.
    var hostPointer: UnsafeMutableRawPointer?
    /// What it is for, where the pool only plans.
    var label: MemoryLabel?
  }

  private struct State: @unchecked Sendable {
    var arena: HostArena?
    var cache = BufferCache()
    var statistics = Statistics()
    /// Where the pool only plans.
    var ledger: MemoryLedger?

    /// Bytes held from the driver or the system.
    var reserved: Int { (arena?.touched ?? 0) + cache.reserved }
  }

  private let state: Mutex<State>

  /// - Parameter arenaSize: bytes of address space to reserve for a device that uses host memory in place; nil for one
  ///   that does not.
  init(arenaSize: Int?) {
    state = Mutex(State(arena: arenaSize.flatMap { HostArena(size: $0) }))
  }

  /// A pool without memory: it counts what the other would count for the same requests, and what they are for.
  ///
  /// - Parameter usesHostMemory: whether the device uses host memory in place.
  init(planningWithHostMemory usesHostMemory: Bool) {
    state = Mutex(State(arena: usesHostMemory ? HostArena(planning: ()) : nil, ledger: MemoryLedger()))
  }

  /// Bytes in use and held at this moment.
  public var statistics: Statistics {
    state.withLock { state in
      var statistics = state.statistics
      statistics.reserved = state.reserved
      return statistics
    }
  }

  /// Starts a new peak at the bytes in use now.
  public func resetPeak() {
    state.withLock { state in
      state.statistics.peak = state.statistics.inUse
      state.ledger?.resetPeak()
    }
  }

  /// What a planning device has noted; nil on another.
  package var ledger: MemoryLedger? { state.withLock { $0.ledger } }

  /// Sets what the next requests are for and returns what they were for before; nil unless the pool only plans.
  func setLabel(_ label: MemoryLabel) -> MemoryLabel? {
    state.withLock { state in
      defer { state.ledger?.label = label }
      return state.ledger?.label
    }
  }

  /// Gives all free memory back.
  public func trim() {
    state.withLock { state in
      state.arena?.trim()
      state.cache.releaseFree(until: 0)
    }
  }

  /// Memory of at least `byteCount` bytes, or nil when there is none.
  ///
  /// - Parameter context: nil for a pool that only plans.
  func allocate(_ byteCount: Int, context: cl_context?) -> Allocation? {
    state.withLock { state in
      var allocation = Self.allocate(&state, byteCount, context)
      if let capacity = allocation?.capacity {
        state.statistics.inUse += capacity
        state.statistics.peak = max(state.statistics.peak, state.statistics.inUse)
        state.statistics.reservedPeak = max(state.statistics.reservedPeak, state.reserved)
        allocation?.label = state.ledger?.add(capacity, peak: state.statistics.peak)
      }
      return allocation
    }
  }

  func release(_ allocation: Allocation) {
    state.withLock { state in
      state.statistics.inUse -= allocation.capacity
      if let label = allocation.label { state.ledger?.remove(allocation.capacity, label) }
      if let offset = allocation.arenaOffset {
        // The driver keeps the object alive for commands under way. Later ones that use the same memory come after them
        // in the one queue.
        if let memory = allocation.memory { clReleaseMemObject(memory) }
        state.arena?.release(offset, allocation.capacity)
      } else {
        state.cache.put(allocation)
      }
    }
  }

  private static func allocate(_ state: inout State, _ byteCount: Int, _ context: cl_context?) -> Allocation? {
    guard state.arena != nil else {
      return state.cache.take(byteCount, peak: state.statistics.peak, context: context)
    }
    // Whole cache lines, which CPU drivers ask for before they use memory in place.
    let capacity = (byteCount + 255) / 256 * 256
    guard let offset = state.arena?.allocate(capacity) else { return nil }
    guard let context, let pointer = state.arena?.pointer(to: offset) else {
      return Allocation(memory: nil, capacity: capacity, arenaOffset: offset)
    }
    var status: cl_int = 0
    let flags = cl_mem_flags(CL_MEM_READ_WRITE) | cl_mem_flags(CL_MEM_USE_HOST_PTR)
    guard let memory = clCreateBuffer(context, flags, capacity, pointer, &status), status == CL_SUCCESS else {
      state.arena?.release(offset, capacity)
      return nil
    }
    return Allocation(memory: memory, capacity: capacity, arenaOffset: offset, hostPointer: pointer)
  }

  deinit {
    state.withLock { state in
      state.cache.releaseFree(until: 0)
      state.arena?.destroy()
    }
  }
}
