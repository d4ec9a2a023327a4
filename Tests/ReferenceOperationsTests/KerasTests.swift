import ReferenceOperations
import Testing

/// The reference against what TensorFlow and Keras compute in float32: see Scripts/reference_tables.py. A few rounding
/// steps of 6e-8 leave errors near 1e-7 and, after a normalisation, 1e-6.
@Suite struct KerasTests {
  /// The inputs that the script uses.
  private func pattern(_ shape: [Int], _ offset: Int = 11) -> ReferenceTensor {
    ReferenceTensor(
      shape, values: (0..<shape.reduce(1, *)).map { Float(Double(($0 * 37 + offset) % 101) / 50 - 1) })
  }

  private func compare(
    _ name: String, _ ours: ReferenceTensor, tolerance: Double = 2e-6,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let expected = try #require(kerasTables[name], "\(name)", sourceLocation: sourceLocation)
    let error = relativeL2(ours.values, to: ReferenceTensor(ours.shape, expected))
    #expect(error < tolerance, "\(name): \(error)", sourceLocation: sourceLocation)
  }

  @Test(arguments: ResizeMethod.allCases, [false, true]) func resize(_ method: ResizeMethod, _ antialias: Bool) throws {
    for (height, width, size) in [
      (7, 10, Size2D(3, 4)), (5, 4, Size2D(7, 9)), (6, 8, Size2D(3, 4)), (9, 3, Size2D(4, 7)),
    ] {
      let y = Reference.resize(pattern([1, height, width, 2]), to: size, method: method, antialias: antialias)
      // TensorFlow's bicubic without antialias reads a table of 1,024 entries: 2–4e-4 off the exact kernel.
      let tabled = method == .bicubic && !antialias
      try compare(
        "resize.\(height)x\(width).\(size.height)x\(size.width).\(method).\(antialias)", y,
        tolerance: tabled ? 1e-3 : 1e-5)
    }
  }

  @Test func convolution() throws {
    for (name, image, kernel, strides, same) in [
      ("same2", [2, 5, 6, 2], [3, 3, 2, 3], Size2D(2, 2), true),
      ("same1", [1, 4, 5, 3], [4, 2, 3, 2], Size2D(1, 1), true),
      ("valid", [1, 7, 6, 2], [3, 2, 2, 2], Size2D(2, 1), false),
    ] {
      let (x, filter) = (pattern(image), pattern(kernel, 29))
      let padding: Padding =
        same
        ? .same(input: Size2D(image[1], image[2]), window: Size2D(kernel[0], kernel[1]), strides: strides) : .valid
      let y = Reference.conv2d(x, filter: filter, strides: strides, padding: padding)
      let gradients = Reference.conv2dGradient(
        x, filter: filter, gradient: pattern(y.shape, 5), strides: strides, padding: padding)
      try compare("conv2d.\(name)", y)
      try compare("conv2d.\(name).input", gradients.x)
      try compare("conv2d.\(name).filter", gradients.filter)
    }
  }

  @Test func pooling() throws {
    // Quarters cut at zero: many ties, which go to the first maximum.
    let ties = pattern([1, 7, 6, 2]).map { max(($0 * 4).rounded(.toNearestOrEven) / 4, 0) }
    let (window, strides) = (Size2D(3), Size2D(2))
    let same = Padding.same(input: Size2D(7, 6), window: window, strides: strides)
    for (name, padding, value) in [("zero", Padding(1), 0), ("same", same, -Double.infinity)] {
      let y = Reference.maxPool(ties, window: window, strides: strides, padding: padding, paddingValue: value)
      try compare("maxPool.\(name)", y)
      try compare(
        "maxPool.\(name).input",
        Reference.maxPoolGradient(
          ties, gradient: pattern(y.shape, 5), window: window, strides: strides, padding: padding, paddingValue: value))
    }
    let x = pattern([1, 7, 5, 2])
    let y = Reference.averagePool(x, window: Size2D(2), strides: Size2D(2))
    try compare("averagePool", y)
    try compare(
      "averagePool.input",
      Reference.averagePoolGradient(
        inputShape: x.shape, gradient: pattern(y.shape, 5), window: Size2D(2), strides: Size2D(2)))
  }

  @Test func batchNormalization() throws {
    let (x, gamma, beta) = (pattern([2, 3, 4, 3]), pattern([3], 70), pattern([3], 20))
    try compare("batchNorm", Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: 1e-3))
    let gradients = Reference.batchNormGradient(x, gamma: gamma, epsilon: 1e-3, gradient: pattern(x.shape, 5))
    try compare("batchNorm.input", gradients.x, tolerance: 1e-5)
    try compare("batchNorm.gamma", gradients.gamma, tolerance: 1e-5)
    try compare("batchNorm.beta", gradients.beta, tolerance: 1e-5)
    let (mean, variance) = Reference.moments(x)
    let movingMean = Reference.movingStatistic(ReferenceTensor([3]), batch: mean, momentum: 0.9)
    let movingVariance = Reference.movingStatistic(ReferenceTensor([3], repeating: 1), batch: variance, momentum: 0.9)
    // Means near 0 keep few digits in float32.
    try compare("batchNorm.movingMean", movingMean, tolerance: 1e-4)
    try compare("batchNorm.movingVariance", movingVariance)
    try compare(
      "batchNorm.inference",
      Reference.batchNormInference(
        x, mean: movingMean, variance: movingVariance, gamma: gamma, beta: beta, epsilon: 1e-3))
  }

  /// The largest distance of a logit from its row's maximum is below 10: rounding it is 5e-7, which the exponential makes
  /// a relative error. With a few roundings more that stays below 2e-6.
  @Test func losses() throws {
    let logits = pattern([3, 4]).map { Double(Float($0 * 5)) }
    let labels = ReferenceTensor.oneHot([2, 0, 3], count: 4)
    try compare("softmax", Reference.softmax(logits))
    try compare(
      "crossEntropy",
      ReferenceTensor(scalar: Reference.softmaxCrossEntropy(logits: logits, labels: labels, labelSmoothing: 0.1)))
    try compare(
      "crossEntropy.logits",
      Reference.softmaxCrossEntropyGradient(logits: logits, labels: labels, labelSmoothing: 0.1))
    try compare("meanSquaredError", ReferenceTensor(scalar: Reference.meanSquaredError(labels, target: logits)))
  }

  @Test func clipping() throws {
    let clipped = Reference.clipByGlobalNorm([pattern([4], 5), pattern([3], 9)], maximum: 0.5).gradients
    try compare("clip", ReferenceTensor([7], clipped.flatMap(\.values)))
  }

  /// Five steps of rate 0.1, the gradient of step t being pattern([4], 5 + t).
  @Test func optimizers() throws {
    typealias Step = (inout ReferenceTensor, inout ReferenceTensor, inout ReferenceTensor, ReferenceTensor, Int) -> Void
    func run(_ name: String, tolerance: Double, _ step: Step) throws {
      var (weight, first, second) = (pattern([4]), ReferenceTensor([4]), ReferenceTensor([4]))
      for t in 0..<5 { step(&weight, &first, &second, pattern([4], 5 + t), t + 1) }
      try compare("optimizer.\(name)", weight, tolerance: tolerance)
    }
    for (name, momentum, nesterov, decay) in [
      ("sgd", 0.0, false, 0.0), ("sgd.decay", 0, false, 0.05), ("sgd.momentum", 0.9, false, 0),
      ("sgd.nesterov", 0.9, true, 0.05),
    ] {
      try run(name, tolerance: 2e-6) { weight, velocity, _, gradient, _ in
        Reference.sgd(
          &weight, velocity: &velocity, gradient: gradient, learningRate: 0.1, momentum: momentum, nesterov: nesterov,
          weightDecay: decay)
      }
    }
    // Keras computes 1 − 0.999ᵗ in float32: 0.999 is off by 1.3e-8, so the difference by 1.3e-5 of itself, and rounding
    // the power adds 3e-5 / t. Half of that after the root, of steps of at most 0.1 each: 7e-6 an element in all, or
    // 1.4e-5 over four elements. The final weights' norms are above 0.5, so the relative distance is below 3e-5.
    for (name, decay) in [("adam", 0.0), ("adamW", 0.05)] {
      try run(name, tolerance: 3e-5) { weight, first, second, gradient, step in
        Reference.adam(
          &weight, first: &first, second: &second, gradient: gradient, step: step, learningRate: 0.1,
          weightDecay: decay)
      }
    }
  }
}
