import Foundation
#if canImport(FoundationXML)
  import FoundationXML
#endif
import Testing

@testable import Training

@Suite struct StudentTTests {
  // With one and two degrees the distribution has a closed form.
  @Test(arguments: [0.0, 0.1, 1, 2.5, 12.7, 400])
  func closedForms(t: Double) {
    #expect(abs(StudentT(degrees: 1).twoSided(t) - (1 - 2 * atan(t) / .pi)) < 1e-13)
    #expect(abs(StudentT(degrees: 2).twoSided(t) - (1 - t / (2 + t * t).squareRoot())) < 1e-13)
  }

  // NIST/SEMATECH e-Handbook 1.3.6.7.2, three decimals.
  @Test(arguments: [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045), (100, 1.984)] as [(Double, Double)])
  func criticalValues(degrees: Double, expected: Double) {
    #expect(abs(StudentT(degrees: degrees).critical(0.05) - expected) < 5.1e-4)
  }
}

@Suite struct ComparisonTests {
  @Test func summary() {
    let summary = SampleSummary([1, 2, 3, 4, 5])
    #expect(summary.mean == 3 && abs(summary.deviation - 2.5.squareRoot()) < 1e-15)
    // 2.7764 · √(2.5 / 5)
    #expect(abs(summary.halfWidth - 1.9632) < 1e-4)
    #expect(SampleSummary([2]).halfWidth.isNaN && SampleSummary([2]).interval(within: 0...9) == nil)
    // Two equal values do not show that all others are.
    #expect(SampleSummary([2, 2]).deviation == 0 && SampleSummary([2, 2]).interval(within: 0...9) == nil)
    let interval = summary.interval(within: 2...9)
    #expect(interval?.lowerBound == 2 && interval?.upperBound == 3 + summary.halfWidth)
  }

  @Test func pairedTest() {
    // Differences 1, 2, 3: t = 2 / (1 / √3) = 2√3 with two degrees, p = 1 − t / √(2 + t²) = 1 − √(12 / 14).
    let paired = PairedComparison([2, 4, 6], minus: [1, 2, 3])
    #expect(paired.differences.mean == 2 && abs(paired.p - (1 - (12.0 / 14).squareRoot())) < 1e-13)
    #expect(PairedComparison([1, 2], minus: [2, 1]).p == 1)
    // Equal differences, be they nothing or large.
    #expect(PairedComparison([1, 2], minus: [1, 2]).p.isNaN)
    #expect(PairedComparison([1, 2], minus: [0, 1]).p.isNaN)
    // 35 points each, which floating point does not give alike.
    #expect(PairedComparison([0.9, 0.8], minus: [0.55, 0.45]).differences.deviation == 0)
    #expect(PairedComparison([1], minus: [0]).p.isNaN)
  }

  private let report = ComparisonReport(
    arms: [
      .init(
        name: "resizer", parameters: 12, accuracies: [0: 0.9, 1: 0.8, 2: 1], imagesPerSecond: [0: 10, 1: 10, 2: 13]),
      .init(name: "a|<b>", parameters: 7, accuracies: [0: 0.5, 1: 0.5], imagesPerSecond: [0: 20, 1: 20]),
    ], subtitle: "what")

  @Test func table() {
    let text = report.markdown
    #expect(text.contains("| resizer | 3 | 90.0 % | 65.2 % to 100.0 % | – | – | – | 12 | 11.0 |"))
    // Of the seeds 0 and 1: mean difference 35 points, deviation 7.07, 12.706 · 7.07 / √2 = 63.5.
    #expect(text.contains("| a\\|<b> | 2 | 50.0 % | – | +35.0 points | -28.5 points to +98.5 points |"))
    #expect(text.contains("at 0 and 100 %. From seeds of equal results none can be given (–)."))
    #expect(text.contains("| 2 | 100.0 % | – |"))
  }

  /// A difference that two seeds share to the last image is no certainty.
  @Test func equalDifferencesHaveNoInterval() {
    let pair = ComparisonReport(
      arms: [
        .init(name: "a", parameters: 1, accuracies: [0: 0.75, 1: 1], imagesPerSecond: [0: 1, 1: 1]),
        .init(name: "b", parameters: 1, accuracies: [0: 0.5, 1: 0.75], imagesPerSecond: [0: 1, 1: 1]),
        .init(name: "c", parameters: 1, accuracies: [0: 0.5], imagesPerSecond: [0: 1]),
      ], subtitle: "what")
    #expect(pair.markdown.contains("| b | 2 | 62.5 % | 0.0 % to 100.0 % | +25.0 points | – | – | 1 |"))
    #expect(pair.markdown.contains("| c | 1 | 50.0 % | – | +25.0 points | – | – | 1 |"))
    #expect(pair.markdown.contains("From one seed and from seeds of equal results none can be given"))
    #expect(XMLParser(data: Data(pair.svg.utf8)).parse())
  }

  @Test func drawing() {
    let svg = report.svg
    #expect(svg.contains("a|&lt;b&gt;") && !svg.contains("<b>"))
    #expect(svg.matches(of: /class="seed"/).count == 5 && svg.matches(of: /class="mean"/).count == 2)
    #expect(XMLParser(data: Data(svg.utf8)).parse())
  }
}
