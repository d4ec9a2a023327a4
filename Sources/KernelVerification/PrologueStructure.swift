import Operations
import ReferenceOperations
import TensorCore

/// The pending steps an operation may have to read through.
package enum PrologueStructure: String, CaseIterable, Sendable {
  case none, pre, affine, affinePost, preAffine, preAffinePost

  var preSlope: Double? { [.pre, .preAffine, .preAffinePost].contains(self) ? 0.2 : nil }
  var postSlope: Double? { [.affinePost, .preAffinePost].contains(self) ? 0 : nil }
  package var hasAffine: Bool { self != .none && self != .pre }

  /// Rows centre, scale and shift, or nil.
  package func affineRows(channels: Int, seed: UInt64) -> ReferenceTensor? {
    hasAffine ? .random([3, channels], seed: seed, range: -1.5...1.5) : nil
  }

  /// The deferred tensor; `affine` is there when the structure has one.
  package func apply(to x: Tensor, affine: Tensor?) -> DeferredTensor {
    DeferredTensor(
      x, Prologue(preSlope: preSlope.map { Float($0) }, affine: affine, postSlope: postSlope.map { Float($0) }))
  }

  /// The reference's value. The slope is the float32 one.
  package func value(_ x: ReferenceTensor, affine: ReferenceTensor?) -> ReferenceTensor {
    let rows = affine.map(Self.rows)
    return Reference.prologue(
      x, pre: slope(preSlope), centre: rows?[0], scale: rows?[1], shift: rows?[2], post: slope(postSlope))
  }

  /// The reference's gradients with respect to x and the three rows.
  package func gradients(
    _ x: ReferenceTensor, affine: ReferenceTensor?, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, affine: ReferenceTensor) {
    let rows = affine.map(Self.rows)
    let result = Reference.prologueGradient(
      x, pre: slope(preSlope), centre: rows?[0], scale: rows?[1], shift: rows?[2], post: slope(postSlope),
      gradient: gradient)
    return (
      result.x,
      ReferenceTensor([3, x.channels], result.centre.values + result.scale.values + result.shift.values)
    )
  }

  private func slope(_ value: Double?) -> Double { value.map { Double(Float($0)) } ?? 1 }

  private static func rows(_ affine: ReferenceTensor) -> [ReferenceTensor] {
    let channels = affine.channels
    return (0..<3).map { ReferenceTensor([channels], Array(affine.values[$0 * channels..<($0 + 1) * channels])) }
  }
}
