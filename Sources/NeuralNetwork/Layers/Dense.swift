import Operations
import TensorCore

/// Fully connected layer. Weights: `kernel` [inputs, units], `bias` [units].
public struct Dense: Module {
  public let name: String?
  public let kernel: Parameter
  public let bias: Parameter?

  public init(
    inputs: Int, units: Int, useBias: Bool = true, initializer: Initializer = .glorotUniform, name: String? = nil
  ) {
    self.name = name
    kernel = Parameter([inputs, units], initializer)
    bias = useBias ? Parameter([units], .zeros) : nil
  }

  /// [batch, inputs] to [batch, units].
  public func callAsFunction(_ x: some TensorOperand) -> Tensor {
    x.dense(weights: kernel.tensor, bias: bias?.tensor)
  }
}
