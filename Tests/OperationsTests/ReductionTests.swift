import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct ReductionTests {
    private static let shapes = [[], [1], [7], [1, 65], [3, 31], [2, 3, 5, 16], [150, 2], [70, 3, 1], [2, 1024]]

    @Test func sumAndMean() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 61, range: -0.5...1)
        let seed = ReferenceTensor(scalar: 1.5)
        try OperationsTests.check(
          "sum of \(shape)", inputs: [.viewable(x)], seed: seed,
          expected: Expectation(
            value: Reference.sum(x), terms: x.count,
            gradients: [(Reference.sumGradient(inputShape: shape, gradient: seed), 1)])
        ) { $0[0].sum() }
        try OperationsTests.check(
          "mean of \(shape)", inputs: [.viewable(x)], seed: seed,
          expected: Expectation(
            value: Reference.mean(x), terms: x.count,
            gradients: [(Reference.meanGradient(inputShape: shape, gradient: seed), 1)])
        ) { $0[0].mean() }
      }
    }

    @Test func sumOverRows() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 62)
        let sum = Reference.channelSum(x)
        let seed = ReferenceTensor.random(sum.shape, seed: 63)
        try OperationsTests.check(
          "sum over rows of \(shape)", inputs: [.viewable(x)], seed: seed,
          expected: Expectation(
            value: sum, terms: x.count / x.channels,
            gradients: [(ReferenceTensor(shape, (0..<x.count).map { seed.values[$0 % x.channels] }), 1)])
        ) { $0[0].sumOverRows() }
      }
    }

    @Test func meanSquaredError() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 64)
        let target = ReferenceTensor.random(shape, seed: 65)
        try OperationsTests.check(
          "mean squared error of \(shape)", inputs: [.viewable(x), .viewable(target)],
          seed: ReferenceTensor(scalar: -2),
          expected: Expectation(
            value: ReferenceTensor(scalar: Reference.meanSquaredError(x, target: target)), terms: x.count,
            gradients: [(Reference.meanSquaredErrorGradient(x, target: target, gradient: -2), 1), nil])
        ) { $0[0].meanSquaredError(to: $0[1]) }
      }
    }

    /// A sum over many rows keeps its digits: two stages with compensation.
    @Test func longSums() throws {
      let x = ReferenceTensor.random([40_000, 1], seed: 66, range: 0...1)
      let error = relativeL2(try x.onDevice.sum().floats(), to: Reference.sum(x))
      // Chunks of at most 512 positive values one after another: 512 · 2⁻²⁴ at the worst; the rest is compensated.
      #expect(error <= 512 * 0x1p-24)
    }
  }
}
