import ReferenceOperations
import Testing

/// Every gradient against central differences of the function itself: with a step of 1e-5 the differences are right to
/// about 1e-10 · the third derivative plus 1e-11 of rounding, so 1e-7 leaves room and is far below any wrong term.
@Suite struct GradientTests {
  private func check(
    _ name: String, _ input: ReferenceTensor, gradient: ReferenceTensor, step: Double = 1e-5, tolerance: Double = 1e-7,
    sourceLocation: SourceLocation = #_sourceLocation, _ function: (ReferenceTensor) -> ReferenceTensor
  ) {
    let weights = ReferenceTensor.random(function(input).shape, seed: 99)
    func loss(_ x: ReferenceTensor) -> Double { Reference.sum(function(x).zip(weights, *)).values[0] }
    var differences = input
    for index in input.values.indices {
      var (low, high) = (input, input)
      low.values[index] -= step
      high.values[index] += step
      differences.values[index] = (loss(high) - loss(low)) / (2 * step)
    }
    let error = relativeL2(gradient.values, to: differences)
    #expect(error < tolerance, "\(name): \(error)", sourceLocation: sourceLocation)
  }

  /// The weights that `check` gives the function's result: its outer gradient.
  private func outer(_ y: ReferenceTensor) -> ReferenceTensor { .random(y.shape, seed: 99) }

  @Test(arguments: [(1, 1), (2, 1), (2, 3)]) func convolution(_ strides: (Int, Int)) {
    let x = ReferenceTensor.random([2, 5, 6, 2], seed: 1)
    let filter = ReferenceTensor.random([3, 2, 2, 3], seed: 2)
    let bias = ReferenceTensor.random([3], seed: 3)
    let stride = Size2D(strides.0, strides.1)
    let padding = Padding(top: 1, bottom: 2, left: 0, right: 1)
    func run(_ x: ReferenceTensor, _ filter: ReferenceTensor, _ bias: ReferenceTensor) -> ReferenceTensor {
      Reference.conv2d(x, filter: filter, bias: bias, strides: stride, padding: padding)
    }
    let gradients = Reference.conv2dGradient(
      x, filter: filter, gradient: outer(run(x, filter, bias)), strides: stride, padding: padding)
    check("input", x, gradient: gradients.x) { run($0, filter, bias) }
    check("filter", filter, gradient: gradients.filter) { run(x, $0, bias) }
    check("bias", bias, gradient: gradients.bias) { run(x, filter, $0) }
  }

  @Test func dense() {
    let x = ReferenceTensor.random([3, 5], seed: 1)
    let weights = ReferenceTensor.random([5, 2], seed: 2)
    let bias = ReferenceTensor.random([2], seed: 3)
    let gradients = Reference.denseGradient(
      x, weights: weights, gradient: outer(Reference.dense(x, weights: weights, bias: bias)))
    check("input", x, gradient: gradients.x) { Reference.dense($0, weights: weights, bias: bias) }
    check("weights", weights, gradient: gradients.weights) { Reference.dense(x, weights: $0, bias: bias) }
    check("bias", bias, gradient: gradients.bias) { Reference.dense(x, weights: weights, bias: $0) }
  }

  @Test func prologue() {
    let x = ReferenceTensor.random([2, 3, 3, 4], seed: 1)
    let (centre, scale, shift) = (
      ReferenceTensor.random([4], seed: 2), ReferenceTensor.random([4], seed: 3), ReferenceTensor.random([4], seed: 4)
    )
    func run(
      _ x: ReferenceTensor, _ centre: ReferenceTensor, _ scale: ReferenceTensor, _ shift: ReferenceTensor
    ) -> ReferenceTensor {
      Reference.prologue(x, pre: 0.2, centre: centre, scale: scale, shift: shift, post: 0.1)
    }
    let gradients = Reference.prologueGradient(
      x, pre: 0.2, centre: centre, scale: scale, shift: shift, post: 0.1, gradient: outer(x))
    check("x", x, gradient: gradients.x) { run($0, centre, scale, shift) }
    check("centre", centre, gradient: gradients.centre) { run(x, $0, scale, shift) }
    check("scale", scale, gradient: gradients.scale) { run(x, centre, $0, shift) }
    check("shift", shift, gradient: gradients.shift) { run(x, centre, scale, $0) }
  }

  @Test func batchNormalization() {
    let x = ReferenceTensor.random([2, 3, 2, 3], seed: 1)
    let gamma = ReferenceTensor.random([3], seed: 2, range: 0.5...1.5)
    let beta = ReferenceTensor.random([3], seed: 3)
    func run(_ x: ReferenceTensor, _ gamma: ReferenceTensor, _ beta: ReferenceTensor) -> ReferenceTensor {
      Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: 1e-3)
    }
    let closed = Reference.batchNormGradient(x, gamma: gamma, epsilon: 1e-3, gradient: outer(x))
    check("x", x, gradient: closed.x) { run($0, gamma, beta) }
    check("gamma", gamma, gradient: closed.gamma) { run(x, $0, beta) }
    check("beta", beta, gradient: closed.beta) { run(x, gamma, $0) }
    // The way the framework takes: prologue, fold and moments, each with its own gradient.
    let composed = Reference.batchNormGradientComposed(
      x, gamma: gamma, beta: beta, epsilon: 1e-3, gradient: outer(x))
    #expect(relativeL2(composed.x.values, to: closed.x) < 1e-12)
    #expect(relativeL2(composed.gamma.values, to: closed.gamma) < 1e-12)
    #expect(relativeL2(composed.beta.values, to: closed.beta) < 1e-12)
  }

  @Test(arguments: ResizeMethod.allCases, [false, true]) func resize(_ method: ResizeMethod, _ antialias: Bool) {
    for (height, width, size) in [(7, 5, Size2D(3, 4)), (3, 4, Size2D(7, 5)), (1, 6, Size2D(2, 1))] {
      let x = ReferenceTensor.random([1, height, width, 2], seed: 1)
      let y = Reference.resize(x, to: size, method: method, antialias: antialias)
      let gradient = Reference.resizeGradient(
        inputSize: Size2D(height, width), gradient: outer(y), method: method, antialias: antialias)
      check("\(method) \(height)×\(width) → \(size)", x, gradient: gradient) {
        Reference.resize($0, to: size, method: method, antialias: antialias)
      }
    }
  }

  @Test func pooling() {
    let x = ReferenceTensor.random([2, 5, 7, 2], seed: 1)
    let (window, strides, padding) = (Size2D(3, 2), Size2D(2, 2), Padding(1))
    for value in [0, -Double.infinity] {
      func run(_ x: ReferenceTensor) -> ReferenceTensor {
        Reference.maxPool(x, window: window, strides: strides, padding: padding, paddingValue: value)
      }
      let gradient = Reference.maxPoolGradient(
        x, gradient: outer(run(x)), window: window, strides: strides, padding: padding, paddingValue: value)
      check("max, padded with \(value)", x, gradient: gradient, run)
    }
    let y = Reference.averagePool(x, window: window, strides: strides)
    let gradient = Reference.averagePoolGradient(
      inputShape: x.shape, gradient: outer(y), window: window, strides: strides)
    check("average", x, gradient: gradient) { Reference.averagePool($0, window: window, strides: strides) }
    let pooled = Reference.globalAveragePool(x)
    check("global", x, gradient: Reference.globalAveragePoolGradient(inputShape: x.shape, gradient: outer(pooled))) {
      Reference.globalAveragePool($0)
    }
  }

  @Test func losses() {
    let logits = ReferenceTensor.random([4, 3], seed: 1)
    let labels = ReferenceTensor.oneHot([0, 2, 1, 1], count: 3)
    check("softmax", logits, gradient: Reference.softmaxGradient(logits, gradient: outer(logits))) {
      Reference.softmax($0)
    }
    // The loss is a scalar: `check` weights it with the first of its random weights.
    let weight = outer(ReferenceTensor(scalar: 0)).values[0]
    check(
      "cross-entropy", logits,
      gradient: Reference.softmaxCrossEntropyGradient(
        logits: logits, labels: labels, labelSmoothing: 0.1, gradient: weight)
    ) {
      ReferenceTensor(scalar: Reference.softmaxCrossEntropy(logits: $0, labels: labels, labelSmoothing: 0.1))
    }
    let target = ReferenceTensor.random([4, 3], seed: 2)
    check(
      "squared error", logits,
      gradient: Reference.meanSquaredErrorGradient(logits, target: target, gradient: weight)
    ) { ReferenceTensor(scalar: Reference.meanSquaredError($0, target: target)) }
  }

  @Test func pointwise() {
    let (a, b) = (ReferenceTensor.random([2, 3, 5], seed: 1), ReferenceTensor.random([2, 3, 5], seed: 2))
    let sums = Reference.addGradient(gradient: outer(a))
    check("add.a", a, gradient: sums.a) { Reference.add($0, b) }
    check("add.b", b, gradient: sums.b) { Reference.add(a, $0) }
    let scaled = Reference.scaleGradient(a, by: -1.7, gradient: outer(a))
    check("scale.x", a, gradient: scaled.x) { Reference.scale($0, by: -1.7) }
    check("scale.factor", ReferenceTensor(scalar: -1.7), gradient: ReferenceTensor(scalar: scaled.factor)) {
      Reference.scale(a, by: $0.scalar)
    }
    for slope in [0, 0.2, 1] {
      check("leakyRelu \(slope)", a, gradient: Reference.leakyReluGradient(a, slope: slope, gradient: outer(a))) {
        Reference.leakyRelu($0, slope: slope)
      }
    }
    check("relu", a, gradient: Reference.reluGradient(a, gradient: outer(a))) { Reference.relu($0) }
    // At 0 the slope counts, on which differences say nothing.
    let zero = ReferenceTensor(scalar: 0)
    #expect(Reference.leakyReluGradient(zero, slope: 0.2, gradient: ReferenceTensor(scalar: 3)).scalar == 0.2 * 3)
  }

  @Test func concatenation() {
    let parts = [3, 1, 2].enumerated().map { ReferenceTensor.random([2, 3, $1], seed: UInt64($0 + 1)) }
    let y = Reference.concatenate(parts)
    #expect(y.shape == [2, 3, 6])
    #expect(Array(y.values[..<6]) == Array(parts[0].values[..<3] + parts[1].values[..<1] + parts[2].values[..<2]))
    let gradients = Reference.concatenateGradient(channels: [3, 1, 2], gradient: outer(y))
    for index in parts.indices {
      check("part \(index)", parts[index], gradient: gradients[index]) { part in
        var changed = parts
        changed[index] = part
        return Reference.concatenate(changed)
      }
    }
  }

  @Test(arguments: [nil, [], [0], [1], [3], [0, 2], [1, 2], [0, 1, 2, 3]] as [[Int]?])
  func reductions(_ axes: [Int]?) {
    let x = ReferenceTensor.random([2, 3, 5, 3], seed: 1)
    let y = Reference.sum(x, axes: axes)
    #expect(y.shape == x.shape.indices.filter { !(axes ?? Array(x.shape.indices)).contains($0) }.map { x.shape[$0] })
    check("sum", x, gradient: Reference.sumGradient(inputShape: x.shape, gradient: outer(y), axes: axes)) {
      Reference.sum($0, axes: axes)
    }
    check("mean", x, gradient: Reference.meanGradient(inputShape: x.shape, gradient: outer(y), axes: axes)) {
      Reference.mean($0, axes: axes)
    }
  }

  @Test func statisticsAndFold() {
    let x = ReferenceTensor.random([2, 3, 3, 3], seed: 1)
    let mean = ReferenceTensor.random([3], seed: 2)
    let variance = ReferenceTensor.random([3], seed: 3, range: 0.5...1.5)
    let (gamma, beta) = (ReferenceTensor.random([3], seed: 4), ReferenceTensor.random([3], seed: 5))
    let g = outer(mean)
    let zero = ReferenceTensor([3])
    check("mean", x, gradient: Reference.momentsGradient(x, mean: g, variance: zero)) { Reference.moments($0).mean }
    check("variance", x, gradient: Reference.momentsGradient(x, mean: zero, variance: g)) {
      Reference.moments($0).variance
    }
    let folded = Reference.foldGradient(
      variance: variance, gamma: gamma, epsilon: 1e-3, centre: zero, scale: g, shift: zero)
    check("fold.gamma", gamma, gradient: folded.gamma) {
      Reference.fold(mean: mean, variance: variance, gamma: $0, beta: beta, epsilon: 1e-3).scale
    }
    check("fold.variance", variance, gradient: folded.variance) {
      Reference.fold(mean: mean, variance: $0, gamma: gamma, beta: beta, epsilon: 1e-3).scale
    }
    let inference = Reference.batchNormInferenceGradient(
      x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: 1e-3, gradient: outer(x))
    func run(
      _ x: ReferenceTensor, _ mean: ReferenceTensor, _ variance: ReferenceTensor, _ gamma: ReferenceTensor,
      _ beta: ReferenceTensor
    ) -> ReferenceTensor {
      Reference.batchNormInference(x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: 1e-3)
    }
    check("inference.x", x, gradient: inference.x) { run($0, mean, variance, gamma, beta) }
    check("inference.mean", mean, gradient: inference.fold.mean) { run(x, $0, variance, gamma, beta) }
    check("inference.variance", variance, gradient: inference.fold.variance) { run(x, mean, $0, gamma, beta) }
    check("inference.gamma", gamma, gradient: inference.fold.gamma) { run(x, mean, variance, $0, beta) }
    check("inference.beta", beta, gradient: inference.fold.beta) { run(x, mean, variance, gamma, $0) }
  }
}
