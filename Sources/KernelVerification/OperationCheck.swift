import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// How far a device's values were from the reference, and how far they may be.
package struct Comparison: Sendable, CustomStringConvertible {
  package let what: String
  /// Relative L2; infinite where memory was written that must not be.
  package let error: Double
  package let limit: Double

  package init(_ what: String, error: Double, limit: Double) {
    self.what = what
    self.error = error
    self.limit = limit
  }

  /// The device's values against the reference; on a planning device, which has none, nothing is compared.
  package init(_ what: String, _ actual: Tensor?, _ expected: ReferenceTensor, within limit: Double) throws {
    self.init(what, error: relativeL2(try actual?.floatsIfAny() ?? [], to: expected), limit: limit)
  }

  /// A condition, as a comparison without an error or with an infinite one.
  package init(_ what: String, holds: Bool) {
    self.init(what, error: holds ? 0 : .infinity, limit: 0)
  }

  /// Written so that not-a-number fails.
  package var passed: Bool { error <= limit }

  package var description: String { "\(what): relative error \(error), limit \(limit)" }
}

extension Tensor {
  /// The values; none on a planning device.
  fileprivate func floatsIfAny() throws -> [Float] { device.isPlanning ? [] : try floats() }
}

extension ReferenceTensor {
  /// The same values on a device, rounded to a type.
  package func tensor(on device: Device, dtype: DType = .float32) -> Tensor {
    Tensor(floats, shape: Shape(shape), on: device, dtype: dtype)
  }

  /// The values as a type holds them, so that a device sees exactly what the reference sees.
  package func rounded(to dtype: DType) -> ReferenceTensor { map { Double(dtype.rounded(Float($0))) } }
}

extension DType {
  /// The unit roundoff of results stored in the type, beside which that of float32 does not count: with p bits, rounding
  /// to the nearest errs by at most 2⁻ᵖ in relation to each value, and so does the relative L2 of all. 0 for float32,
  /// whose rounding is in `tolerance`.
  package var storageRoundoff: Double {
    switch self {
    case .float16: 0x1p-11
    case .bfloat16: 0x1p-8
    case .float32, .uint8, .int32: 0
    }
  }
}

/// What rounding operands adds to the relative error of products and of sums of them. Each operand errs by at most u, a
/// product of two by 2u. The errors of the terms of a sum are as independent as the terms, so that the sum errs, in the
/// root mean square, by no larger share than they do, however many there are; and rounding errs by less than u / √3 in the
/// root mean square, which leaves a factor of 2 for results that are smaller than their terms.
package func productRoundoff(_ operand: MatrixOperand?) -> Double { operand.map { 2 * $0.roundoff } ?? 0 }

extension DeviceDescription {
  /// What matrix units round the operands of convolutions over images of that type to, where configurations are not
  /// forced or as they are.
  fileprivate func operandInUse(for dtype: DType) -> MatrixOperand? {
    guard ConvolutionAlgorithm.choose(for: self) == .tiled else { return nil }
    for configuration in ConvolutionConfiguration.forced.values {
      switch configuration {
      case .tiled(let tile, _), .tiledPhases(let tile, _), .tiledFilterGradient(let tile, _): return tile.operand
      default: break
      }
    }
    return matrixOperand(for: dtype)
  }
}

/// An operation with its inputs, and what the reference says about its result and gradients.
package struct OperationCheck {
  /// An input of an operation under test, and whether it may be a view of a wider storage.
  package struct Input {
    package var value: ReferenceTensor
    package var canBeView: Bool
    /// What the device holds it in.
    package var dtype = DType.float32

    /// An input that is always contiguous, such as a filter.
    package static func whole(_ value: ReferenceTensor) -> Input { Input(value: value, canBeView: false) }
    package static func viewable(_ value: ReferenceTensor, _ dtype: DType = .float32) -> Input {
      Input(value: value, canBeView: true, dtype: dtype)
    }
  }

  /// What the reference says.
  package struct Expectation {
    package var value: ReferenceTensor
    package var terms: Int
    /// The gradient with respect to each input; nil where none is asked for.
    package var gradients: [(value: ReferenceTensor, terms: Int)?]
    package var depth: Int
    /// With 16-bit inputs, how many roundings to their type went into the gradient of each, its own among them; 1 for
    /// those that are not said. The gradients of float32 inputs have none but what is said.
    package var roundings: [Int: Double]

    package init(
      value: ReferenceTensor, terms: Int, gradients: [(value: ReferenceTensor, terms: Int)?], depth: Int = 1,
      roundings: [Int: Double] = [:]
    ) {
      self.value = value
      self.terms = terms
      self.gradients = gradients
      self.depth = depth
      self.roundings = roundings
    }
  }

  package let name: String
  package let inputs: [Input]
  /// Gradient with respect to the result.
  package let seed: ReferenceTensor
  package let expected: Expectation
  /// Channels of the wider storage before and behind a view.
  package let viewMargins: (before: Int, after: Int)
  /// The operation, from inputs on the device.
  package let body: ([Tensor]) -> Tensor
  /// Of a convolution the type of its images: its device may have matrix units, which round operands.
  package var convolves: DType?

  package init(
    _ name: String, inputs: [Input], seed: ReferenceTensor, expected: Expectation,
    viewMargins: (before: Int, after: Int) = (before: 3, after: 2), _ body: @escaping ([Tensor]) -> Tensor
  ) {
    self.name = name
    self.inputs = inputs
    self.seed = seed
    self.expected = expected
    self.viewMargins = viewMargins
    self.body = body
  }

  /// Compares the operation and all its gradients with the reference: for contiguous inputs and for views of wider
  /// storages, with the gradients written to guarded memory full of NaN, and once more with gradients that are added to
  /// what an earlier pass left (by using the result twice).
  package func run(on device: Device) throws -> [Comparison] {
    var comparisons: [Comparison] = []
    for asViews in [false, true] where !asViews || inputs.contains(where: \.canBeView) {
      comparisons += try run(on: device, asViews: asViews)
    }
    return comparisons
  }

  private func run(on device: Device, asViews: Bool) throws -> [Comparison] {
    let label = asViews ? "\(name), views" : name
    func limit(_ terms: Int) -> Double {
      tolerance(terms: terms, depth: expected.depth)
        + Double(expected.depth)
        * productRoundoff(convolves.flatMap { device.description.operandInUse(for: $0) })
    }
    poisonFreeMemory(on: device)
    let margins = inputs.map { asViews && $0.canBeView ? viewMargins : (before: 0, after: 0) }
    let memories = zip(inputs, margins).map { GuardedMemory($0.value, margins: $1, on: device, dtype: $0.dtype) }
    let homes = zip(memories, margins).map {
      GuardedMemory($0.shape, margins: $1, on: device, dtype: $0.storage.dtype)
    }
    for (memory, home) in zip(memories, homes) { memory.storage.gradientHome = home.storage }
    let tensors = memories.map(\.tensor)

    let (y, gradients) = backward(tensors) { body(tensors) }
    var comparisons = [
      Comparison("\(label), shape of the value", holds: y.shape == Shape(expected.value.shape)),
      try Comparison("\(label), value", y, expected.value, within: limit(expected.terms) + y.dtype.storageRoundoff),
    ]
    for (index, gradient) in expected.gradients.enumerated() {
      guard let gradient else {
        comparisons.append(
          Comparison("\(label), no gradient \(index)", holds: gradients[tensors[index]] == nil))
        continue
      }
      comparisons += [
        try Comparison(
          "\(label), gradient \(index)", gradients[tensors[index]], gradient.value,
          within: limit(gradient.terms) + rounding(of: index)),
        Comparison(
          "\(label), memory beside gradient \(index)", holds: try homes[index].neighboursAreUntouched()),
        Comparison("\(label), memory beside input \(index)", holds: try memories[index].neighboursAreUntouched()),
      ]
    }

    // Twice the result, by two calls: the second adds to the gradients of the first.
    // Where the first is rounded by u and their sum, of twice the size, by u again, that is 3/2 u of the sum.
    let (_, doubled) = backward(tensors) { body(tensors).adding(body(tensors)) }
    for (index, gradient) in expected.gradients.enumerated() {
      guard let gradient else { continue }
      comparisons.append(
        try Comparison(
          "\(label), gradient \(index) added twice", doubled[tensors[index]], Reference.scale(gradient.value, by: 2),
          within: limit(gradient.terms) + rounding(of: index) + inputs[index].dtype.storageRoundoff / 2))
    }
    return comparisons
  }

  /// The error that storing 16-bit values may add to the gradient of an input.
  private func rounding(of index: Int) -> Double {
    let own = inputs[index].dtype
    let roundoff = own == .float32 ? inputs.map(\.dtype.storageRoundoff).max() ?? 0 : own.storageRoundoff
    return roundoff * (expected.roundings[index] ?? (own == .float32 ? 0 : 1))
  }

  private func backward(_ tensors: [Tensor], _ body: () -> Tensor) -> (Tensor, GradientStore) {
    let tape = Tape()
    for (tensor, gradient) in zip(tensors, expected.gradients) where gradient != nil { tape.watch(tensor) }
    let y = Tape.$current.withValue(tape) { body() }
    return (y, tape.gradients(of: y, seed: seed.tensor(on: y.device, dtype: y.dtype)))
  }
}
