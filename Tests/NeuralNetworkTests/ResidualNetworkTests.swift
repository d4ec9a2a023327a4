import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

/// A net of another kind than DenseNet: post-activation with residual adds and a strided block. Read through prologues,
/// it must have the gradients of the same net with every step computed into memory.
private struct SmallResNet: Module {
  let stem = Conv2D(inputs: 3, filters: 8, kernelSize: 3, useBias: false)
  let norm1 = BatchNorm(channels: 8)
  let conv2 = Conv2D(inputs: 8, filters: 8, kernelSize: 3, useBias: false)
  let norm2 = BatchNorm(channels: 8)
  let conv3 = Conv2D(inputs: 8, filters: 16, kernelSize: 3, stride: 2, useBias: false)
  let norm3 = BatchNorm(channels: 16)
  let shortcut = Conv2D(inputs: 8, filters: 16, kernelSize: 1, stride: 2, useBias: false)
  let head = Dense(inputs: 16, units: 3)

  func callAsFunction(_ x: Tensor, plain: Bool) -> Tensor {
    func step(_ value: DeferredTensor) -> DeferredTensor { plain ? value.copied().deferred : value }
    let a = step(norm1(stem(x, normalizedBy: norm1)).relu())
    let b = step(a.adding(step(norm2(conv2(a, normalizedBy: norm2)))).relu())
    let c = shortcut(b).adding(step(norm3(conv3(b, normalizedBy: norm3))))
    return head(step(c.relu()).globalAveragePool())
  }
}

@Suite(.serialized) struct ResidualNetworkTests {
  @Test func readingThroughEqualsComputing() throws {
    let device = try OptimizerTests.device.get()
    let model = SmallResNet()
    let arena = ParameterArena(model, on: device, seed: 2)
    var random = RandomNumbers(seed: 3)
    let images = Tensor((0..<4 * 11 * 9 * 3).map { _ in random.uniform() }, shape: [4, 11, 9, 3], on: device)
    let targets = Tensor([1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0], shape: [4, 3], on: device)
    var results: [[[Float]]] = []
    for plain in [false, true] {
      let (_, gradients) = withTraining {
        valueWithGradients { model(images, plain: plain).softmaxCrossEntropy(targets: targets).loss }
      }
      results.append(
        try arena.parameters.filter(\.isTrainable).map { try #require(gradients[$0.tensor]).floats() })
    }
    for (index, (fused, plain)) in zip(results[0], results[1]).enumerated() {
      let size = plain.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      let difference = zip(fused, plain).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
      // The same sums of at most 400 terms, in another order.
      #expect(difference <= 1e-5 * size, "\(arena.parameters.filter(\.isTrainable)[index].name)")
      #expect(size > 0)
    }
  }

  /// Filter gradients that are added up together, as on GPUs, have the bits of those that are added up one by one; also
  /// where several backward passes are summed.
  @Test func gradientsAddedUpTogether() throws {
    let device = try Device(
      OptimizerTests.device.get().description
        .imitatingGPU(computeUnits: 16, localMemory: 48 << 10, maximumWorkGroupSize: 256))
    let model = SmallResNet()
    let arena = ParameterArena(model, on: device, seed: 2)
    let accumulator = GradientAccumulator(arena)
    var random = RandomNumbers(seed: 3)
    let batches = (0..<2).map { _ in
      Tensor((0..<4 * 11 * 9 * 3).map { _ in random.uniform() }, shape: [4, 11, 9, 3], on: device)
    }
    let targets = Tensor([1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0], shape: [4, 3], on: device)
    func gradients(_ capacity: Int?, passes: Int) throws -> (launches: Int, values: [Float]) {
      try PartialSumPool.$forcedCapacity.withValue(capacity) {
        arena.gradients.fill(.nan)
        let before = device.counters.launches
        accumulator.sum(over: passes) { index in
          withTraining {
            valueWithGradients { model(batches[index], plain: false).softmaxCrossEntropy(targets: targets).loss }
          }.gradients
        }
        return (device.counters.launches - before, try arena.gradients.floats())
      }
    }
    for passes in [1, 2] {
      let apart = try gradients(1, passes: passes)
      let together = try gradients(nil, passes: passes)
      // Four filters and the last layer's weights.
      #expect(apart.launches - together.launches == 4 * passes)
      // Gaps between parameters stay what they were.
      #expect(together.values.map(\.bitPattern) == apart.values.map(\.bitPattern))
      for parameter in arena.parameters where parameter.isTrainable {
        let offset = parameter.tensor.elementOffset
        #expect(
          together.values[offset..<offset + parameter.shape.count].allSatisfy { $0.isFinite }, "\(parameter.name)")
      }
    }
  }
}
