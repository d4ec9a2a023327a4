import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct PrologueTests {
    /// Every structure, computed by itself; channels for each vector width, and more rows than a chunk of a reduction.
    @Test(arguments: PrologueStructure.allCases)
    func computed(structure: PrologueStructure) throws {
      for shape in [[3, 1], [2, 3, 3, 7], [2, 5, 3, 16], [150, 4], [1, 12]] {
        let x = ReferenceTensor.random(shape, seed: 21)
        let channels = x.channels
        let affine = structure.affineRows(channels: channels, seed: 22)
        let dy = ReferenceTensor.random(shape, seed: 23)
        let gradient = structure.gradients(x, affine: affine, gradient: dy)
        var expected = Expectation(value: structure.value(x, affine: affine), terms: 1, gradients: [(gradient.x, 1)])
        if affine != nil { expected.gradients.append((gradient.affine, x.count / channels)) }
        try OperationsTests.check(
          "\(structure) of \(shape)", inputs: [.viewable(x)] + (affine.map { [.whole($0)] } ?? []), seed: dy,
          expected: expected
        ) { structure.apply(to: $0[0], affine: affine == nil ? nil : $0[1]).copied() }
      }
    }

    /// The activation after the affine alone, which only the initialiser makes.
    @Test func postActivationAlone() throws {
      let x = ReferenceTensor.random([4, 7], seed: 24)
      let dy = ReferenceTensor.random([4, 7], seed: 25)
      try OperationsTests.check(
        "post", inputs: [.viewable(x)], seed: dy,
        expected: Expectation(
          value: Reference.relu(x), terms: 1, gradients: [(Reference.reluGradient(x, gradient: dy), 1)])
      ) { DeferredTensor($0[0], Prologue(postSlope: 0)).copied() }
    }

    /// Steps that do not fit one prologue: each way to append one to what is pending.
    @Test func chainsMaterializeWhereTheyMust() throws {
      let x = ReferenceTensor.random([5, 7], seed: 26)
      let a = ReferenceTensor.random([3, 7], seed: 27)
      let b = ReferenceTensor.random([3, 7], seed: 28)
      let dy = ReferenceTensor.random([5, 7], seed: 29)
      // relu(affine b(relu(affine a(leaky(leaky(x))))))
      let slope = Double(Float(0.2))
      let first = Reference.leakyRelu(x, slope: slope)
      let second = PrologueStructure.preAffinePost
      let middle = second.value(first, affine: a)
      let third = PrologueStructure.affinePost
      let outer = third.gradients(middle, affine: b, gradient: dy)
      let inner = second.gradients(first, affine: a, gradient: outer.x)
      try OperationsTests.check(
        "five steps", inputs: [.viewable(x), .viewable(a), .viewable(b)], seed: dy,
        expected: Expectation(
          value: third.value(middle, affine: b), terms: 1,
          gradients: [
            (Reference.leakyReluGradient(x, slope: slope, gradient: inner.x), 1), (inner.affine, 5), (outer.affine, 5),
          ], depth: 2)
      ) { $0[0].leakyReLU(slope: 0.2).leakyReLU(slope: 0.2).affine($0[1]).relu().affine($0[2]).relu().materialized() }
    }

    @Test func materializedOfNothingPendingIsTheTensor() {
      let x = ReferenceTensor.random([2, 3], seed: 30).onDevice
      #expect(x.materialized().storage.id == x.storage.id)
      #expect(x.copied().storage.id != x.storage.id)
    }

    /// The derivative at exactly 0 is the slope.
    @Test func gradientAtZero() throws {
      let x = ReferenceTensor([1, 4], [0, -1, 1, -0.0])
      let dy = ReferenceTensor([1, 4], [1, 2, 3, 4])
      try OperationsTests.check(
        "leaky ReLU at 0", inputs: [.viewable(x)], seed: dy,
        expected: Expectation(
          value: ReferenceTensor([1, 4], [0, -0.25, 1, 0]), terms: 1,
          gradients: [(ReferenceTensor([1, 4], [0.25, 0.5, 3, 1]), 1)])
      ) { $0[0].leakyReLU(slope: 0.25).copied() }
    }

    @Test func copiedIntoASlabLeavesTheNeighbours() throws {
      for structure in [PrologueStructure.none, .preAffinePost] {
        let x = ReferenceTensor.random([6, 7], seed: 31)
        let affine = structure.affineRows(channels: 7, seed: 32)
        let target = GuardedMemory([6, 7], margins: (before: 2, after: 5))
        let y = structure.apply(to: x.onDevice, affine: affine?.onDevice).copied(into: target.tensor)
        expectClose(
          try y.floats(), structure.value(x, affine: affine), within: tolerance(terms: 1), "\(structure)",
          sourceLocation: #_sourceLocation)
        #expect(try target.neighboursAreUntouched())
      }
    }
  }
}
