import NeuralNetwork
import TensorBoard
import TensorCore

/// Writes event files for TensorBoard, in a folder for each of training, validation and validation with re-estimated
/// statistics. Curves of the same name share a chart there.
///
/// Training steps: `loss`, `accuracy`, `learning_rate`, `images_per_second`. Epochs: `loss` and `accuracy` of the
/// validations, `epoch_loss` and `epoch_accuracy` of training. The horizontal axis is always the run's training steps.
public final class TensorBoardLogger: Callback {
  private let training: EventWriter
  private let validation: EventWriter
  private let reestimated: EventWriter
  private let log: StepLog
  private let histograms: Bool

  /// - Parameters:
  ///   - folder: gets the folders `train`, `validation` and `validation_reestimated`.
  ///   - step: steps that the run has done before.
  ///   - log: comes before this one among the callbacks.
  ///   - histograms: whether each epoch ends with histograms of all weights and of their gradients in its last step.
  public init(folder: String, after step: Int = 0, log: StepLog, histograms: Bool = false) throws {
    training = try EventWriter(folder: folder + "/train", after: step)
    validation = try EventWriter(folder: folder + "/validation", after: step)
    reestimated = try EventWriter(folder: folder + "/validation_reestimated", after: step)
    self.log = log
    self.histograms = histograms
  }

  /// Writes a training step's numbers.
  public func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) throws {
    guard phase == .training, let record = log.steps.last else { return }
    try training.write(
      scalars: [
        ("loss", record.loss), ("accuracy", record.accuracy), ("learning_rate", Double(record.learningRate)),
        ("images_per_second", Double(record.images) / max(record.seconds, 1e-9)),
      ], step: record.step)
  }

  /// Writes the epoch's numbers and histograms.
  public func epochDidEnd(in loop: TrainingLoop) throws {
    guard let record = loop.progress.history.epochs.last else { return }
    let step = loop.progress.totalSteps
    try training.write(scalars: [("epoch_loss", record.loss), ("epoch_accuracy", record.accuracy)], step: step)
    try validation.write(scalars: [("loss", record.valLoss), ("accuracy", record.valAccuracy)], step: step)
    if let loss = record.valLossReestimated, let accuracy = record.valAccuracyReestimated {
      try reestimated.write(scalars: [("loss", loss), ("accuracy", accuracy)], step: step)
    }
    if histograms { try writeHistograms(of: loop.trainer.arena, lossScale: loop.trainer.lossScale, step: step) }
  }

  /// Writes a picture of the current step, as PNG or JPEG.
  public func write(image: [UInt8], height: Int, width: Int, tag: String, in loop: TrainingLoop) throws {
    try training.write(image: image, height: height, width: width, tag: tag, step: loop.progress.totalSteps)
  }

  private func writeHistograms(of arena: ParameterArena, lossScale: LossScale.State?, step: Int) throws {
    let scale = lossScale?.last ?? 1
    let gradients = try arena.gradients.floats().map { $0 / scale }
    for (name, values) in [("weights", try arena.weights.floats()), ("gradients", gradients)] {
      try training.write(
        histograms: arena.parameters.filter(\.isTrainable).map { parameter in
          // Gradients are laid out like the weights.
          let start = parameter.tensor.elementOffset
          return ("\(name)/\(parameter.name)", Histogram(values[start..<start + parameter.shape.count]))
        }, step: step)
    }
  }
}
