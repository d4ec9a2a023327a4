/// How often images of each class were taken for each class.
public struct ConfusionMatrix: Sendable, Equatable {
  /// Number of classes.
  public let classes: Int
  /// `counts[truth][predicted]`.
  public private(set) var counts: [[Int]]

  /// Counts `predictions`.
  public init(_ predictions: [Prediction], classes: Int) {
    self.classes = classes
    counts = Array(repeating: Array(repeating: 0, count: classes), count: classes)
    for prediction in predictions { counts[prediction.truth][prediction.predicted] += 1 }
  }

  /// Images of class `truth`.
  public func total(of truth: Int) -> Int { counts[truth].reduce(0, +) }

  /// The largest counts off the diagonal, largest first.
  public func mostConfused(_ limit: Int) -> [(truth: Int, predicted: Int, count: Int)] {
    var pairs: [(truth: Int, predicted: Int, count: Int)] = []
    for truth in 0..<classes {
      for predicted in 0..<classes where truth != predicted && counts[truth][predicted] > 0 {
        pairs.append((truth, predicted, counts[truth][predicted]))
      }
    }
    return Array(pairs.sorted { ($1.count, $0.truth, $0.predicted) < ($0.count, $1.truth, $1.predicted) }.prefix(limit))
  }
}
