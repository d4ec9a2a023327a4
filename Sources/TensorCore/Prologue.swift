import OpenCLRuntime

/// Pending pointwise steps that the next kernel applies while it loads:
/// `y = post((pre(x) − centre) · scale + shift)`, each part optional, where `pre` and `post` are leaky rectifiers
/// `v > 0 ? v : slope · v` (slope 0 is ReLU).
public struct Prologue: Sendable {
  /// Slope of the activation before the affine step.
  public var preSlope: Float?
  /// Rows centre, scale and shift of shape [3, channels]. The centre is apart from the shift so that values and
  /// gradient sums stay free of cancellation.
  public var affine: Tensor?
  /// Slope of the activation after the affine step.
  public var postSlope: Float?

  /// The steps that are given; those that are nil are left out.
  public init(preSlope: Float? = nil, affine: Tensor? = nil, postSlope: Float? = nil) {
    self.preSlope = preSlope
    self.affine = affine
    self.postSlope = postSlope
  }

  /// Whether nothing is pending.
  public var isIdentity: Bool { preSlope == nil && affine == nil && postSlope == nil }
}

/// A tensor with pointwise steps that have not been computed yet. An operation that can reads through them; any other
/// asks for `materialized()`. The type makes visible where something is pending.
public struct DeferredTensor: Sendable {
  /// The values before the steps.
  public let base: Tensor
  /// The steps still to do.
  public let prologue: Prologue

  /// `base` with steps before whoever reads it; traps when the affine does not fit its channels.
  public init(_ base: Tensor, _ prologue: Prologue = Prologue()) {
    if let affine = prologue.affine {
      precondition(
        affine.shape == [3, base.channels] && affine.isContiguous,
        "DeferredTensor: affine \(affine.shape) for \(base.channels) channels; it must be without gaps")
    }
    self.base = base
    self.prologue = prologue
  }

  /// The shape of `base`, which no step changes.
  public var shape: Shape { base.shape }
  /// The innermost extent.
  public var channels: Int { base.channels }
  /// The device that holds `base`.
  public var device: Device { base.device }
}

/// A tensor or a deferred tensor: what operations accept as an input that they read through.
public protocol TensorOperand: Sendable {
  /// The tensor with its pending steps, of which there may be none.
  var deferred: DeferredTensor { get }
}

extension Tensor: TensorOperand {
  /// The tensor with nothing pending.
  public var deferred: DeferredTensor { DeferredTensor(self) }
}

extension DeferredTensor: TensorOperand {
  /// The tensor itself.
  public var deferred: DeferredTensor { self }
}
