import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct BlurTests {
    @Test func gaussianWeightsSumToOne() {
      let weights = gaussianWeights(radius: 2, deviation: 1)
      #expect(weights.count == 5)
      #expect(abs(weights.reduce(0, +) - 1) < 1e-15)
      #expect(weights == weights.reversed())
      // exp(−1/2) and exp(−2) over the middle.
      #expect(abs(weights[1] / weights[2] - 0.606_530_659_712_633) < 1e-15)
      #expect(abs(weights[0] / weights[2] - 0.135_335_283_236_613) < 1e-15)
    }

    /// Images smaller than the window too; weights of one axis that go in one pass and in two.
    @Test func againstTheReference() throws {
      for weights in [gaussianWeights(radius: 2, deviation: 1), [0.25, 0.5, 0.25], [2]] {
        for shape in [[1, 1, 1, 1], [2, 7, 5, 3], [1, 2, 9, 16], [1, 3, 1, 33], [1, 18, 33, 3]] {
          let x = ReferenceTensor.random(shape, seed: 61)
          let dy = ReferenceTensor.random(shape, seed: 62)
          try OperationsTests.check(
            "blur \(weights.count) of \(shape)", inputs: [.viewable(x)], seed: dy,
            expected: Expectation(
              value: Reference.blur(x, weights: weights), terms: weights.count * weights.count,
              gradients: [(Reference.blurGradient(weights: weights, gradient: dy), weights.count * weights.count)],
              depth: 2)
          ) { $0[0].blurred(weights: weights) }
        }
      }
    }
  }
}
