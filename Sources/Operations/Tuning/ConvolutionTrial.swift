import OpenCLRuntime
import TensorCore

/// One pass of a convolution as a step asks for it, with operands of its own, to be run again and again.
package struct ConvolutionTrial {
  private let call: ConvolutionCall
  private let pass: ConvolutionPass
  private let kernels: any ConvolutionKernels
  private let x: DeferredTensor
  private let filter: Tensor
  private let bias: Tensor?
  /// Result of the forward pass, or the gradient with respect to it.
  private let y: Tensor
  private let tape = Tape()
  /// Where data gradients add up, of inputs that are views: in a dense block other layers have been there before.
  private let stackGradients: GradientStore?

  package init(_ call: ConvolutionCall, _ pass: ConvolutionPass, on device: Device) {
    self.call = call
    self.pass = pass
    kernels = ConvolutionAlgorithm.choose(for: device.description).kernels
    let g = call.geometry
    let values = Self.values
    let base = Self.tensor(
      [g.batch, g.height, g.width, g.inputs], stride: call.inputStride, values, call.dtype, on: device)
    let affine = call.hasAffine ? Self.tensor([3, g.inputs], stride: g.inputs, values, on: device) : nil
    x = DeferredTensor(base, Prologue(preSlope: call.preSlope, affine: affine, postSlope: call.postSlope))
    filter = Self.tensor(
      [g.kernelHeight, g.kernelWidth, g.inputs, g.outputs], stride: g.outputs, values, on: device)
    bias = call.hasBias ? Self.tensor([g.outputs], stride: g.outputs, values, on: device) : nil
    y = Self.tensor(g.outputShape, stride: call.outputStride, values, call.dtype, on: device)
    tape.watch(base)
    if let affine { tape.watch(affine) }
    if pass == .inputGradient, call.inputStride > g.inputs {
      let store = GradientStore(tape: tape)
      store.destination(for: base)?.tensor.fill(0)
      stackGradients = store
    } else {
      stackGradients = nil
    }
  }

  /// Enqueues the pass as it runs in a step.
  package func run(_ configuration: ConvolutionConfiguration) {
    ConvolutionConfiguration.$forced.withValue([pass: configuration]) {
      switch pass {
      case .forward: _ = forward(to: y)
      case .inputGradient:
        kernels.inputGradient(call.geometry, x, filter: filter, y, stackGradients ?? GradientStore(tape: tape))
      case .filterGradient: _ = filterGradient()
      }
    }
  }

  /// Enqueues the pass and gives what it computes from the operands, in memory of its own.
  package func result(_ configuration: ConvolutionConfiguration) -> Tensor {
    ConvolutionConfiguration.$forced.withValue([pass: configuration]) {
      switch pass {
      case .forward:
        let result = Tensor(uninitialized: y.shape, on: y.device, dtype: y.dtype)
        _ = forward(to: result)
        return result
      case .inputGradient:
        let store = GradientStore(tape: tape)
        kernels.inputGradient(call.geometry, x, filter: filter, y, store)
        guard let result = store[x.base] else { preconditionFailure("the tape watches \(x.shape)") }
        return result
      case .filterGradient: return filterGradient()
      }
    }
  }

  private func forward(to y: Tensor) -> PartialMoments? {
    kernels.forward(call.geometry, x, filter: filter, bias: bias, to: y, leavingMoments: call.leavesMoments)
  }

  private func filterGradient() -> Tensor {
    let result = Tensor(uninitialized: filter.shape, on: filter.device)
    _ = kernels.filterGradient(
      call.geometry, x, y, to: GradientStore.Destination(tensor: result, accumulate: false), bias: nil)
    return result
  }

  /// So many that they repeat at no distance that kernels or caches know.
  private static let values = (0..<65_537).map { index in
    // Knuth's multiplicative hash, to -1..<1.
    Float(UInt32(truncatingIfNeeded: index) &* 2_654_435_761) * 0x1p-31 - 1
  }

  /// A tensor of repeated values, the first channels of rows of `stride`.
  private static func tensor(
    _ shape: Shape, stride: Int, _ values: [Float], _ dtype: DType = .float32, on device: Device
  ) -> Tensor {
    var storage = Storage(device: device, rows: shape.rows, channels: stride)
    let count = shape.rows * stride
    values.withUnsafeBytes { bytes in
      for start in Swift.stride(from: 0, to: count, by: values.count) {
        let part = UnsafeRawBufferPointer(rebasing: bytes.prefix(min(values.count, count - start) * 4))
        storage.buffer.write(part, at: start * 4)
      }
    }
    if dtype != .float32 {
      storage = Tensor(storage: storage, shape: [shape.rows, stride]).cast(to: dtype).storage
    }
    return stride == shape.channels
      ? Tensor(storage: storage, shape: shape)
      : Tensor(storage: storage, shape: shape, channels: 0..<shape.channels)
  }
}
