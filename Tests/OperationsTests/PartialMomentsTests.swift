import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  /// Moments that a convolution leaves behind as it stores, against those of what it stored.
  @Suite struct PartialMomentsTests {
    struct Case: Sendable, CustomTestStringConvertible {
      var image: [Int]
      var kernel: Int
      var outputs: Int
      var testDescription: String { "\(kernel)×\(kernel) → \(outputs) on \(image)" }
    }

    /// Last tiles that are not full, in rows, columns and channels; one group and many.
    static let cases = [
      Case(image: [2, 7, 9, 16], kernel: 1, outputs: 24), Case(image: [1, 4, 4, 20], kernel: 1, outputs: 5),
      Case(image: [3, 16, 21, 16], kernel: 1, outputs: 40), Case(image: [2, 13, 11, 16], kernel: 3, outputs: 32),
      Case(image: [3, 6, 6, 32], kernel: 3, outputs: 16), Case(image: [2, 9, 40, 32], kernel: 3, outputs: 48),
    ]

    /// The kernels by what they store: 16 bits round the values, and the moments are those of the rounded ones.
    struct Kernels: Sendable, CustomTestStringConvertible {
      var algorithm: ConvolutionAlgorithm
      var dtype: DType
      var testDescription: String { "\(algorithm), \(dtype)" }
    }

    static let kernels = [ConvolutionAlgorithm.winograd, .tiled].flatMap { algorithm in
      [DType.float32, .float16, .bfloat16].map { Kernels(algorithm: algorithm, dtype: $0) }
    }

    @Test(arguments: cases, kernels)
    func equalThoseOfTheResult(_ test: Case, kernels: Kernels) throws {
      let image = ReferenceTensor.random(test.image, seed: 301)
      let filter = ReferenceTensor.random([test.kernel, test.kernel, test.image[3], test.outputs], seed: 302)
      // Far from zero, where sums of squares would lose digits and values of 16 bits lose more than is allowed below.
      let bias = ReferenceTensor.random([test.outputs], seed: 303, range: 30...31)
      try ConvolutionAlgorithm.$forced.withValue(kernels.algorithm) {
        let x = image.tensor(on: device, dtype: kernels.dtype)
        let y = x.conv2d(filter: filter.onDevice, bias: bias.onDevice, leavingMoments: true)
        let before = device.counters.launches
        let moments = y.moments()
        #expect(device.counters.launches - before == 1)
        let expected = Reference.moments(ReferenceTensor(y.shape.dimensions, values: try y.floats()))
        // A group's sum of up to 48 values around 30 rounds by 48/2 · 6e-8 of it on the average, and joining adds a few
        // roundings: 2e-6 of the mean. The deviations are taken from a mean that is off by 1e-6 · 30, which enters the
        // variance squared; what remains are the roundings of 48 squares.
        expectClose(
          try moments.mean.floats(), expected.mean, within: 2e-6, "mean", sourceLocation: #_sourceLocation)
        expectClose(
          try moments.variance.floats(), expected.variance, within: 4e-6, "variance", sourceLocation: #_sourceLocation)
      }
    }

    /// Each slab of a stack by the kernel that wrote it, one that left nothing between them.
    @Test func slabsOfAStack() throws {
      var stack = ChannelStack(shape: [2, 8, 8, 48], on: device)
      let x = ReferenceTensor.random([2, 8, 8, 16], seed: 311)
      _ = x.onDevice.copied(into: stack.appendSlab(channels: 16))
      for seed in 0..<2 {
        let filter = ReferenceTensor.random([3, 3, 16, 16], seed: 312 + UInt64(seed)).onDevice
        _ = x.onDevice.conv2d(filter: filter, into: stack.appendSlab(channels: 16), leavingMoments: true)
      }
      let all = stack.prefix
      let expected = Reference.moments(ReferenceTensor(all.shape.dimensions, values: try all.floats()))
      let moments = all.moments()
      expectClose(try moments.mean.floats(), expected.mean, within: 2e-6, "mean", sourceLocation: #_sourceLocation)
      expectClose(
        try moments.variance.floats(), expected.variance, within: 4e-6, "variance", sourceLocation: #_sourceLocation)
    }

    @Test func areForgottenWhenTheyNoLongerHold() throws {
      let x = ReferenceTensor.random([2, 8, 8, 16], seed: 321).onDevice
      let filter = ReferenceTensor.random([3, 3, 16, 16], seed: 322).onDevice
      let y = x.conv2d(filter: filter, leavingMoments: true)
      y.fill(3)
      #expect(try y.moments().mean.floats() == Array(repeating: 3, count: 16))
    }

    /// Steps in between: the moments are of other values than those stored.
    @Test func areNotThoseOfAnActivation() throws {
      let x = ReferenceTensor.random([2, 8, 8, 16], seed: 331).onDevice
      let filter = ReferenceTensor.random([3, 3, 16, 16], seed: 332).onDevice
      let y = x.conv2d(filter: filter, leavingMoments: true)
      let expected = Reference.moments(
        Reference.leakyRelu(ReferenceTensor(y.shape.dimensions, values: try y.floats()), slope: 0.2))
      expectClose(
        try y.leakyReLU(slope: 0.2).moments().mean.floats(), expected.mean, within: 2e-6, "mean",
        sourceLocation: #_sourceLocation)
    }
  }
}
