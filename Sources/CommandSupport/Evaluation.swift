import Foundation
import Fovea

/// How well a classifier does on photos whose classes are known.
public struct Evaluation: Encodable {
  /// The classes in the order of the rows and columns of `confusion`.
  public let classNames: [String]
  /// Label smoothing of the loss.
  public let labelSmoothing: Double
  /// Photos scored.
  public private(set) var images = 0
  /// `confusion[t][p]` photos of class t were taken for class p.
  public private(set) var confusion: [[Int]]
  /// Photos scored each second.
  public var imagesPerSecond = 0.0
  /// Photos that could not be decoded.
  public var skipped: [SkippedFile] = []
  private var lossSum = 0.0
  private var correct = 0
  private var amongFive = 0

  /// Scores of no photos.
  public init(classNames: [String], labelSmoothing: Double) {
    self.classNames = classNames
    self.labelSmoothing = labelSmoothing
    confusion = Array(repeating: Array(repeating: 0, count: classNames.count), count: classNames.count)
  }

  /// Scores one photo.
  public mutating func add(logits: some Collection<Float>, label: Int) {
    let logits = Array(logits)
    precondition(
      logits.count == classNames.count && logits.indices.contains(label),
      "Evaluation: \(logits.count) logits and label \(label) for \(classNames.count) classes")
    let largest = Double(logits.max() ?? 0)
    let logSum = largest + log(logits.reduce(0) { $0 + exp(Double($1) - largest) })
    let uniform = labelSmoothing / Double(logits.count)
    for (index, logit) in logits.enumerated() {
      lossSum += ((index == label ? 1 - labelSmoothing : 0) + uniform) * (logSum - Double(logit))
    }
    // Of equal logits the first counts as the larger one.
    let rank = logits.indices.count { logits[$0] > logits[label] || (logits[$0] == logits[label] && $0 < label) }
    images += 1
    if rank == 0 { correct += 1 }
    if rank < 5 { amongFive += 1 }
    confusion[label][logits.firstIndex(of: logits.max() ?? 0) ?? 0] += 1
  }

  /// Mean cross-entropy.
  public var loss: Double { lossSum / Double(images) }
  /// Share of the photos whose most probable class is the right one.
  public var accuracy: Double { Double(correct) / Double(images) }
  /// Standard error of `accuracy`, from the number of photos.
  public var accuracyStandardError: Double { (accuracy * (1 - accuracy) / Double(images)).squareRoot() }
  /// Share of the photos whose class is among the five most probable; nil for five classes or fewer.
  public var top5Accuracy: Double? { classNames.count > 5 ? Double(amongFive) / Double(images) : nil }

  /// One class's photos and how they were taken.
  public struct ClassScores: Encodable {
    /// The class.
    public let name: String
    /// Photos of the class.
    public let images: Int
    /// Share of the class's photos that were taken for it.
    public let recall: Double?
    /// Share of the photos taken for the class that are of it.
    public let precision: Double?
  }

  /// Each class's scores; nil where there is no photo to divide by.
  public var classes: [ClassScores] {
    func share(_ count: Int, of total: Int) -> Double? { total > 0 ? Double(count) / Double(total) : nil }
    return classNames.indices.map { index in
      let hits = confusion[index][index]
      let images = confusion[index].reduce(0, +)
      return ClassScores(
        name: classNames[index], images: images, recall: share(hits, of: images),
        precision: share(hits, of: confusion.reduce(0) { $0 + $1[index] }))
    }
  }

  enum CodingKeys: String, CodingKey {
    case images, loss, accuracy, accuracyStandardError, top5Accuracy, labelSmoothing, classes, classNames, confusion
    case imagesPerSecond, skipped
  }

  /// Writes what `--json` prints.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(images, forKey: .images)
    try container.encode(loss, forKey: .loss)
    try container.encode(accuracy, forKey: .accuracy)
    try container.encode(accuracyStandardError, forKey: .accuracyStandardError)
    try container.encodeIfPresent(top5Accuracy, forKey: .top5Accuracy)
    try container.encode(labelSmoothing, forKey: .labelSmoothing)
    try container.encode(classes, forKey: .classes)
    try container.encode(classNames, forKey: .classNames)
    try container.encode(confusion, forKey: .confusion)
    try container.encode(imagesPerSecond, forKey: .imagesPerSecond)
    try container.encode(skipped, forKey: .skipped)
  }

  /// For people: the scores, a line for each class, and the confusion matrix where it is small enough to read.
  public var text: String {
    var lines = [
      String(format: "%d images, %.1f a second", images, imagesPerSecond)
        + (skipped.isEmpty ? "" : "; \(skipped.count) could not be decoded"),
      String(format: "accuracy  %.4f ± %.4f (standard error)", accuracy, accuracyStandardError),
      String(format: "loss      %.4f", loss)
        + (labelSmoothing > 0 ? " with label smoothing \(Float(labelSmoothing))" : ""),
    ]
    if let top5Accuracy { lines.append(String(format: "top 5     %.4f", top5Accuracy)) }
    let width = max(classNames.map(\.count).max() ?? 0, 5)
    lines += ["", "class".padded(to: width) + "  images  recall  precision"]
    for scores in classes {
      lines.append(
        scores.name.padded(to: width) + "\(scores.images)".aligned(to: 8) + Self.share(scores.recall).aligned(to: 8)
          + Self.share(scores.precision).aligned(to: 11))
    }
    guard classNames.count <= 12 else { return lines.joined(separator: "\n") }
    lines += ["", "rows: the class, columns: what it was taken for"]
    let cell = max(width, String(images).count) + 2
    lines.append("".padded(to: width) + classNames.map { $0.aligned(to: cell) }.joined())
    for (name, row) in zip(classNames, confusion) {
      lines.append(name.padded(to: width) + row.map { "\($0)".aligned(to: cell) }.joined())
    }
    return lines.joined(separator: "\n")
  }

  private static func share(_ value: Double?) -> String { value.map { String(format: "%.4f", $0) } ?? "-" }
}
