import Foundation

/// One line that shows how far something long has come, like Keras's: redrawn in place on a terminal; elsewhere a line of
/// its own every ten seconds and at the end.
public final class ProgressLine {
  private let title: String
  private let total: Int
  private let isTerminal: Bool
  private let sink: (String) -> Void
  private let now: () -> TimeInterval
  private let start: TimeInterval
  private var lastShown = -TimeInterval.infinity
  private var step = 0

  /// - Parameters:
  ///   - total: steps until the end.
  ///   - sink: where text goes; standard output when nil.
  ///   - isTerminal: whether the sink redraws lines; asked of standard output when nil.
  ///   - now: the clock in seconds.
  public init(
    title: String, total: Int, sink: ((String) -> Void)? = nil, isTerminal: Bool? = nil,
    now: @escaping () -> TimeInterval = { ProcessInfo.processInfo.systemUptime }
  ) {
    self.title = title
    self.total = total
    self.isTerminal = isTerminal ?? (isatty(STDOUT_FILENO) == 1)
    self.sink = sink ?? { FileHandle.standardOutput.write(Data($0.utf8)) }
    self.now = now
    start = now()
    self.sink(title + "\n")
  }

  /// Shows `step` of the total with fields such as ("loss", "0.6800"); a field without a name is its value alone.
  public func update(step: Int, fields: [(name: String, value: String)]) {
    self.step = step
    let time = now()
    guard time - lastShown >= (isTerminal ? 0.1 : 10) else { return }
    lastShown = time
    show(line(fields, finished: false), ended: !isTerminal)
  }

  /// Shows the last state and ends the line.
  public func finish(fields: [(name: String, value: String)]) {
    show(line(fields, finished: true), ended: true)
  }

  private func show(_ line: String, ended: Bool) {
    guard isTerminal else { return sink(line + "\n") }
    // To the start of the line, text, clear the rest.
    sink("\r" + String(line.prefix(terminalWidth())) + "\u{1B}[K" + (ended ? "\n" : ""))
  }

  private func line(_ fields: [(name: String, value: String)], finished: Bool) -> String {
    let elapsed = now() - start
    let perStep = step > 0 ? elapsed / Double(step) : 0
    let time = finished ? Self.duration(elapsed) : Self.duration(perStep * Double(max(total - step, 0))) + " left"
    let width = 20
    let filled = total > 0 ? min(width * step / total, width) : width
    let bar = String(repeating: "━", count: filled) + String(repeating: "╌", count: width - filled)
    let count = "\(step)".leftPadded(to: "\(total)".count)
    let texts = fields.map { $0.name.isEmpty ? $0.value : "\($0.name) \($0.value)" }
    return (["\(count)/\(total) \(bar) \(time)", Self.stepTime(perStep)] + texts).joined(separator: " · ")
  }

  private static func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    let (minutes, rest) = (whole / 60, whole % 60)
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return minutes >= 60 ? "\(minutes / 60):\(two(minutes % 60)):\(two(rest))" : "\(minutes):\(two(rest))"
  }

  private static func stepTime(_ seconds: Double) -> String {
    seconds >= 1 ? String(format: "%.2f s/step", seconds) : String(format: "%.0f ms/step", seconds * 1000)
  }

  private func terminalWidth() -> Int {
    var size = winsize()
    return ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 120
  }
}

extension String {
  fileprivate func leftPadded(to width: Int) -> String {
    String(repeating: " ", count: max(width - count, 0)) + self
  }
}
