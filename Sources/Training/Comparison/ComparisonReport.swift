import Foundation

/// What several arms achieved over the same seeds, as a Markdown table and a drawing.
public struct ComparisonReport: Sendable {
  /// One arm of a comparison.
  public struct Arm: Sendable {
    /// Its name.
    public var name: String
    /// Parameters of its model, moving statistics included.
    public var parameters: Int
    /// The validation accuracy of each finished seed.
    public var accuracies: [UInt64: Double]
    /// Training images per second of each finished seed.
    public var imagesPerSecond: [UInt64: Double]

    /// Creates an arm.
    public init(
      name: String, parameters: Int, accuracies: [UInt64: Double], imagesPerSecond: [UInt64: Double]
    ) {
      self.name = name
      self.parameters = parameters
      self.accuracies = accuracies
      self.imagesPerSecond = imagesPerSecond
    }
  }

  /// The arms; the first is compared with each of the others.
  public var arms: [Arm]
  /// How the runs were made, in a line.
  public var subtitle: String

  /// Creates a report of arms with at least one finished seed each.
  public init(arms: [Arm], subtitle: String) {
    precondition(
      !arms.isEmpty && arms.allSatisfy { !$0.accuracies.isEmpty }, "ComparisonReport: an arm without a finished seed")
    self.arms = arms
    self.subtitle = subtitle
  }

  /// `first` minus each other arm, over the seeds that both have finished; nil without a common one.
  public func comparison(with other: Arm) -> PairedComparison? {
    let seeds = arms[0].accuracies.keys.filter { other.accuracies[$0] != nil }.sorted()
    guard !seeds.isEmpty else { return nil }
    return PairedComparison(seeds.map { arms[0].accuracies[$0]! }, minus: seeds.map { other.accuracies[$0]! })
  }

  /// The tables: a line for each arm, and one for each seed.
  public var markdown: String {
    let seeds = Set(arms.flatMap { $0.accuracies.keys }).sorted()
    func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
    var text = """
      # Comparison

      \(subtitle)

      | arm | seeds | accuracy, mean | 95 % interval | \(cell(arms[0].name)) minus this | 95 % interval | p | parameters | images/s |
      |---|---|---|---|---|---|---|---|---|

      """
    for (index, arm) in arms.enumerated() {
      let summary = SampleSummary(Array(arm.accuracies.values))
      let paired = index == 0 ? nil : comparison(with: arm)
      let speed = SampleSummary(Array(arm.imagesPerSecond.values)).mean
      let range = interval(summary, within: Self.accuracies) { percent($0) }
      text += "| \(cell(arm.name)) | \(summary.count) | \(percent(summary.mean)) | \(range) | "
      text +=
        paired.map {
          "\(points($0.differences.mean)) | \(interval($0.differences, within: Self.differences, points)) | \(p($0.p))"
        }
        ?? "– | – | –"
      text += " | \(arm.parameters) | \(fixed(speed, 1)) |\n"
    }
    text +=
      "\n| seed |" + arms.map { " \(cell($0.name)) |" }.joined() + "\n|---|" + arms.map { _ in "---|" }.joined() + "\n"
    for seed in seeds {
      text += "| \(seed) |" + arms.map { " \(percent($0.accuracies[seed])) |" }.joined() + "\n"
    }
    return text + """

      Accuracy is that of the last epoch on the validation images, with BatchNorm's statistics estimated afresh. Arms of a \
      seed share images, order, scaling and the backbone's initial weights. Intervals and p are Student's, of the mean \
      and of the differences by seed; intervals end where no mean can lie, at 0 and 100 %\(without)

      """
  }

  /// Why there is a dash in the place of an interval, where there is one.
  private var without: String {
    let samples =
      arms.map { SampleSummary(Array($0.accuracies.values)) }
      + arms.dropFirst().compactMap { comparison(with: $0)?.differences }
    let reasons =
      (samples.contains { $0.count == 1 } ? ["one seed"] : [])
      + (samples.contains { $0.count > 1 && $0.deviation == 0 } ? ["seeds of equal results"] : [])
    return reasons.isEmpty ? "." : ". From \(reasons.joined(separator: " and from ")) none can be given (–)."
  }

  /// Where a mean accuracy and a mean difference can lie.
  private static let accuracies = 0.0...1.0
  private static let differences = -1.0...1.0

  /// A row for each arm: its seeds as dots, its mean and interval as a bar.
  public var svg: String {
    let (left, right, rowHeight, top) = (120.0, 560.0, 46.0, 34.0)
    let summaries = arms.map { SampleSummary(Array($0.accuracies.values)) }
    let intervals = summaries.map { $0.interval(within: Self.accuracies) }
    let values =
      arms.flatMap { $0.accuracies.values }
      + intervals.compactMap { $0 }.flatMap { [$0.lowerBound, $0.upperBound] }
    let ticks = LineChart.ticks(from: values.min() ?? 0, to: values.max() ?? 1, limits: 0...1)
    let bottom = top + rowHeight * Double(arms.count)
    func x(_ value: Double) -> String {
      let share = (value - ticks[0]) / (ticks.last! - ticks[0])
      return fixed(left + (right - left) * share, 1)
    }
    var svg = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 \(fixed(bottom + 44, 0))" \
      font-family="system-ui, sans-serif" font-size="13">
      <style>
      .page { fill: #fffefb; } text { fill: #22241f; } .soft { fill: #676a62; } .grid { stroke: #e2e0d6; }
      .seed { fill: #1d63d8; fill-opacity: .45; } .bar { stroke: #cf5a0b; stroke-width: 3; } .mean { fill: #cf5a0b; }
      @media (prefers-color-scheme: dark) {
      .page { fill: #1c1f1c; } text { fill: #e9eae4; } .soft { fill: #a0a59c; } .grid { stroke: #30342f; }
      .seed { fill: #6aa9ff; } .bar { stroke: #ff9d57; } .mean { fill: #ff9d57; }
      }
      </style>
      <rect class="page" width="100%" height="100%" rx="10"/>
      <text class="soft" x="\(fixed(left, 1))" y="20">Validation accuracy: seeds (blue), mean with 95 % interval (orange)</text>

      """
    for tick in ticks {
      svg += """
        <line class="grid" x1="\(x(tick))" x2="\(x(tick))" y1="\(fixed(top, 1))" y2="\(fixed(bottom, 1))"/>\
        <text class="soft" x="\(x(tick))" y="\(fixed(bottom + 20, 1))" text-anchor="middle">\(percent(tick, 0))</text>

        """
    }
    for (row, (arm, summary)) in zip(arms, summaries).enumerated() {
      let y = top + rowHeight * (Double(row) + 0.5)
      svg += """
        <text x="\(fixed(left - 12, 1))" y="\(fixed(y + 4.5, 1))" text-anchor="end">\(escaped(arm.name))</text>

        """
      for (seed, accuracy) in arm.accuracies.sorted(by: { $0.key < $1.key }) {
        svg += """
          <circle class="seed" cx="\(x(accuracy))" cy="\(fixed(y - 7, 1))" r="4.5"><title>seed \(seed): \
          \(percent(accuracy))</title></circle>

          """
      }
      if let interval = intervals[row] {
        svg += """
          <line class="bar" x1="\(x(interval.lowerBound))" x2="\(x(interval.upperBound))" \
          y1="\(fixed(y + 7, 1))" y2="\(fixed(y + 7, 1))"/>

          """
      }
      svg += "<circle class=\"mean\" cx=\"\(x(summary.mean))\" cy=\"\(fixed(y + 7, 1))\" r=\"5\"/>\n"
    }
    return svg + "</svg>\n"
  }

  private func interval(
    _ summary: SampleSummary, within bounds: ClosedRange<Double>, _ format: (Double) -> String
  ) -> String {
    guard let interval = summary.interval(within: bounds) else { return "–" }
    return "\(format(interval.lowerBound)) to \(format(interval.upperBound))"
  }

  /// A difference of shares in percentage points.
  private func points(_ value: Double) -> String { String(format: "%+.1f points", value * 100) }

  private func p(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    return value < 0.0001 ? "< 0.0001" : fixed(value, 4)
  }
}
