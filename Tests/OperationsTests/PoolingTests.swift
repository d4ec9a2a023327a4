import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct PoolingTests {}
}

private struct PoolCase: CustomTestStringConvertible {
  var image: (Int, Int)
  var channels: Int
  var window = (3, 3)
  var strides = (2, 2)
  var padding = Operations.Padding.valid
  var zero = false
  var prologue = PrologueStructure.none
  /// Small integers, so that windows have several maxima.
  var ties = false

  var testDescription: String {
    "\(window) by \(strides) on 2×\(image)×\(channels), \(padding), zeros \(zero), prologue \(prologue), ties \(ties)"
  }

  var size: Size2D { Size2D(window.0, window.1) }
  var steps: Size2D { Size2D(strides.0, strides.1) }

  var referencePadding: ReferenceOperations.Padding {
    switch padding {
    case .valid: .valid
    case .same: .same(input: Size2D(image.0, image.1), window: size, strides: steps)
    case .explicit(let top, let bottom, let left, let right):
      ReferenceOperations.Padding(top: top, bottom: bottom, left: left, right: right)
    }
  }

  var x: ReferenceTensor {
    let x = ReferenceTensor.random([2, image.0, image.1, channels], seed: 81, range: -2...2)
    return ties ? x.map { $0.rounded() } : x
  }
}

private let maxPools = [
  PoolCase(image: (7, 9), channels: 7),
  PoolCase(image: (1, 1), channels: 1, window: (1, 1), strides: (1, 1)),
  PoolCase(image: (6, 5), channels: 16, padding: .same),
  PoolCase(image: (6, 5), channels: 4, padding: .same, zero: true, ties: true),
  PoolCase(
    image: (7, 7), channels: 33, padding: .explicit(top: 1, bottom: 1, left: 1, right: 1), zero: true,
    prologue: .affinePost),
  PoolCase(image: (5, 8), channels: 16, strides: (1, 1), padding: .same, ties: true),
  PoolCase(image: (5, 8), channels: 3, window: (2, 3), strides: (3, 1), ties: true),
  PoolCase(image: (4, 4), channels: 4, window: (2, 2), prologue: .preAffinePost),
  // Windows that lie in the padding altogether: zero.
  PoolCase(
    image: (2, 3), channels: 2, window: (2, 2), strides: (1, 1),
    padding: .explicit(top: 3, bottom: 2, left: 2, right: 3), zero: true),
  PoolCase(image: (16, 16), channels: 1, window: (16, 16), strides: (1, 1), prologue: .pre),
]

private let averagePools = [
  PoolCase(image: (4, 6), channels: 16, window: (2, 2)),
  PoolCase(image: (5, 7), channels: 7, window: (2, 2), prologue: .affinePost),
  PoolCase(image: (9, 8), channels: 4, window: (3, 2), strides: (1, 3)),
  PoolCase(image: (8, 7), channels: 1, window: (2, 2), strides: (3, 3), prologue: .preAffine),
  PoolCase(image: (1, 1), channels: 33, window: (1, 1), strides: (1, 1)),
]

extension OperationsTests.PoolingTests {
  @Test func maxPoolAgainstTheReference() throws {
    for row in maxPools {
      let affine = row.prologue.affineRows(channels: row.channels, seed: 82)
      let read = row.prologue.value(row.x, affine: affine)
      let edge = row.zero ? 0 : -Double.infinity
      let y = Reference.maxPool(
        read, window: row.size, strides: row.steps, padding: row.referencePadding, paddingValue: edge)
      let dy = ReferenceTensor.random(y.shape, seed: 83)
      let inner = Reference.maxPoolGradient(
        read, gradient: dy, window: row.size, strides: row.steps, padding: row.referencePadding, paddingValue: edge)
      try compare("max pool \(row.testDescription)", row, affine, y, dy, inner, terms: 1) {
        $0.maxPool(
          window: row.window, strides: row.strides, padding: row.padding, paddedWith: row.zero ? .zero : .ignored)
      }
    }
  }

  @Test func averagePoolAgainstTheReference() throws {
    for row in averagePools {
      let affine = row.prologue.affineRows(channels: row.channels, seed: 84)
      let read = row.prologue.value(row.x, affine: affine)
      let y = Reference.averagePool(read, window: row.size, strides: row.steps)
      let dy = ReferenceTensor.random(y.shape, seed: 85)
      let inner = Reference.averagePoolGradient(
        inputShape: read.shape, gradient: dy, window: row.size, strides: row.steps)
      try compare("average pool \(row.testDescription)", row, affine, y, dy, inner, terms: row.window.0 * row.window.1)
      {
        $0.averagePool(window: row.window, strides: row.strides)
      }
    }
  }

  @Test func globalAverage() throws {
    for (image, channels) in [((1, 1), 2), ((5, 7), 31), ((3, 2), 16)] {
      let row = PoolCase(image: image, channels: channels, window: image, prologue: .affinePost)
      let affine = row.prologue.affineRows(channels: channels, seed: 86)
      let read = row.prologue.value(row.x, affine: affine)
      let y = Reference.globalAveragePool(read)
      let dy = ReferenceTensor.random(y.shape, seed: 87)
      let inner = Reference.globalAveragePoolGradient(inputShape: read.shape, gradient: dy)
      try compare("global average \(image)×\(channels)", row, affine, y, dy, inner, terms: image.0 * image.1) {
        $0.globalAveragePool()
      }
    }
  }

  /// Not-a-number is seen behind a max pool, wherever in the window it lies.
  @Test func notANumberWins() throws {
    for position in 0..<4 {
      var values: [Float] = [3, 1, 2, 4]
      values[position] = .nan
      let y = Tensor(values, shape: [1, 2, 2, 1], on: device).maxPool(window: (2, 2), strides: (2, 2))
      #expect(try y.item().isNaN, "position \(position)")
    }
  }

  private func compare(
    _ name: String, _ row: PoolCase, _ affine: ReferenceTensor?, _ y: ReferenceTensor, _ dy: ReferenceTensor,
    _ inner: ReferenceTensor, terms: Int, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: @escaping (DeferredTensor) -> Tensor
  ) throws {
    let outer = row.prologue.gradients(row.x, affine: affine, gradient: inner)
    var expected = Expectation(value: y, terms: terms, gradients: [(outer.x, terms)])
    if affine != nil { expected.gradients.append((outer.affine, row.x.count / row.channels)) }
    try OperationsTests.check(
      name, inputs: [.viewable(row.x)] + (affine.map { [.whole($0)] } ?? []), seed: dy, expected: expected,
      sourceLocation: sourceLocation
    ) { body(row.prologue.apply(to: $0[0], affine: affine == nil ? nil : $0[1])) }
  }
}
