import OpenCLRuntime

/// A small deterministic generator (SplitMix64; Steele, Lea & Flood 2014). The same seed gives the same numbers on every
/// machine.
public struct RandomNumbers: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// A generator that starts from `seed`.
  public init(seed: UInt64) {
    state = seed
  }

  /// A generator of its own for each name, so that one part's numbers do not depend on what other parts there are.
  public init(seed: UInt64, name: String) {
    var mixer = RandomNumbers(seed: seed)
    state = mixer.next() ^ fnv1a(name.utf8)
  }

  /// The next 64 random bits.
  public mutating func next() -> UInt64 {
    state &+= Self.increment
    return Self.mix(state)
  }

  /// What the state grows by from one number to the next.
  package static let increment: UInt64 = 0x9e37_79b9_7f4a_7c15

  /// Every bit of `value` changes about half of the result's; no two values have the same result.
  package static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number of [0, 1) with 24 random bits.
  public mutating func uniform() -> Float {
    Float(next() >> 40) * 0x1p-24
  }
}
