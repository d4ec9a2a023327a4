import Foundation
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

/// Parent of all suites: a device's work is built by one thread at a time, so none of them may run beside another.
@Suite(.serialized) struct OperationsTests {}

/// The device of all tests: a CPU, the same on every machine, unless `FOVEA_DEVICE` names another. GPUs get
/// launches of their own (narrower vectors, smaller chunks, one column per work-item), which only such a run checks.
enum TestDevice {
  static let shared: Device = {
    do {
      return try Device.open(ProcessInfo.processInfo.environment["FOVEA_DEVICE"] ?? "cpu")
    } catch {
      fatalError("\(error)")
    }
  }()

  /// The convolution kernels to test on it. The vector kernels keep windows in private memory: for CPUs only.
  static var algorithms: [ConvolutionAlgorithm] { shared.isCPU ? ConvolutionAlgorithm.allCases : [.tiled] }
}

var device: Device { TestDevice.shared }

extension ReferenceTensor {
  /// The same values on the device.
  var onDevice: Tensor { Tensor(floats, shape: Shape(shape), on: device) }
}

/// How far a float32 result may be from the float64 one, as relative L2, when each value is a sum of `terms` products.
///
/// With u = 2⁻²⁴, rounding the k-th partial sum of terms with random signs errs by at most u √k in units of a term, so
/// all K of them by u √(K²/2) in the root mean square; divided by the result's own size √K that is u √(K/2). Before
/// they are added the terms have passed at most four roundings (centre, scale, shift, product): 4u. The factor 2 is for
/// results smaller than their terms, where centre and shift partly cancel. `depth` multiplies it for operations that
/// apply several such sums to each other.
func tolerance(terms: Int, depth: Int = 1) -> Double {
  2 * Double(depth) * ((Double(terms) / 2).squareRoot() + 4) * 0x1p-24
}

/// Expects the device's values to be those of the reference within `tolerance`.
func expectClose(
  _ actual: [Float], _ expected: ReferenceTensor, within tolerance: Double, _ what: String,
  sourceLocation: SourceLocation
) {
  let error = relativeL2(actual, to: expected)
  // Written so that not-a-number fails.
  #expect(error <= tolerance, "\(what): relative error \(error)", sourceLocation: sourceLocation)
}

/// Memory inside a larger buffer whose every other value must stay as it is, with extra channels on both sides when
/// `margins` are given. Everything starts as a NaN of its own kind, so that a value that was not written, or a
/// neighbour that was read, is seen.
struct GuardedMemory {
  let storage: Storage
  let shape: Shape
  private let margins: (before: Int, after: Int)

  private static let guardCount = 64
  private static let poison = Float(bitPattern: 0x7fc0_1234)

  init(_ shape: Shape, margins: (before: Int, after: Int) = (0, 0)) {
    self.shape = shape
    self.margins = margins
    let width = margins.before + shape.channels + margins.after
    let count = shape.rows * width
    let buffer = device.allocate(byteCount: (count + 2 * Self.guardCount) * 4)
    [Float](repeating: Self.poison, count: count + 2 * Self.guardCount).withUnsafeBytes { buffer.write($0) }
    storage = Storage(buffer: buffer, baseOffset: Self.guardCount, rows: shape.rows, channels: width)
  }

  init(_ value: ReferenceTensor, margins: (before: Int, after: Int)) {
    self.init(Shape(value.shape), margins: margins)
    let width = storage.channels
    let values = value.floats
    for row in 0..<shape.rows {
      values[row * shape.channels..<(row + 1) * shape.channels].withUnsafeBytes {
        storage.buffer.write($0, at: (Self.guardCount + row * width + margins.before) * 4)
      }
    }
  }

  /// The tensor within the margins.
  var tensor: Tensor {
    if margins == (0, 0) { return Tensor(storage: storage, shape: shape) }
    return Tensor(storage: storage, shape: shape, channels: margins.before..<margins.before + shape.channels)
  }

  /// Whether all values outside the tensor are as they were.
  func neighboursAreUntouched() throws -> Bool {
    let width = storage.channels
    var values = [UInt32](repeating: 0, count: shape.rows * width + 2 * Self.guardCount)
    try values.withUnsafeMutableBytes { try storage.buffer.read(into: $0) }
    return values.indices.allSatisfy { index in
      let element = index - Self.guardCount
      let inside =
        element >= 0 && element < shape.rows * width
        && (margins.before..<margins.before + shape.channels).contains(element % width)
      return inside || values[index] == Self.poison.bitPattern
    }
  }
}

/// Fills memory that freed tensors left with NaN, so that the next results start from there.
func poisonFreeMemory() {
  var kept: [Tensor] = []
  for count in [64, 1024, 16384] {
    for _ in 0..<4 {
      let tensor = Tensor(uninitialized: [count], on: device)
      tensor.fill(.nan)
      kept.append(tensor)
    }
  }
}

/// An input of an operation under test, and whether it may be a view of a wider storage.
struct Input {
  var value: ReferenceTensor
  var canBeView = true

  /// An input that is always contiguous, such as a filter.
  static func whole(_ value: ReferenceTensor) -> Input { Input(value: value, canBeView: false) }
  static func viewable(_ value: ReferenceTensor) -> Input { Input(value: value) }
}

/// What the reference says.
struct Expectation {
  var value: ReferenceTensor
  var terms: Int
  /// The gradient with respect to each input; nil where none is to be checked.
  var gradients: [(value: ReferenceTensor, terms: Int)?]
  var depth = 1
}

extension OperationsTests {
  /// Compares an operation and all its gradients with the reference: for contiguous inputs and for views of wider
  /// storages, with the gradients written to guarded memory full of NaN, and once more with gradients that are added to
  /// what an earlier pass left (by using the result twice).
  ///
  /// - Parameters:
  ///   - seed: gradient with respect to the result.
  ///   - body: the operation, from inputs on the device.
  static func check(
    _ name: String, inputs: [Input], seed: ReferenceTensor, expected: Expectation,
    sourceLocation: SourceLocation = #_sourceLocation, _ body: ([Tensor]) -> Tensor
  ) throws {
    for asViews in [false, true] {
      if asViews && !inputs.contains(where: \.canBeView) { continue }
      let label = asViews ? "\(name), views" : name
      poisonFreeMemory()
      let margins = inputs.map { asViews && $0.canBeView ? (before: 3, after: 2) : (before: 0, after: 0) }
      let memories = zip(inputs, margins).map { GuardedMemory($0.value, margins: $1) }
      let homes = zip(memories, margins).map { GuardedMemory($0.shape, margins: $1) }
      for (memory, home) in zip(memories, homes) { memory.storage.gradientHome = home.storage }
      let tensors = memories.map(\.tensor)

      let tape = Tape()
      for (tensor, gradient) in zip(tensors, expected.gradients) where gradient != nil { tape.watch(tensor) }
      let y = Tape.$current.withValue(tape) { body(tensors) }
      let gradients = tape.gradients(of: y, seed: seed.onDevice)

      #expect(y.shape == Shape(expected.value.shape), "\(label)", sourceLocation: sourceLocation)
      expectClose(
        try y.floats(), expected.value, within: tolerance(terms: expected.terms, depth: expected.depth),
        "\(label), value", sourceLocation: sourceLocation)
      for (index, gradient) in expected.gradients.enumerated() {
        guard let gradient else {
          #expect(gradients[tensors[index]] == nil, "\(label), input \(index)", sourceLocation: sourceLocation)
          continue
        }
        let values = try gradients[tensors[index]]?.floats() ?? []
        expectClose(
          values, gradient.value, within: tolerance(terms: gradient.terms, depth: expected.depth),
          "\(label), gradient \(index)", sourceLocation: sourceLocation)
        #expect(
          try homes[index].neighboursAreUntouched(), "\(label), memory beside gradient \(index)",
          sourceLocation: sourceLocation)
        #expect(
          try memories[index].neighboursAreUntouched(), "\(label), memory beside input \(index)",
          sourceLocation: sourceLocation)
      }

      // Twice the result, by two calls: the second adds to the gradients of the first.
      let again = Tape()
      for (tensor, gradient) in zip(tensors, expected.gradients) where gradient != nil { again.watch(tensor) }
      let twice = Tape.$current.withValue(again) { body(tensors).adding(body(tensors)) }
      let doubled = again.gradients(of: twice, seed: seed.onDevice)
      for (index, gradient) in expected.gradients.enumerated() {
        guard let gradient else { continue }
        expectClose(
          try doubled[tensors[index]]?.floats() ?? [], Reference.scale(gradient.value, by: 2),
          within: tolerance(terms: gradient.terms, depth: expected.depth), "\(label), gradient \(index) added twice",
          sourceLocation: sourceLocation)
      }
    }
  }
}
