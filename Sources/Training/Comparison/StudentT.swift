import Foundation

/// Student's t distribution with `degrees` degrees of freedom.
struct StudentT {
  let degrees: Double

  /// The probability of a value at least as far from 0 as `t`: the regularised incomplete beta function
  /// I_x(ν/2, ½) at x = ν / (ν + t²) (Abramowitz & Stegun 26.5.27).
  func twoSided(_ t: Double) -> Double {
    Self.incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5)
  }

  /// The value beyond which, on either side, lies the probability `p` in all: 2.776 for 0.05 and 4 degrees.
  func critical(_ p: Double) -> Double {
    var (low, high) = (0.0, 1.0)
    while twoSided(high) > p { high *= 2 }
    // Halving 100 times goes below the spacing of doubles.
    for _ in 0..<100 {
      let middle = (low + high) / 2
      if twoSided(middle) > p { low = middle } else { high = middle }
    }
    return high
  }

  /// I_x(a, b) by its continued fraction (Abramowitz & Stegun 26.5.8), evaluated by the method of Lentz.
  private static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    if x <= 0 { return 0 }
    if x >= 1 { return 1 }
    // The fraction converges fast below this point; above, the symmetry I_x(a, b) = 1 − I_{1−x}(b, a) helps.
    if x > (a + 1) / (a + b + 2) { return 1 - incompleteBeta(1 - x, b, a) }
    let logBeta: Double = lgamma(a) + lgamma(b) - lgamma(a + b)
    let front: Double = exp(a * log(x) + b * log(1 - x) - logBeta) / a
    let tiny = 1e-300
    var (c, d, result) = (1.0, 0.0, 1.0)
    for step in 0..<500 {
      let term = Self.fractionTerm(step, x, a, b)
      d = 1 / nonZero(1 + term * d, tiny)
      c = nonZero(1 + term / c, tiny)
      result *= c * d
      if abs(c * d - 1) < 1e-15 { break }
    }
    return front * (result - 1)
  }

  /// The numerators of the continued fraction: 1, d₁, d₂, …
  private static func fractionTerm(_ step: Int, _ x: Double, _ a: Double, _ b: Double) -> Double {
    if step == 0 { return 1 }
    let m = Double(step / 2)
    let base: Double = a + 2 * m
    if step % 2 == 0 {
      let numerator: Double = m * (b - m) * x
      return numerator / ((base - 1) * base)
    }
    let numerator: Double = (a + m) * (a + b + m) * x
    return -numerator / (base * (base + 1))
  }

  private static func nonZero(_ value: Double, _ tiny: Double) -> Double { abs(value) < tiny ? tiny : value }
}

/// Mean and spread of a sample, with the interval that holds the true mean with 95 % confidence if the values are
/// normally distributed: mean ± t(0.975, n − 1) · s / √n (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2).
public struct SampleSummary: Sendable, Equatable {
  /// Number of values.
  public let count: Int
  /// Their mean.
  public let mean: Double
  /// Their standard deviation, with n − 1; NaN for a single value.
  public let deviation: Double
  /// Half the width of the interval; NaN for a single value and for equal ones, which say nothing about how far others
  /// would lie from them.
  public let halfWidth: Double

  /// The interval, as far as it lies within `bounds`; nil where there is none. A mean that cannot lie outside of them lies
  /// in what is left with the same confidence.
  public func interval(within bounds: ClosedRange<Double>) -> ClosedRange<Double>? {
    guard halfWidth.isFinite else { return nil }
    return (mean - halfWidth...mean + halfWidth).clamped(to: bounds)
  }

  /// Summarises `values`; traps without any.
  public init(_ values: [Double]) {
    precondition(!values.isEmpty, "SampleSummary: no values")
    count = values.count
    let mean = values.reduce(0, +) / Double(values.count)
    self.mean = mean
    let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let spread = values.count > 1 ? (squares / Double(values.count - 1)).squareRoot() : .nan
    // Differences of equal size may still differ by their rounding.
    deviation = spread <= 1e-9 * (values.map(abs).max() ?? 0) ? 0 : spread
    halfWidth =
      deviation > 0
      ? StudentT(degrees: Double(values.count - 1)).critical(0.05) * deviation / Double(values.count).squareRoot()
      : .nan
  }
}

/// The paired t-test (Student 1908): whether two arms differ, judged by their differences seed by seed.
public struct PairedComparison: Sendable, Equatable {
  /// The differences `first − second`.
  public let differences: SampleSummary
  /// The probability of differences at least this large by chance if the arms are alike; NaN for a single pair and for
  /// equal differences, of whose spread nothing is known.
  public let p: Double

  /// Compares values of the same seeds.
  public init(_ first: [Double], minus second: [Double]) {
    precondition(first.count == second.count, "PairedComparison: \(first.count) and \(second.count) values")
    let summary = SampleSummary(zip(first, second).map(-))
    differences = summary
    guard summary.deviation > 0 else {
      p = .nan
      return
    }
    let t = summary.mean / (summary.deviation / Double(summary.count).squareRoot())
    p = StudentT(degrees: Double(summary.count - 1)).twoSided(t)
  }
}
