/// Places in memory for requests whose lifetimes are known, so that those that are needed at the same time do not overlap.
///
/// The largest are placed first, each at the lowest offset that is free for its whole life (greedy by size; Pisarchyk & Lee
/// 2020 found it within a few percent of the least for neural networks).
struct Placement: Sendable {
  struct Request: Sendable {
    /// What the caller calls it.
    var index: Int
    var byteCount: Int
    /// First and last moment at which it is needed.
    var span: ClosedRange<Int>
  }

  struct Place: Sendable, Equatable {
    var block: Int
    var offset: Int
    var byteCount: Int
  }

  /// By the requests' indices.
  private(set) var places: [Int: Place] = [:]
  /// Bytes of each block.
  private(set) var blocks: [Int] = []
  /// Most bytes needed at one moment: no plan does with less.
  let leastByteCount: Int

  var byteCount: Int { blocks.reduce(0, +) }

  /// - Parameters:
  ///   - alignment: offsets and sizes are multiples of it.
  ///   - blockLimit: most bytes of a block; a larger request has one for itself.
  init(_ requests: [Request], alignment: Int, blockLimit: Int) {
    func rounded(_ bytes: Int) -> Int { (bytes + alignment - 1) / alignment * alignment }
    let order = requests.sorted {
      ($1.byteCount, $0.span.lowerBound, $0.index) < ($0.byteCount, $1.span.lowerBound, $1.index)
    }
    // In each block by offset.
    var placed: [[(range: Range<Int>, span: ClosedRange<Int>)]] = []
    for request in order {
      let size = rounded(request.byteCount)
      var block = 0
      var offset = 0
      while true {
        if block == placed.count {
          placed.append([])
          blocks.append(0)
          offset = 0
          break
        }
        offset = Self.lowestGap(of: size, during: request.span, among: placed[block])
        if offset + size <= max(blockLimit, blocks[block]) { break }
        block += 1
      }
      let range = offset..<offset + size
      let position = placed[block].firstIndex { $0.range.lowerBound >= offset } ?? placed[block].count
      placed[block].insert((range, request.span), at: position)
      blocks[block] = max(blocks[block], range.upperBound)
      places[request.index] = Place(block: block, offset: offset, byteCount: size)
    }
    leastByteCount = Self.mostAtOnce(requests.map { ($0.span, rounded($0.byteCount)) })
  }

  private static func lowestGap(
    of size: Int, during span: ClosedRange<Int>, among placed: [(range: Range<Int>, span: ClosedRange<Int>)]
  ) -> Int {
    var offset = 0
    for other in placed where other.span.overlaps(span) {
      if other.range.lowerBound >= offset + size { break }
      offset = max(offset, other.range.upperBound)
    }
    return offset
  }

  private static func mostAtOnce(_ spans: [(span: ClosedRange<Int>, byteCount: Int)]) -> Int {
    // Requests that end make room before those that begin at the next moment.
    let changes =
      spans.flatMap { [($0.span.lowerBound, $0.byteCount), ($0.span.upperBound + 1, -$0.byteCount)] }
      .sorted { ($0.0, $0.1) < ($1.0, $1.1) }
    var (now, most) = (0, 0)
    for change in changes {
      now += change.1
      most = max(most, now)
    }
    return most
  }
}
