/// How values are distributed: 30 buckets of equal width from the smallest to the largest, as TensorBoard's own writer
/// makes them. Values that are not finite are left out, for no bucket holds them.
public struct Histogram: Sendable, Equatable {
  /// Finite values.
  public private(set) var count = 0
  /// The smallest of them, 0 without any.
  public private(set) var minimum = 0.0
  /// The largest of them, 0 without any.
  public private(set) var maximum = 0.0
  /// Their sum.
  public private(set) var sum = 0.0
  /// The sum of their squares.
  public private(set) var sumOfSquares = 0.0
  /// The right edge of each bucket.
  public private(set) var limits: [Double] = []
  /// The number of values in each bucket; the last one holds its right edge too.
  public private(set) var buckets: [Int] = []

  /// Counts `values`.
  public init(_ values: some Collection<Float>, buckets bucketCount: Int = 30) {
    for value in values where value.isFinite {
      let value = Double(value)
      (minimum, maximum) = count == 0 ? (value, value) : (min(minimum, value), max(maximum, value))
      count += 1
      sum += value
      sumOfSquares += value * value
    }
    guard count > 0 else { return }
    // Of a single value TensorBoard makes one bucket of width 1 around it.
    guard maximum > minimum else {
      (limits, buckets) = ([minimum + 0.5], [count])
      return
    }
    let width = (maximum - minimum) / Double(bucketCount)
    limits = (1...bucketCount).map { $0 == bucketCount ? maximum : minimum + width * Double($0) }
    buckets = Array(repeating: 0, count: bucketCount)
    for value in values where value.isFinite {
      buckets[min(Int((Double(value) - minimum) / width), bucketCount - 1)] += 1
    }
  }

  var message: Tensorboard_HistogramProto {
    .with {
      ($0.min, $0.max, $0.num, $0.sum, $0.sumSquares) = (minimum, maximum, Double(count), sum, sumOfSquares)
      $0.bucketLimit = limits
      $0.bucket = buckets.map(Double.init)
    }
  }
}
