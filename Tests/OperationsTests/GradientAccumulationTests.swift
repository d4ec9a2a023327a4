import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct GradientAccumulationTests {
    /// Every operation on one tensor at once: each adds to what the ones before it left.
    @Test func oneTensorReadByEverything() throws {
      let x = ReferenceTensor.random([2, 4, 4, 3], seed: 201)
      let filter = ReferenceTensor.random([3, 3, 3, 2], seed: 202)
      let target = ReferenceTensor.random([2, 4, 4, 3], seed: 203)
      let padding = ReferenceOperations.Padding(1)
      let size = Size2D(2)
      let strided = ReferenceOperations.Padding.same(input: Size2D(4), window: Size2D(3), strides: size)
      func ones(_ x: ReferenceTensor) -> ReferenceTensor { ReferenceTensor(x.shape, repeating: 1) }
      let conv = ones(Reference.conv2d(x, filter: filter, padding: padding))
      let stridedConv = ones(Reference.conv2d(x, filter: filter, strides: size, padding: strided))
      let pooled = ones(Reference.maxPool(x, window: size, strides: size))
      let resized = ones(Reference.resize(x, to: Size2D(3, 5), method: .bilinear))
      let softmaxSeed = target
      let parts: [ReferenceTensor] = [
        Reference.conv2dGradient(x, filter: filter, gradient: conv, padding: padding).x,
        Reference.conv2dGradient(x, filter: filter, gradient: stridedConv, strides: size, padding: strided).x,
        Reference.maxPoolGradient(x, gradient: pooled, window: size, strides: size),
        Reference.averagePoolGradient(inputShape: x.shape, gradient: pooled, window: size, strides: size),
        Reference.resizeGradient(inputSize: Size2D(4), gradient: resized, method: .bilinear),
        Reference.reluGradient(x, gradient: ones(x)),
        Reference.scale(ones(x), by: 3),
        Reference.scale(x, by: 2),
        Reference.softmaxGradient(x, gradient: softmaxSeed),
        Reference.meanSquaredErrorGradient(x, target: target),
        Reference.scale(ones(x), by: 1 / Double(x.count)),
      ]
      let expected = parts.dropFirst().reduce(parts[0], Reference.add)

      let tensor = x.onDevice
      let (weights, goal) = (filter.onDevice, target.onDevice)
      let terms: [() -> Tensor] = [
        { tensor.conv2d(filter: weights).sum() },
        { tensor.conv2d(filter: weights, strides: (2, 2)).sum() },
        { tensor.maxPool(window: (2, 2), strides: (2, 2)).sum() },
        { tensor.averagePool(window: (2, 2), strides: (2, 2)).sum() },
        { tensor.resized(height: 3, width: 5).sum() },
        { tensor.relu().materialized().sum() },
        { tensor.scaled(by: 3).sum() },
        { (tensor * tensor).sum() },
        { (tensor.softmax() * goal).sum() },
        { tensor.meanSquaredError(to: goal) },
        { tensor.mean() },
      ]
      // Each operation once the first to write and once the last, in forward and in reverse order.
      for order in [Array(terms.indices), Array(terms.indices.reversed())] {
        poisonFreeMemory()
        let (_, gradients) = valueWithGradients(at: [tensor]) {
          let values = order.map { terms[$0]() }
          return values.dropFirst().reduce(values[0]) { $0 + $1 }
        }
        expectClose(
          try gradients[tensor]?.floats() ?? [], expected, within: tolerance(terms: 100), "first \(order[0])",
          sourceLocation: #_sourceLocation)
      }
    }

    /// Two passes give the same bits: the first contribution overwrites what the pass before left in the arena.
    @Test func backwardTwiceOverwrites() throws {
      let x = ReferenceTensor.random([2, 5, 4, 7], seed: 211).onDevice
      let filter = ReferenceTensor.random([3, 3, 7, 7], seed: 212).onDevice
      let gamma = ReferenceTensor.random([7], seed: 213).onDevice
      let beta = ReferenceTensor.random([7], seed: 214).onDevice
      let parameters = [filter, gamma, beta]
      let homes = parameters.map { GuardedMemory($0.shape) }
      for (parameter, home) in zip(parameters, homes) {
        parameter.storage.requiresGradient = true
        parameter.storage.gradientHome = home.storage
      }
      var passes: [[[Float]]] = []
      for _ in 0..<2 {
        // Every parameter is used twice.
        let (_, gradients) = valueWithGradients {
          var y = x
          for _ in 0..<2 {
            y = y.batchNormalized(gamma: gamma, beta: beta, epsilon: 1e-3).relu().conv2d(filter: filter)
          }
          return (y * y).sum()
        }
        passes.append(try parameters.map { try gradients[$0]?.floats() ?? [] })
        for (home, values) in zip(homes, passes[passes.count - 1]) {
          #expect(try home.tensor.floats() == values)
          #expect(try home.neighboursAreUntouched())
        }
      }
      #expect(passes[0] == passes[1])
      #expect(passes[0].allSatisfy { $0.allSatisfy(\.isFinite) })
    }

    /// Channel views of one tensor that overlap.
    @Test func overlappingViews() throws {
      let x = ReferenceTensor.random([5, 8], seed: 221)
      let tensor = x.onDevice
      poisonFreeMemory()
      let (_, gradients) = valueWithGradients(at: [tensor]) {
        tensor.channels(0..<3).sum() + 10 * tensor.channels(2..<6).sum() + 100 * tensor.channels(5..<7).sum()
      }
      let row: [Float] = [1, 1, 11, 10, 10, 110, 100, 0]
      #expect(try gradients[tensor]?.floats() == (0..<5).flatMap { _ in row })
    }

    @Test func reshapedAndNotReshaped() throws {
      let tensor = ReferenceTensor.random([4, 6], seed: 222).onDevice
      let (_, gradients) = valueWithGradients(at: [tensor]) {
        tensor.reshaped([8, 3]).sum() + 2 * tensor.channels(1..<3).sum() + tensor.reshaped([2, 3, 4]).mean()
      }
      let row: [Float] = [1, 3, 3, 1, 1, 1]
      #expect(try gradients[tensor]?.floats() == (0..<4).flatMap { _ in row.map { $0 + 1 / 24 } })
    }
  }
}
