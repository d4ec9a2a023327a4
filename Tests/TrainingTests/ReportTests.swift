import Foundation
import NeuralNetwork
import OpenCLRuntime
import Testing

@testable import Training

@Suite struct PredictionTests {
  @Test func logitsBecomeProbabilities() {
    // e^(ln 3) : e^0 = 3 : 1; Float's ln 3 is off by less than 1e-7.
    let prediction = Prediction(image: 7, truth: 0, logits: [9, Float(log(3.0)), 0][1...])
    #expect(prediction.predicted == 0 && prediction.isCorrect && prediction.image == 7)
    #expect(abs(prediction.confidence - 0.75) < 1e-7)
    // Large logits do not overflow; of equal ones the first counts.
    #expect(
      Prediction(image: nil, truth: 1, logits: [-1000, 500, 500])
        == Prediction(image: nil, truth: 1, predicted: 1, confidence: 0.5))
    let unknown = Prediction(image: nil, truth: 1, logits: [.nan, 1])
    #expect(unknown.predicted == 0 && unknown.confidence.isNaN)
  }

  @Test func confusion() {
    func said(_ truth: Int, _ predicted: Int) -> Prediction {
      Prediction(image: nil, truth: truth, predicted: predicted, confidence: 1)
    }
    let matrix = ConfusionMatrix([said(0, 0), said(0, 2), said(2, 0), said(2, 0), said(2, 2)], classes: 3)
    #expect(matrix.counts == [[1, 0, 1], [0, 0, 0], [2, 0, 1]])
    #expect(matrix.total(of: 2) == 3 && matrix.total(of: 1) == 0)
    #expect(matrix.mostConfused(9).map { [$0.truth, $0.predicted, $0.count] } == [[2, 0, 2], [0, 2, 1]])
    #expect(matrix.mostConfused(1).count == 1)
  }

  @Test func validationReportsEachImageOnce() throws {
    final class Listener: Callback {
      var seen: [TrainingPhase: [Prediction]] = [:]
      func validationDidEnd(_ predictions: [Prediction], of phase: TrainingPhase, in loop: TrainingLoop) {
        seen[phase] = predictions
      }
    }
    let listener = Listener()
    let run = try TinyRun(epochs: 1, callbacks: [listener])
    try run.loop.run()
    let record = try #require(run.loop.progress.history.epochs.last)
    for (phase, accuracy) in [
      (TrainingPhase.validation, record.valAccuracy), (.reestimatedValidation, record.valAccuracyReestimated ?? .nan),
    ] {
      let predictions = try #require(listener.seen[phase])
      #expect(predictions.map(\.truth) == (0..<10).map { $0 % 2 })
      #expect(Double(predictions.count(where: \.isCorrect)) / 10 == accuracy)
      #expect(predictions.allSatisfy { (0.5...1).contains($0.confidence) })
    }
  }
}

@Suite struct StepLogTests {
  @Test func stepsAddUpToTheEpoch() throws {
    let path = TemporaryPath()
    let folder = try RunDirectory(path.path)
    let log = try StepLog(in: folder)
    let run = try TinyRun(epochs: 2, callbacks: [log])
    try run.loop.run()
    #expect(log.steps.map(\.step) == Array(1...12))
    #expect(log.steps.map(\.epoch) == Array(repeating: 1, count: 6) + Array(repeating: 2, count: 6))
    #expect(log.steps.map(\.stepInEpoch) == Array(1...6) + Array(1...6))
    #expect(log.steps.map(\.images) == [4, 4, 4, 4, 4, 2, 4, 4, 4, 4, 4, 2])
    #expect(log.steps[0].learningRate == 0.01 && log.steps[11].learningRate == run.trainer.optimizer.schedule.rate(11))
    for (epoch, record) in run.loop.progress.history.epochs.enumerated() {
      let steps = log.steps[epoch * 6..<epoch * 6 + 6]
      let loss = steps.reduce(0) { $0 + $1.loss * Double($1.images) } / 22
      // Sums of doubles in another order.
      #expect(abs(loss - record.loss) < 1e-12)
    }
    let lines = try path.text("steps.csv").split(separator: "\n")
    #expect(lines.first == "step,epoch,step_in_epoch,loss,accuracy,learning_rate,seconds,images")
    #expect(lines.dropFirst().compactMap(StepRecord.init) == log.steps)
  }

  @Test func goesOnWhereTheRunDoes() throws {
    let path = TemporaryPath()
    let folder = try RunDirectory(path.path)
    let run = try TinyRun(epochs: 1, callbacks: [StepLog(in: folder)])
    try run.loop.run()
    let whole = try path.text("steps.csv")
    // Killed in the middle of a line.
    try folder.write(String(whole.dropLast(4)), to: "steps.csv")
    #expect(try StepLog(in: folder, after: 4).steps.map(\.step) == [1, 2, 3, 4])
    #expect(try path.text("steps.csv").split(separator: "\n").count == 5)
    #expect(try StepLog(in: folder).steps.isEmpty)
  }
}

@Suite struct StepProfilerTests {
  @Test func timesOneStepAndChangesNothing() throws {
    let plain = try TinyRun()
    try plain.loop.run()
    let profiler = StepProfiler()
    // Other tests use the shared device meanwhile.
    let profiled = try TinyRun(callbacks: [profiler], on: Device(DeviceSelection.pick("cpu")))
    try profiled.loop.run()
    #expect(try profiled.outcome() == plain.outcome())
    #expect(!profiled.trainer.device.isProfiling)
    #expect(Set(profiler.kernelTimes.map(\.kind)).isSuperset(of: ["copy to device", "cross-entropy gradient"]))
    // One update a step.
    #expect(profiler.kernelTimes.filter { $0.kind.hasSuffix("update") }.map(\.launches) == [1])
    #expect(profiler.kernelTimes.map(\.seconds) == profiler.kernelTimes.map(\.seconds).sorted(by: >))
  }

  @Test func aStepAcrossAValidationIsPutOff() throws {
    // After step 6, the first epoch's last.
    let profiler = StepProfiler(after: 4)
    let run = try TinyRun(callbacks: [profiler], on: Device(DeviceSelection.pick("cpu")))
    try run.loop.run()
    #expect(profiler.kernelTimes.filter { $0.kind.hasSuffix("update") }.map(\.launches) == [1])
    #expect(!run.trainer.device.isProfiling)
  }
}

@Suite struct ReportPageTests {
  private func record(_ epoch: Int, accuracy: Double) -> EpochRecord {
    EpochRecord(
      epoch: epoch, steps: 10, loss: 0.7, accuracy: accuracy, valLoss: .nan, valAccuracy: .nan,
      valLossReestimated: 0.6, valAccuracyReestimated: accuracy, seconds: 65, imagesPerSecond: 12.5,
      dataWaitShare: 0.01, learningRate: 0.01)
  }

  private func full() -> RunReport {
    let hostile = "<b>\"cats\" & 'dogs'</b>"
    var report = RunReport(
      title: hostile, subtitle: hostile, device: hostile, plannedEpochs: 2, classNames: [hostile, "plain", "third"])
    report.configuration = [(hostile, hostile)]
    report.history = [record(1, accuracy: 0.5), record(2, accuracy: 0.875)]
    let picture = RunReport.Picture.png([1, 2, 3])
    report.pictures = RunReport.PictureTable(captions: [hostile, "b"], rows: [[picture, .jpeg([4])]])
    let mistake = Prediction(image: 3, truth: 1, predicted: 0, confidence: 0.987)
    report.predictions = [mistake, Prediction(image: 4, truth: 2, predicted: 2, confidence: 0.6)]
    report.mistakes = [RunReport.Mistake(prediction: mistake, name: hostile, picture: picture)]
    report.kernelTimes = [
      RunReport.KernelTime(kind: hostile, launches: 3, seconds: 0.03, flopsPerSecond: 1e9),
      RunReport.KernelTime(kind: "rest", launches: 1, seconds: 0.01, flopsPerSecond: 0),
    ]
    return report
  }

  @Test func everythingIsThereAndEscaped() {
    let html = full().html()
    #expect(!html.contains("<b>\"cats"))
    #expect(html.contains("&lt;b&gt;&quot;cats&quot; &amp; &#39;dogs&#39;&lt;/b&gt;"))
    for heading in [
      "Curves", "What the resizer does", "Confusion", "Most confident mistakes", "Where the time goes", "Configuration",
    ] {
      #expect(html.contains("<h2>\(heading)</h2>"))
    }
    for text in ["87.5 %", "1 min 5 s", "98.7 %", "75.0 %", "30.0 ms", "data:image/png;base64,AQID"] {
      #expect(html.contains(text), "\(text)")
    }
  }

  @Test func refersToNothingOutside() {
    let html = full().html()
    for reference in ["http", "src=\"/", "url(", "@import", "<script", "<link"] {
      #expect(!html.contains(reference), "\(reference)")
    }
  }

  @Test func tagsAreClosed() {
    let html = full().html()
    var open: [String] = []
    for match in html.matches(of: /<(\/?)([a-z0-9]+)[^>]*?(\/?)>/) {
      let (name, isEnd, isEmpty) = (String(match.2), !match.1.isEmpty, !match.3.isEmpty)
      if ["meta", "img"].contains(name) || isEmpty { continue }
      if isEnd { #expect(open.popLast() == name) } else { open.append(name) }
    }
    #expect(open.isEmpty)
  }

  @Test func whatIsNotKnownIsLeftOut() {
    let html = RunReport(title: "t", subtitle: "", device: "", plannedEpochs: 5, classNames: ["a"]).html()
    #expect(html.matches(of: /<h2>/).count == 1)
    #expect(html.contains("epoch 0 of 5") && html.contains("Configuration"))
    var report = full()
    report.history[1].loss = .nan
    #expect(!report.html().lowercased().contains("nan"))
  }

  @Test func aLossThatIsFarOffLeavesTheOthersTheirRoom() {
    var report = full()
    #expect(!report.html().contains("What lies higher"))
    report.history[0].valLoss = 1760
    let html = report.html()
    #expect(html.contains("What lies higher is drawn at the upper edge."))
    // Axis up to 3 · 0.7, rounded up; the value itself in the tool tip.
    #expect(html.contains(">2.5</text>") && !html.contains(">2000</text>"))
    #expect(html.contains("validation, moving, epoch 1: 1760"))
  }

  @Test func manyClassesAreAListOfPairs() {
    var report = full()
    report.classNames = (0..<30).map { "class \($0)" }
    let html = report.html()
    #expect(!html.contains("<table class=\"matrix"))
    #expect(html.contains("taken for class 0"))
  }
}

@Suite struct LineChartTests {
  @Test(
    arguments: [
      (0.0, 1.0, nil, [0, 0.25, 0.5, 0.75, 1]),
      (0.31, 0.81, 0.0...1.0, [0.2, 0.4, 0.6, 0.8, 1.0]),
      (0.5, 0.5, nil, [0.46, 0.48, 0.5, 0.52, 0.54]),
      (1.0, 1.0, 0.0...1.0, [0.94, 0.96, 0.98, 1.0]),
      (-3.0, 1000.0, nil, [-500, 0, 500, 1000]),
    ] as [(Double, Double, ClosedRange<Double>?, [Double])])
  func ticks(low: Double, high: Double, limits: ClosedRange<Double>?, expected: [Double]) {
    let ticks = LineChart.ticks(from: low, to: high, limits: limits)
    #expect(ticks.first! <= low && ticks.last! >= high)
    #expect(ticks.count == expected.count, "\(ticks)")
    #expect(zip(ticks, expected).allSatisfy { abs($0 - $1) < 1e-9 }, "\(ticks)")
  }

  @Test func whatLiesBeyondTheLimitsIsDrawnAtTheEdge() throws {
    let chart = LineChart(
      title: "t", series: [.init(name: "n", style: "training", points: [(0, 0), (1, 1760), (2, 4)])], width: 2,
      xLabel: "epoch", limits: 0...4, format: { "\($0)" })
    let svg = try #require(chart.svg())
    #expect(svg.matches(of: /cy="([0-9.]+)"/).map { Double($0.1) } == [200, 12, 12])
    // The tool tip still tells the value.
    #expect(svg.contains("epoch 1: 1760.0"))
  }

  @Test func pointsThatAreNotFiniteAreLeftOut() throws {
    func chart(_ values: [Double]) -> String? {
      let points = values.enumerated().map { (x: Double($0.offset), y: $0.element) }
      return LineChart(
        title: "t", series: [.init(name: "n", style: "training", points: points)], width: 3, xLabel: "epoch",
        limits: nil, format: { "\($0)" }
      ).svg()
    }
    #expect(chart([.nan, .infinity]) == nil)
    #expect(try #require(chart([1, .nan, 2])).matches(of: /<circle/).count == 2)
  }
}
