/// A set of integers kept as sorted, disjoint, non-touching ranges. Small: it holds channel ranges of one storage.
public struct RangeSet: Sendable, Equatable {
  public private(set) var ranges: [Range<Int>] = []

  public init() {}

  public func contains(_ range: Range<Int>) -> Bool {
    range.isEmpty || ranges.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
  }

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
