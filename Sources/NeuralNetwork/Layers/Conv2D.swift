import Operations
import TensorCore

/// Two-dimensional convolution layer. Weights: `kernel` [height, width, inputs, filters], `bias` [filters].
public struct Conv2D: Module {
  /// The level in parameter names.
  public let name: String?
  /// The filters, [height, width, inputs, filters].
  public let kernel: Parameter
  /// Added to each filter, [filters]; nil without one.
  public let bias: Parameter?
  /// Rows and columns from one window to the next.
  public let strides: (Int, Int)
  /// The zeros around an image.
  public let padding: Padding

  /// A layer with square windows and one stride.
  public init(
    inputs: Int, filters: Int, kernelSize: Int, stride: Int = 1, padding: Padding = .same, useBias: Bool = true,
    initializer: Initializer = .glorotUniform, isTrainable: Bool = true, name: String? = nil
  ) {
    self.init(
      inputs: inputs, filters: filters, kernelSize: (kernelSize, kernelSize), strides: (stride, stride),
      padding: padding, useBias: useBias, initializer: initializer, isTrainable: isTrainable, name: name)
  }

  /// A layer with windows of any extents.
  public init(
    inputs: Int, filters: Int, kernelSize: (Int, Int), strides: (Int, Int), padding: Padding = .same,
    useBias: Bool = true, initializer: Initializer = .glorotUniform, isTrainable: Bool = true, name: String? = nil
  ) {
    self.name = name
    kernel = Parameter([kernelSize.0, kernelSize.1, inputs, filters], initializer, isTrainable: isTrainable)
    bias = useBias ? Parameter([filters], .zeros, isTrainable: isTrainable) : nil
    self.strides = strides
    self.padding = padding
  }

  /// [batch, height, width, inputs] to [batch, outHeight, outWidth, filters], written to `target` when given.
  ///
  /// - Parameter norm: a layer that reads the result, whose batch statistics are then computed as it is stored where the
  ///   kernel can.
  public func callAsFunction(
    _ x: some TensorOperand, into target: Tensor? = nil, normalizedBy norm: BatchNorm? = nil
  ) -> Tensor {
    x.conv2d(
      filter: kernel.tensor, bias: bias?.tensor, strides: strides, padding: padding, into: target,
      leavingMoments: norm?.usesBatchStatistics ?? false)
  }
}
