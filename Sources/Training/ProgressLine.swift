import Foundation

/// Progress of an epoch in one line:
///
///     Epoch 1/5
///      37/146 ━━━━━╸────────────── 5:05 left 2.8 s/step - accuracy: 0.5800 - loss: 0.6800 - 22.9 images/s
///
/// On a terminal the line is redrawn in place. Elsewhere, in a log file for example, a plain line is added every ten
/// seconds and at the end.
public final class ProgressLine {
  private static let barWidth = 20
  private let total: Int
  private let sink: (String) -> Void
  private let isTerminal: Bool
  private let columns: () -> Int
  private let now: () -> Double
  private let start: Double
  private var step = 0
  private var firstStep: (number: Int, time: Double)?
  private var lastStepTime: Double
  private var lastLineTime: Double
  private var isFinished = false

  /// Prints the title.
  ///
  /// - Parameters:
  ///   - title: a line of its own above the progress, such as `Epoch 1/5`.
  ///   - total: steps to come; 0 where that is not known.
  ///   - sink: takes the text, line ends included; by default the standard output, which is flushed each time.
  ///   - isTerminal: whether to redraw in place; by default whether the standard output is a terminal that can do it.
  public convenience init(title: String, total: Int, sink: ((String) -> Void)? = nil, isTerminal: Bool? = nil) {
    let clock = ContinuousClock()
    let origin = clock.now
    self.init(
      title: title, total: total, sink: sink ?? Self.print, isTerminal: isTerminal ?? Self.standardOutputIsTerminal,
      columns: Self.terminalColumns, now: { (clock.now - origin) / .seconds(1) })
  }

  /// - Parameters:
  ///   - columns: the width of the terminal, asked each time because it may change.
  ///   - now: seconds since any moment.
  init(
    title: String, total: Int, sink: @escaping (String) -> Void, isTerminal: Bool, columns: @escaping () -> Int,
    now: @escaping () -> Double
  ) {
    self.total = max(total, 0)
    self.sink = sink
    self.isTerminal = isTerminal
    self.columns = columns
    self.now = now
    start = now()
    lastStepTime = start
    // On a terminal the first step shows at once.
    lastLineTime = isTerminal ? -.infinity : start
    sink(title + "\n")
  }

  /// Reports that `step` steps are done.
  ///
  /// - Parameter fields: shown as `name: value` in this order; a field with an empty name shows its value only.
  public func update(step: Int, fields: [(name: String, value: String)]) {
    guard !isFinished else { return }
    let time = now()
    self.step = step
    lastStepTime = time
    if firstStep == nil { firstStep = (step, time) }
    // Redrawing more often than the eye can follow only costs time.
    guard time - lastLineTime >= (isTerminal ? 0.05 : 10) || isTerminal && step == total else { return }
    lastLineTime = time
    show(line(timing: remaining, fields: fields))
  }

  /// Draws the last state with the time it took, and ends the line.
  public func finish(fields: [(name: String, value: String)]) {
    guard !isFinished else { return }
    isFinished = true
    show(line(timing: Self.clockTime(now() - start), fields: fields))
    if isTerminal { sink("\n") }
  }

  /// Ends the line as it stands, because what it shows will not be finished.
  public func abandon() {
    guard !isFinished else { return }
    isFinished = true
    if isTerminal { sink("\n") }
  }

  private func show(_ line: String) {
    // A line as wide as the terminal would already wrap on some.
    sink(isTerminal ? "\r" + line.prefix(max(columns() - 1, 1)) + "\u{1B}[K" : line + "\n")
  }

  private func line(timing: String?, fields: [(name: String, value: String)]) -> String {
    var head = [String]()
    if total > 0 {
      let digits = String(total).count
      head.append(String(repeating: " ", count: max(digits - String(step).count, 0)) + "\(step)/\(total)")
      head.append(bar)
    } else {
      head.append("\(step) steps")
    }
    if let timing { head.append(timing) }
    if let secondsPerStep { head.append(Self.short(secondsPerStep) + "/step") }
    let rest = fields.map { $0.name.isEmpty ? $0.value : "\($0.name): \($0.value)" }
    return ([head.joined(separator: " ")] + rest).joined(separator: " - ")
  }

  private var bar: String {
    let halves = min(max(step, 0), total) * Self.barWidth * 2 / total
    let done = String(repeating: "━", count: halves / 2) + (halves % 2 == 1 ? "╸" : "")
    return done + String(repeating: "─", count: Self.barWidth - (halves + 1) / 2)
  }

  /// The first step compiles kernels and fills caches; it does not count once there are others.
  private var secondsPerStep: Double? {
    guard let firstStep, step > 0 else { return nil }
    return step > firstStep.number
      ? (lastStepTime - firstStep.time) / Double(step - firstStep.number) : (lastStepTime - start) / Double(step)
  }

  private var remaining: String? {
    guard total > 0, let secondsPerStep else { return nil }
    return Self.clockTime(secondsPerStep * Double(max(total - step, 0))) + " left"
  }

  /// `2:01`, `1:02:03`.
  static func clockTime(_ seconds: Double) -> String {
    // Bounded, because an odd number, NaN included, must not end the run.
    let seconds = seconds > 0 ? Int(min(seconds, 1e9).rounded()) : 0
    return seconds < 3600
      ? String(format: "%d:%02d", seconds / 60, seconds % 60)
      : String(format: "%d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60)
  }

  /// `43 s`, `2.8 s`, `120 ms`, `0.4 ms`.
  static func short(_ seconds: Double) -> String {
    let (value, unit) = seconds < 0.9995 ? (seconds * 1000, "ms") : (seconds, "s")
    return String(format: value < 9.95 ? "%.1f " : "%.0f ", value) + unit
  }

  private static func print(_ text: String) {
    Swift.print(text, terminator: "")
    // Every stream, because `stdout` is a global variable that Swift 6 does not let us touch.
    fflush(nil)
  }

  private static var standardOutputIsTerminal: Bool {
    isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  private static func terminalColumns() -> Int {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }
}
