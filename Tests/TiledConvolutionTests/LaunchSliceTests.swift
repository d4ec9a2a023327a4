import TensorCore
import Testing

@testable import OpenCLRuntime

extension DeviceTests {
  struct LaunchSliceTests {
    @Test("a launch is cut where a dimension exceeds the limit")
    func cuts() {
      let whole = LaunchSlice.slices([7, 65535, 3], local: nil)
      #expect(whole == [LaunchSlice(offset: nil, global: [7, 65535, 3])])
      let grouped = LaunchSlice.slices([7, 70000], local: [1, 1])
      #expect(grouped == [LaunchSlice(offset: nil, global: [7, 70000])])
      let cut = LaunchSlice.slices([100_000, 65536, 131_070], local: nil)
      #expect(
        cut == [
          LaunchSlice(offset: [0, 0, 0], global: [100_000, 65535, 65535]),
          LaunchSlice(offset: [0, 0, 65535], global: [100_000, 65535, 65535]),
          LaunchSlice(offset: [0, 65535, 0], global: [100_000, 1, 65535]),
          LaunchSlice(offset: [0, 65535, 65535], global: [100_000, 1, 65535]),
        ])
    }

    @Test("a fill of more rows than the limit reaches all of them")
    func fill() throws {
      let device = try DeviceTests.device.get()
      let rows = 2 * LaunchSlice.limit + 5
      let whole = Tensor.zeros([rows, 3], on: device)
      whole.channels(1..<2).fill(2)
      let values = try whole.floats()
      #expect(values.indices.allSatisfy { values[$0] == ($0 % 3 == 1 ? 2 : 0) })
    }
  }
}
