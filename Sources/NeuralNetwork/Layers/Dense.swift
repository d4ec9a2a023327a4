import Operations
import TensorCore

/// Fully connected layer. Weights: `kernel` [inputs, units], `bias` [units].
public struct Dense: Module {
  /// The level in parameter names.
  public let name: String?
  /// The weights, [inputs, units].
  public let kernel: Parameter
  /// Added to each unit, [units]; nil without one.
  public let bias: Parameter?

  /// A layer from `inputs` values to `units`.
  public init(
    inputs: Int, units: Int, useBias: Bool = true, initializer: Initializer = .glorotUniform,
    isTrainable: Bool = true, name: String? = nil
  ) {
    self.name = name
    kernel = Parameter([inputs, units], initializer, isTrainable: isTrainable)
    bias = useBias ? Parameter([units], .zeros, isTrainable: isTrainable) : nil
  }

  /// [batch, inputs] to [batch, units].
  public func callAsFunction(_ x: some TensorOperand) -> Tensor {
    x.dense(weights: kernel.tensor, bias: bias?.tensor)
  }
}
