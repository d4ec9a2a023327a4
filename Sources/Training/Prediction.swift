import Foundation

/// What a model said about one image.
public struct Prediction: Sendable, Equatable {
  /// The image's position in its data set, where it has one.
  public let image: Int?
  /// The class it belongs to.
  public let truth: Int
  /// The class with the largest probability.
  public let predicted: Int
  /// The probability of `predicted`, 0…1.
  public let confidence: Double

  /// Creates a prediction.
  public init(image: Int?, truth: Int, predicted: Int, confidence: Double) {
    self.image = image
    self.truth = truth
    self.predicted = predicted
    self.confidence = confidence
  }

  /// Whether the model was right.
  public var isCorrect: Bool { truth == predicted }

  /// The prediction that logits make by softmax; of equal logits the first counts, as in the accuracy. The confidence is
  /// NaN where a logit is not finite.
  public init(image: Int?, truth: Int, logits: ArraySlice<Float>) {
    precondition(!logits.isEmpty, "Prediction: no logits")
    let best = logits.indices.reduce(logits.startIndex) { logits[$1] > logits[$0] ? $1 : $0 }
    let sum = logits.reduce(0) { $0 + exp(Double($1) - Double(logits[best])) }
    self.init(image: image, truth: truth, predicted: best - logits.startIndex, confidence: 1 / sum)
  }
}
