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
      #expect(grouped == [LaunchSlice(offset: nil, global: [7, 70000], local: [1, 1])])
      let cut = LaunchSlice.slices([100_000, 65536, 131_070], local: nil)
      #expect(
        cut == [
          LaunchSlice(offset: [0, 0, 0], global: [100_000, 65535, 65535]),
          LaunchSlice(offset: [0, 0, 65535], global: [100_000, 65535, 65535]),
          LaunchSlice(offset: [0, 65535, 0], global: [100_000, 1, 65535]),
          LaunchSlice(offset: [0, 65535, 65535], global: [100_000, 1, 65535]),
        ])
    }

    /// Extents of a training step's launches, and some that are worse.
    @Test(
      "work-groups keep lanes busy, and parts cover a launch once",
      arguments: [
        [435_498], [10240], [1024], [2], [64], [16, 4219], [4, 22500], [3, 5625], [104, 1444], [16, 1407], [128, 64],
        [1, 360_000], [1, 1], [3, 150, 9600], [32, 19, 1216], [16, 75, 4800], [256, 1, 64], [1, 1, 65_537],
        [524_287], [7, 524_287], [257, 257, 257],
      ], [256, 64, 1])
    func groups(global: [Int], groupItems: Int) {
      let slices = LaunchSlice.slices(global, local: nil, groupItems: groupItems)
      var covered = 0
      var busy = 0.0
      for slice in slices {
        let local = slice.local ?? []
        let items = local.reduce(1, *)
        #expect(local.count == global.count && items <= groupItems)
        for (dimension, extent) in slice.global.enumerated() {
          #expect(extent % local[dimension] == 0)
          #expect((slice.offset?[dimension] ?? 0) + extent <= global[dimension])
        }
        let groups = slice.global.reduce(1, *) / max(items, 1)
        covered += slice.global.reduce(1, *)
        busy += Double(groups * ((items + 31) / 32 * 32))
      }
      let all = global.reduce(1, *)
      #expect(covered == all)
      for (i, a) in slices.enumerated() {
        for b in slices[(i + 1)...] {
          let apart = global.indices.contains { dimension in
            let (x, y) = (a.offset?[dimension] ?? 0, b.offset?[dimension] ?? 0)
            return x + a.global[dimension] <= y || y + b.global[dimension] <= x
          }
          #expect(apart, "parts at \(a.offset ?? []) and \(b.offset ?? []) overlap")
        }
      }
      // Of launches that are worth it.
      if groupItems >= 64, all >= 4096 {
        #expect(Double(all) / busy > 0.7, "\(slices.map { ($0.global, $0.local ?? []) })")
      }
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
