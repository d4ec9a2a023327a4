import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct DenseTests {
    @Test(arguments: [
      (1, 1, 1, false), (2, 7, 3, true), (3, 31, 33, true), (5, 65, 16, false), (13, 16, 2, true), (1, 300, 10, true),
    ])
    func againstTheReference(batch: Int, inputs: Int, outputs: Int, hasBias: Bool) throws {
      let x = ReferenceTensor.random([batch, inputs], seed: 11)
      let weights = ReferenceTensor.random([inputs, outputs], seed: 12)
      let bias = hasBias ? ReferenceTensor.random([outputs], seed: 13) : nil
      let y = Reference.dense(x, weights: weights, bias: bias)
      let dy = ReferenceTensor.random(y.shape, seed: 14)
      let gradient = Reference.denseGradient(x, weights: weights, gradient: dy)
      var expected = Expectation(
        value: y, terms: inputs, gradients: [(gradient.x, outputs), (gradient.weights, batch)])
      if hasBias { expected.gradients.append((gradient.bias, batch)) }
      try OperationsTests.check(
        "dense \(batch)×\(inputs)→\(outputs)",
        inputs: [.viewable(x), .viewable(weights)] + (bias.map { [.viewable($0)] } ?? []), seed: dy, expected: expected
      ) { tensors in
        tensors[0].dense(weights: tensors[1], bias: hasBias ? tensors[2] : nil)
      }
    }

    @Test func readsThroughPendingSteps() throws {
      let x = ReferenceTensor.random([3, 7], seed: 15)
      let weights = ReferenceTensor.random([7, 5], seed: 16)
      let read = Reference.leakyRelu(x, slope: Double(Float(0.2)))
      let dy = ReferenceTensor.random([3, 5], seed: 17)
      let inner = Reference.denseGradient(read, weights: weights, gradient: dy)
      try OperationsTests.check(
        "dense of leaky ReLU", inputs: [.viewable(x), .whole(weights)], seed: dy,
        expected: Expectation(
          value: Reference.dense(read, weights: weights), terms: 7,
          gradients: [
            (Reference.leakyReluGradient(x, slope: Double(Float(0.2)), gradient: inner.x), 5), (inner.weights, 3),
          ])
      ) { $0[0].leakyReLU(slope: 0.2).dense(weights: $0[1]) }
    }
  }
}
