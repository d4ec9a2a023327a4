/// A set of integers kept as sorted, disjoint, non-touching ranges. Small: it holds channel ranges of one storage.
public struct RangeSet: Sendable, Equatable {
  /// The ranges in ascending order.
  public private(set) var ranges: [Range<Int>] = []

  /// The empty set.
  public init() {}

  /// Whether all of `range` is in the set.
  public func contains(_ range: Range<Int>) -> Bool {
    range.isEmpty || ranges.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
  }

  /// Whether any of `range` is in the set.
  public func overlaps(_ range: Range<Int>) -> Bool {
    ranges.contains { $0.overlaps(range) }
  }

  /// The parts of `range` that are not in the set, in order.
  public func missing(from range: Range<Int>) -> [Range<Int>] {
    var gaps: [Range<Int>] = []
    var start = range.lowerBound
    for present in ranges where present.overlaps(range) {
      if present.lowerBound > start { gaps.append(start..<present.lowerBound) }
      start = max(start, present.upperBound)
    }
    if start < range.upperBound { gaps.append(start..<range.upperBound) }
    return gaps
  }

  /// Adds `range`, joining it with the ranges that it touches.
  public mutating func insert(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    var merged = range
    ranges.removeAll { other in
      guard other.lowerBound <= merged.upperBound, merged.lowerBound <= other.upperBound else { return false }
      merged = min(merged.lowerBound, other.lowerBound)..<max(merged.upperBound, other.upperBound)
      return true
    }
    ranges.insert(merged, at: ranges.firstIndex { $0.lowerBound > merged.lowerBound } ?? ranges.count)
  }
}
