/// A dense array of doubles, row-major. Images are [batch, height, width, channels], filters
/// [height, width, input channels, output channels], dense weights [inputs, outputs].
public struct ReferenceTensor: Sendable, Equatable {
  /// The extent of every dimension.
  public var shape: [Int]
  /// The elements, the last dimension contiguous.
  public var values: [Double]

  /// A tensor of `values` in row-major order.
  public init(_ shape: [Int], _ values: [Double]) {
    precondition(values.count == shape.reduce(1, *), "\(values.count) values do not fill shape \(shape)")
    self.shape = shape
    self.values = values
  }

  /// A tensor of single-precision values, as read back from a device.
  public init(_ shape: [Int], values: [Float]) {
    self.init(shape, values.map(Double.init))
  }

  /// A tensor filled with one value.
  public init(_ shape: [Int], repeating value: Double = 0) {
    self.init(shape, Array(repeating: value, count: shape.reduce(1, *)))
  }

  /// A tensor of rank zero.
  public init(scalar value: Double) {
    self.init([], [value])
  }

  /// Uniform values in `range`, the same for the same seed, rounded to single precision so that a device sees exactly
  /// what the reference sees.
  public static func random(
    _ shape: [Int], seed: UInt64, range: ClosedRange<Double> = -1...1
  ) -> ReferenceTensor {
    var generator = SplitMix64(seed: seed)
    return ReferenceTensor(
      shape,
      (0..<shape.reduce(1, *)).map { _ in
        Double(Float(range.lowerBound + (range.upperBound - range.lowerBound) * generator.nextUnit()))
      })
  }

  /// One-hot rows for `classes`: [classes.count, count].
  public static func oneHot(_ classes: [Int], count: Int) -> ReferenceTensor {
    var result = ReferenceTensor([classes.count, count])
    for (row, index) in classes.enumerated() { result.values[row * count + index] = 1 }
    return result
  }

  /// The values in single precision, to be written to a device.
  public var floats: [Float] { values.map(Float.init) }

  /// The number of elements.
  public var count: Int { values.count }

  /// The extent of the last dimension.
  public var channels: Int { shape.last ?? 1 }

  /// The only value of a tensor with one element.
  public var scalar: Double {
    precondition(count == 1, "shape \(shape) is not a scalar")
    return values[0]
  }

  /// The same values under another shape.
  public func reshaped(_ shape: [Int]) -> ReferenceTensor { ReferenceTensor(shape, values) }

  /// `transform` of every element.
  public func map(_ transform: (Double) -> Double) -> ReferenceTensor {
    ReferenceTensor(shape, values.map(transform))
  }

  /// `transform` of the elements of two tensors of one shape.
  public func zip(_ other: ReferenceTensor, _ transform: (Double, Double) -> Double) -> ReferenceTensor {
    precondition(shape == other.shape, "shapes \(shape) and \(other.shape) differ")
    return ReferenceTensor(shape, Swift.zip(values, other.values).map { transform($0, $1) })
  }
}

/// ‖actual − expected‖₂ / ‖expected‖₂, with the plain norm of `actual` where `expected` is zero. Not-a-number where
/// the counts differ, so that no tolerance accepts it.
public func relativeL2(_ actual: [Double], to expected: ReferenceTensor) -> Double {
  guard actual.count == expected.count else { return .nan }
  var difference = 0.0
  var norm = 0.0
  for (a, e) in zip(actual, expected.values) {
    difference += (a - e) * (a - e)
    norm += e * e
  }
  return (norm > 0 ? difference / norm : difference).squareRoot()
}

/// The distance of a device's result from the reference, see above.
public func relativeL2(_ actual: [Float], to expected: ReferenceTensor) -> Double {
  relativeL2(actual.map(Double.init), to: expected)
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Uniform in 0 ..< 1, with 53 random bits.
  mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
