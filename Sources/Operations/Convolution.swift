import OpenCLRuntime
import Synchronization
import TensorCore

/// How many zeros surround an image before a window slides over it.
public enum Padding: Sendable, Hashable {
  /// None: windows lie inside.
  case valid
  /// As many as make the output ⌈input / stride⌉ wide, the odd one at the bottom and right, as in TensorFlow.
  case same
  /// So many rows and columns of zeros.
  case explicit(top: Int, bottom: Int, left: Int, right: Int)
}

/// The extents of a convolution: images [batch, height, width, inputs] with filters [kernelHeight, kernelWidth, inputs,
/// outputs].
public struct ConvolutionGeometry: Sendable, Hashable, Codable {
  /// Images.
  public private(set) var batch: Int
  /// Rows of an input image.
  public let height: Int
  /// Columns of an input image.
  public let width: Int
  /// Channels of an input image.
  public let inputs: Int
  /// Rows of a filter.
  public let kernelHeight: Int
  /// Columns of a filter.
  public let kernelWidth: Int
  /// Rows from one window to the next.
  public let strideHeight: Int
  /// Columns from one window to the next.
  public let strideWidth: Int
  /// Rows of zeros above an image.
  public let padTop: Int
  /// Columns of zeros left of an image.
  public let padLeft: Int
  /// Rows of an output image.
  public let outHeight: Int
  /// Columns of an output image.
  public let outWidth: Int
  /// Filters: channels of an output image.
  public let outputs: Int

  /// Traps when the shapes do not fit together.
  public init(input: Shape, filter: Shape, strides: (Int, Int), padding: Padding) {
    precondition(input.rank == 4, "conv2d: the input must be [batch, height, width, channels], not \(input)")
    precondition(filter.rank == 4, "conv2d: the filter must be [height, width, inputs, outputs], not \(filter)")
    precondition(
      input[3] == filter[2], "conv2d: input \(input) has \(input[3]) channels, filter \(filter) expects \(filter[2])")
    precondition(strides.0 > 0 && strides.1 > 0, "conv2d: strides \(strides) must be positive")
    batch = input[0]
    height = input[1]
    width = input[2]
    inputs = input[3]
    kernelHeight = filter[0]
    kernelWidth = filter[1]
    outputs = filter[3]
    (strideHeight, strideWidth) = strides
    let rows = WindowExtent(input: height, window: kernelHeight, stride: strideHeight, padding: padding, vertical: true)
    let columns = WindowExtent(
      input: width, window: kernelWidth, stride: strideWidth, padding: padding, vertical: false)
    precondition(
      rows.output > 0 && columns.output > 0,
      "conv2d: input \(input) is smaller than the \(kernelHeight)×\(kernelWidth) filter")
    padTop = rows.before
    padLeft = columns.before
    outHeight = rows.output
    outWidth = columns.output
  }

  /// [batch, outHeight, outWidth, outputs].
  public var outputShape: Shape { [batch, outHeight, outWidth, outputs] }

  /// The same over another number of images.
  package func withBatch(_ batch: Int) -> ConvolutionGeometry {
    var copy = self
    copy.batch = batch
    return copy
  }

  /// Floating-point operations of one pass, a multiply-add counted as two.
  public var flops: Double {
    2 * Double(batch * outHeight * outWidth) * Double(outputs * inputs * kernelHeight * kernelWidth)
  }

  /// Whether output pixels correspond to input pixels one to one.
  var isPointwise: Bool {
    kernelHeight == 1 && kernelWidth == 1 && strideHeight == 1 && strideWidth == 1 && padTop == 0 && padLeft == 0
      && outHeight == height && outWidth == width
  }

  package var label: String {
    "\(kernelHeight)×\(kernelWidth)\(strideHeight > 1 ? "/\(strideHeight)" : "") \(inputs)→\(outputs) on \(batch)×\(height)×\(width)"
  }
}

/// Windows along one axis: zeros before the first element and number of outputs.
struct WindowExtent {
  let before: Int
  let output: Int

  init(input: Int, window: Int, stride: Int, padding: Padding, vertical: Bool) {
    var after = 0
    switch padding {
    case .valid:
      before = 0
    case .same:
      let total = max(((input + stride - 1) / stride - 1) * stride + window - input, 0)
      before = total / 2
      after = total - before
    case .explicit(let top, let bottom, let left, let right):
      (before, after) = vertical ? (top, bottom) : (left, right)
    }
    output = max((input + before + after - window) / stride + 1, 0)
  }
}

/// The kernels that compute a convolution. All take the same operands and give the same values up to rounding.
public enum ConvolutionAlgorithm: String, Sendable, CaseIterable {
  /// Register tiles of explicit vectors, for CPUs.
  case vector
  /// The same, and 3×3 convolutions by Winograd's minimal filtering, with 16 products in place of 36.
  case winograd
  /// Tiles shared through local memory, for GPUs.
  case tiled

  /// Overrides the choice by device, for tests and tuning.
  @TaskLocal public static var forced: ConvolutionAlgorithm?

  package static func choose(for device: DeviceDescription) -> ConvolutionAlgorithm {
    forced ?? (device.kind == .cpu ? .winograd : .tiled)
  }
}

/// A convolution as an operation asked for it: all that the structure of its kernels may depend on.
package struct ConvolutionCall: Sendable, Hashable {
  package let geometry: ConvolutionGeometry
  package let preSlope: Float?
  package let hasAffine: Bool
  package let postSlope: Float?
  package let hasBias: Bool
  /// Whether moments of the result are wanted with it.
  package let leavesMoments: Bool
  /// The type of input and output.
  package let dtype: DType
  /// Whether a gradient flows to the input.
  package let wantsInputGradient: Bool
  /// Elements from one pixel to the next: more than there are channels in a view of a channel stack.
  package let inputStride: Int
  package let outputStride: Int

  /// Sees the calls made on this task, for planning.
  @TaskLocal package static var observer: Observer?

  /// Notes calls. A class, and no closure, because Swift 6.3's optimiser breaks task-local closures across modules.
  package final class Observer: Sendable {
    private let noted = Mutex<[ConvolutionCall]>([])

    package init() {}

    /// The calls so far, in their order.
    package var calls: [ConvolutionCall] { noted.withLock { $0 } }

    fileprivate func note(_ call: ConvolutionCall) { noted.withLock { $0.append(call) } }
  }

  fileprivate init(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, bias: Tensor?, to y: Tensor, leavesMoments: Bool
  ) {
    self.geometry = geometry
    inputStride = x.base.pixelStride
    outputStride = y.pixelStride
    preSlope = x.prologue.preSlope
    hasAffine = x.prologue.affine != nil
    postSlope = x.prologue.postSlope
    hasBias = bias != nil
    self.leavesMoments = leavesMoments
    dtype = x.base.dtype
    wantsInputGradient = x.inputs.contains { Tape.current?.isTracked($0) ?? false }
  }
}

extension TensorOperand {
  /// Two-dimensional convolution (cross-correlation, as in Keras and PyTorch) of images [batch, height, width, inputs],
  /// read through pending steps. Zero padding comes after them. Shapes that do not fit trap. The result has the type of
  /// the images; filter, bias and arithmetic are `float32`, but that matrix units multiply rounded values where a command's
  /// `--precision` has them used.
  ///
  /// - Parameters:
  ///   - filter: [kernelHeight, kernelWidth, inputs, outputs].
  ///   - bias: [outputs].
  ///   - target: where to write, such as a slab of a channel stack; new memory when nil.
  ///   - leavingMoments: whether ``TensorOperand/moments()`` of the result will be asked for: kernels that can then leave
  ///     those of the parts they store behind, which saves reading the result once more. The values differ by rounding.
  /// - Returns: [batch, outHeight, outWidth, outputs].
  public func conv2d(
    filter: Tensor, bias: Tensor? = nil, strides: (Int, Int) = (1, 1), padding: Padding = .same,
    into target: Tensor? = nil, leavingMoments: Bool = false
  ) -> Tensor {
    let x = deferred
    let filter = filter.contiguous()
    let geometry = ConvolutionGeometry(input: x.shape, filter: filter.shape, strides: strides, padding: padding)
    precondition(
      bias == nil || bias?.shape == [geometry.outputs],
      "conv2d: bias \(bias.map { "\($0.shape)" } ?? "") for \(geometry.outputs) outputs")
    let y = target ?? Tensor(uninitialized: geometry.outputShape, on: x.device, dtype: x.base.dtype)
    precondition(
      y.shape == geometry.outputShape && y.dtype == x.base.dtype,
      "conv2d: target \(y.dtype) \(y.shape), result \(x.base.dtype) \(geometry.outputShape)")
    precondition(
      filter.dtype == .float32 && bias?.dtype ?? .float32 == .float32, "conv2d: filter and bias must be float32")
    y.willBeOverwritten()
    ConvolutionCall.observer?.note(ConvolutionCall(geometry, x, bias: bias, to: y, leavesMoments: leavingMoments))
    let kernels = ConvolutionAlgorithm.choose(for: x.device.description).kernels
    let left = kernels.forward(geometry, x, filter: filter, bias: bias, to: y, leavingMoments: leavingMoments)
    if let left { y.storage.partialMoments.append(left) }
    Tape.record("conv2d", inputs: x.inputs + [filter] + (bias.map { [$0] } ?? []), outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      let db = bias.flatMap { store.destination(for: $0) }
      var summed = false
      if let dw = store.destination(for: filter) {
        summed = kernels.filterGradient(geometry, x, dy, to: dw, bias: db)
      }
      if let db, !summed { addRowSums(of: dy, factor: 1, to: db.tensor, accumulate: db.accumulate) }
      kernels.inputGradient(geometry, x, filter: filter, dy, store)
    }
    return y
  }

  /// Fully connected layer, `x · weights + bias`. Shapes that do not fit trap.
  ///
  /// - Parameters:
  ///   - weights: [inputs, outputs].
  ///   - bias: [outputs].
  /// - Returns: [batch, outputs] for x of [batch, inputs].
  public func dense(weights: Tensor, bias: Tensor? = nil) -> Tensor {
    let x = materialized().whole()
    let weights = weights.whole()
    precondition(
      x.shape.rank == 2 && weights.shape.rank == 2 && x.shape[1] == weights.shape[0],
      "dense: input \(x.shape) with weights \(weights.shape)")
    // A 1×1 convolution over a single row of `batch` pixels.
    return x.reshaped([1, 1, x.shape[0], x.shape[1]])
      .conv2d(filter: weights.reshaped([1, 1, weights.shape[0], weights.shape[1]]), bias: bias, padding: .valid)
      .reshaped([x.shape[0], weights.shape[1]])
  }
}

/// One family of convolution kernels.
protocol ConvolutionKernels: Sendable {
  /// y = bias + x ∗ filter.
  ///
  /// - Returns: the moments of what was stored, if they are wanted and this kernel can leave them.
  func forward(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor,
    leavingMoments: Bool
  ) -> PartialMoments?

  /// Adds to the gradients of x's base and affine.
  func inputGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, _ dy: Tensor, _ store: GradientStore)

  /// dw (+)= gradient with respect to the filter, and db (+)= the sum of dy over pixels where that costs next to nothing.
  ///
  /// - Returns: whether db was added to.
  func filterGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination,
    bias db: GradientStore.Destination?
  ) -> Bool
}

extension ConvolutionAlgorithm {
  var kernels: any ConvolutionKernels {
    switch self {
    case .vector, .winograd: VectorConvolution(algorithm: self)
    case .tiled: TiledConvolution()
    }
  }
}
