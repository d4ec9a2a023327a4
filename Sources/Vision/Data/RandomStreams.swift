import NeuralNetwork

/// What data sets draw. The results never change with a Swift release, unlike those of `shuffled(using:)`: runs must
/// repeat.
extension RandomNumbers {
  /// A stream of its own for every combination of numbers, such as (seed, epoch).
  init(_ numbers: UInt64...) {
    var state: UInt64 = 0
    for number in numbers {
      state = RandomNumbers.mix(state &+ RandomNumbers.increment &+ RandomNumbers.mix(number))
    }
    self.init(seed: state)
  }

  /// From 0 up to `bound` − 1; the bias is below `bound` / 2⁶⁴.
  mutating func below(_ bound: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }

  mutating func uniform(_ range: ClosedRange<Float>) -> Float {
    range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
  }

  /// 0 ..< count in random order.
  mutating func permutation(_ count: Int) -> [Int] {
    var order = Array(0..<count)
    var i = count - 1
    while i > 0 {
      order.swapAt(i, below(i + 1))
      i -= 1
    }
    return order
  }
}
