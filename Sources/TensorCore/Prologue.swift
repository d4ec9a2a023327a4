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

  public init(preSlope: Float? = nil, affine: Tensor? = nil, postSlope: Float? = nil) {
    self.preSlope = preSlope
    self.affine = affine
    self.postSlope = postSlope
  }

  public var isIdentity: Bool { preSlope == nil && affine == nil && postSlope == nil }
}

/// A tensor with pointwise steps that have not been computed yet. An operation that can reads through them; any other
/// asks for `materialized()`. The type makes visible where something is pending.
public struct DeferredTensor: Sendable {
  public let base: Tensor
  public let prologue: Prologue

  public init(_ base: Tensor, _ prologue: Prologue = Prologue()) {
    if let affine = prologue.affine {
      precondition(
        affine.shape == [3, base.channels] && affine.isContiguous,
        "DeferredTensor: affine \(affine.shape) for \(base.channels) channels; it must be without gaps")
    }
    self.base = base
    self.prologue = prologue
  }

  public var shape: Shape { base.shape }
  public var channels: Int { base.channels }
  public var device: Device { base.device }
}

/// A tensor or a deferred tensor: what operations accept as an input that they read through.
public protocol TensorOperand: Sendable {
  var deferred: DeferredTensor { get }
}

extension Tensor: TensorOperand {
  public var deferred: DeferredTensor { DeferredTensor(self) }
}

extension DeferredTensor: TensorOperand {
  public var deferred: DeferredTensor { self }
}
