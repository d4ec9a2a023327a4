import Foundation
import NeuralNetwork

/// One training step.
public struct StepRecord: Sendable, Equatable {
  /// The run's steps so far, from 1.
  public var step: Int
  /// The epoch it belongs to, from 1.
  public var epoch: Int
  /// The step within its epoch, from 1.
  public var stepInEpoch: Int
  /// Mean loss over the step's images.
  public var loss: Double
  /// Share of the step's images that were classified correctly.
  public var accuracy: Double
  /// The learning rate of the step's update.
  public var learningRate: Float
  /// Seconds since the step before, waiting for images included.
  public var seconds: Double
  /// Images of the step.
  public var images: Int

  static let columns = "step,epoch,step_in_epoch,loss,accuracy,learning_rate,seconds,images"

  var line: String { "\(step),\(epoch),\(stepInEpoch),\(loss),\(accuracy),\(learningRate),\(seconds),\(images)" }

  init(
    step: Int, epoch: Int, stepInEpoch: Int, loss: Double, accuracy: Double, learningRate: Float, seconds: Double,
    images: Int
  ) {
    self.step = step
    self.epoch = epoch
    self.stepInEpoch = stepInEpoch
    self.loss = loss
    self.accuracy = accuracy
    self.learningRate = learningRate
    self.seconds = seconds
    self.images = images
  }

  /// Reads a line of `steps.csv`; nil for any other text, such as the line at which a run was killed.
  init?(line: Substring) {
    let cells = line.split(separator: ",", omittingEmptySubsequences: false)
    guard cells.count == 8, let step = Int(cells[0]), let epoch = Int(cells[1]), let stepInEpoch = Int(cells[2]),
      let loss = Double(cells[3]), let accuracy = Double(cells[4]), let learningRate = Float(cells[5]),
      let seconds = Double(cells[6]), let images = Int(cells[7])
    else { return nil }
    self.init(
      step: step, epoch: epoch, stepInEpoch: stepInEpoch, loss: loss, accuracy: accuracy, learningRate: learningRate,
      seconds: seconds, images: images)
  }
}

/// Keeps what each training step reported, in memory and as lines added to `steps.csv`.
public final class StepLog: Callback {
  /// The steps of the run, oldest first.
  public private(set) var steps: [StepRecord] = []
  private let path: String
  private let file: FileHandle
  private var before = (scores: Scores(), seconds: 0.0)

  /// Begins `steps.csv` in `folder`, or goes on with the one there.
  ///
  /// - Parameter step: steps that the run has done; what an earlier process did beyond them is dropped, for it will be
  ///   done again.
  public init(in folder: RunDirectory, after step: Int = 0) throws {
    path = folder.path(of: "steps.csv")
    if step > 0, let text = try? String(contentsOfFile: path, encoding: .utf8) {
      steps = text.split(separator: "\n").compactMap(StepRecord.init).filter { $0.step <= step }
    }
    try folder.write(([StepRecord.columns] + steps.map(\.line)).joined(separator: "\n") + "\n", to: "steps.csv")
    guard let file = FileHandle(forUpdatingAtPath: path) else { throw FileError("write", path) }
    try file.seekToEnd()
    self.file = file
  }

  deinit { try? file.close() }

  /// Remembers where the epoch, which may be a resumed one, stands.
  public func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) {
    guard phase == .training else { return }
    before = (loop.progress.scores, loop.progress.seconds)
  }

  /// Adds a step; what it scored is what the epoch's scores have more than before.
  public func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) throws {
    guard phase == .training else { return }
    let progress = loop.progress
    let images = scores.images - before.scores.images
    let record = StepRecord(
      step: progress.totalSteps, epoch: progress.epoch + 1, stepInEpoch: progress.step,
      loss: (scores.lossSum - before.scores.lossSum) / Double(images),
      accuracy: (scores.correct - before.scores.correct) / Double(images),
      learningRate: loop.trainer.optimizer.schedule.rate(progress.totalSteps - 1),
      seconds: progress.seconds - before.seconds, images: images)
    before = (scores, progress.seconds)
    steps.append(record)
    do {
      try file.write(contentsOf: Data((record.line + "\n").utf8))
    } catch { throw FileError("write", path) }
  }
}
