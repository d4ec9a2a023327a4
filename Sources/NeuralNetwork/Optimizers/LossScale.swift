import Foundation
import OpenCLRuntime
import Operations
import TensorCore

/// Dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training"; the rule and its numbers are those of
/// PyTorch's `GradScaler`): gradients are those of `scale` times the loss, which keeps small ones within the range of
/// 16 bits, and are divided by it where the weights are updated. A step whose gradients are not all finite changes
/// nothing but the scale.
///
/// The scale lives on the device, and no step waits for the host: the backward pass starts from ``seed``, and an
/// ``Optimizer`` that has the scale does the rest.
public final class LossScale {
  /// How the scale moves.
  public struct Rule: Sendable, Equatable {
    /// The scale of the first step.
    public var initial: Float = 65536
    /// What it is multiplied by after `interval` steps in a row with finite gradients.
    public var growth: Float = 2
    /// What it is multiplied by after a step whose gradients were not.
    public var backoff: Float = 0.5
    /// See `growth`.
    public var interval = 2000

    /// The usual numbers.
    public init() {}
  }

  /// What a scale has come to.
  public struct State: Sendable, Equatable {
    /// The scale of the next step.
    public let scale: Float
    /// Steps in a row with finite gradients since the scale last changed.
    public let steady: Int
    /// Steps that changed the weights.
    public let updates: Int
    /// Steps that were skipped.
    public let skipped: Int
    /// The scale of the last step, by which the arena's gradients are too large.
    public let last: Float

    /// From the values that `values` holds on the device.
    package init(_ values: some Collection<Float>) {
      let values = Array(values)
      (scale, last) = (values[0], values[4])
      (steady, updates, skipped) = (Int(values[1]), Int(values[2]), Int(values[3]))
    }
  }

  /// How the scale moves.
  public let rule: Rule
  /// The five numbers of ``State`` in their order.
  package let values: Tensor

  /// A scale that no step has used yet.
  public init(_ rule: Rule = Rule(), on device: Device) {
    precondition(
      rule.initial > 0 && rule.growth >= 1 && rule.backoff > 0 && rule.backoff < 1 && rule.interval > 0,
      "LossScale: \(rule)")
    self.rule = rule
    values = Tensor([rule.initial, 0, 0, 0, rule.initial], shape: [5], on: device)
  }

  /// The scale of the next step as a tensor of shape [], which a backward pass starts from; see
  /// ``valueWithGradients(at:seed:of:)``.
  public var seed: Tensor {
    Tensor(storage: Storage(buffer: values.storage.buffer, baseOffset: 0, rows: 1, channels: 1), shape: [])
  }

  /// Waits for the device and returns where the scale is.
  public func state() throws -> State { State(try values.floats()) }

  /// Decides with the sum of the squared gradients whether this step counts, and writes what the update kernels read:
  /// the factor of the gradients, bias corrections for the updates so far, and whether to do nothing.
  func apply(to settings: Tensor, squares: Tensor, clipNorm: Float?, betas: (Double, Double)) {
    // As logarithms, of which a power is a product.
    let logarithms = [betas.0, betas.1].map { KernelArgument.float(Float($0 > 0 ? log($0) : 0)) }
    values.device.launch(
      .optimizer, "apply_loss_scale", global: [1], local: [1],
      [
        .buffer(squares.storage.buffer), .buffer(values.storage.buffer), .buffer(settings.storage.buffer),
        .float(clipNorm ?? 0), .float(rule.growth), .float(rule.backoff), .int(rule.interval),
      ] + logarithms, cost: LaunchCost("loss scale"))
  }
}
