#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// One long range of host memory that the buffers of a CPU device are cut from.
///
/// The driver's own allocation is plain `malloc`: a training step then touches hundreds of thousands of fresh 4 KiB
/// pages, and the operating system's work on them took a quarter of the step where this was measured. Here pages are
/// 2 MiB where the system grants that, memory is used again from the lowest address on, and neighbouring free ranges join,
/// so that the memory touched is about the peak in use.
struct HostArena {
  /// Nil in an arena that only plans.
  private let base: UnsafeMutableRawPointer?
  private let size: Int
  /// Free ranges by address, never touching each other.
  private var free: [Range<Int>]
  /// Bytes from the start that have been in use so far.
  private(set) var touched = 0

  /// Reserves address space of `size` bytes; nil where the system has none. Memory is only taken when touched.
  init?(size: Int) {
    #if os(Linux)
      let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    #else
      let flags = MAP_PRIVATE | MAP_ANON
    #endif
    guard let base = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else { return nil }
    #if os(Linux)
      // Advice only: where it is refused the memory works all the same. 14 is MADV_HUGEPAGE.
      madvise(base, size, 14)
    #endif
    self.base = base
    self.size = size
    free = [0..<size]
  }

  /// An arena without memory and without end, which says what another one would take.
  init(planning: Void) {
    base = nil
    size = .max
    free = [0..<size]
  }

  /// The address of a byte; nil in an arena that only plans.
  func pointer(to offset: Int) -> UnsafeMutableRawPointer? { base.map { $0 + offset } }

  /// Where the lowest free range of `byteCount` bytes begins, or nil when there is none.
  mutating func allocate(_ byteCount: Int) -> Int? {
    guard let index = free.firstIndex(where: { $0.count >= byteCount }) else { return nil }
    let range = free[index]
    let start = range.lowerBound
    if range.count == byteCount {
      free.remove(at: index)
    } else {
      free[index] = start + byteCount..<range.upperBound
    }
    touched = max(touched, start + byteCount)
    return start
  }

  mutating func release(_ start: Int, _ byteCount: Int) {
    var range = start..<start + byteCount
    // Binary search for the first free range behind this one.
    var low = 0
    var high = free.count
    while low < high {
      let middle = (low + high) / 2
      if free[middle].lowerBound < start { low = middle + 1 } else { high = middle }
    }
    if low < free.count, free[low].lowerBound == range.upperBound {
      range = range.lowerBound..<free[low].upperBound
      free.remove(at: low)
    }
    if low > 0, free[low - 1].upperBound == range.lowerBound {
      free[low - 1] = free[low - 1].lowerBound..<range.upperBound
    } else {
      free.insert(range, at: low)
    }
  }

  /// Gives the memory of free ranges back to the system; the addresses stay.
  mutating func trim() {
    for range in free {
      if let start = pointer(to: range.lowerBound) { madvise(start, range.count, Int32(MADV_DONTNEED)) }
    }
    touched = free.last.map { $0.upperBound == size ? $0.lowerBound : size } ?? size
  }

  /// Ends the reservation; no buffer may still use it.
  func destroy() {
    if let base { munmap(base, size) }
  }
}
