import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct ConcatenateTests {
    @Test func againstTheReference() throws {
      for channels in [[1], [3, 4], [16, 32, 16], [7, 1, 65]] {
        let parts = channels.enumerated().map { ReferenceTensor.random([2, 3, 2, $1], seed: 161 + UInt64($0)) }
        let y = Reference.concatenate(parts)
        let dy = ReferenceTensor.random(y.shape, seed: 170)
        try OperationsTests.check(
          "concatenate \(channels)", inputs: parts.map { .viewable($0) }, seed: dy,
          expected: Expectation(
            value: y, terms: 1,
            gradients: Reference.concatenateGradient(channels: channels, gradient: dy).map { ($0, 1) })
        ) { concatenate($0) }
      }
    }

    @Test func ofPendingSteps() throws {
      let a = ReferenceTensor.random([3, 5], seed: 171)
      let b = ReferenceTensor.random([3, 4], seed: 172)
      let dy = ReferenceTensor.random([3, 9], seed: 173)
      let parts = Reference.concatenateGradient(channels: [5, 4], gradient: dy)
      try OperationsTests.check(
        "ReLU beside a tensor", inputs: [.viewable(a), .viewable(b)], seed: dy,
        expected: Expectation(
          value: Reference.concatenate([Reference.relu(a), b]), terms: 1,
          gradients: [(Reference.reluGradient(a, gradient: parts[0]), 1), (parts[1], 1)])
      ) { concatenate([$0[0].relu(), $0[1]]) }
    }

    /// A dense block of two layers, written into a stack and by copies: the same bits, values and gradients.
    @Test func stackIsConcatenation() throws {
      let x = ReferenceTensor.random([2, 5, 3, 7], seed: 174).onDevice
      let filters = [7, 11].enumerated().map {
        ReferenceTensor.random([1, 1, $1, 4], seed: 175 + UInt64($0)).onDevice
      }
      let norms = [7, 11].map { channels in
        (0..<2).map { ReferenceTensor.random([channels], seed: 177 + UInt64(channels + $0)).onDevice }
      }
      let seed = ReferenceTensor.random([2, 5, 3, 15], seed: 199).onDevice
      let watched = [x] + filters + norms.flatMap(\.self)

      func run(_ body: () -> Tensor) throws -> [[Float]] {
        poisonFreeMemory()
        let tape = Tape()
        watched.forEach(tape.watch)
        let y = Tape.$current.withValue(tape, operation: body)
        let gradients = tape.gradients(of: y, seed: seed)
        return try [y.floats()] + watched.map { try gradients[$0]?.floats() ?? [] }
      }
      func layer(_ input: Tensor, _ index: Int, into slab: Tensor?) -> Tensor {
        input.batchNormalized(gamma: norms[index][0], beta: norms[index][1], epsilon: 1e-3).relu()
          .conv2d(filter: filters[index], into: slab)
      }

      let copied = try run {
        let first = concatenate([x, layer(x, 0, into: nil)])
        return concatenate([first, layer(first, 1, into: nil)])
      }
      let stacked = try run {
        var stack = ChannelStack(shape: [2, 5, 3, 15], on: device)
        _ = x.copied(into: stack.appendSlab(channels: 7))
        for index in 0..<2 {
          let prefix = stack.prefix
          _ = layer(prefix, index, into: stack.appendSlab(channels: 4))
        }
        return stack.prefix
      }
      #expect(copied[0] == stacked[0])
      for (index, (a, b)) in zip(copied, stacked).enumerated() {
        // Gradients of x are added in another order.
        expectClose(
          b, ReferenceTensor([a.count], values: a), within: tolerance(terms: 36, depth: 4), "tensor \(index)",
          sourceLocation: #_sourceLocation)
      }
    }

    /// Every kernel family of the forward pass writes its slab and nothing else.
    @Test(arguments: TestDevice.algorithms)
    func convolutionIntoASlab(algorithm: ConvolutionAlgorithm) throws {
      try ConvolutionAlgorithm.$forced.withValue(algorithm) {
        // Programs that the convolution tests use, too.
        for (kernel, inputs, outputs, stride) in [(1, 7, 31, 1), (3, 16, 16, 1), (3, 7, 3, 2), (1, 7, 3, 1)] {
          let x = ReferenceTensor.random([2, 5, 4, inputs], seed: 181)
          let filter = ReferenceTensor.random([kernel, kernel, inputs, outputs], seed: 182)
          let padding = ReferenceOperations.Padding.same(
            input: Size2D(5, 4), window: Size2D(kernel), strides: Size2D(stride))
          let y = Reference.conv2d(x, filter: filter, strides: Size2D(stride), padding: padding)
          let dy = ReferenceTensor.random(y.shape, seed: 183)
          let gradient = Reference.conv2dGradient(
            x, filter: filter, gradient: dy, strides: Size2D(stride), padding: padding)
          let target = GuardedMemory(Shape(y.shape), margins: (before: 3, after: 2))
          let home = GuardedMemory(Shape(y.shape), margins: (before: 3, after: 2))
          target.storage.gradientHome = home.storage
          let (input, weights) = (x.onDevice, filter.onDevice)
          let tape = Tape()
          [input, weights].forEach(tape.watch)
          let result = Tape.$current.withValue(tape) {
            input.conv2d(filter: weights, strides: (stride, stride), into: target.tensor)
          }
          #expect(result.storage.id == target.storage.id)
          let name = "\(algorithm), \(kernel)×\(kernel) \(inputs)→\(outputs)"
          // The gradient of the slab is a view as well: the seed goes into it.
          let gradients = tape.gradients(of: result, seed: dy.onDevice)
          for (actual, expected, terms, what) in [
            (result, y, kernel * kernel * inputs, "value"),
            (gradients[input], gradient.x, kernel * kernel * outputs, "dx"),
            (gradients[weights], gradient.filter, y.count / outputs, "dw"),
          ] as [(Tensor?, ReferenceTensor, Int, String)] {
            expectClose(
              try actual?.floats() ?? [], expected, within: tolerance(terms: terms), "\(name), \(what)",
              sourceLocation: #_sourceLocation)
          }
          #expect(try target.neighboursAreUntouched(), "\(name)")
          #expect(try home.neighboursAreUntouched(), "\(name), gradient")
        }
      }
    }
  }
}
