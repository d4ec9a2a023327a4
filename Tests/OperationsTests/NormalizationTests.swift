import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct NormalizationTests {}
}

/// √ and the division by it round once each, and what they are applied to is a difference from a mean that is a sum
/// itself: sums of M values applied to each other, two deep, three with the gradient of the statistics.
private let depth = 3

extension OperationsTests.NormalizationTests {
  private static let shapes = [
    [3, 1], [2, 3, 3, 7], [150, 16], [2, 5, 7, 31], [70, 4], [1, 65, 2], [9, 33], [16387, 1],
  ]
  private static let epsilon: Float = 1.001e-5

  /// The gradient of Σ (a · mean + b · variance), and with a leaky rectifier in front.
  @Test(arguments: [nil, Float(0.2)])
  func moments(preSlope: Float?) throws {
    let slope = preSlope.map(Double.init) ?? 1
    for shape in Self.shapes {
      let x = ReferenceTensor.random(shape, seed: 91, range: -1...2)
      let read = Reference.leakyRelu(x, slope: slope)
      let (mean, variance) = Reference.moments(read)
      let a = ReferenceTensor.random(mean.shape, seed: 92)
      let b = ReferenceTensor.random(mean.shape, seed: 93)
      let dread = Reference.momentsGradient(read, mean: a, variance: b)
      let dx = Reference.leakyReluGradient(x, slope: slope, gradient: dread)
      let rows = x.count / x.channels
      // Mean and variance side by side, through the concatenation.
      try OperationsTests.check(
        "moments of \(shape)", inputs: [.viewable(x)], seed: ReferenceTensor([2 * x.channels], a.values + b.values),
        expected: Expectation(
          value: ReferenceTensor([2 * x.channels], mean.values + variance.values), terms: rows,
          gradients: [(dx, rows)], depth: depth)
      ) { tensors in
        let moments = preSlope.map { tensors[0].leakyReLU(slope: $0).moments() } ?? tensors[0].moments()
        return concatenate([moments.mean, moments.variance])
      }
    }
  }

  /// Either of the two alone.
  @Test func momentsUsedAlone() throws {
    let x = ReferenceTensor.random([6, 7], seed: 94)
    let (mean, variance) = Reference.moments(x)
    let seed = ReferenceTensor.random([7], seed: 95)
    let zero = ReferenceTensor([7])
    try OperationsTests.check(
      "mean alone", inputs: [.viewable(x)], seed: seed,
      expected: Expectation(
        value: mean, terms: 6, gradients: [(Reference.momentsGradient(x, mean: seed, variance: zero), 6)], depth: depth)
    ) { $0[0].moments().mean.scaled(by: 1) }
    try OperationsTests.check(
      "variance alone", inputs: [.viewable(x)], seed: seed,
      expected: Expectation(
        value: variance, terms: 6, gradients: [(Reference.momentsGradient(x, mean: zero, variance: seed), 6)],
        depth: depth)
    ) { $0[0].moments().variance.scaled(by: 1) }
  }

  /// A large mean does not eat the variance's digits.
  @Test func varianceOfValuesFarFromZero() throws {
    let x = ReferenceTensor.random([1000, 2], seed: 96, range: 1000...1001)
    let error = relativeL2(try x.onDevice.moments().variance.floats(), to: Reference.moments(x).variance)
    // The mean of a chunk of 64 is off by up to δ = 64 · 2⁻²⁴ · 1001 = 4e-3, and about √64 less as signs vary: 5e-4.
    // Chan's formula then misses 2 δ times the chunk's distance from the whole mean, √(1/12 / 64) = 0.036; over 16
    // chunks of varying sign and against the variance 1/12 that is 2 · 5e-4 · 0.036 / √16 · 12 = 1e-4.
    // E x² − (E x)² in float32 would be off by about 10⁶ · 2⁻²⁴ · 12 = 0.7.
    #expect(error < 1e-4)
  }

  @Test func wholeBatchNormalization() throws {
    for shape in Self.shapes {
      let x = ReferenceTensor.random(shape, seed: 97, range: -1...3)
      let gamma = ReferenceTensor.random([x.channels], seed: 98)
      let beta = ReferenceTensor.random([x.channels], seed: 99)
      let dy = ReferenceTensor.random(shape, seed: 100)
      let epsilon = Double(Self.epsilon)
      let gradient = Reference.batchNormGradient(x, gamma: gamma, epsilon: epsilon, gradient: dy)
      let rows = x.count / x.channels
      try OperationsTests.check(
        "batch normalisation of \(shape)", inputs: [.viewable(x), .viewable(gamma), .viewable(beta)], seed: dy,
        expected: Expectation(
          value: Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: epsilon), terms: rows,
          gradients: [(gradient.x, rows), (gradient.gamma, rows), (gradient.beta, rows)], depth: depth)
      ) { $0[0].batchNormalized(gamma: $0[1], beta: $0[2], epsilon: Self.epsilon).copied() }
    }
  }

  /// Normalised, rectified, read by a convolution, and normalised again after a rectifier: everything at once.
  @Test func normalizationBetweenConvolutions() throws {
    let x = ReferenceTensor.random([2, 5, 4, 7], seed: 101)
    let gamma = ReferenceTensor.random([7], seed: 102, range: 0.5...1.5)
    let beta = ReferenceTensor.random([7], seed: 103)
    let filter = ReferenceTensor.random([3, 3, 7, 3], seed: 104)
    let gamma2 = ReferenceTensor.random([3], seed: 105)
    let beta2 = ReferenceTensor.random([3], seed: 106)
    let dy = ReferenceTensor.random([2, 5, 4, 3], seed: 107)
    let epsilon = Double(Self.epsilon)
    let slope = Double(Float(0.2))
    let same = ReferenceOperations.Padding(1)

    let normalized = Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: epsilon)
    let read = Reference.relu(normalized)
    let z = Reference.conv2d(read, filter: filter, padding: same)
    let leaky = Reference.leakyRelu(z, slope: slope)
    let value = Reference.batchNorm(leaky, gamma: gamma2, beta: beta2, epsilon: epsilon)
    let second = Reference.batchNormGradient(leaky, gamma: gamma2, epsilon: epsilon, gradient: dy)
    let dz = Reference.leakyReluGradient(z, slope: slope, gradient: second.x)
    let inner = Reference.conv2dGradient(read, filter: filter, gradient: dz, padding: same)
    let first = Reference.batchNormGradient(
      x, gamma: gamma, epsilon: epsilon, gradient: Reference.reluGradient(normalized, gradient: inner.x))
    try OperationsTests.check(
      "normalisation, ReLU, convolution, leaky ReLU, normalisation",
      inputs: [x, gamma, beta, filter, gamma2, beta2].map { Input.whole($0) }, seed: dy,
      expected: Expectation(
        value: value, terms: 63,
        gradients: [
          (first.x, 63), (first.gamma, 63), (first.beta, 63), (inner.filter, 63), (second.gamma, 63),
          (second.beta, 63),
        ], depth: 2 * depth)
    ) {
      $0[0].batchNormalized(gamma: $0[1], beta: $0[2], epsilon: Self.epsilon).relu().conv2d(filter: $0[3])
        .leakyReLU(slope: 0.2).batchNormalized(gamma: $0[4], beta: $0[5], epsilon: Self.epsilon).copied()
    }
  }

  /// Given statistics, with gradients to them too, each wanted or not.
  @Test(arguments: 0..<8)
  func inference(wanted: Int) throws {
    let x = ReferenceTensor.random([2, 3, 7], seed: 108)
    let mean = ReferenceTensor.random([7], seed: 109)
    let variance = ReferenceTensor.random([7], seed: 110, range: 0.25...2)
    let gamma = ReferenceTensor.random([7], seed: 111)
    let beta = ReferenceTensor.random([7], seed: 112)
    let dy = ReferenceTensor.random([2, 3, 7], seed: 113)
    let epsilon = Double(Self.epsilon)
    let gradient = Reference.batchNormInferenceGradient(
      x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon, gradient: dy)
    func terms(_ bit: Int, _ value: ReferenceTensor) -> (value: ReferenceTensor, terms: Int)? {
      wanted & bit == 0 ? nil : (value, 6)
    }
    try OperationsTests.check(
      "inference form, gradients \(wanted)", inputs: [x, mean, variance, gamma, beta].map { Input.viewable($0) },
      seed: dy,
      expected: Expectation(
        value: Reference.batchNormInference(
          x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon),
        terms: 1,
        gradients: [
          (gradient.x, 1), terms(1, gradient.fold.mean), terms(2, gradient.fold.variance),
          terms(4, gradient.fold.gamma), terms(4, gradient.fold.beta),
        ], depth: 2)
    ) {
      $0[0].normalized(
        with: Moments(mean: $0[1], variance: $0[2]), gamma: $0[3], beta: $0[4], epsilon: Self.epsilon
      ).copied()
    }
  }

  /// The mean used by the normalisation and once more by itself: its gradient is there already when the fold adds to it,
  /// the variance's is not.
  @Test func meanWithAnotherConsumer() throws {
    let x = ReferenceTensor.random([6, 7], seed: 114)
    let gamma = ReferenceTensor.random([7], seed: 115)
    let beta = ReferenceTensor.random([7], seed: 116)
    let seeds = (0..<2).map { ReferenceTensor.random([$0 == 0 ? 6 : 1, 7], seed: 117 + UInt64($0)) }
    let epsilon = Double(Self.epsilon)
    let normal = Reference.batchNormGradient(x, gamma: gamma, epsilon: epsilon, gradient: seeds[0])
    let dx = Reference.add(
      normal.x, Reference.momentsGradient(x, mean: seeds[1].reshaped([7]), variance: ReferenceTensor([7])))

    let tensors = (x: x.onDevice, gamma: gamma.onDevice, beta: beta.onDevice)
    let weights = (seeds[0].onDevice, seeds[1].reshaped([7]).onDevice)
    poisonFreeMemory()
    let (_, gradients) = valueWithGradients(at: [tensors.x]) {
      let moments = tensors.x.moments()
      let y = tensors.x.normalized(with: moments, gamma: tensors.gamma, beta: tensors.beta, epsilon: Self.epsilon)
      return y.materialized().multiplied(by: weights.0).sum() + moments.mean.multiplied(by: weights.1).sum()
    }
    expectClose(
      try gradients[tensors.x]?.floats() ?? [], dx, within: tolerance(terms: 6, depth: depth), "dx",
      sourceLocation: #_sourceLocation)
  }

  /// A dense block's way of reading: each prefix is normalised, each slab's statistics are computed once.
  @Test func statisticsAreSharedOverTheSlabsOfAStack() throws {
    let parts = [3, 4, 2].enumerated().map { ReferenceTensor.random([2, 3, 3, $1], seed: 120 + UInt64($0)) }
    let tape = Tape()
    let tensors = parts.map(\.onDevice)
    tensors.forEach(tape.watch)
    var launches: [Int] = []
    var outputs: [Tensor] = []
    func counted(_ body: () -> Moments) -> Moments {
      let before = device.counters.launches
      let moments = body()
      launches.append(device.counters.launches - before)
      return moments
    }
    Tape.$current.withValue(tape) {
      var stack = ChannelStack(shape: [2, 3, 3, 9], on: device)
      for tensor in tensors {
        _ = tensor.copied(into: stack.appendSlab(channels: tensor.channels))
        let moments = counted { stack.prefix.moments() }
        let again = counted { stack.prefix.moments() }
        #expect(moments.mean.storage.id == again.mean.storage.id)
        let channels = stack.prefix.channels
        let ones = Tensor([Float](repeating: 1, count: channels), shape: [channels], on: device)
        let zeros = Tensor.zeros([channels], on: device)
        outputs.append(
          stack.prefix.normalized(with: moments, gamma: ones, beta: zeros, epsilon: Self.epsilon).materialized())
      }
      // A view in the middle is known, too.
      _ = counted { stack.prefix.channels(2..<8).moments() }
    }
    // Two launches for each new slab, none for what is known.
    #expect(launches == [2, 0, 2, 0, 2, 0, 0])

    let whole = Reference.concatenate(parts)
    let seeds = outputs.enumerated().map { ReferenceTensor.random($1.shape.dimensions, seed: 130 + UInt64($0)) }
    var dwhole = ReferenceTensor(whole.shape)
    for (index, seed) in seeds.enumerated() {
      let prefix = Reference.concatenate(Array(parts[...index]))
      let ones = ReferenceTensor([prefix.channels], repeating: 1)
      let value = Reference.batchNorm(
        prefix, gamma: ones, beta: ReferenceTensor([prefix.channels]), epsilon: Double(Self.epsilon))
      expectClose(
        try outputs[index].floats(), value, within: tolerance(terms: 18, depth: depth), "prefix \(index)",
        sourceLocation: #_sourceLocation)
      let gradient = Reference.batchNormGradient(prefix, gamma: ones, epsilon: Double(Self.epsilon), gradient: seed).x
      for pixel in 0..<18 {
        for channel in 0..<prefix.channels {
          dwhole.values[pixel * 9 + channel] += gradient.values[pixel * prefix.channels + channel]
        }
      }
    }
    let weights = seeds.map(\.onDevice)
    let loss = Tape.$current.withValue(tape) {
      zip(outputs, weights).map { $0.multiplied(by: $1).sum() }.reduce(Tensor.zeros([], on: device)) { $0 + $1 }
    }
    let gradients = tape.gradients(of: loss)
    let expected = Reference.concatenateGradient(channels: parts.map(\.channels), gradient: dwhole)
    for (index, tensor) in tensors.enumerated() {
      expectClose(
        try gradients[tensor]?.floats() ?? [], expected[index], within: tolerance(terms: 18, depth: depth),
        "slab \(index)", sourceLocation: #_sourceLocation)
    }
  }

  /// A slab that is written again has new statistics; those of another tape are not reused.
  @Test func statisticsAreForgottenWhenTheyNoLongerHold() throws {
    var stack = ChannelStack(shape: [4, 2], on: device)
    let slab = stack.appendSlab(channels: 2)
    _ = Tensor([1, 2, 1, 2, 3, 4, 3, 4] as [Float], shape: [4, 2], on: device).copied(into: slab)
    #expect(try slab.moments().mean.floats() == [2, 3])
    _ = Tensor([1, 1, 1, 1, 1, 1, 1, 1] as [Float], shape: [4, 2], on: device).copied(into: slab)
    #expect(try slab.moments().mean.floats() == [1, 1])
    slab.fill(5)
    #expect(try slab.moments().mean.floats() == [5, 5])

    let x = ReferenceTensor.random([4, 2], seed: 140).onDevice
    _ = x.moments()
    for _ in 0..<2 {
      let (_, gradients) = valueWithGradients(at: [x]) { x.moments().mean.sum() }
      #expect(try gradients[x]?.floats() == [Float](repeating: 0.25, count: 8))
    }
  }

  @Test func movingStatistics() throws {
    for channels in [1, 7, 16] {
      let moving = ReferenceTensor.random([channels], seed: 147)
      let batch = ReferenceTensor.random([channels], seed: 148)
      let memory = GuardedMemory(moving, margins: (0, 0))
      memory.tensor.updateMoving(with: batch.onDevice, momentum: 0.99)
      expectClose(
        try memory.tensor.floats(), Reference.movingStatistic(moving, batch: batch, momentum: Double(Float(0.99))),
        within: tolerance(terms: 2), "\(channels) channels", sourceLocation: #_sourceLocation)
      #expect(try memory.neighboursAreUntouched())
    }
  }

  /// A tensor whose channels are not those of its storage.
  @Test func momentsOfAReshapedTensor() throws {
    let x = ReferenceTensor.random([6, 4], seed: 141)
    let seed = ReferenceTensor.random([3], seed: 142)
    let reshaped = x.reshaped([8, 3])
    try OperationsTests.check(
      "reshaped", inputs: [.whole(x)], seed: seed,
      expected: Expectation(
        value: Reference.moments(reshaped).variance, terms: 8,
        gradients: [
          (Reference.momentsGradient(reshaped, mean: ReferenceTensor([3]), variance: seed).reshaped([6, 4]), 8)
        ], depth: depth)
    ) { $0[0].reshaped([8, 3]).moments().variance.scaled(by: 1) }
  }

  /// Two normalisations of one tensor behind different activations do not mix their statistics up.
  @Test func statisticsBehindDifferentActivations() throws {
    let x = ReferenceTensor.random([6, 3], seed: 143)
    let slope = Double(Float(0.2))
    let leaky = Reference.leakyRelu(x, slope: slope)
    let seeds = (0..<2).map { ReferenceTensor.random([3], seed: 144 + UInt64($0)) }
    let zero = ReferenceTensor([3])
    let dx = Reference.add(
      Reference.momentsGradient(x, mean: seeds[0], variance: zero),
      Reference.leakyReluGradient(
        x, slope: slope, gradient: Reference.momentsGradient(leaky, mean: seeds[1], variance: zero)))
    try OperationsTests.check(
      "plain and leaky", inputs: [.viewable(x)], seed: ReferenceTensor([6], seeds[0].values + seeds[1].values),
      expected: Expectation(
        value: ReferenceTensor([6], Reference.moments(x).mean.values + Reference.moments(leaky).mean.values), terms: 6,
        gradients: [(dx, 12)], depth: depth)
    ) { tensors in
      let plain = tensors[0].moments().mean
      return concatenate([plain, tensors[0].leakyReLU(slope: 0.2).moments().mean])
    }
  }
}
