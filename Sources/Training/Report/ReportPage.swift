import Foundation

extension RunReport {
  /// The page: HTML with its style, drawings and pictures inside, and no script.
  public func html() -> String {
    let sections = [
      header, tiles, curves, pictures.map(pictureSection), confusionSection, mistakeSection, speedSection,
      configurationSection,
    ]
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="generator" content="Fovea">
      <title>\(escaped(title)) · training run</title>
      <style>
      \(reportStyle)
      </style>
      </head>
      <body>
      <main>
      \(sections.compactMap { $0 }.joined(separator: "\n"))
      </main>
      </body>
      </html>

      """
  }

  private var isFinished: Bool { history.count >= plannedEpochs }

  private var header: String {
    let share = Double(history.count) / Double(max(plannedEpochs, 1))
    return """
      <header>
      <p class="eyebrow">Training run · epoch \(history.count) of \(plannedEpochs)</p>
      <h1>\(escaped(title))</h1>
      <p>\(escaped(subtitle))</p>
      <p>\(escaped(device))</p>
      <div class="progress"><div style="width:\(fixed(min(share, 1) * 100, 1))%"></div></div>
      </header>
      """
  }

  // MARK: Figures

  private var tiles: String? {
    guard let last = history.last else { return nil }
    let best = history.max { $0.bestValAccuracy < $1.bestValAccuracy } ?? last
    func tile(_ name: String, _ value: String, _ hint: String) -> String {
      """
      <div class="card tile"><div class="name">\(name)</div><div class="value">\(value)</div>\
      <div class="hint">\(hint)</div></div>
      """
    }
    return """
      <div class="tiles">
      \(tile("Best validation accuracy", percent(best.bestValAccuracy), "after epoch \(best.epoch)"))
      \(tile("Validation accuracy", percent(last.bestValAccuracy), "loss \(fixed(bestLoss(last), 3))"))
      \(tile("Training accuracy", percent(last.accuracy), "loss \(fixed(last.loss, 3))"))
      \(tile("Speed", "\(fixed(last.imagesPerSecond, last.imagesPerSecond < 100 ? 1 : 0))", "training images/s"))
      \(tile("Epoch", duration(last.seconds), "\(percent(last.dataWaitShare)) waiting for images"))
      </div>
      """
  }

  /// The loss that goes with `bestValAccuracy`.
  private func bestLoss(_ record: EpochRecord) -> Double {
    record.valAccuracyReestimated == record.bestValAccuracy
      ? record.valLossReestimated ?? record.valLoss : record.valLoss
  }

  // MARK: Curves

  private var curves: String? {
    guard !history.isEmpty else { return nil }
    return """
      <h2>Curves</h2>
      <p class="note">Validation is given twice: with BatchNorm's moving statistics, and with statistics estimated afresh \
      on training batches. Early in training the moving ones still remember their start. The thin line is single \
      training steps.</p>
      <div class="two">
      \(accuracyCurve)
      \(lossCurve)
      </div>
      """
  }

  private var accuracyCurve: String {
    curve(
      "Accuracy", \.accuracy, \.accuracy, \.valAccuracyReestimated, \.valAccuracy, limits: 0...1,
      format: { percent($0, 0) }, last: { percent($0) })
  }

  private var lossCurve: String {
    // With moving statistics the first epochs can be off by orders of magnitude, and would press all else flat.
    let others = history.flatMap { [$0.loss, $0.valLossReestimated ?? .nan] }.filter(\.isFinite)
    let ceiling = others.max().map { $0 * 3 } ?? .infinity
    let isHigher = history.contains { $0.valLoss > ceiling } || steps.contains { $0.loss > ceiling }
    return curve(
      "Loss", \.loss, \.loss, \.valLossReestimated, \.valLoss, limits: isHigher ? 0...ceiling : nil,
      note: isHigher ? "What lies higher is drawn at the upper edge." : nil, format: Self.axisNumber,
      last: { fixed($0, 3) })
  }

  private func curve(
    _ name: String, _ ofStep: KeyPath<StepRecord, Double>, _ training: KeyPath<EpochRecord, Double>,
    _ fresh: KeyPath<EpochRecord, Double?>, _ moving: KeyPath<EpochRecord, Double>, limits: ClosedRange<Double>?,
    note: String? = nil, format: @escaping (Double) -> String, last: (Double) -> String
  ) -> String {
    func points(_ value: (EpochRecord) -> Double) -> [(x: Double, y: Double)] {
      history.map { (Double($0.epoch), value($0)) }
    }
    let lines = [
      LineChart.Series(name: "training", style: "training", points: points { $0[keyPath: training] }),
      LineChart.Series(
        name: "validation, re-estimated", style: "fresh", points: points { $0[keyPath: fresh] ?? .nan }),
      LineChart.Series(name: "validation, moving", style: "moving", points: points { $0[keyPath: moving] }),
    ]
    let steps = LineChart.Series(name: "steps", style: "steps", points: stepPoints(ofStep), hasDots: false)
    let chart = LineChart(
      title: "\(name) by epoch", series: [steps] + lines, width: Double(max(plannedEpochs, 1)), xLabel: "epoch",
      limits: limits, format: format)
    let legend = lines.compactMap { line -> String? in
      guard let point = line.points.last(where: { $0.y.isFinite }) else { return nil }
      return """
        <li><i class="\(line.style)"></i>\(line.name) <b>\(last(point.y))</b></li>
        """
    }
    return """
      <div class="card"><h3>\(name)</h3>
      <ul class="legend">\(legend.joined())</ul>
      \(chart.svg() ?? "<p class=\"note\">No finite value.</p>")\(note.map { "<p class=\"note\">\($0)</p>" } ?? "")</div>
      """
  }

  /// The steps at their place between the epochs; so many neighbours are averaged that about 250 points remain.
  private func stepPoints(_ value: KeyPath<StepRecord, Double>) -> [(x: Double, y: Double)] {
    let stepsPerEpoch = Double(steps.map(\.stepInEpoch).max() ?? 1)
    let bucket = max((steps.count + 249) / 250, 1)
    return stride(from: 0, to: steps.count, by: bucket).map { first in
      let part = steps[first..<min(first + bucket, steps.count)]
      func mean(_ value: (StepRecord) -> Double) -> Double { part.reduce(0) { $0 + value($1) } / Double(part.count) }
      return (
        mean { Double($0.epoch - 1) + Double($0.stepInEpoch) / stepsPerEpoch }, mean { $0[keyPath: value] }
      )
    }
  }

  private static func axisNumber(_ value: Double) -> String {
    let text = String(format: abs(value) < 1000 ? "%.3g" : abs(value) < 100_000 ? "%.0f" : "%.1e", value)
    return text.contains("e") || abs(value) >= 1000 ? text : "\(Double(text) ?? value)"
  }

  // MARK: Pictures

  private func pictureSection(_ table: PictureTable) -> String {
    let rows = table.rows.map { row in
      let figures = zip(table.captions, row).map { caption, picture in
        """
        <figure><img src="\(picture.dataURI)" alt="\(escaped(caption))"><figcaption>\(escaped(caption))</figcaption>\
        </figure>
        """
      }
      return """
        <div class="strip" style="--columns:\(table.captions.count)">\(figures.joined(separator: "\n"))</div>
        """
    }
    return """
      <h2>What the resizer does</h2>
      <p class="note">Validation photos as the classifier gets to see them. A learned picture whose values leave the range \
      of a picture is stretched to its own range; a difference, learned minus bilinear, is shown around middle grey, its \
      largest values at black and white.</p>
      <div class="card strips pixels">
      \(rows.joined(separator: "\n"))
      </div>
      """
  }

  // MARK: Confusion and mistakes

  /// With more classes the table would be unreadable; then only the pairs are listed.
  private static let largestMatrix = 24

  private var confusionSection: String? {
    guard !predictions.isEmpty else { return nil }
    let matrix = ConfusionMatrix(predictions, classes: classNames.count)
    let right = predictions.count(where: \.isCorrect)
    let pairs = matrix.mostConfused(classNames.count > 2 ? 12 : 0)
    let pairRows = pairs.map {
      """
      <tr><th>\(escaped(classNames[$0.truth]))</th><td>taken for \(escaped(classNames[$0.predicted]))</td>\
      <td>\($0.count) of \(matrix.total(of: $0.truth))</td></tr>
      """
    }
    let table = classNames.count <= Self.largestMatrix ? "<div class=\"card scroll\">\(matrixTable(matrix))</div>" : ""
    let list =
      pairRows.isEmpty
      ? ""
      : "<div class=\"card\"><h3>Most often confused</h3><table class=\"plain\">\(pairRows.joined())</table></div>"
    return """
      <h2>Confusion</h2>
      <p class="note">\(right) of \(predictions.count) validation images are right\(escaped(predictionsNote)). Rows are what \
      an image is, columns what the model said; the shade is the share of the row.</p>
      <div class="two">\(table)\(list)</div>
      """
  }

  private func matrixTable(_ matrix: ConfusionMatrix) -> String {
    let head = classNames.map { "<th scope=\"col\">\(escaped($0))</th>" }.joined()
    let rows = matrix.counts.enumerated().map { truth, row in
      let total = matrix.total(of: truth)
      let cells = row.enumerated().map { predicted, count in
        let share = total > 0 ? Double(count) / Double(total) : 0
        let style = (share > 0.5 ? ["deep"] : []) + (truth == predicted ? ["right"] : [])
        return "<td class=\"\(style.joined(separator: " "))\" style=\"--share:\(fixed(share, 3))\">\(count)</td>"
      }
      let recall = total > 0 ? percent(Double(row[truth]) / Double(total), 0) : "–"
      return """
        <tr><th scope="row">\(escaped(classNames[truth]))</th>\(cells.joined())<td class="recall">\(recall)</td></tr>
        """
    }
    return """
      <table class="matrix\(classNames.count > 8 ? " dense" : "")"><thead><tr><th></th>\(head)<th>right</th></tr></thead>
      <tbody>\(rows.joined(separator: "\n"))</tbody></table>
      """
  }

  private var mistakeSection: String? {
    guard !mistakes.isEmpty else { return nil }
    let figures = mistakes.map { mistake in
      """
      <figure><img src="\(mistake.picture.dataURI)" alt="\(escaped(mistake.name))"><figcaption>\
      <div class="said">\(escaped(classNames[mistake.prediction.predicted])) \(percent(mistake.prediction.confidence))</div>\
      <div class="was">is \(escaped(classNames[mistake.prediction.truth]))</div>\
      <span class="file">\(escaped(mistake.name))</span></figcaption></figure>
      """
    }
    return """
      <h2>Most confident mistakes</h2>
      <p class="note">The validation images that the model got wrong with the highest probability. Often they tell more \
      about the data than about the model.</p>
      <div class="mistakes">
      \(figures.joined(separator: "\n"))
      </div>
      """
  }

  // MARK: Speed

  private var speedSection: String? {
    let total = kernelTimes.reduce(0) { $0 + $1.seconds }
    guard total > 0, let longest = kernelTimes.first?.seconds else { return nil }
    let shown = kernelTimes.prefix(12)
    let rest = kernelTimes.dropFirst(12)
    let bars =
      shown.map { entry in
        let speed = entry.flopsPerSecond > 0 ? ", \(fixed(entry.flopsPerSecond * 1e-9, 0)) GFLOP/s" : ""
        return """
          <div class="name">\(escaped(entry.kind))</div><div class="number">\(percent(entry.seconds / total))</div>\
          <div class="track"><div style="width:\(fixed(entry.seconds / longest * 100, 1))%"></div></div>\
          <div class="detail">\(fixed(entry.seconds * 1e3, 1)) ms, \(entry.launches) \(entry.launches == 1 ? "launch" : "launches")\(speed)</div>
          """
      }
    let others =
      rest.isEmpty
      ? ""
      : "<p class=\"note\">\(rest.count) more kinds take \(percent(rest.reduce(0) { $0 + $1.seconds } / total)).</p>"
    return """
      <h2>Where the time goes</h2>
      <p class="note">One training step, timed by the device: \(fixed(total * 1e3, 1)) ms in \
      \(kernelTimes.reduce(0) { $0 + $1.launches }) launches and copies.</p>
      <div class="card"><div class="bars">
      \(bars.joined(separator: "\n"))
      </div>\(others)</div>
      """
  }

  private var configurationSection: String {
    let rows = configuration.map { "<tr><th>\(escaped($0.name))</th><td>\(escaped($0.value))</td></tr>" }
    let half = (rows.count + 1) / 2
    return """
      <h2>Configuration</h2>
      <div class="two">
      <div class="card"><table class="plain">\(rows.prefix(half).joined(separator: "\n"))</table></div>
      <div class="card"><table class="plain">\(rows.dropFirst(half).joined(separator: "\n"))</table></div>
      </div>
      """
  }
}

extension RunReport.Picture {
  var dataURI: String { "data:\(mediaType);base64,\(Data(bytes).base64EncodedString())" }
}
