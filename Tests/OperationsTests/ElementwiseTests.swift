import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct ElementwiseTests {
    private static let shapes = [[1], [3, 7], [2, 3, 5, 16], [2, 3, 3, 65], [2, 512], [5, 4], [16387, 1]]

    @Test func addingTwoPrologues() throws {
      for (p, q) in [
        (PrologueStructure.none, PrologueStructure.none), (.pre, .affinePost), (.preAffinePost, .none),
        (.affine, .preAffine),
      ] {
        for shape in [[1, 1], [2, 3, 3, 7], [3, 2, 16]] {
          let a = ReferenceTensor.random(shape, seed: 41)
          let b = ReferenceTensor.random(shape, seed: 42)
          let channels = a.channels
          let rows = a.count / channels
          let pAffine = p.affineRows(channels: channels, seed: 43)
          let qAffine = q.affineRows(channels: channels, seed: 44)
          let dy = ReferenceTensor.random(shape, seed: 45)
          let da = p.gradients(a, affine: pAffine, gradient: dy)
          let db = q.gradients(b, affine: qAffine, gradient: dy)
          var inputs = [Input.viewable(a), .viewable(b)]
          var gradients: [(value: ReferenceTensor, terms: Int)?] = [(da.x, 1), (db.x, 1)]
          if let pAffine {
            inputs.append(.whole(pAffine))
            gradients.append((da.affine, rows))
          }
          if let qAffine {
            inputs.append(.whole(qAffine))
            gradients.append((db.affine, rows))
          }
          try OperationsTests.check(
            "\(p) + \(q) of \(shape)", inputs: inputs, seed: dy,
            expected: Expectation(
              value: Reference.add(p.value(a, affine: pAffine), q.value(b, affine: qAffine)), terms: 2,
              gradients: gradients)
          ) { tensors in
            p.apply(to: tensors[0], affine: pAffine == nil ? nil : tensors[2])
              .adding(q.apply(to: tensors[1], affine: qAffine == nil ? nil : tensors[tensors.count - 1]))
          }
        }
      }
    }

    @Test func scaled() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 46)
        let dy = ReferenceTensor.random(shape, seed: 47)
        try OperationsTests.check(
          "scaled \(shape)", inputs: [.viewable(x)], seed: dy,
          expected: Expectation(
            value: Reference.scale(x, by: -1.75), terms: 1, gradients: [(Reference.scale(dy, by: -1.75), 1)])
        ) { $0[0].scaled(by: -1.75) }
      }
    }

    /// OpenCL allows tanh an error of 5 ulp, 10 · 2⁻²⁴ in relation; for inputs of −1…1 that is up to 28 · 2⁻²⁴ of
    /// 1 − tanh². A depth of 4 allows 37 · 2⁻²⁴.
    @Test func hyperbolicTangent() throws {
      for shape in Self.shapes {
        let x = ReferenceTensor.random(shape, seed: 56)
        let dy = ReferenceTensor.random(shape, seed: 57)
        try OperationsTests.check(
          "tanh \(shape)", inputs: [.viewable(x)], seed: dy,
          expected: Expectation(
            value: Reference.tanh(x), terms: 1, gradients: [(Reference.tanhGradient(x, gradient: dy), 1)], depth: 4)
        ) { $0[0].tanh() }
      }
    }

    @Test func multiplied() throws {
      for shape in Self.shapes {
        let a = ReferenceTensor.random(shape, seed: 48)
        let b = ReferenceTensor.random(shape, seed: 49)
        let dy = ReferenceTensor.random(shape, seed: 50)
        try OperationsTests.check(
          "multiplied \(shape)", inputs: [.viewable(a), .viewable(b)], seed: dy,
          expected: Expectation(
            value: a.zip(b, *), terms: 1, gradients: [(dy.zip(b, *), 1), (dy.zip(a, *), 1)])
        ) { $0[0] * $0[1] }
      }
    }

    /// The same tensor on both sides: 2 · a · dy, the second part added to the first.
    @Test func square() throws {
      let a = ReferenceTensor.random([3, 7], seed: 51)
      let dy = ReferenceTensor.random([3, 7], seed: 52)
      try OperationsTests.check(
        "a · a", inputs: [.viewable(a)], seed: dy,
        expected: Expectation(
          value: a.zip(a, *), terms: 1, gradients: [(dy.zip(a) { 2 * $0 * $1 }, 2)])
      ) { $0[0] * $0[0] }
    }

    @Test func operators() throws {
      let a = ReferenceTensor.random([3, 7], seed: 53)
      let b = ReferenceTensor.random([3, 7], seed: 54)
      let dy = ReferenceTensor.random([3, 7], seed: 55)
      try OperationsTests.check(
        "2a − b", inputs: [.viewable(a), .viewable(b)], seed: dy,
        expected: Expectation(
          value: a.zip(b) { 2 * $0 - $1 }, terms: 2,
          gradients: [(Reference.scale(dy, by: 2), 1), (Reference.scale(dy, by: -1), 1)])
      ) { 2 * $0[0] - $0[1] }
    }

    @Test(arguments: [[1], [15], [16], [17], [3, 5, 7], [2, 4, 4, 3], [7, 64]])
    func bytes(shape: [Int]) throws {
      let count = shape.reduce(1, *)
      let values = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 250) }
      poisonFreeMemory()
      let y = Tensor(values, shape: Shape(shape), on: device).scaled(by: 1 / 255)
      // One product: half a unit in the last place, plus the factor's own rounding.
      expectClose(
        try y.floats(), ReferenceTensor(shape, values.map { Double($0) / 255 }), within: 2 * 0x1p-24, "bytes \(shape)",
        sourceLocation: #_sourceLocation)
    }
  }
}
