import NeuralNetwork
import TensorCore
import Testing

/// Statistics are taken over `count` numbers and may be five of their own standard deviations off: 6e-7 of all seeds
/// are, and the seeds here are fixed.
@Suite struct InitializerTests {
  private let shape: Shape = [3, 5, 40, 60]
  private let count = 3 * 5 * 40 * 60
  // Keras: the last two extents times the window.
  private let fanIn = 600.0
  private let fanOut = 900.0

  private func values(_ initializer: Initializer, _ shape: Shape, seed: UInt64 = 1) -> [Double] {
    var random = RandomNumbers(seed: seed)
    return initializer.values(shape: shape, using: &random).map(Double.init)
  }

  private func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

  /// Values lie within `limit`, reach 99 % of it on both sides, and have mean 0 and variance limit² / 3, whose own
  /// deviations are limit · √(1 / 3n) and limit² · √(4 / 45n).
  private func expectUniform(_ values: [Double], limit: Double, sourceLocation: SourceLocation = #_sourceLocation) {
    let n = Double(values.count)
    let (low, high) = (values.min() ?? 0, values.max() ?? 0)
    // The limit is rounded to float32.
    #expect(low >= -limit * (1 + 1e-6) && high <= limit * (1 + 1e-6), sourceLocation: sourceLocation)
    #expect(low < -0.99 * limit && high > 0.99 * limit, sourceLocation: sourceLocation)
    #expect(abs(mean(values)) < 5 * limit * (1 / (3 * n)).squareRoot(), sourceLocation: sourceLocation)
    let variance = mean(values.map { $0 * $0 })
    #expect(
      abs(variance - limit * limit / 3) < 5 * limit * limit * (4 / (45 * n)).squareRoot(),
      sourceLocation: sourceLocation)
  }

  /// Mean and variance of a distribution whose fourth moment is at most the normal one's: their deviations are at most
  /// σ / √n and σ² · √(2 / n).
  private func expectMoments(
    _ values: [Double], mean expected: Double, deviation: Double, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let n = Double(values.count)
    let variance = deviation * deviation
    #expect(abs(mean(values) - expected) < 5 * deviation / n.squareRoot(), sourceLocation: sourceLocation)
    let found = mean(values.map { ($0 - expected) * ($0 - expected) })
    #expect(abs(found - variance) < 5 * variance * (2 / n).squareRoot(), sourceLocation: sourceLocation)
  }

  @Test func constants() {
    #expect(values(.zeros, [2, 3]) == Array(repeating: 0, count: 6))
    #expect(values(.ones, [2, 3]) == Array(repeating: 1, count: 6))
    #expect(values(.constant(-2.5), [4]) == Array(repeating: -2.5, count: 4))
  }

  @Test func uniformRanges() {
    expectUniform(values(.glorotUniform, shape), limit: (6 / (fanIn + fanOut)).squareRoot())
    expectUniform(values(.heUniform, shape), limit: (6 / fanIn).squareRoot())
    expectUniform(values(.uniform(-0.25, 0.75), shape).map { $0 - 0.25 }, limit: 0.5)
  }

  @Test func normalMoments() {
    expectMoments(values(.normal(mean: 2, deviation: 0.5), shape), mean: 2, deviation: 0.5)
    for (initializer, deviation) in [
      (Initializer.glorotNormal, (2 / (fanIn + fanOut)).squareRoot()), (.heNormal, (2 / fanIn).squareRoot()),
    ] {
      let values = values(initializer, shape)
      expectMoments(values, mean: 0, deviation: deviation)
      // Cut at two deviations of the normal before the cut, which has 1 / 0.8796 of the deviation after it. The cut
      // keeps 95 %, so some of 36,000 numbers come close.
      let limit = 2 * deviation / 0.879_625_66
      let largest = values.map(abs).max() ?? 0
      #expect(largest <= limit * (1 + 1e-6) && largest > 0.99 * limit)
    }
  }

  /// Fans of fewer extents: two are inputs and outputs, one is both, none is 1 and 1. Drawing from the same numbers,
  /// values differ by the limits alone.
  @Test(arguments: [([7, 1200], 7, 1200), ([2000], 2000, 2000), ([], 1, 1)] as [([Int], Double, Double)])
  func fans(_ extents: [Int], _ fanIn: Double, _ fanOut: Double) {
    let shape = Shape(extents)
    let unit = values(.uniform(-1, 1), shape)
    for (initializer, limit) in [
      (Initializer.glorotUniform, (6 / (fanIn + fanOut)).squareRoot()), (.heUniform, (6 / fanIn).squareRoot()),
    ] {
      // A few float32 roundings of numbers up to the limit.
      let largest = zip(values(initializer, shape), unit).map { abs($0 - $1 * limit) }.max() ?? 0
      #expect(largest < 5e-7 * limit)
    }
  }

  @Test func sameSeedSameNumbers() {
    for initializer in [
      Initializer.glorotUniform, .glorotNormal, .heUniform, .heNormal, .uniform(0, 1), .normal(mean: 0, deviation: 1),
    ] {
      #expect(values(initializer, [3, 5], seed: 4) == values(initializer, [3, 5], seed: 4))
      #expect(values(initializer, [3, 5], seed: 4) != values(initializer, [3, 5], seed: 5))
    }
  }
}

@Suite struct RandomNumbersTests {
  /// The published sequence of SplitMix64 from 1234567.
  @Test func knownNumbers() {
    var random = RandomNumbers(seed: 1_234_567)
    let expected: [UInt64] = [
      6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423, 4_593_380_528_125_082_431,
      16_408_922_859_458_223_821,
    ]
    #expect(expected.map { _ in random.next() } == expected)
  }

  @Test func unitNumbersStayBelowOne() {
    var random = RandomNumbers(seed: 2)
    let numbers = (0..<100_000).map { _ in random.uniform() }
    #expect(numbers.allSatisfy { $0 >= 0 && $0 < 1 })
    // The deviation of the mean is √(1 / 12n); five of them.
    let mean = numbers.reduce(0) { $0 + Double($1) } / 100_000
    #expect(abs(mean - 0.5) < 5 * (1.0 / 1_200_000).squareRoot())
  }

  @Test func everyNameHasItsOwnNumbers() {
    func first(_ seed: UInt64, _ name: String) -> UInt64 {
      var random = RandomNumbers(seed: seed, name: name)
      return random.next()
    }
    #expect(first(1, "a/kernel") == first(1, "a/kernel"))
    #expect(Set([first(1, "a/kernel"), first(1, "b/kernel"), first(2, "a/kernel"), first(1, "")]).count == 4)
  }
}
