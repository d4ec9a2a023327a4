import TensorCore

/// How a model keeps the values between its layers, and their gradients. Sums, statistics, weights, their gradients and
/// the optimizer's state are `float32` whatever it is, and so is arithmetic, but for the products of convolutions on devices
/// with matrix units (tensor cores), which round their operands.
public enum Precision: String, Sendable, Codable, CaseIterable {
  /// 32 bits.
  case float32
  /// 32 bits, of which convolutions on matrix units multiply those of a fraction of 11: `float32` on devices without.
  case tf32
  /// 16 bits with a fraction of 11 and nothing beyond 65504: gradients need a ``LossScale``.
  case float16
  /// 16 bits with a fraction of 8 and the range of `float32`.
  case bfloat16

  /// The type of values between layers.
  public var storage: DType {
    switch self {
    case .float32, .tf32: .float32
    case .float16: .float16
    case .bfloat16: .bfloat16
    }
  }

  /// Whether small gradients would be lost and large ones overflow without a ``LossScale``.
  public var needsLossScale: Bool { self == .float16 }
}
