import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// A convolution to check; what is not said is a 3×3 kernel of stride 1 without bias and pending steps.
package struct ConvolutionCheck: Sendable, CustomStringConvertible {
  package var batch: Int
  /// Height and width.
  package var image: (Int, Int)
  package var inputs: Int
  package var outputs: Int
  package var kernel: (Int, Int)
  package var strides: (Int, Int)
  package var padding: Operations.Padding
  package var bias: Bool
  package var prologue: PrologueStructure
  /// The type of images and results.
  package var dtype = DType.float32
  /// Whether the gradient with respect to the input is asked for, and that of its affine.
  package var wantsInputGradient = true
  /// Whether the moments of the result are asked of the kernel that stores it.
  package var leavesMoments = false
  /// Channels of the wider storage before and behind views.
  package var viewMargins = (before: 3, after: 2)

  package init(
    batch: Int = 2, image: (Int, Int), inputs: Int, outputs: Int, kernel: (Int, Int) = (3, 3),
    strides: (Int, Int) = (1, 1), padding: Operations.Padding = .same, bias: Bool = false,
    prologue: PrologueStructure = .none
  ) {
    self.batch = batch
    self.image = image
    self.inputs = inputs
    self.outputs = outputs
    self.kernel = kernel
    self.strides = strides
    self.padding = padding
    self.bias = bias
    self.prologue = prologue
  }

  package var description: String {
    "\(kernel.0)×\(kernel.1) \(inputs)→\(outputs) on \(batch)×\(image.0)×\(image.1), strides \(strides), \(padding)"
      + ", bias \(bias), prologue \(prologue)" + (dtype == .float32 ? "" : ", \(dtype)")
  }

  private var referencePadding: ReferenceOperations.Padding {
    switch padding {
    case .valid: return .valid
    case .same:
      return .same(
        input: Size2D(image.0, image.1), window: Size2D(kernel.0, kernel.1), strides: Size2D(strides.0, strides.1))
    case .explicit(let top, let bottom, let left, let right):
      return ReferenceOperations.Padding(top: top, bottom: bottom, left: left, right: right)
    }
  }

  /// The check of value and gradients against the reference.
  package func check(_ name: String? = nil) -> OperationCheck {
    let x = ReferenceTensor.random([batch, image.0, image.1, inputs], seed: 1).rounded(to: dtype)
    let filter = ReferenceTensor.random([kernel.0, kernel.1, inputs, outputs], seed: 2)
    let biasValues = bias ? ReferenceTensor.random([outputs], seed: 3) : nil
    let affine = prologue.affineRows(channels: inputs, seed: 4)
    let strides = Size2D(strides.0, strides.1)

    let read = prologue.value(x, affine: affine)
    let y = Reference.conv2d(read, filter: filter, bias: biasValues, strides: strides, padding: referencePadding)
    let dy = ReferenceTensor.random(y.shape, seed: 5).rounded(to: dtype)
    let inner = Reference.conv2dGradient(
      read, filter: filter, gradient: dy, strides: strides, padding: referencePadding)
    let outer = prologue.gradients(x, affine: affine, gradient: inner.x)

    let taps = kernel.0 * kernel.1
    let pixels = y.count / outputs
    var inputs = [OperationCheck.Input.viewable(x, dtype), .viewable(filter)]
    var gradients: [(value: ReferenceTensor, terms: Int)?] = [
      wantsInputGradient ? (outer.x, taps * outputs) : nil, (inner.filter, pixels),
    ]
    if let biasValues {
      inputs.append(.whole(biasValues))
      gradients.append((inner.bias, pixels))
    }
    if let affine {
      inputs.append(.whole(affine))
      gradients.append(wantsInputGradient ? (outer.affine, taps * outputs + x.count / x.channels) : nil)
    }
    // Strided ones may leave the gradient before pending steps in memory, which rounds it once more; for sums of it
    // twice, as in `tolerance`.
    let strided = strides.height * strides.width > 1 && prologue != .none
    let roundings: [Int: Double] = strided ? [0: 2, inputs.count - 1: affine == nil ? 0 : 2] : [:]
    var check = OperationCheck(
      name ?? description, inputs: inputs, seed: dy,
      expected: .init(value: y, terms: taps * self.inputs, gradients: gradients, roundings: roundings),
      viewMargins: viewMargins
    ) { [self] tensors in
      prologue.apply(to: tensors[0], affine: affine == nil ? nil : tensors[tensors.count - 1])
        .conv2d(
          filter: tensors[1], bias: biasValues == nil ? nil : tensors[2], strides: self.strides, padding: padding,
          leavingMoments: leavesMoments)
    }
    check.convolves = dtype
    return check
  }

  /// The moments that the forward pass leaves of what it stores against those of the values that are found there.
  package func momentsComparisons(on device: Device) throws -> [Comparison] {
    let affine = prologue.affineRows(channels: inputs, seed: 4)
    let x = ReferenceTensor.random([batch, image.0, image.1, inputs], seed: 1).tensor(on: device, dtype: dtype)
    let filter = ReferenceTensor.random([kernel.0, kernel.1, inputs, outputs], seed: 2).tensor(on: device)
    let bias = ReferenceTensor.random([outputs], seed: 3).tensor(on: device)
    poisonFreeMemory(on: device)
    let y = prologue.apply(to: x, affine: affine?.tensor(on: device))
      .conv2d(filter: filter, bias: bias, strides: strides, padding: padding, leavingMoments: true)
    let moments = y.moments()
    guard !device.isPlanning else { return [] }
    let expected = Reference.moments(ReferenceTensor(y.shape.dimensions, values: try y.floats()))
    return [
      // Means of groups, deviations from them, and both joined.
      try Comparison(
        "\(self), its moments", concatenate([moments.mean, moments.variance]),
        ReferenceTensor([2 * outputs], expected.mean.values + expected.variance.values),
        within: tolerance(terms: y.shape.rows, depth: 3))
    ]
  }
}
