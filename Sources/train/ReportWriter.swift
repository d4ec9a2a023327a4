import Fovea
import NeuralNetwork

/// Writes `report.html` after each epoch, and where there is a resizer its pictures to `resized.png` and TensorBoard.
final class ReportWriter: Callback {
  private let folder: RunDirectory
  private let configuration: RunConfiguration
  private let classifier: ImageClassifier
  private let validation: any ImageDataset
  private let pictures: SamplePictures?
  private let log: StepLog
  private let profiler: StepProfiler
  private let tensorBoard: TensorBoardLogger
  private var predictions: [TrainingPhase: [Prediction]] = [:]

  init(
    _ folder: RunDirectory, _ configuration: RunConfiguration, _ classifier: ImageClassifier,
    validation: any ImageDataset, pictures: SamplePictures?, log: StepLog, profiler: StepProfiler,
    tensorBoard: TensorBoardLogger
  ) {
    self.folder = folder
    self.configuration = configuration
    self.classifier = classifier
    self.validation = validation
    self.pictures = pictures
    self.log = log
    self.profiler = profiler
    self.tensorBoard = tensorBoard
  }

  func validationDidEnd(_ predictions: [Prediction], of phase: TrainingPhase, in loop: TrainingLoop) {
    self.predictions[phase] = predictions
  }

  func epochDidEnd(in loop: TrainingLoop) throws {
    if let pictures {
      try loop.trainer.withResultingWeights { try pictures.capture(classifier) }
      let grid = pictures.grid()
      let png = try ImageCodec.encodePNG(grid)
      try AtomicFile.write(png, to: folder.path(of: "resized.png"))
      try tensorBoard.write(image: png, height: grid.height, width: grid.width, tag: "resized", in: loop)
    }
    try folder.write(report(loop).html(), to: "report.html")
  }

  private func report(_ loop: TrainingLoop) throws -> RunReport {
    let model = configuration.model
    var report = RunReport(
      title: model.model,
      subtitle: "\(configuration.data ?? "Synthetic pictures, seed \(configuration.seed)"): "
        + "\(configuration.trainingImages) training and \(configuration.validationImages) validation images of "
        + "\(configuration.classNames.count) classes, \(model.inputHeight)×\(model.inputWidth) → "
        + "\(model.targetHeight)×\(model.targetWidth)",
      device: configuration.device, plannedEpochs: loop.epochs, classNames: configuration.classNames)
    report.configuration = choices
    report.history = loop.progress.history.epochs
    report.steps = log.steps
    report.kernelTimes = profiler.kernelTimes
    if let rows = try pictures?.rows.map({ row in
      [RunReport.Picture.jpeg(try ImageCodec.encodeJPEG(row[0]))]
        + (try row.dropFirst().map { .png(try ImageCodec.encodePNG($0)) })
    }) {
      report.pictures = RunReport.PictureTable(captions: SamplePictures.captions, rows: rows)
    }
    func right(_ phase: TrainingPhase) -> Int { predictions[phase, default: []].count(where: \.isCorrect) }
    let better: TrainingPhase =
      right(.validation) > right(.reestimatedValidation) ? .validation : .reestimatedValidation
    report.predictions = predictions[better, default: []]
    report.predictionsNote = better == .validation ? " with moving statistics" : " with re-estimated statistics"
    report.mistakes = try mostConfidentMistakes(report.predictions)
    return report
  }

  private func mostConfidentMistakes(_ predictions: [Prediction], limit: Int = 12) throws -> [RunReport.Mistake] {
    let (height, width) = (configuration.model.inputHeight, configuration.model.inputWidth)
    let mistakes = predictions.filter { !$0.isCorrect && $0.confidence.isFinite }
      .sorted { $0.confidence > $1.confidence }
    return try mistakes.prefix(limit).compactMap { mistake in
      guard let image = mistake.image else { return nil }
      let pixels = try validation.pixels(at: image, height: height, width: width)
      let picture = RGBImage(width: width, height: height, pixels: pixels)
      return RunReport.Mistake(
        prediction: mistake, name: validation.name(at: image), picture: .jpeg(try ImageCodec.encodeJPEG(picture)))
    }
  }

  private var choices: [(name: String, value: String)] {
    let c = configuration
    let m = c.model
    var choices = [
      ("Device", c.device), ("Started from", c.weights ?? "random weights"), ("Data", c.data ?? "synthetic"),
      ("Images", "\(c.trainingImages) training, \(c.validationImages) validation"),
      ("Classes", c.classNames.joined(separator: ", ")), ("Model", m.model),
      ("Parameters", "\(classifier.parameterCount), \(classifier.trainableParameterCount) of them trainable"),
      ("Input → target", "\(m.inputHeight)×\(m.inputWidth) → \(m.targetHeight)×\(m.targetWidth)"),
      ("Interpolation", m.interpolation), ("Precision", (m.precision ?? .float32).rawValue),
    ]
    if m.hasResizer {
      let blocks = "\(m.blocks) residual block\(m.blocks == 1 ? "" : "s")"
      choices.append(("Resizer", m.model.hasPrefix("muller") ? "MULLER" : "\(m.filters) filters, \(blocks)"))
    }
    if let frozen = m.frozen { choices.append(("Frozen", frozen.rawValue)) }
    choices += [
      ("Epochs", "\(c.epochs)"), ("Batch size", c.batchText), ("Optimizer", c.optimizer),
      ("Learning rate", "\(c.learningRate), \(c.schedule)" + (c.warmup > 0 ? ", \(c.warmup) steps of warm-up" : "")),
      ("Command line", (["train"] + c.arguments).joined(separator: " ")),
      ("Weight decay", "\(c.weightDecay)"), ("Clipping of the gradients' norm", c.clipNorm.map { "\($0)" } ?? "none"),
      ("Label smoothing", "\(c.labelSmoothing)"), ("Changes to training photos", c.augmentationText),
      ("Class weights", c.classWeights.map { $0.map { "\($0)" }.joined(separator: ", ") } ?? "equal"),
      ("Averaged weights", c.ema.map { "decay \($0)" } ?? "none"), ("BatchNorm momentum", "\(m.batchNormMomentum)"),
      ("Seed", "\(c.seed)"), ("Decoding threads", "\(c.workers)"),
    ]
    return choices
  }
}
