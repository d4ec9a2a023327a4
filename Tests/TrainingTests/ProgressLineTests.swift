import Testing

@testable import Training

/// A progress line whose time stands still until it is told otherwise.
private final class Screen {
  var time = 0.0
  var text: [String] = []
  var columns = 200

  func line(total: Int, isTerminal: Bool) -> ProgressLine {
    ProgressLine(
      title: "Epoch 1/5", total: total, sink: { [unowned self] in text.append($0) }, isTerminal: isTerminal,
      columns: { [unowned self] in columns }, now: { [unowned self] in time })
  }
}

@Suite struct ProgressLineTests {
  private let fields = [
    (name: "accuracy", value: "0.5800"), (name: "loss", value: "0.6800"), (name: "", value: "22.9 images/s"),
    (name: "", value: "data wait 0.3%"),
  ]

  @Test func terminalIsRedrawnInPlace() {
    let screen = Screen()
    let line = screen.line(total: 146, isTerminal: true)
    // The first step takes long and does not count.
    screen.time = 20
    line.update(step: 1, fields: [])
    screen.time += 0.01
    line.update(step: 2, fields: [])
    screen.time = 20 + 36 * 2.8
    line.update(step: 37, fields: fields)
    screen.time += 10
    line.finish(fields: [(name: "loss", value: "0.6")])
    line.finish(fields: fields)
    line.update(step: 38, fields: fields)
    #expect(
      screen.text == [
        "Epoch 1/5\n",
        "\r  1/146 ──────────────────── 48:20 left 20 s/step\u{1B}[K",
        "\r 37/146 ━━━━━─────────────── 5:05 left 2.8 s/step - accuracy: 0.5800 - loss: 0.6800 - 22.9 images/s"
          + " - data wait 0.3%\u{1B}[K",
        "\r 37/146 ━━━━━─────────────── 2:11 2.8 s/step - loss: 0.6\u{1B}[K", "\n",
      ])
  }

  @Test func terminalLineIsCut() {
    let screen = Screen()
    screen.columns = 15
    let line = screen.line(total: 8, isTerminal: true)
    screen.time = 1
    line.update(step: 7, fields: fields)
    #expect(screen.text.last == "\r7/8 ━━━━━━━━━━\u{1B}[K")
    screen.columns = 0
    line.update(step: 8, fields: fields)
    #expect(screen.text.last == "\r8\u{1B}[K")
  }

  @Test func logGetsALineEveryTenSeconds() {
    let screen = Screen()
    let line = screen.line(total: 40, isTerminal: false)
    for step in 1...40 {
      screen.time += 0.6
      line.update(step: step, fields: [(name: "loss", value: "\(step)")])
    }
    line.finish(fields: [])
    #expect(
      screen.text == [
        "Epoch 1/5\n",
        "17/40 ━━━━━━━━╸─────────── 0:14 left 600 ms/step - loss: 17\n",
        "34/40 ━━━━━━━━━━━━━━━━━─── 0:04 left 600 ms/step - loss: 34\n",
        "40/40 ━━━━━━━━━━━━━━━━━━━━ 0:24 600 ms/step\n",
      ])
  }

  @Test func unknownTotalAndNoSteps() {
    let screen = Screen()
    let line = screen.line(total: 0, isTerminal: false)
    line.finish(fields: [])
    #expect(screen.text == ["Epoch 1/5\n", "0 steps 0:00\n"])
  }

  @Test func times() {
    #expect(
      [0, 59.6, 121, 3723, -1, .nan].map(ProgressLine.clockTime) == ["0:00", "1:00", "2:01", "1:02:03", "0:00", "0:00"])
    #expect(
      [0.0004, 0.0098, 0.12, 0.9996, 2.81, 43.2].map(ProgressLine.short) == [
        "0.4 ms", "9.8 ms", "120 ms", "1.0 s", "2.8 s", "43 s",
      ])
  }
}
