import ArgumentParser
import Fovea

/// `--class-weights`: what the losses of the classes are multiplied by.
enum ClassWeights: ExpressibleByArgument, Equatable {
  /// images / (classes · images of the class), so that every class counts alike.
  case balanced
  /// In the order of the class names.
  case values([Float])

  init?(argument: String) {
    if argument == "balanced" {
      self = .balanced
      return
    }
    let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Float($0) ?? .nan }
    guard values.allSatisfy({ $0 > 0 && $0.isFinite }) else { return nil }
    self = .values(values)
  }

  /// The weights for a data set. Throws `ValidationError` when there are not as many as classes.
  func weights(for dataset: any ImageDataset) throws -> [Float] {
    let classes = dataset.classNames
    switch self {
    case .balanced:
      let counts = (0..<dataset.count).reduce(into: Array(repeating: 0, count: classes.count)) {
        $0[dataset.label(at: $1)] += 1
      }
      guard let empty = counts.firstIndex(of: 0) else {
        return counts.map { Float(dataset.count) / Float(classes.count * $0) }
      }
      throw ValidationError("--class-weights balanced: no training image is of class \(classes[empty])")
    case .values(let values):
      guard values.count == classes.count else {
        throw ValidationError(
          "--class-weights has \(values.count) weights for \(classes.count) classes (\(classes.joined(separator: ", ")))"
        )
      }
      return values
    }
  }
}
