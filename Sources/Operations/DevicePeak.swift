import Foundation
import OpenCLRuntime
import TensorCore

/// What a device reaches when it does nothing else: the roofs that benchmarks compare with.
public struct DevicePeak: Sendable {
  /// Fused multiply-adds in registers, counted as two operations, float32.
  public let flopsPerSecond: Double
  /// A copy of memory that fits no cache, bytes read and written together.
  public let bytesPerSecond: Double

  /// Measures for about a second, the best of five runs each.
  public static func measure(on device: Device) throws -> DevicePeak {
    DevicePeak(
      flopsPerSecond: try measureFlopsPerSecond(on: device), bytesPerSecond: try measureBytesPerSecond(on: device))
  }

  /// Measures only `flopsPerSecond`, in little memory and within a few hundredths of a second: what a device that others
  /// use as well can do at the moment.
  public static func measureFlopsPerSecond(on device: Device) throws -> Double {
    let vector = vector(on: device)
    let items = device.isCPU ? device.description.computeUnits : device.description.computeUnits * 2048
    let iterations = device.isCPU ? 1_000_000 : 4096
    let result = Tensor(uninitialized: [items, vector], on: device)
    let seconds = try best(on: device) {
      device.launch(
        .peak, "peak_fma", options: options(on: device), global: [items], local: device.independent(1),
        [.buffer(result.storage.buffer), .int(iterations)])
    }
    return 2 * Double(items * vector * chains) * Double(iterations) / seconds
  }

  private static let chains = 20
  private static func vector(on device: Device) -> Int { device.isCPU ? 16 : 4 }
  private static func options(on device: Device) -> String { "-D VEC=\(vector(on: device)) -D CHAINS=\(chains)" }

  private static func measureBytesPerSecond(on device: Device) throws -> Double {
    let vector = vector(on: device)
    let count = 1 << 26  // 256 MiB to read and as much to write
    let source = Tensor.zeros([count / vector, vector], on: device)
    let target = Tensor.zeros(source.shape, on: device)
    let vectors = count / vector
    let copyItems = device.isCPU ? device.description.computeUnits * 64 : vectors / 4
    let perItem = vectors / copyItems
    let seconds = try best(on: device) {
      device.launch(
        .peak, "peak_copy", options: options(on: device), global: [copyItems], local: device.independent(1),
        [
          .buffer(source.storage.buffer), .buffer(target.storage.buffer), target.manner(accumulate: false),
          .int(perItem),
        ]
          // On a GPU neighbours read neighbouring vectors; on a CPU each item has a range of its own.
          + (device.isCPU ? [.int(1), .int(perItem)] : [.int(copyItems), .int(1)]))
    }
    return Double(perItem * copyItems * vector * 8) / seconds
  }

  private static func best(on device: Device, _ body: () -> Void) throws -> Double {
    var best = Double.infinity
    for _ in 0..<6 {
      try device.synchronize()
      let start = DispatchTime.now().uptimeNanoseconds
      body()
      try device.synchronize()
      best = min(best, Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9)
    }
    return best
  }
}
