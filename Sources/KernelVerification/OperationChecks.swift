import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// The checks of everything but convolutions, with tensors of `float32` and, where it is another, of `dtype`.
package func operationChecks(_ thoroughness: Thoroughness, _ dtype: DType = .float32) -> [KernelCheck] {
  // A step of 16-bit tensors ends in float32, and its sums are float32 throughout.
  if dtype != .float32 { return operationChecks(thoroughness) + storedTensorChecks(thoroughness, dtype) }
  return storedTensorChecks(thoroughness, dtype) + lossChecks
    + OptimizerCheck.all.map { check in
      KernelCheck("optimizer", check.name) { try check.run(on: $0, count: 65) }
    }
}

/// The checks of operations on tensors that may be of 16 bits.
package func storedTensorChecks(_ thoroughness: Thoroughness, _ dtype: DType) -> [KernelCheck] {
  // Channels for each vector width: 16 and 4 on a CPU, 4 elsewhere, and single ones.
  let widths = thoroughness == .thorough ? [1, 2, 3, 4, 7, 12, 16, 31, 33, 64, 65] : [3, 4, 16]
  return normalizationChecks(widths, dtype) + prologueChecks(widths, dtype) + poolingChecks(widths, dtype)
    + resizeChecks(widths, thoroughness, dtype) + blurChecks(widths, dtype) + reductionChecks(widths, dtype)
    + elementwiseChecks(widths, dtype)
}

/// Statistics are sums applied to each other, two deep, three with their gradient; see `tolerance`.
private let statisticsDepth = 3

private func normalizationChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  let group = "normalization"
  let epsilon: Float = 1.001e-5
  var checks: [KernelCheck] = []
  // Few chunks of rows, and many, which work-items of a GPU add up together.
  for (height, channels) in widths.flatMap({ [(11, $0), (17, $0)] }) {
    let shape = [3, height, 13, channels]
    let rows = 3 * height * 13
    let x = ReferenceTensor.random(shape, seed: 97, range: -1...3).rounded(to: dtype)
    for slope in [nil, Float(0.2)] {
      let exact = slope.map(Double.init) ?? 1
      let read = Reference.leakyRelu(x, slope: exact)
      let moments = Reference.moments(read)
      let mean = ReferenceTensor.random([channels], seed: 92)
      let variance = ReferenceTensor.random([channels], seed: 93)
      let dx = Reference.leakyReluGradient(
        x, slope: exact, gradient: Reference.momentsGradient(read, mean: mean, variance: variance))
      checks.append(
        KernelCheck(
          group,
          OperationCheck(
            "moments of \(shape)\(slope == nil ? "" : " behind a leaky ReLU")", inputs: [.viewable(x, dtype)],
            seed: ReferenceTensor([2 * channels], mean.values + variance.values),
            expected: .init(
              value: ReferenceTensor([2 * channels], moments.mean.values + moments.variance.values), terms: rows,
              gradients: [(dx, rows)], depth: statisticsDepth)
          ) { inputs in
            let moments = slope.map { inputs[0].leakyReLU(slope: $0).moments() } ?? inputs[0].moments()
            return concatenate([moments.mean, moments.variance])
          }))
    }
    let gamma = ReferenceTensor.random([channels], seed: 98)
    let beta = ReferenceTensor.random([channels], seed: 99)
    let dy = ReferenceTensor.random(shape, seed: 100).rounded(to: dtype)
    let gradient = Reference.batchNormGradient(x, gamma: gamma, epsilon: Double(epsilon), gradient: dy)
    checks.append(
      KernelCheck(
        group,
        OperationCheck(
          "batch normalisation of \(shape)", inputs: [.viewable(x, dtype), .viewable(gamma), .viewable(beta)], seed: dy,
          expected: .init(
            value: Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: Double(epsilon)), terms: rows,
            gradients: [(gradient.x, rows), (gradient.gamma, rows), (gradient.beta, rows)], depth: statisticsDepth,
            // Once from the affine step, once with what comes through the statistics.
            roundings: [0: 2])
        ) { $0[0].batchNormalized(gamma: $0[1], beta: $0[2], epsilon: epsilon).copied() }))
    // Both readers' gradients add up in the affine's.
    checks.append(
      KernelCheck(
        group,
        OperationCheck(
          "batch normalisation of \(shape), read twice",
          inputs: [.viewable(x, dtype), .viewable(gamma), .viewable(beta)],
          seed: dy,
          expected: .init(
            value: Reference.scale(Reference.batchNorm(x, gamma: gamma, beta: beta, epsilon: Double(epsilon)), by: 2),
            terms: rows,
            gradients: [gradient.x, gradient.gamma, gradient.beta].map { (Reference.scale($0, by: 2), rows) },
            depth: statisticsDepth,
            // Once from each reader, once with what comes through the statistics.
            roundings: [0: 3])
        ) {
          let y = $0[0].batchNormalized(gamma: $0[1], beta: $0[2], epsilon: epsilon)
          return y.copied().adding(y.copied())
        }))
    let given = (
      mean: ReferenceTensor.random([channels], seed: 101),
      variance: ReferenceTensor.random([channels], seed: 102, range: 0.25...2)
    )
    let inference = Reference.batchNormInferenceGradient(
      x, mean: given.mean, variance: given.variance, gamma: gamma, beta: beta, epsilon: Double(epsilon), gradient: dy)
    checks.append(
      KernelCheck(
        group,
        OperationCheck(
          "normalisation of \(shape) by given statistics",
          inputs: [.viewable(x, dtype)] + [given.mean, given.variance, gamma, beta].map { .viewable($0) }, seed: dy,
          expected: .init(
            value: Reference.batchNormInference(
              x, mean: given.mean, variance: given.variance, gamma: gamma, beta: beta, epsilon: Double(epsilon)),
            terms: 1,
            gradients: [
              (inference.x, 1), (inference.fold.mean, rows), (inference.fold.variance, rows),
              (inference.fold.gamma, rows), (inference.fold.beta, rows),
            ], depth: 2)
        ) {
          $0[0].normalized(
            with: Moments(mean: $0[1], variance: $0[2]), gamma: $0[3], beta: $0[4], epsilon: epsilon
          ).copied()
        }))
    checks.append(
      KernelCheck(group, "batch normalisation of \(shape), moving statistics") { device in
        let moments = Reference.moments(x)
        let moving = [ReferenceTensor.random([channels], seed: 147), .random([channels], seed: 148)]
        let memory = moving.map { GuardedMemory($0, margins: (0, 0), on: device) }
        _ = x.tensor(on: device, dtype: dtype).batchNormalized(
          gamma: gamma.tensor(on: device), beta: beta.tensor(on: device), epsilon: epsilon,
          updating: MovingMoments(mean: memory[0].tensor, variance: memory[1].tensor, momentum: 0.75))
        return try zip(memory, zip(moving, [moments.mean, moments.variance])).flatMap { memory, statistic in
          [
            // 0.75 of a value as it is and 0.25 of a sum, of the same size or smaller.
            try Comparison(
              "moving statistics", memory.tensor,
              Reference.movingStatistic(statistic.0, batch: statistic.1, momentum: 0.75),
              within: tolerance(terms: rows, depth: statisticsDepth)),
            Comparison("memory beside moving statistics", holds: try memory.neighboursAreUntouched()),
          ]
        }
      })
    checks.append(
      KernelCheck(group, "moving statistics of \(channels) channels") { device in
        let moving = ReferenceTensor.random([channels], seed: 147)
        let batch = ReferenceTensor.random([channels], seed: 148)
        let memory = GuardedMemory(moving, margins: (0, 0), on: device)
        memory.tensor.updateMoving(with: batch.tensor(on: device), momentum: 0.99)
        return [
          try Comparison(
            "moving statistics", memory.tensor,
            Reference.movingStatistic(moving, batch: batch, momentum: Double(Float(0.99))), within: tolerance(terms: 2)),
          Comparison("memory beside moving statistics", holds: try memory.neighboursAreUntouched()),
        ]
      })
  }
  return checks
}

private func prologueChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  widths.flatMap { channels in
    PrologueStructure.allCases.map { structure in
      let x = ReferenceTensor.random([2, 5, 7, channels], seed: 21).rounded(to: dtype)
      let affine = structure.affineRows(channels: channels, seed: 22)
      let dy = ReferenceTensor.random(x.shape, seed: 23).rounded(to: dtype)
      let gradient = structure.gradients(x, affine: affine, gradient: dy)
      return KernelCheck(
        "pending steps",
        OperationCheck(
          "\(structure) of \(x.shape)", inputs: [.viewable(x, dtype)] + (affine.map { [.whole($0)] } ?? []), seed: dy,
          expected: .init(
            value: structure.value(x, affine: affine), terms: 1,
            gradients: [(gradient.x, 1)] + (affine == nil ? [] : [(gradient.affine, x.count / channels)]))
        ) { structure.apply(to: $0[0], affine: affine == nil ? nil : $0[1]).copied() })
    }
  }
}

private func poolingChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  func check(
    _ name: String, _ x: ReferenceTensor, _ structure: PrologueStructure, terms: Int,
    value: (ReferenceTensor) -> ReferenceTensor,
    gradient: (_ read: ReferenceTensor, _ dy: ReferenceTensor) -> ReferenceTensor,
    body: @escaping (DeferredTensor) -> Tensor
  ) -> KernelCheck {
    let affine = structure.affineRows(channels: x.channels, seed: 82)
    let read = structure.value(x, affine: affine)
    let y = value(read)
    let dy = ReferenceTensor.random(y.shape, seed: 83).rounded(to: dtype)
    let outer = structure.gradients(x, affine: affine, gradient: gradient(read, dy))
    return KernelCheck(
      "pooling",
      OperationCheck(
        "\(name) of \(x.shape), \(structure)", inputs: [.viewable(x, dtype)] + (affine.map { [.whole($0)] } ?? []),
        seed: dy,
        expected: .init(
          value: y, terms: terms,
          gradients: [(outer.x, terms)] + (affine == nil ? [] : [(outer.affine, x.count / x.channels)]),
          // The gradient before the pending steps is in memory for a moment; for sums of it twice, as in `tolerance`.
          roundings: affine == nil ? [:] : [0: 2, 1: 2])
      ) { body(structure.apply(to: $0[0], affine: affine == nil ? nil : $0[1])) })
  }
  return widths.flatMap { channels in
    [PrologueStructure.none, .affinePost].flatMap { structure in
      let x = ReferenceTensor.random([2, 9, 7, channels], seed: 81, range: -2...2).rounded(to: dtype)
      let (three, two) = (Size2D(3), Size2D(2))
      let padding = ReferenceOperations.Padding(1)
      return [
        check("3×3 maximum", x, structure, terms: 1) {
          Reference.maxPool($0, window: three, strides: two, padding: padding, paddingValue: 0)
        } gradient: {
          Reference.maxPoolGradient(
            $0, gradient: $1, window: three, strides: two, padding: padding, paddingValue: 0)
        } body: {
          $0.maxPool(
            window: (3, 3), strides: (2, 2), padding: .explicit(top: 1, bottom: 1, left: 1, right: 1),
            paddedWith: .zero)
        },
        check("2×2 average", x, structure, terms: 4) {
          Reference.averagePool($0, window: two, strides: two)
        } gradient: {
          Reference.averagePoolGradient(inputShape: $0.shape, gradient: $1, window: two, strides: two)
        } body: {
          $0.averagePool(window: (2, 2), strides: (2, 2))
        },
        check("global average", x, structure, terms: 63) {
          Reference.globalAveragePool($0)
        } gradient: {
          Reference.globalAveragePoolGradient(inputShape: $0.shape, gradient: $1)
        } body: {
          $0.globalAveragePool()
        },
      ]
    }
  }
}

private func resizeChecks(_ widths: [Int], _ thoroughness: Thoroughness, _ dtype: DType) -> [KernelCheck] {
  let sizes = [((9, 14), (5, 7)), ((13, 7), (6, 11))]
  let methods: [ResizeMethod] = thoroughness == .short ? [.bilinear] : ResizeMethod.allCases
  return methods.flatMap { method in
    widths.flatMap { channels in
      // Read through what stands in front of a resize in the learned resizer, and plain as in front of it.
      zip(sizes, [PrologueStructure.none, .preAffine]).map { size, structure in
        let (from, to) = size
        let x = ReferenceTensor.random([2, from.0, from.1, channels], seed: 151).rounded(to: dtype)
        let affine = structure.affineRows(channels: channels, seed: 154)
        let target = Size2D(to.0, to.1)
        let y = Reference.resize(structure.value(x, affine: affine), to: target, method: method)
        let dy = ReferenceTensor.random(y.shape, seed: 155).rounded(to: dtype)
        let inner = Reference.resizeGradient(inputSize: Size2D(from.0, from.1), gradient: dy, method: method)
        let outer = structure.gradients(x, affine: affine, gradient: inner)
        return KernelCheck(
          "resize",
          OperationCheck(
            "\(method) \(from) → \(to), \(channels) channels, \(structure)",
            inputs: [.viewable(x, dtype)] + (affine.map { [.whole($0)] } ?? []), seed: dy,
            expected: .init(
              value: y, terms: from.0 * from.1,
              gradients: [(outer.x, to.0 * to.1)] + (affine == nil ? [] : [(outer.affine, x.count / channels)]))
          ) {
            structure.apply(to: $0[0], affine: affine == nil ? nil : $0[1])
              .resized(height: to.0, width: to.1, interpolation: Interpolation(method))
          })
      }
    }
  }
}

private func blurChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  widths.map { channels in
    let weights = gaussianWeights(radius: 2, deviation: 1)
    let x = ReferenceTensor.random([2, 7, 9, channels], seed: 61).rounded(to: dtype)
    let dy = ReferenceTensor.random(x.shape, seed: 62).rounded(to: dtype)
    let terms = weights.count * weights.count
    return KernelCheck(
      "resize",
      OperationCheck(
        "Gaussian blur of \(x.shape)", inputs: [.viewable(x, dtype)], seed: dy,
        expected: .init(
          value: Reference.blur(x, weights: weights), terms: terms,
          gradients: [(Reference.blurGradient(weights: weights, gradient: dy), terms)], depth: 2)
      ) { $0[0].blurred(weights: weights) })
  }
}

extension Interpolation {
  fileprivate init(_ method: ResizeMethod) {
    switch method {
    case .nearest: self = .nearest
    case .bilinear: self = .bilinear
    case .bicubic: self = .bicubic
    case .lanczos3: self = .lanczos3
    case .lanczos5: self = .lanczos5
    }
  }
}

/// exp errs by up to 3 units in the last place in OpenCL and the argument's rounding counts in full: |x| ≤ 4 gives 4u
/// more; together below the four roundings and the factor of `tolerance` with `depth` 2.
private var lossChecks: [KernelCheck] {
  [[2, 2], [5, 65], [64, 3]].flatMap { shape in
    let x = ReferenceTensor.random(shape, seed: 71, range: -4...4)
    let dy = ReferenceTensor.random(shape, seed: 72)
    let labels = ReferenceTensor.oneHot((0..<shape[0]).map { ($0 * 5 + 1) % shape[1] }, count: shape[1])
    let smoothing: Float = 0.1
    let exact = Double(smoothing)
    let correct = (0..<shape[0]).count { row in
      let logits = x.values[row * shape[1]..<(row + 1) * shape[1]]
      return logits.firstIndex(of: logits.max() ?? 0) == row * shape[1] + (row * 5 + 1) % shape[1]
    }
    return [
      KernelCheck(
        "softmax and loss",
        OperationCheck(
          "softmax of \(shape)", inputs: [.viewable(x)], seed: dy,
          expected: .init(
            value: Reference.softmax(x), terms: x.channels,
            gradients: [(Reference.softmaxGradient(x, gradient: dy), x.channels)], depth: 2)
        ) { $0[0].softmax() }),
      KernelCheck(
        "softmax and loss",
        OperationCheck(
          "cross-entropy of \(shape)", inputs: [.viewable(x)], seed: ReferenceTensor(scalar: 3),
          expected: .init(
            value: ReferenceTensor(
              scalar: Reference.softmaxCrossEntropy(logits: x, labels: labels, labelSmoothing: exact)),
            terms: x.count,
            gradients: [
              (
                Reference.softmaxCrossEntropyGradient(logits: x, labels: labels, labelSmoothing: exact, gradient: 3),
                x.channels
              )
            ], depth: 2)
        ) { $0[0].softmaxCrossEntropy(targets: labels.tensor(on: $0[0].device), labelSmoothing: smoothing).loss }),
      KernelCheck("softmax and loss", "right answers of \(shape)") { device in
        let hits = x.tensor(on: device).softmaxCrossEntropy(targets: labels.tensor(on: device)).correct
        return [try Comparison("number of right answers", hits, ReferenceTensor(scalar: Double(correct)), within: 0)]
      },
    ]
  }
}

private func reductionChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  widths.flatMap { [(150, $0), (601, $0)] }.flatMap { (rows, channels) in
    let shape = [rows, channels]
    let x = ReferenceTensor.random(shape, seed: 61, range: -0.5...1).rounded(to: dtype)
    let target = ReferenceTensor.random(shape, seed: 65).rounded(to: dtype)
    let seed = ReferenceTensor(scalar: 1.5)
    let rowSeed = ReferenceTensor.random([channels], seed: 63)
    return [
      KernelCheck(
        "reductions",
        OperationCheck(
          "sum of \(shape)", inputs: [.viewable(x, dtype)], seed: seed,
          expected: .init(
            value: Reference.sum(x), terms: x.count,
            gradients: [(Reference.sumGradient(inputShape: shape, gradient: seed), 1)])
        ) { $0[0].sum() }),
      KernelCheck(
        "reductions",
        OperationCheck(
          "sum over rows of \(shape)", inputs: [.viewable(x, dtype)], seed: rowSeed,
          expected: .init(
            value: Reference.channelSum(x), terms: rows,
            gradients: [(ReferenceTensor(shape, (0..<x.count).map { rowSeed.values[$0 % channels] }), 1)])
        ) { $0[0].sumOverRows() }),
      KernelCheck(
        "reductions",
        OperationCheck(
          "mean squared error of \(shape)", inputs: [.viewable(x, dtype), .viewable(target, dtype)], seed: seed,
          expected: .init(
            value: ReferenceTensor(scalar: Reference.meanSquaredError(x, target: target)), terms: x.count,
            gradients: [(Reference.meanSquaredErrorGradient(x, target: target, gradient: 1.5), 1), nil])
        ) { $0[0].meanSquaredError(to: $0[1]) }),
    ]
  }
}

private func elementwiseChecks(_ widths: [Int], _ dtype: DType) -> [KernelCheck] {
  let group = "elementwise"
  var checks: [KernelCheck] = []
  for channels in widths {
    let shape = [3, 5, 7, channels]
    let a = ReferenceTensor.random(shape, seed: 48).rounded(to: dtype)
    let b = ReferenceTensor.random(shape, seed: 49).rounded(to: dtype)
    let dy = ReferenceTensor.random(shape, seed: 50).rounded(to: dtype)
    let joined = ReferenceTensor.random(shape.dropLast() + [2 * channels], seed: 51).rounded(to: dtype)
    checks += [
      KernelCheck(
        group,
        OperationCheck(
          "product of \(shape)", inputs: [.viewable(a, dtype), .viewable(b, dtype)], seed: dy,
          expected: .init(
            value: a.zip(b, *), terms: 1, gradients: [(dy.zip(b, *), 1), (dy.zip(a, *), 1)])
        ) { $0[0] * $0[1] }),
      KernelCheck(
        group,
        OperationCheck(
          "difference of \(shape)", inputs: [.viewable(a, dtype), .viewable(b, dtype)], seed: dy,
          expected: .init(
            value: a.zip(b, -), terms: 2, gradients: [(dy, 1), (Reference.scale(dy, by: -1), 1)])
        ) { $0[0] - $0[1] }),
      KernelCheck(
        group,
        OperationCheck(
          "channels of \(shape) joined", inputs: [.viewable(a, dtype), .viewable(b, dtype)], seed: joined,
          expected: .init(
            value: Reference.concatenate([a, b]), terms: 1,
            gradients: Reference.concatenateGradient(channels: [channels, channels], gradient: joined).map { ($0, 1) })
        ) { concatenate([$0[0], $0[1]]) }),
      // OpenCL allows tanh an error of 5 ulp, 10 · 2⁻²⁴ in relation; for inputs of −1…1 that is up to 28 · 2⁻²⁴ of
      // 1 − tanh². A depth of 4 allows 37 · 2⁻²⁴.
      KernelCheck(
        group,
        OperationCheck(
          "tanh of \(shape)", inputs: [.viewable(a, dtype)], seed: dy,
          expected: .init(
            value: Reference.tanh(a), terms: 1, gradients: [(Reference.tanhGradient(a, gradient: dy), 1)], depth: 4,
            // The gradient is made of the rounded y: it errs by 2 y² / (1 − y²) u, which is 2.8 u where |y| ≤ 0.77.
            roundings: [0: 4])
        ) { $0[0].tanh() }),
      KernelCheck(group, "bytes of \(shape)") { device in
        let values = (0..<a.count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 250) }
        let y = Tensor(values, shape: Shape(shape), on: device).scaled(by: 1 / 255, as: dtype)
        // One product: half a unit in the last place, plus the factor's own rounding.
        return [
          try Comparison(
            "bytes", y, ReferenceTensor(shape, values.map { Double($0) / 255 }),
            within: 2 * 0x1p-24 + dtype.storageRoundoff)
        ]
      },
      KernelCheck(group, "fill of \(shape)") { device in
        let memory = GuardedMemory(Shape(shape), margins: (1, 2), on: device, dtype: dtype)
        memory.tensor.fill(1)
        return [
          try Comparison("filled", memory.tensor, ReferenceTensor(shape, repeating: 1), within: 0),
          Comparison("memory beside what was filled", holds: try memory.neighboursAreUntouched()),
        ]
      },
    ]
    if dtype != .float32 {
      // To float32 and back loses nothing, and the gradient goes the same way.
      checks.append(
        KernelCheck(
          group,
          OperationCheck(
            "cast of \(shape)", inputs: [.viewable(a, dtype)], seed: dy,
            expected: .init(value: a, terms: 1, gradients: [(dy, 1)])
          ) { $0[0].cast(to: .float32).cast(to: dtype) }))
    }
  }
  return checks
}
