import Foundation

extension Reference {
  /// exp(x) / Σ exp(x) over the last dimension, shifted by the row's maximum: [..., classes] → [..., classes].
  public static func softmax(_ x: ReferenceTensor) -> ReferenceTensor { logSoftmax(x).map { exp($0) } }

  /// dx = y · (gradient − Σ gradient · y), the sum over the row.
  public static func softmaxGradient(_ x: ReferenceTensor, gradient: ReferenceTensor) -> ReferenceTensor {
    let y = softmax(x)
    var dx = y
    for row in rows(of: x) {
      let along = row.reduce(0) { $0 + gradient.values[$1] * y.values[$1] }
      for i in row { dx.values[i] *= gradient.values[i] - along }
    }
    return dx
  }

  /// −Σ t · log softmax(logits), the mean over the batch, with t = (1 − smoothing) · labels + smoothing / classes.
  /// logits and labels are [batch, classes]; the labels of a row sum to 1. As Keras's CategoricalCrossentropy from
  /// logits.
  public static func softmaxCrossEntropy(
    logits: ReferenceTensor, labels: ReferenceTensor, labelSmoothing: Double = 0
  ) -> Double {
    let terms = smoothed(labels, labelSmoothing).zip(logSoftmax(logits), *)
    return -sum(terms).scalar / Double(logits.shape[0])
  }

  /// (softmax(logits) · Σ t − t) / batch, Σ t = 1 for proper labels; `gradient` is the loss's own.
  public static func softmaxCrossEntropyGradient(
    logits: ReferenceTensor, labels: ReferenceTensor, labelSmoothing: Double = 0, gradient: Double = 1
  ) -> ReferenceTensor {
    let targets = smoothed(labels, labelSmoothing)
    var dx = softmax(logits)
    for row in rows(of: dx) {
      let total = row.reduce(0) { $0 + targets.values[$1] }
      for i in row { dx.values[i] = dx.values[i] * total - targets.values[i] }
    }
    return scale(dx, by: gradient / Double(logits.shape[0]))
  }

  /// The mean of (x − target)² over all elements.
  public static func meanSquaredError(_ x: ReferenceTensor, target: ReferenceTensor) -> Double {
    mean(x.zip(target) { ($0 - $1) * ($0 - $1) }).scalar
  }

  /// 2 · (x − target) / elements; `gradient` is the loss's own.
  public static func meanSquaredErrorGradient(
    _ x: ReferenceTensor, target: ReferenceTensor, gradient: Double = 1
  ) -> ReferenceTensor {
    scale(x.zip(target, -), by: 2 * gradient / Double(x.count))
  }

  private static func logSoftmax(_ x: ReferenceTensor) -> ReferenceTensor {
    var y = x
    for row in rows(of: x) {
      let largest = x.values[row].max() ?? 0
      let logSum = largest + log(row.reduce(0) { $0 + exp(x.values[$1] - largest) })
      for i in row { y.values[i] -= logSum }
    }
    return y
  }

  private static func smoothed(_ labels: ReferenceTensor, _ smoothing: Double) -> ReferenceTensor {
    labels.map { (1 - smoothing) * $0 + smoothing / Double(labels.channels) }
  }

  /// The element numbers of every row along the last dimension.
  private static func rows(of x: ReferenceTensor) -> [Range<Int>] {
    stride(from: 0, to: x.count, by: x.channels).map { $0..<$0 + x.channels }
  }
}
