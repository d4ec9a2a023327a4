import NeuralNetwork
import Testing

@testable import Vision

/// Orders, splits and synthetic pictures of earlier runs must come out again: the numbers behind them are fixed. Those
/// expected here were once printed.
@Suite struct RandomStreamTests {
  @Test func streams() {
    var random = RandomNumbers(1, 2, 3)
    #expect(
      (0..<3).map { _ in random.next() } == [
        16_912_481_252_337_885_688, 18_243_478_188_283_933_094, 15_282_079_350_297_277_789,
      ])
    #expect(random.below(1000) == 968 && random.below(7) == 6)
    random = RandomNumbers(0, 0)
    #expect(random.permutation(10) == [4, 7, 0, 5, 9, 3, 6, 2, 8, 1])
    #expect(random.uniform(-3...5).bitPattern == 1_074_420_934)
    #expect(random.uniform(0.1...0.7).bitPattern == 1_056_995_936)
  }

  @Test func numbersOfARange() {
    var random = RandomNumbers(seed: 3)
    var hash: UInt64 = 0
    for _ in 0..<100_000 { hash = hash &* 31 &+ UInt64(random.uniform(-0.3...1.7).bitPattern) }
    #expect(hash == 13_926_383_907_266_802_431)
  }

  @Test func syntheticPictures() {
    let dataset = SyntheticDataset(count: 3, seed: 5, size: 50)
    var hash: UInt64 = 0
    for index in 0..<3 {
      let image = dataset.image(at: index, label: dataset.label(at: index))
      for value in image.pixels { hash = hash &* 31 &+ UInt64(value) }
    }
    #expect(hash == 7_681_486_306_864_446_995)
  }
}
