import KernelVerification
import OpenCLRuntime
import ReferenceOperations
import Testing

@testable import Operations

/// The last stage of reductions as GPUs run it: work-items that share the chunks.
@Suite struct FinishingLaunchTests {
  static func imitatedGPU() throws -> Device {
    try Device(
      TestDevice.tiled.description.imitatingGPU(
        computeUnits: 4, localMemory: 48 << 10, maximumWorkGroupSize: 256))
  }

  @Test func sharesManyChunksOfFewValues() throws {
    let gpu = try Self.imitatedGPU()
    #expect(FinishingLaunch(channels: 128, chunks: 700, on: gpu).local == [1, 32])
    #expect(FinishingLaunch(channels: 128, chunks: 31, on: gpu).local == nil)
    #expect(FinishingLaunch(channels: 1 << 20, chunks: 700, on: gpu).local == nil)
  }

  /// Moments, sums over rows and the gradients of affines, from more chunks than work-items and from fewer.
  @Test func equalsTheReference() throws {
    let gpu = try Self.imitatedGPU()
    var shared = 0
    for check in storedTensorChecks(.normal, .float32)
    where ["normalization", "reductions", "pending steps"].contains(check.group) {
      for comparison in try check.run(gpu) {
        #expect(comparison.passed, "\(check.name): \(comparison)")
      }
      shared += try check.programs(gpu.description).contains { $0.options.contains("SHARE") } ? 1 : 0
    }
    #expect(shared > 10)
  }
}
