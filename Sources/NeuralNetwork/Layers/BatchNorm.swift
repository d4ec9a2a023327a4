import Operations
import TensorCore

/// Batch normalisation over all extents but the channels, `γ (x − mean) / √(variance + ε) + β` (Ioffe & Szegedy 2015).
///
/// In training the statistics are the batch's, with the biased variance, and
/// `moving = momentum · moving + (1 − momentum) · batch`; in inference the moving ones. A layer that is not trainable is
/// always in inference, as with Keras's `trainable = False`. Weights: `gamma`, `beta`,
/// `moving_mean`, `moving_variance`, [channels] each.
public struct BatchNorm: Module {
  /// The level in parameter names.
  public let name: String?
  /// Scale of each channel.
  public let gamma: Parameter
  /// Shift of each channel.
  public let beta: Parameter
  /// Mean of each channel in inference.
  public let movingMean: Parameter
  /// Variance of each channel in inference.
  public let movingVariance: Parameter
  /// Share of the old value that a moving statistic keeps at each step.
  public let momentum: Float
  /// Added to the variance before its root is taken.
  public let epsilon: Float

  /// A layer for `channels` channels, with Keras's defaults.
  public init(
    channels: Int, momentum: Float = 0.99, epsilon: Float = 1e-3, isTrainable: Bool = true, name: String? = nil
  ) {
    self.name = name
    gamma = Parameter([channels], .ones, isTrainable: isTrainable)
    beta = Parameter([channels], .zeros, isTrainable: isTrainable)
    movingMean = Parameter([channels], .zeros, isTrainable: false, name: "moving_mean")
    movingVariance = Parameter([channels], .ones, isTrainable: false, name: "moving_variance")
    self.momentum = momentum
    self.epsilon = epsilon
  }

  /// Whether the layer would now normalise with the statistics of the batch.
  var usesBatchStatistics: Bool { gamma.isTrainable && Phase.current != .inference }

  /// The normalised values, pending until the next operation reads them.
  public func callAsFunction(_ x: some TensorOperand) -> DeferredTensor {
    let momentum: Float
    switch gamma.isTrainable ? Phase.current : .inference {
    case .inference:
      let moving = Moments(mean: movingMean.tensor, variance: movingVariance.tensor)
      return x.normalized(with: moving, gamma: gamma.tensor, beta: beta.tensor, epsilon: epsilon)
    case .training: momentum = self.momentum
    case .reestimation(let batch): momentum = Float(batch) / Float(batch + 1)
    }
    return x.batchNormalized(
      gamma: gamma.tensor, beta: beta.tensor, epsilon: epsilon,
      updating: MovingMoments(mean: movingMean.tensor, variance: movingVariance.tensor, momentum: momentum))
  }
}
