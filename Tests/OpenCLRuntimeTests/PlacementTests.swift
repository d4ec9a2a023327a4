import Testing

@testable import OpenCLRuntime

@Suite struct PlacementTests {
  @Test func whatIsNeededTogetherDoesNotOverlap() {
    for seed in 1...20 {
      var random = Xorshift(state: UInt64(seed))
      let requests = (0..<200).map { index in
        let start = Int(random.next() % 500)
        return Placement.Request(
          index: index, byteCount: 1 + Int(random.next() % 10_000), span: start...start + Int(random.next() % 60))
      }
      let limit = seed % 2 == 0 ? Int.max : 40_000
      let placement = Placement(requests, alignment: 256, blockLimit: limit)
      for (a, b) in pairs(requests) where a.span.overlaps(b.span) {
        guard let first = placement.places[a.index], let second = placement.places[b.index] else {
          Issue.record("a request has no place")
          continue
        }
        #expect(
          first.block != second.block || first.offset + first.byteCount <= second.offset
            || second.offset + second.byteCount <= first.offset)
      }
      for request in requests {
        guard let place = placement.places[request.index] else { continue }
        #expect(place.byteCount >= request.byteCount && place.offset % 256 == 0)
        #expect(place.offset + place.byteCount <= placement.blocks[place.block])
      }
      #expect(placement.blocks.allSatisfy { $0 <= max(limit, 10_240) })
      #expect(placement.byteCount >= placement.leastByteCount)
      if limit == .max {
        #expect(placement.blocks.count == 1 && Double(placement.byteCount) < 1.2 * Double(placement.leastByteCount))
      }
    }
  }

  @Test func memoryIsUsedAgain() {
    // Two at a time, of ten.
    let requests = (0..<10).map { Placement.Request(index: $0, byteCount: 1024, span: $0...$0 + 1) }
    let placement = Placement(requests, alignment: 256, blockLimit: .max)
    #expect(placement.byteCount == 2048 && placement.leastByteCount == 2048)
  }

  @Test func aRequestBeyondTheLimitHasABlockForItself() {
    let placement = Placement(
      [.init(index: 0, byteCount: 5000, span: 0...1), .init(index: 1, byteCount: 100, span: 0...1)], alignment: 256,
      blockLimit: 4096)
    #expect(placement.blocks == [5120, 256])
  }

  private func pairs<Element>(_ elements: [Element]) -> [(Element, Element)] {
    elements.indices.flatMap { first in elements[(first + 1)...].map { (elements[first], $0) } }
  }
}

private struct Xorshift {
  var state: UInt64

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}
