import TensorCore
import Testing

@Suite struct RangeSetTests {
  private static func set(_ ranges: Range<Int>...) -> RangeSet {
    var set = RangeSet()
    ranges.forEach { set.insert($0) }
    return set
  }

  @Test func touchingAndOverlappingRangesJoin() {
    #expect(Self.set(0..<4, 4..<8).ranges == [0..<8])
    #expect(Self.set(4..<8, 0..<4).ranges == [0..<8])
    #expect(Self.set(0..<4, 8..<12, 2..<9).ranges == [0..<12])
    #expect(Self.set(8..<12, 0..<4).ranges == [0..<4, 8..<12])
    #expect(Self.set(0..<2, 4..<6, 8..<10, 2..<4).ranges == [0..<6, 8..<10])
    #expect(Self.set(3..<3).ranges == [])
  }

  @Test func missingParts() {
    let set = Self.set(2..<4, 6..<8)
    #expect(set.missing(from: 0..<10) == [0..<2, 4..<6, 8..<10])
    #expect(set.missing(from: 3..<7) == [4..<6])
    #expect(set.missing(from: 2..<4) == [])
    #expect(set.missing(from: 4..<6) == [4..<6])
    #expect(set.missing(from: 10..<12) == [10..<12])
  }

  @Test func containsAndOverlaps() {
    let set = Self.set(2..<4, 6..<8)
    #expect(set.contains(2..<4) && set.contains(7..<8) && set.contains(5..<5))
    #expect(!set.contains(3..<7) && !set.contains(0..<3))
    #expect(set.overlaps(3..<7) && !set.overlaps(4..<6) && !set.overlaps(0..<2))
  }

  /// Against a plain set of integers, over every pair of ranges in a small domain.
  @Test func agreesWithAPlainSet() {
    let ranges = (0..<7).flatMap { low in (low..<8).map { low..<$0 } }
    for a in ranges {
      for b in ranges {
        let set = Self.set(a, b)
        let plain = Set(a).union(b)
        for query in ranges {
          #expect(set.contains(query) == plain.isSuperset(of: query), "\(a) \(b) \(query)")
          #expect(set.overlaps(query) == !plain.isDisjoint(with: query), "\(a) \(b) \(query)")
          #expect(set.missing(from: query).flatMap { Array($0) } == query.filter { !plain.contains($0) })
        }
      }
    }
  }
}
