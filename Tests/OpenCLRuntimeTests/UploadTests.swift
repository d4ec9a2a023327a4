import Testing

@testable import OpenCLRuntime

/// Copies to devices with memory of their own, which go by a second queue.
@Suite struct UploadTests {
  private static let source = KernelSource(
    name: "sum",
    text: """
      kernel void add(global const uchar *x, global int *sum, int count) {
        int total = 0;
        for (int i = 0; i < count; i++) total += x[i];
        sum[0] += total;
      }
      """)

  private func gpu() throws -> Device {
    try Device(
      DeviceSelection.pick("cpu", from: DeviceDescription.all())
        .imitatingGPU(computeUnits: 2, localMemory: 48 << 10, maximumWorkGroupSize: 256))
  }

  /// The same buffer is overwritten again and again while kernels that read it are still to run: each must see its own
  /// values. Sizes differ, so that the ring's buffers are made anew on the way.
  @Test func eachKernelSeesItsOwnValues() throws {
    let device = try gpu()
    let largest = 3 * UploadRing.minimum
    let buffer = device.allocate(byteCount: largest)
    var sums: [(Buffer, Int)] = []
    for step in 0..<40 {
      let count = UploadRing.minimum + step % 5 * UploadRing.minimum / 2
      let value = UInt8(step + 1)
      var bytes = [UInt8](repeating: value, count: count)
      buffer.enqueueWrite(bytes)
      // The source may be changed at once.
      bytes[0] = 0
      let sum = device.allocate(byteCount: 4)
      sum.zero(count: 4)
      device.launch(Self.source, "add", global: [1], local: [1], [.buffer(buffer), .buffer(sum), .int(count)])
      sums.append((sum, Int(value) * count))
    }
    for (sum, expected) in sums {
      var value: Int32 = 0
      try withUnsafeMutableBytes(of: &value) { try sum.read(into: $0) }
      #expect(Int(value) == expected)
    }
  }

  @Test func uploadsAreTimed() throws {
    let device = try gpu()
    let buffer = device.allocate(byteCount: UploadRing.minimum)
    let bytes = [UInt8](repeating: 1, count: UploadRing.minimum)
    buffer.enqueueWrite(bytes)
    try device.setProfiling(true)
    buffer.enqueueWrite(bytes)
    let profile = try device.takeProfile()
    #expect(profile.map(\.label) == ["copy to device"] && profile.first?.bytes == Double(bytes.count))
    try device.setProfiling(false)
    buffer.enqueueWrite(bytes)
    try device.synchronize()
  }
}
