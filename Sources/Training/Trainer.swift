import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore

/// Loss and accuracy over some images.
public struct Scores: Codable, Sendable, Equatable {
  /// Images scored.
  public var images = 0
  /// Sum of the losses of the images.
  public var lossSum = 0.0
  /// Number of images classified correctly.
  public var correct = 0.0

  /// Scores of no images.
  public init() {}

  /// Mean over the images, not over the batches.
  public var loss: Double { images > 0 ? lossSum / Double(images) : .nan }
  /// Share of the images that were classified correctly.
  public var accuracy: Double { images > 0 ? correct / Double(images) : .nan }

  mutating func add(loss: Float, correct: Float, count: Int) {
    images += count
    lossSum += Double(loss) * Double(count)
    self.correct += Double(correct)
  }
}

/// Trains a classifier of images: enqueues steps, keeps at most two in flight and adds up what they report.
public final class Trainer {
  /// The device that trains.
  public let device: Device
  /// The model's parameters.
  public let arena: ParameterArena
  /// What updates them.
  public let optimizer: Optimizer
  /// Number of classes.
  public let classes: Int
  /// Label smoothing of the loss.
  public let labelSmoothing: Float
  /// What the loss of an image of each class is multiplied by in training, as Keras's `class_weight`; nil for 1.
  public let classWeights: [Float]?
  /// Follows the weights; nil where nothing does.
  public let average: WeightAverage?
  /// Sums gradients where a step has several batches.
  private lazy var accumulator = GradientAccumulator(arena)
  private let forward: (Tensor) -> Tensor

  /// - Parameters:
  ///   - average: brought up to date after each step.
  ///   - forward: from photos (bytes) to logits [batch, classes].
  public init(
    arena: ParameterArena, optimizer: Optimizer, classes: Int, labelSmoothing: Float, classWeights: [Float]? = nil,
    average: WeightAverage? = nil, forward: @escaping (Tensor) -> Tensor
  ) {
    device = arena.device
    self.arena = arena
    self.optimizer = optimizer
    self.classes = classes
    self.labelSmoothing = labelSmoothing
    precondition(
      classWeights.map { $0.count == classes && $0.allSatisfy { $0 > 0 } } ?? true,
      "Trainer: class weights \(classWeights ?? []) for \(classes) classes")
    self.classWeights = classWeights
    self.average = average
    self.forward = forward
  }

  /// Takes a step on the batches that `next` gives, until it gives none, and calls `report` after each with the scores so
  /// far. Throws `TrainingError.lossIsNotFinite` when the loss is NaN or infinite.
  ///
  /// A step of several batches is one update with the gradient of the mean loss over all their images, as one large batch
  /// would give it; but each is normalised by its own BatchNorm statistics, and the moving ones follow each.
  ///
  /// - Parameters:
  ///   - scores: what the scores are added to.
  ///   - wantsRest: asked after each step that was enqueued, before the next batch is asked for.
  ///   - atRest: called when it did, once every step has been done and reported.
  public func train(
    onto scores: Scores = Scores(), next: () throws -> [TrainingBatch]?,
    report: (_ step: Int, _ scores: Scores) throws -> Void,
    wantsRest: () -> Bool = { false }, atRest: () throws -> Void = {}
  ) throws -> Scores {
    try run(
      isTraining: true, onto: scores, next: next, report: report, wantsRest: wantsRest, atRest: atRest,
      enqueue: trainingStep)
  }

  /// Scores the batches with the moving statistics. A loss may be NaN or infinite here: early in training these
  /// statistics can be far off.
  ///
  /// - Parameter predicted: gets what the model says about the images of each batch.
  public func evaluate(
    next: () throws -> TrainingBatch?, report: (_ step: Int, _ scores: Scores) throws -> Void = { _, _ in },
    predicted: ([Prediction]) -> Void = { _ in }
  ) throws -> Scores {
    try run(
      isTraining: false, onto: Scores(), next: next, report: report, wantsRest: { false }, atRest: {},
      predicted: predicted, enqueue: evaluationStep)
  }

  /// Runs `body` with the weights that the run is for: the averages where there are any.
  public func withResultingWeights<Result>(_ body: () throws -> Result) rethrows -> Result {
    try average.map { try $0.withAverages(body) } ?? body()
  }

  /// Runs `body` with moving statistics estimated afresh as the mean over `batches` training batches, then puts the old
  /// ones back. Early in training the moving ones still remember where they started.
  public func withReestimatedStatistics<Result>(
    from batches: () throws -> TrainingBatch?, _ body: () throws -> Result
  ) throws -> Result {
    let saved = Tensor(uninitialized: arena.statistics.shape, on: device)
    let bytes = arena.statistics.shape.count * 4
    saved.storage.buffer.copy(from: arena.statistics.storage.buffer, count: bytes)
    defer { arena.statistics.storage.buffer.copy(from: saved.storage.buffer, count: bytes) }
    var index = 0
    while let batch = try batches() {
      let photos = batch.photos(on: device)
      let logits = Phase.$current.withValue(.reestimation(batch: index)) { forward(photos) }
      // Reading one value keeps the host from running ahead with memory.
      if !device.isPlanning { _ = try logits.storage.buffer.enqueueRead(floats: 1).wait() }
      index += 1
    }
    return try body()
  }

  struct StepInFlight {
    let loss: PendingRead
    let correct: PendingRead
    let count: Int
    /// Of an evaluation, once its logits are there.
    var predictions: (() throws -> [Prediction])?
  }

  private func run<Step>(
    isTraining: Bool, onto scores: Scores, next: () throws -> Step?,
    report: (_ step: Int, _ scores: Scores) throws -> Void, wantsRest: () -> Bool, atRest: () throws -> Void,
    predicted: ([Prediction]) -> Void = { _ in }, enqueue: (Step) -> StepInFlight
  ) throws -> Scores {
    var scores = scores
    var inFlight: [StepInFlight] = []
    var step = 0
    func finishOldest() throws {
      let oldest = inFlight.removeFirst()
      step += 1
      let loss = try oldest.loss.wait()[0]
      guard loss.isFinite || !isTraining else {
        throw TrainingError.lossIsNotFinite(step: step, loss: loss, origin: nil)
      }
      scores.add(loss: loss, correct: try oldest.correct.wait()[0], count: oldest.count)
      if let predictions = try oldest.predictions?() { predicted(predictions) }
      try report(step, scores)
    }
    while let step = try next() {
      inFlight.append(enqueue(step))
      if wantsRest() {
        while !inFlight.isEmpty { try finishOldest() }
        try atRest()
      } else if inFlight.count > 1 {
        try finishOldest()
      }
    }
    while !inFlight.isEmpty { try finishOldest() }
    return scores
  }

  func trainingStep(_ batches: [TrainingBatch]) -> StepInFlight {
    precondition(!batches.isEmpty, "Trainer: a step without a batch")
    guard batches.count > 1 else {
      let (loss, correct, gradients) = gradients(of: batches[0])
      optimizer.update(gradients, loss: loss)
      average?.update()
      return inFlight(loss, correct, batches[0].count)
    }
    let count = batches.reduce(0) { $0 + $1.count }
    var parts: [(loss: Tensor, correct: Tensor)] = []
    accumulator.sum(over: batches.count) { index in
      let share = Float(batches[index].count) / Float(count)
      let (loss, correct, gradients) = gradients(of: batches[index], share: share)
      parts.append((loss, correct))
      return gradients
    }
    let (loss, correct) = parts.dropFirst().reduce(parts[0]) { ($0.loss + $1.loss, $0.correct + $1.correct) }
    optimizer.updateFromArena(loss: loss)
    average?.update()
    return inFlight(loss, correct, count)
  }

  /// The mean loss over the batch, times `share` where it is a part of a step's images, with its gradients.
  private func gradients(
    of batch: TrainingBatch, share: Float? = nil
  ) -> (loss: Tensor, correct: Tensor, gradients: GradientStore) {
    var correct: Tensor?
    let (loss, gradients) = withTraining {
      valueWithGradients {
        let result = trainingLoss(of: batch)
        correct = result.correct
        return share.map { result.loss.scaled(by: $0) } ?? result.loss
      }
    }
    return (loss, correct ?? loss, gradients)
  }

  func evaluationStep(_ batch: TrainingBatch) -> StepInFlight {
    let (logits, loss, correct) = loss(of: batch, targets: oneHot(batch.labels), labelSmoothing: labelSmoothing)
    var step = inFlight(loss, correct, batch.count)
    let read = logits.storage.buffer.enqueueRead(floats: logits.shape.count, at: logits.elementOffset)
    let (labels, indices, classes) = (batch.labels, batch.indices, classes)
    step.predictions = {
      let values = try read.wait()
      return labels.indices.map { row in
        Prediction(
          image: indices?[row], truth: Int(labels[row]), logits: values[row * classes..<(row + 1) * classes])
      }
    }
    return step
  }

  /// The mean loss over the batch that training lowers, and how many of it are classified correctly, both of shape [].
  func trainingLoss(of batch: TrainingBatch) -> (logits: Tensor, loss: Tensor, correct: Tensor) {
    guard classWeights != nil || batch.partners != nil else {
      return loss(of: batch, targets: oneHot(batch.labels), labelSmoothing: labelSmoothing)
    }
    // The loss is linear in the targets: weights and shares can be multiplied into them, once they are smooth.
    let targets = weighted(batch.labels, share: batch.share)
    guard let partners = batch.partners else { return loss(of: batch, targets: targets, labelSmoothing: 0) }
    let others = weighted(partners, share: 1 - batch.share)
    return loss(of: batch, targets: zip(targets, others).map(+), labelSmoothing: 0)
  }

  private func weighted(_ labels: [Int32], share: Float) -> [Float] {
    var targets = oneHot(labels)
    for (row, label) in labels.enumerated() {
      let factor = share * (classWeights?[Int(label)] ?? 1)
      for index in row * classes..<(row + 1) * classes {
        targets[index] = factor * (targets[index] * (1 - labelSmoothing) + labelSmoothing / Float(classes))
      }
    }
    return targets
  }

  /// - Parameter targets: [batch, classes].
  private func loss(
    of batch: TrainingBatch, targets: [Float], labelSmoothing: Float
  ) -> (logits: Tensor, loss: Tensor, correct: Tensor) {
    let (photos, targets) = device.labellingMemory(.input) {
      (batch.photos(on: device), Tensor(enqueueing: targets, shape: [batch.count, classes], on: device))
    }
    let logits = device.labellingMemory(.activations) { forward(photos) }
    let (loss, correct) = logits.softmaxCrossEntropy(targets: targets, labelSmoothing: labelSmoothing)
    return (logits, loss, correct)
  }

  private func inFlight(_ loss: Tensor, _ correct: Tensor, _ count: Int) -> StepInFlight {
    StepInFlight(
      loss: loss.storage.buffer.enqueueRead(floats: 1), correct: correct.storage.buffer.enqueueRead(floats: 1),
      count: count)
  }

  private func oneHot(_ labels: [Int32]) -> [Float] {
    var values = [Float](repeating: 0, count: labels.count * classes)
    for (row, label) in labels.enumerated() {
      precondition(label >= 0 && Int(label) < classes, "Trainer: label \(label) of \(classes) classes")
      values[row * classes + Int(label)] = 1
    }
    return values
  }
}

/// Why training stopped.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
  /// - `step`: of the epoch, from 1.
  /// - `origin`: what is known of where it began.
  case lossIsNotFinite(step: Int, loss: Float, origin: String?)

  /// What happened and what may help, in one line.
  public var description: String {
    switch self {
    case .lossIsNotFinite(let step, let loss, let origin):
      "the loss is \(loss.isNaN ? "NaN" : "\(loss)") at step \(step)\(origin.map { ": \($0)" } ?? ""); try a smaller --lr, --clip-norm or another "
        + "--seed"
    }
  }
}
