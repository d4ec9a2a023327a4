import Testing

@testable import OpenCLRuntime

@Suite struct MemoryPlanTests {
  @Test func whatIsNeededTogetherDoesNotOverlap() {
    for seed in 1...20 {
      var random = Xorshift(state: UInt64(seed))
      let requests = (0..<200).map { index in
        let start = Int(random.next() % 500)
        return MemoryPlan.Request(
          index: index, byteCount: 1 + Int(random.next() % 10_000), span: start...start + Int(random.next() % 60))
      }
      let limit = seed % 2 == 0 ? Int.max : 40_000
      let plan = MemoryPlan(requests, alignment: 256, blockLimit: limit)
      for (a, b) in pairs(requests) where a.span.overlaps(b.span) {
        guard let first = plan.places[a.index], let second = plan.places[b.index] else {
          Issue.record("a request has no place")
          continue
        }
        #expect(
          first.block != second.block || first.offset + first.byteCount <= second.offset
            || second.offset + second.byteCount <= first.offset)
      }
      for request in requests {
        guard let place = plan.places[request.index] else { continue }
        #expect(place.byteCount >= request.byteCount && place.offset % 256 == 0)
        #expect(place.offset + place.byteCount <= plan.blocks[place.block])
      }
      #expect(plan.blocks.allSatisfy { $0 <= max(limit, 10_240) })
      #expect(plan.byteCount >= plan.leastByteCount)
      if limit == .max { #expect(plan.blocks.count == 1 && Double(plan.byteCount) < 1.2 * Double(plan.leastByteCount)) }
    }
  }

  @Test func memoryIsUsedAgain() {
    // Two at a time, of ten.
    let requests = (0..<10).map { MemoryPlan.Request(index: $0, byteCount: 1024, span: $0...$0 + 1) }
    let plan = MemoryPlan(requests, alignment: 256, blockLimit: .max)
    #expect(plan.byteCount == 2048 && plan.leastByteCount == 2048)
  }

  @Test func aRequestBeyondTheLimitHasABlockForItself() {
    let plan = MemoryPlan(
      [.init(index: 0, byteCount: 5000, span: 0...1), .init(index: 1, byteCount: 100, span: 0...1)], alignment: 256,
      blockLimit: 4096)
    #expect(plan.blocks == [5120, 256])
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
