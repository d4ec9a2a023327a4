import Foundation

/// Lines over a common horizontal axis, drawn as SVG whose colours come from the page's style, so that one drawing
/// serves light and dark.
package struct LineChart {
  /// One line.
  package struct Series {
    var name: String
    /// A class of the page's style.
    var style: String
    /// Points from left to right; those that are not finite are left out.
    var points: [(x: Double, y: Double)]
    /// Whether each point gets a dot.
    var hasDots = true

    package init(name: String, style: String, points: [(x: Double, y: Double)], hasDots: Bool = true) {
      (self.name, self.style, self.points, self.hasDots) = (name, style, points, hasDots)
    }
  }

  var title: String
  var series: [Series]
  /// From 0 to the right end of the axis.
  var width: Double
  var xLabel: String
  /// Values that are kept within these limits, such as shares within 0…1: what lies beyond is drawn at the edge.
  var limits: ClosedRange<Double>?
  /// Whether the axis of values reaches down to 0.
  var startsAtZero: Bool
  /// How values are written at the axis and in tool tips.
  var format: (Double) -> String

  package init(
    title: String, series: [Series], width: Double, xLabel: String, limits: ClosedRange<Double>? = nil,
    startsAtZero: Bool = false, format: @escaping (Double) -> String
  ) {
    (self.title, self.series, self.width) = (title, series, width)
    (self.xLabel, self.limits, self.startsAtZero, self.format) = (xLabel, limits, startsAtZero, format)
  }

  /// Rows of charts with their titles above, as one drawing that stands alone, on white.
  package static func grid(_ rows: [[LineChart]]) -> String {
    let cell = (width: size.width, height: size.height + 30)
    let extent = (width: cell.width * Double(rows.map(\.count).max() ?? 1), height: cell.height * Double(rows.count))
    var svg = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(number(extent.width)) \(number(extent.height))" \
      font-family="system-ui, sans-serif">
      <style>
      .grid { stroke: #e2e0d6 } .tick { fill: #676a62; font-size: 11.5px } .line { fill: none; stroke-width: 2.2 }
      .training { stroke: #1d63d8 } .fresh { stroke: #cf5a0b } .moving { stroke: #7d5bbe; stroke-dasharray: 5 4 }
      .dot { stroke: #fff; stroke-width: 1.5 } .dot.training { fill: #1d63d8 } .dot.fresh { fill: #cf5a0b }
      </style>
      <rect width="100%" height="100%" fill="#fff"/>

      """
    for (row, charts) in rows.enumerated() {
      for (column, chart) in charts.enumerated() {
        let (left, top) = (cell.width * Double(column), cell.height * Double(row))
        svg += """
          <text x="\(number(left + plot.left))" y="\(number(top + 20))" font-size="14" font-weight="600" fill="#22241f">\
          \(escaped(chart.title))</text>
          <svg x="\(number(left))" y="\(number(top + 30))" width="\(number(size.width))" height="\(number(size.height))">
          \(chart.svg() ?? "")</svg>

          """
      }
    }
    return svg + "</svg>\n"
  }

  private static let size = (width: 400.0, height: 236.0)
  private static let plot = (left: 44.0, right: 390.0, top: 12.0, bottom: 200.0)

  /// The drawing, or nil without a single finite point.
  func svg() -> String? {
    let drawn = series.map { line in
      var line = line
      line.points.removeAll { !($0.x.isFinite && $0.y.isFinite) }
      return line
    }
    .filter { !$0.points.isEmpty }
    let values = drawn.flatMap { $0.points.map(\.y) }
    guard let smallest = values.min(), let largest = values.max() else { return nil }
    let ticks = Self.ticks(from: startsAtZero ? min(smallest, 0) : smallest, to: largest, limits: limits)
    let (low, high) = (ticks.first!, ticks.last!)
    let right = max(width, drawn.flatMap { $0.points.map(\.x) }.max() ?? 1)
    let plot = Self.plot
    func x(_ value: Double) -> String { Self.number(plot.left + (plot.right - plot.left) * value / right) }
    func y(_ value: Double) -> String {
      Self.number(plot.bottom - (plot.bottom - plot.top) * (min(max(value, low), high) - low) / (high - low))
    }
    var svg = """
      <svg class="chart" viewBox="0 0 \(Self.number(Self.size.width)) \(Self.number(Self.size.height))" role="img" \
      aria-label="\(escaped(title))">

      """
    for tick in ticks {
      svg += """
        <line class="grid" x1="\(Self.number(plot.left))" x2="\(Self.number(plot.right))" y1="\(y(tick))" y2="\(y(tick))"/>\
        <text class="tick" x="\(Self.number(plot.left - 6))" y="\(y(tick))" dy="4" text-anchor="end">\
        \(escaped(format(tick)))</text>

        """
    }
    for tick in Self.wholeTicks(to: right) {
      svg += """
        <text class="tick" x="\(x(tick))" y="\(Self.number(plot.bottom + 17))" text-anchor="middle">\
        \(Int(tick))</text>

        """
    }
    svg += """
      <text class="tick" x="\(Self.number((plot.left + plot.right) / 2))" y="\(Self.number(plot.bottom + 32))" \
      text-anchor="middle">\(escaped(xLabel))</text>

      """
    for line in drawn {
      let points = line.points.map { "\(x($0.x)),\(y($0.y))" }.joined(separator: " ")
      svg += "<polyline class=\"line \(line.style)\" points=\"\(points)\"/>\n"
      guard line.hasDots else { continue }
      for point in line.points {
        svg += """
          <circle class="dot \(line.style)" cx="\(x(point.x))" cy="\(y(point.y))" r="3.2"><title>\
          \(escaped("\(line.name), \(xLabel) \(Self.short(point.x)): \(format(point.y))"))</title></circle>

          """
      }
    }
    return svg + "</svg>\n"
  }

  /// Three to seven round numbers around a range, the first at or below and the last at or above it.
  static func ticks(from smallest: Double, to largest: Double, limits: ClosedRange<Double>? = nil) -> [Double] {
    var (low, high) = (smallest, largest)
    // A flat line gets an axis all the same.
    if high - low < max(abs(high), abs(low), 1e-3) * 1e-3 {
      let middle = (low + high) / 2
      let half = max(abs(middle) * 0.05, 0.01)
      (low, high) = (middle - half, middle + half)
    }
    if let limits { (low, high) = (max(low, limits.lowerBound), min(high, limits.upperBound)) }
    let rough = (high - low) / 4
    let power = pow(10, floor(log10(rough)))
    let step = power * ([1, 2, 2.5, 5, 10].first { $0 * power >= rough * 0.999 } ?? 10)
    let first = Int((low / step + 1e-9).rounded(.down))
    let last = Int((high / step - 1e-9).rounded(.up))
    return (first...max(last, first + 1)).map { Double($0) * step }
  }

  /// At most ten whole numbers from 0.
  private static func wholeTicks(to right: Double) -> [Double] {
    let last = Int(right.rounded(.down))
    let step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].first { last / $0 <= 10 } ?? max(last / 10, 1)
    return stride(from: 0, through: last, by: step).map(Double.init)
  }

  /// Coordinates need no more than a tenth of a unit.
  private static func number(_ value: Double) -> String { short((value * 10).rounded() / 10) }

  private static func short(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : String(format: "%.1f", value)
  }
}
