import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct SoftmaxTests {
    private static let shapes = [[1, 1], [2, 2], [3, 7], [5, 65], [1, 1000]]

    /// exp errs by up to 3 units in the last place in OpenCL and the argument's rounding counts in full: |x| ≤ 4 gives
    /// 4u more; together below the four roundings and the factor of `tolerance` with `depth` 2.
    @Test func softmax() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 71, range: -4...4)
        let dy = ReferenceTensor.random(shape, seed: 72)
        try OperationsTests.check(
          "softmax \(shape)", inputs: [.viewable(x)], seed: dy,
          expected: Expectation(
            value: Reference.softmax(x), terms: x.channels,
            gradients: [(Reference.softmaxGradient(x, gradient: dy), x.channels)], depth: 2)
        ) { $0[0].softmax() }
      }
    }

    @Test(arguments: [0, 0.1])
    func crossEntropy(smoothing: Float) throws {
      for shape in Self.shapes {
        // Like 0.1 itself, the reference takes the float32 value.
        let exact = Double(smoothing)
        let x = ReferenceTensor.random(shape, seed: 73, range: -4...4)
        let labels = ReferenceTensor.oneHot((0..<shape[0]).map { ($0 * 5 + 1) % shape[1] }, count: shape[1])
        let targets = labels.onDevice
        let expectedCorrect = (0..<shape[0]).filter { row in
          let logits = x.values[row * shape[1]..<(row + 1) * shape[1]]
          return logits.firstIndex(of: logits.max() ?? 0) == row * shape[1] + (row * 5 + 1) % shape[1]
        }
        // With one class loss and gradient are 0 and relative errors mean nothing; the device is exact there.
        try OperationsTests.check(
          "cross-entropy \(shape), smoothing \(smoothing)", inputs: [.viewable(x)], seed: ReferenceTensor(scalar: 3),
          expected: Expectation(
            value: ReferenceTensor(
              scalar: Reference.softmaxCrossEntropy(logits: x, labels: labels, labelSmoothing: exact)),
            terms: x.count,
            gradients: [
              (
                Reference.softmaxCrossEntropyGradient(logits: x, labels: labels, labelSmoothing: exact, gradient: 3),
                x.channels
              )
            ], depth: 2)
        ) { $0[0].softmaxCrossEntropy(targets: targets, labelSmoothing: smoothing).loss }
        let correct = x.onDevice.softmaxCrossEntropy(targets: targets, labelSmoothing: smoothing).correct
        #expect(try correct.item() == Float(expectedCorrect.count))
      }
    }

    @Test func largeLogitsDoNotOverflow() throws {
      let x = ReferenceTensor([2, 3], [1000, 0, -1000, -5000, -5000, -4999])
      let labels = ReferenceTensor.oneHot([0, 2], count: 3)
      expectClose(
        try x.onDevice.softmax().floats(), Reference.softmax(x), within: tolerance(terms: 3, depth: 2), "softmax",
        sourceLocation: #_sourceLocation)
      expectClose(
        [try x.onDevice.softmaxCrossEntropy(targets: labels.onDevice).loss.item()],
        ReferenceTensor(scalar: Reference.softmaxCrossEntropy(logits: x, labels: labels)),
        within: tolerance(terms: 3, depth: 2), "cross-entropy", sourceLocation: #_sourceLocation)
    }

    /// Targets that are distributions, not one-hot, and do not sum to 1.
    @Test func softTargets() throws {
      let x = ReferenceTensor.random([3, 7], seed: 74)
      let targets = ReferenceTensor.random([3, 7], seed: 75, range: 0...0.5)
      try OperationsTests.check(
        "soft targets", inputs: [.viewable(x)], seed: ReferenceTensor(scalar: 1),
        expected: Expectation(
          value: ReferenceTensor(scalar: Reference.softmaxCrossEntropy(logits: x, labels: targets)), terms: x.count,
          gradients: [(Reference.softmaxCrossEntropyGradient(logits: x, labels: targets), 7)], depth: 2)
      ) { $0[0].softmaxCrossEntropy(targets: targets.onDevice).loss }
    }
  }
}
