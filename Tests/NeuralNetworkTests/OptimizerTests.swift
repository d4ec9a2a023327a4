import KernelVerification
import NeuralNetwork
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

/// A module with one weight that the loss is linear in, so that its gradient is what the test says.
private struct OneWeight: Module {
  let weight = Parameter([7], .uniform(-1, 1))
}

private struct TwoWeights: Module {
  let first = Parameter([7], .uniform(-1, 1))
  let second = Parameter([3], .uniform(-1, 1))
}

private struct NamedLayers: Module {
  let first = Dense(inputs: 3, units: 4)
  let blocks = [Dense(inputs: 4, units: 4), Dense(inputs: 4, units: 2, name: "last")]
  let norm: BatchNorm? = BatchNorm(channels: 2)
}

@Suite(.serialized) struct OptimizerTests {
  static let device = Result { try Device(DeviceSelection.pick("cpu")) }

  @Test(arguments: OptimizerCheck.all.indices) func followsTheReference(_ index: Int) throws {
    for comparison in try OptimizerCheck.all[index].run(on: Self.device.get()) {
      #expect(comparison.passed, "\(comparison)")
    }
  }

  /// The norm is over all parameters; gradients shorter than the limit stay as they are. A sum of 10 squares, a root, a
  /// division and an update: a few roundings of 6e-8 each.
  @Test(arguments: [0.5, 100] as [Float]) func clippingLooksAtAllParameters(_ limit: Float) throws {
    let device = try Self.device.get()
    let model = TwoWeights()
    let arena = ParameterArena(model, on: device, seed: 1)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.5), clipNorm: limit, arena: arena)
    let weights = [model.first, model.second]
    var expected = try weights.map { ReferenceTensor($0.shape.dimensions, values: try $0.tensor.floats()) }
    for step in 0..<3 {
      let gradients = weights.map {
        ReferenceTensor.random($0.shape.dimensions, seed: UInt64(step * 10 + $0.shape.count))
      }
      let factors = gradients.map { Tensor($0.floats, shape: Shape($0.shape), on: device) }
      let (_, store) = valueWithGradients {
        (model.first.tensor * factors[0]).sum() + (model.second.tensor * factors[1]).sum()
      }
      optimizer.update(store)
      let (clipped, norm) = Reference.clipByGlobalNorm(gradients, maximum: Double(limit))
      // Neither parameter alone says what happens to it.
      #expect(norm > 0.5 && norm < 100)
      expected = zip(expected, clipped).map { Reference.add($0, Reference.scale($1, by: -0.5)) }
    }
    for (weight, expected) in zip(weights, expected) {
      let error = relativeL2(try weight.tensor.floats(), to: expected)
      #expect(error < 1e-6)
    }
  }

  /// A new optimizer that takes over step and state goes on as the old one would have, to the bit.
  @Test func resumedRunsGoOnAlike() throws {
    let device = try Self.device.get()
    var results: [[Float]] = []
    for resumesAfter in [nil, 2] as [Int?] {
      let model = OneWeight()
      let arena = ParameterArena(model, on: device, seed: 1)
      let schedule = LearningRateSchedule.cosine(0.1, steps: 5)
      var optimizer = Optimizer(.adamW(), schedule: schedule, arena: arena)
      for step in 0..<4 {
        if step == resumesAfter {
          let old = optimizer
          optimizer = Optimizer(.adamW(), schedule: schedule, arena: arena)
          for (state, saved) in zip(optimizer.state, old.state) {
            try saved.floats().withUnsafeBytes { state.storage.buffer.write($0) }
          }
          optimizer.resume(at: old.step)
        }
        let factors = Tensor(ReferenceTensor.random([7], seed: UInt64(step)).floats, shape: [7], on: device)
        let (_, store) = valueWithGradients { (model.weight.tensor * factors).sum() }
        optimizer.update(store)
      }
      #expect(optimizer.step == 4 && optimizer.learningRate == schedule.rate(4))
      results.append(try model.weight.tensor.floats())
    }
    #expect(results[0] == results[1])
  }

  @Test func parametersWithoutAGradientStayAsTheyAre() throws {
    let device = try Self.device.get()
    let model = NamedLayers()
    let arena = ParameterArena(model, on: device, seed: 1)
    let before = try model.blocks[1].kernel.tensor.floats()
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.1), arena: arena)
    // Only the first layer takes part, after a pass in which all did.
    for usesAll in [true, false] {
      let x = Tensor([1, 2, 3], shape: [1, 3], on: device)
      let (_, gradients) = valueWithGradients {
        let y = model.first(x)
        return usesAll ? model.blocks[1](model.blocks[0](y)).sum() : y.sum()
      }
      if !usesAll { optimizer.update(gradients) }
    }
    #expect(try model.blocks[1].kernel.tensor.floats() == before)
  }

  @Test func namesComeFromPropertiesAndLayers() {
    let names = NamedLayers().namedParameters().map(\.name)
    #expect(
      names == [
        "first/kernel", "first/bias", "blocks_0/kernel", "blocks_0/bias", "last/kernel", "last/bias", "norm/gamma",
        "norm/beta", "norm/moving_mean", "norm/moving_variance",
      ])
  }

  @Test func startDependsOnSeedAndNameAlone() throws {
    let device = try Self.device.get()
    let (one, two, other) = (NamedLayers(), NamedLayers(), NamedLayers())
    _ = ParameterArena(one, on: device, seed: 5)
    _ = ParameterArena(two, on: device, seed: 5)
    _ = ParameterArena(other, on: device, seed: 6)
    #expect(try one.first.kernel.tensor.floats() == two.first.kernel.tensor.floats())
    #expect(try one.first.kernel.tensor.floats() != other.first.kernel.tensor.floats())
    // Glorot: ±√(6 / 7) for three inputs and four outputs.
    let limit = (6.0 / 7).squareRoot()
    #expect(try one.first.kernel.tensor.floats().allSatisfy { abs(Double($0)) <= limit } == true)
  }

  @Test func batchNormFollowsTheBatchInTrainingOnly() throws {
    let device = try Self.device.get()
    let norm = BatchNorm(channels: 3, momentum: 0.9)
    _ = ParameterArena(norm, on: device)
    let x = ReferenceTensor.random([2, 4, 5, 3], seed: 4)
    let input = Tensor(x.values.map { Float($0) }, shape: [2, 4, 5, 3], on: device)
    _ = norm(input)
    #expect(try norm.movingMean.tensor.floats() == [0, 0, 0])
    withTraining { _ = norm(input) }
    let (mean, variance) = Reference.moments(x)
    let zero = ReferenceTensor([3])
    let one = ReferenceTensor([3], repeating: 1)
    let movingMean = relativeL2(
      try norm.movingMean.tensor.floats(), to: Reference.movingStatistic(zero, batch: mean, momentum: 0.9))
    let movingVariance = relativeL2(
      try norm.movingVariance.tensor.floats(), to: Reference.movingStatistic(one, batch: variance, momentum: 0.9))
    #expect(movingMean < 1e-5 && movingVariance < 1e-6)
    // Inference takes the moving statistics as they now are. A normalisation has a few roundings of its own.
    let (gamma, beta) = (one, zero)
    let expected = Reference.batchNormInference(
      x, mean: ReferenceTensor([3], values: try norm.movingMean.tensor.floats()),
      variance: ReferenceTensor([3], values: try norm.movingVariance.tensor.floats()), gamma: gamma, beta: beta,
      epsilon: 1e-3)
    let inference = relativeL2(try norm(input).copied().floats(), to: expected)
    #expect(inference < 1e-6)
    // The plain mean over three different batches, from the first on: what was there before is forgotten.
    var sums = (mean: zero, variance: zero)
    for batch in 0..<3 {
      let x = ReferenceTensor.random([2, 4, 5, 3], seed: UInt64(10 + batch), range: -1...Double(2 + batch))
      let input = Tensor(x.values.map { Float($0) }, shape: [2, 4, 5, 3], on: device)
      Phase.$current.withValue(.reestimation(batch: batch)) { _ = norm(input) }
      let moments = Reference.moments(x)
      sums = (Reference.add(sums.mean, moments.mean), Reference.add(sums.variance, moments.variance))
    }
    let mean3 = relativeL2(try norm.movingMean.tensor.floats(), to: Reference.scale(sums.mean, by: 1.0 / 3))
    let variance3 = relativeL2(try norm.movingVariance.tensor.floats(), to: Reference.scale(sums.variance, by: 1.0 / 3))
    // At most 40 roundings of 6e-8 in a sum; the numbers' mean magnitude is below twice their mean.
    #expect(mean3 < 5e-6 && variance3 < 5e-6)
  }
}

@Suite struct ScheduleTests {
  @Test func rates() {
    #expect(LearningRateSchedule.constant(0.1).rate(1000) == 0.1)
    let cosine = LearningRateSchedule.cosine(1, steps: 10, final: 0.2)
    #expect(cosine.rate(0) == 1 && abs(cosine.rate(5) - 0.6) < 1e-6 && cosine.rate(20) == 0.2)
    let step = LearningRateSchedule.step(1, every: 3, factor: 0.5)
    #expect([0, 2, 3, 6].map { step.rate($0) } == [1, 1, 0.5, 0.25])
    let warm = LearningRateSchedule.constant(1).warmedUp(over: 4)
    #expect([0, 1, 3, 4].map { warm.rate($0) } == [0.25, 0.5, 1, 1])
  }
}
