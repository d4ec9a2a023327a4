import COpenCL
import Testing

@testable import OpenCLRuntime

@Suite struct BufferPoolTests {
  @Test func statistics() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    #expect(device.pool.statistics.inUse == 0)
    var buffers = [device.allocate(byteCount: 1000), device.allocate(byteCount: 3000)]
    let both = device.pool.statistics
    #expect(both.inUse >= 4000 && both.inUse <= 4000 + 2 * 256 && both.peak == both.inUse)
    #expect(both.reserved >= both.inUse)
    buffers.removeLast()
    let one = device.pool.statistics
    #expect(one.inUse < both.inUse && one.peak == both.peak && one.reserved == both.reserved)
    device.pool.resetPeak()
    #expect(device.pool.statistics.peak == one.inUse)
    buffers = []
    #expect(device.pool.statistics.inUse == 0)
    device.pool.trim()
    #expect(device.pool.statistics.reserved == 0)
  }

  @Test func freedMemoryIsUsedAgain() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    for _ in 0..<50 { _ = device.allocate(byteCount: 1 << 16) }
    #expect(device.pool.statistics.reserved == 1 << 16)
  }

  @Test func emptyBuffersAreFine() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = device.allocate(byteCount: 0)
    buffer.zero(count: 0)
    buffer.write(UnsafeRawBufferPointer(start: nil, count: 0))
    try device.synchronize()
    #expect(buffer.byteCount == 0)
  }

  @Test func arenaJoinsNeighboursAndTakesTheLowest() throws {
    var arena = try #require(HostArena(size: 1 << 20))
    defer { arena.destroy() }
    let parts = try (0..<4).map { _ in try present(arena.allocate(1024)) }
    #expect(parts[1] - parts[0] == 1024 && arena.touched == 4096)
    arena.release(parts[0], 1024)
    arena.release(parts[2], 1024)
    // Two holes of 1,024 bytes: 2,048 go behind the last part, 512 into the first hole.
    let large = try present(arena.allocate(2048))
    #expect(large == parts[3] + 1024)
    let small = try present(arena.allocate(512))
    #expect(small == parts[0])
    arena.release(small, 512)
    arena.release(parts[1], 1024)
    // The three lowest parts are one range now.
    let joined = arena.allocate(3072)
    #expect(joined == parts[0])
    let tooMuch = arena.allocate(1 << 20)
    #expect(tooMuch == nil)
    arena.release(parts[0], 3072)
    arena.release(parts[3], 1024)
    arena.release(large, 2048)
    let whole = arena.allocate(1 << 20)
    #expect(whole == parts[0])
  }

  /// Random requests against a plain record of what is in use: no overlap, and all memory comes back.
  @Test func arenaUnderRandomRequests() throws {
    let size = 1 << 16
    var arena = try #require(HostArena(size: size))
    defer { arena.destroy() }
    let base = try present(arena.allocate(size))
    arena.release(base, size)
    var state: UInt64 = 1
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    var used: [Range<Int>] = []
    for _ in 0..<2000 {
      if used.isEmpty || random(2) == 0 {
        let count = (1 + random(32)) * 256
        guard let pointer = arena.allocate(count) else { continue }
        let range = pointer - base..<pointer - base + count
        #expect(range.upperBound <= size && !used.contains { $0.overlaps(range) })
        used.append(range)
      } else {
        let range = used.remove(at: random(used.count))
        arena.release(base + range.lowerBound, range.count)
      }
    }
    for range in used { arena.release(base + range.lowerBound, range.count) }
    let whole = arena.allocate(size)
    #expect(whole == base)
  }

  /// The same requests, on a device and on one that plans it: the same figures at each moment.
  @Test func aPlanningPoolCountsAlike() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let planning = Device(planning: device.description)
    var random = SystemRandomNumberGenerator()
    var buffers: [(Buffer, Buffer)] = []
    for _ in 0..<500 {
      if buffers.isEmpty || Bool.random(using: &random) {
        let bytes = Int.random(in: 0...100_000, using: &random)
        buffers.append((device.allocate(byteCount: bytes), planning.allocate(byteCount: bytes)))
      } else {
        buffers.remove(at: Int.random(in: buffers.indices, using: &random))
      }
      let (a, b) = (device.pool.statistics, planning.pool.statistics)
      #expect(
        (a.inUse, a.peak, a.reserved) == (b.inUse, b.peak, b.reserved) && a.reservedPeak == b.reservedPeak)
    }
    #expect(device.pool.ledger == nil)
  }

  /// What the peak is made of, by the labels that held at each request.
  @Test func aPlanningPoolKnowsWhatMemoryIsFor() throws {
    let device = Device(planning: try DeviceSelection.pick("cpu"))
    let (outer, inner) = (MemoryLabel("outer"), MemoryLabel("inner"))
    var kept = [device.allocate(byteCount: 256)]
    device.labellingMemory(outer) {
      kept.append(device.allocate(byteCount: 512))
      device.labellingMemory(inner) { kept.append(device.allocate(byteCount: 1024)) }
      kept.append(device.allocate(byteCount: 512))
    }
    kept.removeLast(2)
    kept.append(device.allocate(byteCount: 256))
    let peak = try #require(device.pool.ledger).peak
    #expect(peak == [.workspace: 256, outer: 1024, inner: 1024])
    #expect(device.pool.statistics.peak == 2304 && device.pool.ledger?.largest == 1024)
    device.pool.resetPeak()
    #expect(device.pool.ledger?.peak.filter { $0.value > 0 } == [.workspace: 512, outer: 512])
  }

  @Test func trimmedArenaCountsWhatIsStillInUse() throws {
    var arena = try #require(HostArena(size: 1 << 20))
    defer { arena.destroy() }
    let first = try present(arena.allocate(4096))
    let second = try present(arena.allocate(4096))
    arena.release(second, 4096)
    arena.trim()
    #expect(arena.touched == 4096)
    arena.release(first, 4096)
    arena.trim()
    #expect(arena.touched == 0)
  }

  @Test func sizeClasses() {
    for bytes in [1, 255, 256, 257, 4000, 4097, 100_000, 1 << 20, (1 << 20) + 1, 123_456_789] {
      let size = BufferCache.sizeClass(bytes)
      #expect(size >= bytes && BufferCache.sizeClass(size) == size, "\(bytes)")
      #expect(bytes < 4096 || Double(size) <= Double(bytes) * 1.125, "\(bytes)")
    }
  }

  /// The cache of devices with memory of their own, on a context of this test's.
  @Test func cacheKeepsBuffersBySize() throws {
    let description = try DeviceSelection.pick("cpu", from: DeviceDescription.all())
    var deviceID: cl_device_id? = description.deviceID
    var status: cl_int = 0
    let context = try #require(clCreateContext(nil, 1, &deviceID, nil, nil, &status))
    defer { clReleaseContext(context) }
    var cache = BufferCache()
    let first = try present(cache.take(10_000, peak: 0, context: context))
    #expect(cache.reserved == first.capacity && first.capacity >= 10_000)
    cache.put(first)
    // A little less fits, far less does not.
    let again = try present(cache.take(9_900, peak: 1 << 20, context: context))
    #expect(again.memory == first.memory && again.capacity == first.capacity)
    cache.put(again)
    let small = try present(cache.take(1_000, peak: 1 << 20, context: context))
    #expect(small.memory != first.memory)
    #expect(cache.reserved == first.capacity + small.capacity)
    cache.put(small)
    // Free memory beyond a quarter of the peak goes back before more is taken.
    let large = try present(cache.take(50_000, peak: 0, context: context))
    #expect(cache.reserved == large.capacity)
    cache.put(large)
    cache.releaseFree(until: 0)
    #expect(cache.reserved == 0)
  }

  /// Without a context it only counts, and counts alike.
  @Test func aPlanningCacheCountsAlike() throws {
    let description = try DeviceSelection.pick("cpu", from: DeviceDescription.all())
    var deviceID: cl_device_id? = description.deviceID
    var status: cl_int = 0
    let context = try #require(clCreateContext(nil, 1, &deviceID, nil, nil, &status))
    defer { clReleaseContext(context) }
    var (real, planned) = (BufferCache(), BufferCache())
    var taken: [(BufferPool.Allocation, BufferPool.Allocation)] = []
    for _ in 0..<500 {
      if taken.isEmpty || Bool.random() {
        let bytes = Int.random(in: 1...100_000)
        taken.append(
          (
            try present(real.take(bytes, peak: 1 << 20, context: context)),
            try present(planned.take(bytes, peak: 1 << 20, context: nil))
          ))
      } else {
        let (a, b) = taken.remove(at: Int.random(in: taken.indices))
        #expect(a.capacity == b.capacity)
        real.put(a)
        planned.put(b)
      }
      #expect(real.reserved == planned.reserved)
    }
    for (a, _) in taken { real.put(a) }
    real.releaseFree(until: 0)
  }
}

/// The value, which must be there; the macro itself takes no call that changes what it is called on.
private func present<Value>(_ value: Value?, sourceLocation: SourceLocation = #_sourceLocation) throws -> Value {
  try #require(value, sourceLocation: sourceLocation)
}
