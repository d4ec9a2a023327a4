import Dispatch
import Testing

@testable import OpenCLRuntime

/// Each test opens a device of its own, because failures and counts stay with it.
@Suite(.serialized) struct DeviceTests {
  private static let source = KernelSource(
    name: "test",
    text: """
      #ifndef ADDEND
      #define ADDEND 1
      #endif
      kernel void add(global int *x) { x[get_global_id(0)] += ADDEND; }

      kernel void sum(global const int *x, local int *scratch, int count, float factor, global float *y) {
        scratch[get_local_id(0)] = x[get_local_id(0)];
        barrier(CLK_LOCAL_MEM_FENCE);
        if (get_local_id(0) == 0) {
          int sum = 0;
          for (int i = 0; i < count; i++)
            sum += scratch[i];
          y[0] = sum * factor;
        }
      }
      """)

  private static func buffer(_ values: [Int32], on device: Device) -> Buffer {
    let buffer = device.allocate(byteCount: values.count * 4)
    values.withUnsafeBytes { buffer.write($0) }
    return buffer
  }

  private static func read(_ buffer: Buffer, _ count: Int) throws -> [Int32] {
    var values = [Int32](repeating: 0, count: count)
    try values.withUnsafeMutableBytes { try buffer.read(into: $0) }
    return values
  }

  @Test func launchesAndCounts() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = Self.buffer([1, 2, 3], on: device)
    device.launch(Self.source, "add", global: [3], [.buffer(buffer)])
    device.launch(Self.source, "add", options: "-D ADDEND=10", global: [2], local: [1], [.buffer(buffer)])
    device.launch(Self.source, "add", options: "-D ADDEND=10", global: [1], local: [1], [.buffer(buffer)])
    #expect(try Self.read(buffer, 3) == [22, 13, 4])
    #expect(device.counters.launches == 3 && device.counters.programsBuilt == 2)
    #expect(device.counters.buildSeconds > 0)
    #expect(device.failure == nil)
  }

  @Test func everyKindOfArgument() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let x = Self.buffer([1, 2, 3, 4], on: device)
    let y = device.allocate(byteCount: 4)
    device.launch(
      Self.source, "sum", global: [4], local: [4],
      [.buffer(x), .local(bytes: 16), .int(4), .float(0.5), .buffer(y)])
    #expect(try y.enqueueRead(floats: 1).wait() == [5])
  }

  @Test func noWorkItemsIsNoLaunch() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    device.launch(Self.source, "add", global: [0], [])
    try device.synchronize()
    #expect(device.counters.launches == 0 && device.counters.programsBuilt == 0)
  }

  @Test func buildFailureCarriesTheLogAndStopsEverythingBehindIt() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = Self.buffer([1], on: device)
    let broken = KernelSource(name: "broken.cl", text: "kernel void f(global int *x) { x[0] = undeclared_name; }")
    device.launch(broken, "f", options: "-D ANY=1", global: [1], [.buffer(buffer)])
    device.launch(Self.source, "add", global: [1], [.buffer(buffer)])
    do {
      _ = try Self.read(buffer, 1)
      Issue.record("read values behind a failure")
    } catch let error as OpenCLError {
      guard case .buildFailed(let program, let options, let log, _) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(program == "broken.cl" && options == "-D ANY=1")
      #expect(log.contains("undeclared_name"))
      #expect("\(error)".contains("undeclared_name"))
    }
    #expect(device.failure != nil && device.counters.launches == 0)
    #expect(throws: OpenCLError.self) { try device.synchronize() }
    #expect(throws: OpenCLError.self) { try buffer.enqueueRead(floats: 1).wait() }
  }

  @Test func aMissingKernelIsNamed() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    device.launch(Self.source, "absent", global: [1], [])
    do {
      try device.synchronize()
      Issue.record("no failure")
    } catch let error as OpenCLError {
      #expect("\(error)".contains("clCreateKernel(absent)") && "\(error)".contains("CL_INVALID_KERNEL_NAME"))
    }
  }

  @Test func tooMuchMemoryNamesWhatWasAsked() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let kept = device.allocate(byteCount: 1024)
    let buffer = device.allocate(byteCount: 1 << 50)
    do {
      try device.synchronize()
      Issue.record("a petabyte was given")
    } catch let error as OpenCLError {
      guard case .outOfMemory(let requested, let inUse, _, _) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(requested == 1 << 50 && inUse >= 1024)
      #expect("\(error)".contains("1024.0 TiB") && "\(error)".contains("--batch-size"))
    }
    #expect(buffer.byteCount == 1 << 50 && kept.byteCount == 1024)
  }

  @Test func statusNames() {
    #expect(OpenCLError.name(of: -5) == "CL_OUT_OF_RESOURCES")
    #expect(OpenCLError.name(of: -9999) == "an unknown error")
    let text = "\(OpenCLError.callFailed(call: "clFinish", code: -36, device: "d"))"
    #expect(text == "clFinish failed with CL_INVALID_COMMAND_QUEUE (-36) on d")
  }

  @Test(arguments: [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB"),
  ])
  func bytesAsText(bytes: Int, text: String) {
    #expect(formatBytes(bytes) == text)
  }

  @Test func profileHasAnEntryForEachLaunch() throws {
    let device = try Device(DeviceSelection.pick("cpu"), profiling: true)
    let buffer = Self.buffer([1, 2, 3], on: device)
    device.launch(
      Self.source, "add", global: [3], [.buffer(buffer)], cost: LaunchCost("first", flops: 3, bytes: 24))
    device.launch(Self.source, "add", global: [3], [.buffer(buffer)])
    let profile = try device.takeProfile()
    #expect(profile.map(\.label) == ["first", "add"])
    #expect(profile[0].flops == 3 && profile[0].bytes == 24)
    #expect(profile.allSatisfy { $0.seconds > 0 })
    #expect(try device.takeProfile().isEmpty)
  }

  @Test func profilingStartsAndEnds() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = Self.buffer([1, 2, 3], on: device)
    func add() { device.launch(Self.source, "add", global: [3], [.buffer(buffer)]) }
    add()
    try device.setProfiling(true)
    add()
    buffer.enqueueWrite([4, 5, 6] as [Float])
    let read = buffer.enqueueRead(floats: 3)
    #expect(try read.wait() == [4, 5, 6])
    try device.setProfiling(false)
    add()
    let profile = try device.takeProfile()
    #expect(profile.map(\.label) == ["add", "copy to device", "copy to host"])
    #expect(profile.map(\.bytes) == [0, 12, 12])
    // The queue is in order.
    #expect(zip(profile, profile.dropFirst()).allSatisfy { $0.end <= $1.start })
    #expect(try device.takeProfile().isEmpty)
  }

  @Test func deviceClockIsAlignedWithTheHost() throws {
    let device = try Device(DeviceSelection.pick("cpu"), profiling: true)
    let buffer = Self.buffer([1, 2, 3], on: device)
    let offset = try device.clockOffset()
    let before = Int64(DispatchTime.now().uptimeNanoseconds)
    device.launch(Self.source, "add", global: [3], [.buffer(buffer)])
    let entry = try #require(try device.takeProfile().first)
    let after = Int64(DispatchTime.now().uptimeNanoseconds)
    #expect(Int64(entry.start) + offset.nanoseconds >= before - offset.uncertainty)
    #expect(Int64(entry.end) + offset.nanoseconds <= after + offset.uncertainty)
  }

  @Test func kindIsTheLabelWithoutSizes() {
    func kind(_ label: String) -> String {
      ProfileEntry(label: label, start: 0, end: 1, flops: 0, bytes: 0).kind
    }
    #expect(kind("softmax gradient [64, 2]") == "softmax gradient")
    #expect(kind("conv filter gradient 3×3/2 3→64 on 64×150×150") == "conv filter gradient 3×3/2")
    #expect(kind("sum of 64") == "sum")
    #expect(kind("copy to device") == "copy to device")
  }

  @Test func withoutProfilingNothingIsTimed() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    device.launch(Self.source, "add", global: [1], [.buffer(Self.buffer([1], on: device))])
    #expect(try device.takeProfile().isEmpty)
  }

  @Test func partsOfBuffers() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = Self.buffer([1, 2, 3, 4, 5], on: device)
    let other = Self.buffer([10, 20, 30], on: device)
    buffer.copy(from: other, sourceOffset: 4, offset: 8, count: 8)
    buffer.zero(at: 4, count: 4)
    [Int32(7)].withUnsafeBytes { buffer.write($0, at: 16) }
    #expect(try Self.read(buffer, 5) == [1, 0, 20, 30, 7])
    var last: [Int32] = [0, 0]
    try last.withUnsafeMutableBytes { try buffer.read(into: $0, at: 12) }
    #expect(last == [30, 7])
  }

  @Test func transfersThatNobodyWaitsFor() throws {
    let device = try Device(DeviceSelection.pick("cpu"))
    let buffer = device.allocate(byteCount: 12)
    for round in 0..<100 { buffer.enqueueWrite([Float(round), 1, 2]) }
    let read = buffer.enqueueRead(floats: 2, at: 0)
    buffer.enqueueWrite([-1, -1, -1] as [Float])
    #expect(try read.wait() == [99, 1])
    #expect(try buffer.enqueueRead(floats: 1, at: 2).wait() == [-1])
  }

  @Test func sourcesAreToldApartByTextAndName() {
    let a = KernelSource(name: "a", text: "x")
    #expect(a == KernelSource(name: "a", text: "x"))
    #expect(a != KernelSource(name: "a", text: "y"))
    #expect(a != KernelSource(name: "b", text: "x"))
  }

  @Test func descriptionsAreComplete() throws {
    for device in try DeviceDescription.all() {
      #expect(!device.name.isEmpty && !device.platformName.isEmpty && !device.driverVersion.isEmpty)
      #expect(device.computeUnits > 0 && device.globalMemory > 0 && device.maximumAllocation > 0)
      #expect(device.summary.hasPrefix(device.selector))
    }
  }

  /// Listing from many threads at once, the first call of the process or not.
  @Test func listingFromManyThreads() async throws {
    let expected = try DeviceDescription.all().count
    try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<16 { group.addTask { try DeviceDescription.all().count } }
      for try await count in group { #expect(count == expected) }
    }
  }
}
