import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct ResizeTests {
    private static let sizes = [
      ((5, 7), (5, 7)), ((3, 4), (7, 9)), ((9, 7), (4, 3)), ((8, 6), (4, 3)), ((4, 3), (8, 6)), ((1, 1), (3, 2)),
      ((5, 3), (1, 1)), ((13, 2), (3, 11)), ((1, 6), (4, 1)), ((18, 2), (33, 2)),
    ]

    @Test(arguments: Interpolation.allCases)
    func againstTheReference(interpolation: Interpolation) throws {
      let method = try #require(ResizeMethod(rawValue: interpolation.rawValue))
      for antialias in [false, true] {
        for (index, (from, to)) in Self.sizes.enumerated() {
          let channels = [3, 16, 1, 4][index % 4]
          let x = ReferenceTensor.random([2, from.0, from.1, channels], seed: 151)
          let y = Reference.resize(x, to: Size2D(to.0, to.1), method: method, antialias: antialias)
          let dy = ReferenceTensor.random(y.shape, seed: 152)
          let dx = Reference.resizeGradient(
            inputSize: Size2D(from.0, from.1), gradient: dy, method: method, antialias: antialias)
          // Weights are rounded to float32 as well; terms counts the taps of the larger side.
          try OperationsTests.check(
            "\(interpolation) \(from) → \(to), antialias \(antialias), \(channels) channels", inputs: [.viewable(x)],
            seed: dy,
            expected: Expectation(
              value: y, terms: from.0 * from.1, gradients: [(dx, to.0 * to.1)])
          ) {
            $0[0].resized(height: to.0, width: to.1, interpolation: interpolation, antialias: antialias)
          }
        }
      }
    }

    /// The tables stay with the device and must not keep it: in single operations, with gradients and in captured steps.
    @Test func aDeviceThatHasResizedIsFreed() throws {
      weak var kept: Device?
      do {
        let device = try Device(DeviceSelection.pick(nil))
        kept = device
        let x = Tensor((0..<96).map { Float($0) }, shape: [1, 8, 6, 2], on: device)
        func value() throws -> [Float] {
          let step = CapturedStep(on: device) {
            let (_, gradients) = valueWithGradients(at: [x]) {
              x.resized(height: 4, width: 3, interpolation: .lanczos3).blurred(weights: [0.25, 0.5, 0.25]).sum()
            }
            return gradients[x]
          }
          // As it is, recorded, recorded again and compared, replayed.
          return try (0..<4).flatMap { _ in try step()?.floats() ?? [] }
        }
        let before = device.pool.statistics.inUse
        let first = try value()
        let tables = device.pool.statistics.inUse - before
        #expect(first.count == 4 * 96 && tables > 0)
        // The tables that are there are used again.
        #expect(try value() == first)
        #expect(device.pool.statistics.inUse == before + tables)
      }
      #expect(kept == nil)
    }

    @Test(arguments: [Interpolation.bilinear, .lanczos3])
    func readsThroughPendingSteps(interpolation: Interpolation) throws {
      let method = try #require(ResizeMethod(rawValue: interpolation.rawValue))
      let x = ReferenceTensor.random([2, 9, 8, 7], seed: 153)
      let structure = PrologueStructure.preAffinePost
      let affine = try #require(structure.affineRows(channels: 7, seed: 154))
      let y = Reference.resize(structure.value(x, affine: affine), to: Size2D(4, 5), method: method, antialias: true)
      let dy = ReferenceTensor.random(y.shape, seed: 155)
      let inner = Reference.resizeGradient(inputSize: Size2D(9, 8), gradient: dy, method: method, antialias: true)
      let outer = structure.gradients(x, affine: affine, gradient: inner)
      try OperationsTests.check(
        "\(interpolation) of steps", inputs: [.viewable(x), .whole(affine)], seed: dy,
        expected: Expectation(value: y, terms: 72, gradients: [(outer.x, 20), (outer.affine, 144)])
      ) {
        structure.apply(to: $0[0], affine: $0[1])
          .resized(height: 4, width: 5, interpolation: interpolation, antialias: true)
      }
    }

    /// The tables themselves, in double precision, for every pair of small sizes.
    @Test(arguments: Interpolation.allCases)
    func tables(interpolation: Interpolation) throws {
      let method = try #require(ResizeMethod(rawValue: interpolation.rawValue))
      for input in 1...20 {
        for output in 1...20 {
          for antialias in [false, true] {
            let table = ResizeTable(
              inputSize: input, outputSize: output, interpolation: interpolation, antialias: antialias)
            let expected = Reference.resizeWeights(
              inputSize: input, outputSize: output, method: method, antialias: antialias)
            let difference =
              (0..<output).map { i in
                let dense = Self.dense(table.starts[i], table.weights[i], input)
                var reference = [Double](repeating: 0, count: input)
                for tap in expected[i] { reference[tap.index] += tap.weight }
                return zip(dense, reference).map { abs($0 - $1) }.max() ?? 0
              }.max() ?? 0
            // Double precision; a few dozen taps of trigonometry.
            #expect(difference < 1e-12, "\(input) → \(output), antialias \(antialias)")

            let transposed = table.transposed
            #expect(transposed.outputSize == input && transposed.inputSize == output)
            for j in 0..<input {
              let dense = Self.dense(transposed.starts[j], transposed.weights[j], output)
              let column = (0..<output).map { Self.dense(table.starts[$0], table.weights[$0], input)[j] }
              #expect(dense == column, "transposed \(input) → \(output) at \(j)")
            }
          }
        }
      }
    }

    /// Positions on the edge of two pixels.
    @Test func nearestIsExact() {
      for input in 1...64 {
        for output in 1...64 {
          let table = ResizeTable(inputSize: input, outputSize: output, interpolation: .nearest, antialias: false)
          #expect(
            table.starts == (0..<output).map { (2 * $0 + 1) * input / (2 * output) }, "\(input) → \(output)")
        }
      }
    }

    private static func dense(_ start: Int, _ weights: [Double], _ count: Int) -> [Double] {
      var row = [Double](repeating: 0, count: count)
      for (a, weight) in weights.enumerated() { row[start + a] = weight }
      return row
    }
  }
}
