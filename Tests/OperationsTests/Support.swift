import Foundation
@_exported import KernelVerification
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

/// Parent of all suites: a device's work is built by one thread at a time, so none of them may run beside another.
@Suite(.serialized) struct OperationsTests {}

/// The device of all tests: a CPU, the same on every machine, unless `FOVEA_DEVICE` names another. GPUs get
/// launches of their own (narrower vectors, smaller chunks, one column per work-item), which only such a run checks.
enum TestDevice {
  static let shared = open { $0 }

  /// The same for what CPUs do not run by themselves, tiled kernels and a GPU's launches, where POCL takes most of the time
  /// for compiling.
  static let tiled = open(\.withoutOptimizations)

  private static func open(_ adapted: (DeviceDescription) -> DeviceDescription) -> Device {
    do {
      let name = ProcessInfo.processInfo.environment["FOVEA_DEVICE"] ?? "cpu"
      return try Device(adapted(DeviceSelection.pick(name)))
    } catch {
      fatalError("\(error)")
    }
  }

  /// The convolution kernels to test on it. The vector kernels keep windows in private memory: for CPUs only.
  static var algorithms: [ConvolutionAlgorithm] { shared.isCPU ? ConvolutionAlgorithm.allCases : [.tiled] }
}

var device: Device { ConvolutionAlgorithm.forced == .tiled ? TestDevice.tiled : TestDevice.shared }

extension ReferenceTensor {
  /// The same values on the device.
  var onDevice: Tensor { tensor(on: device) }
}

/// Expects the device's values to be those of the reference within `tolerance`.
func expectClose(
  _ actual: [Float], _ expected: ReferenceTensor, within tolerance: Double, _ what: String,
  sourceLocation: SourceLocation
) {
  let error = relativeL2(actual, to: expected)
  // Written so that not-a-number fails.
  allowingForMiscompilation {
    #expect(error <= tolerance, "\(what): relative error \(error)", sourceLocation: sourceLocation)
  }
}

/// What fails in `expectations` is a known issue for tiled kernels on a driver that miscompiles some kernels with
/// barriers.
func allowingForMiscompilation(_ expectations: () -> Void) {
  withKnownIssue("the driver miscompiles kernels with barriers", isIntermittent: true) {
    expectations()
  } when: {
    device.description.miscompilesBarriers && ConvolutionAlgorithm.forced == .tiled
  }
}

typealias Input = OperationCheck.Input
typealias Expectation = OperationCheck.Expectation

extension GuardedMemory {
  /// On the device of the tests.
  init(_ shape: Shape, margins: (before: Int, after: Int) = (0, 0)) { self.init(shape, margins: margins, on: device) }

  init(_ value: ReferenceTensor, margins: (before: Int, after: Int)) { self.init(value, margins: margins, on: device) }
}

/// Fills memory that freed tensors left with NaN, so that the next results start from there.
func poisonFreeMemory() { KernelVerification.poisonFreeMemory(on: device) }

extension OperationsTests {
  /// Expects what `OperationCheck` compares to hold.
  static func check(
    _ name: String, inputs: [Input], seed: ReferenceTensor, expected: Expectation,
    sourceLocation: SourceLocation = #_sourceLocation, _ body: @escaping ([Tensor]) -> Tensor
  ) throws {
    try expectPasses(
      OperationCheck(name, inputs: inputs, seed: seed, expected: expected, body), sourceLocation: sourceLocation)
  }

  static func expectPasses(_ check: OperationCheck, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let comparisons = try check.run(on: device)
    allowingForMiscompilation {
      for comparison in comparisons {
        #expect(comparison.passed, "\(comparison)", sourceLocation: sourceLocation)
      }
    }
  }
}
