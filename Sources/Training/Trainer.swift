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
  /// Bytes planned for the captured step, and the least that any plan needs; nil while none is captured.
  public var plannedMemory: (byteCount: Int, least: Int)? { captured?.plannedMemory }
  /// Where the optimizer's loss scale was after the last step that was reported; nil without one.
  public private(set) var lossScale: LossScale.State?
  /// Follows the weights; nil where nothing does.
  public let average: WeightAverage?
  /// Sums gradients where a step has several batches.
  private lazy var accumulator = GradientAccumulator(arena)
  /// Seconds that the host has spent on enqueueing steps.
  public private(set) var enqueueSeconds = 0.0
  private let forward: (Tensor) -> Tensor
  private let capturesSteps: Bool
  /// The captured step of one form; another's memory would come on top.
  private var captured: CapturedTrainingStep?
  private var latestForm: StepForm?

  /// - Parameters:
  ///   - average: brought up to date after each step.
  ///   - capturesSteps: whether steps are replayed once they are known; see ``CapturedStep``. `forward` is called for the
  ///     first few steps only then, and must do the same each time. With and without, steps give the same bits.
  ///   - forward: from photos (bytes) to logits [batch, classes].
  public init(
    arena: ParameterArena, optimizer: Optimizer, classes: Int, labelSmoothing: Float, classWeights: [Float]? = nil,
    average: WeightAverage? = nil, capturesSteps: Bool = true, forward: @escaping (Tensor) -> Tensor
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
    self.capturesSteps = capturesSteps
    self.forward = forward
  }

  /// Takes a step on the batches that `next` gives, until it gives none, and calls `report` after each with the scores so
  /// far. Throws `TrainingError.lossIsNotFinite` when the loss is NaN or infinite. A step whose gradients alone are so is
  /// no error with a loss scale, which skips it and comes down, until it has come down for nothing.
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
    releaseCapturedMemory()
    return try run(
      isTraining: false, onto: Scores(), next: next, report: report, wantsRest: { false }, atRest: {},
      predicted: predicted, enqueue: evaluationStep)
  }

  /// Gives the captured step's memory back until the next training step.
  package func releaseCapturedMemory() {
    captured?.releaseMemory()
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
    captured?.releaseMemory()
    let saved = Tensor(uninitialized: arena.statistics.shape, on: device)
    let bytes = arena.statistics.shape.count * 4
    saved.storage.buffer.copy(from: arena.statistics.storage.buffer, count: bytes)
    defer { arena.statistics.storage.buffer.copy(from: saved.storage.buffer, count: bytes) }
    var index = 0
    while let batch = try batches() {
      let photos = TrainingBatch.photos(batch.pixels, shape: batch.shape, on: device)
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
    /// Of a training step, where there is one.
    var lossScale: PendingRead?
    /// Of an evaluation, once its logits are there.
    var predictions: (() throws -> [Prediction])?
  }

  private func run<Step>(
    isTraining: Bool, onto scores: Scores, next: () throws -> Step?,
    report: (_ step: Int, _ scores: Scores) throws -> Void, wantsRest: () -> Bool, atRest: () throws -> Void,
    predicted: ([Prediction]) -> Void = { _ in }, enqueue: (Step) throws -> StepInFlight
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
      if let state = try oldest.lossScale.map({ LossScale.State(try $0.wait()) }) {
        lossScale = state
        guard state.scale >= Self.leastLossScale else {
          throw TrainingError.gradientsAreNotFinite(step: step, scale: state.scale)
        }
      }
      scores.add(loss: loss, correct: try oldest.correct.wait()[0], count: oldest.count)
      if let predictions = try oldest.predictions?() { predicted(predictions) }
      try report(step, scores)
    }
    while let step = try next() {
      let start = ContinuousClock.now
      inFlight.append(try enqueue(step))
      enqueueSeconds += (ContinuousClock.now - start) / .seconds(1)
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

  /// A scale that only gradients reach which are infinite or NaN whatever it is.
  private static let leastLossScale: Float = 0x1p-14

  func trainingStep(_ batches: [TrainingBatch]) throws -> StepInFlight {
    precondition(!batches.isEmpty, "Trainer: a step without a batch")
    optimizer.beginStep()
    let results = try trainingResults(batches.map(trainingInput))
    var step = inFlight(results, batches.reduce(0) { $0 + $1.count })
    step.lossScale = optimizer.lossScale.map { $0.values.storage.buffer.enqueueRead(floats: $0.values.shape.count) }
    return step
  }

  /// The first form of step that comes twice in a row is captured; others, such as an epoch's smaller last batch, are
  /// launched anew each time.
  private func trainingResults(_ hosts: [HostInput]) throws -> StepResults {
    let form = StepForm(inputs: hosts.map(\.form))
    defer { latestForm = form }
    if let captured, captured.form == form { return try captured(hosts) }
    captured?.releaseMemory()
    guard capturesSteps, form == latestForm || captured == nil else {
      return update(hosts.map { $0.enqueued(on: device) })
    }
    captured = nil
    let step = CapturedTrainingStep(hosts, on: device) { [unowned self] in update($0) }
    captured = step
    return try step(hosts)
  }

  private func update(_ inputs: [StepInput]) -> StepResults {
    defer { average?.update() }
    guard inputs.count > 1 else {
      let (results, gradients) = gradients(of: inputs[0])
      arena.completeGradients(gradients)
      optimizer.applyUpdate(loss: results.loss)
      return results
    }
    let count = inputs.reduce(0) { $0 + $1.count }
    var parts: [StepResults] = []
    accumulator.sum(over: inputs.count) { index in
      let share = Float(inputs[index].count) / Float(count)
      let (results, gradients) = gradients(of: inputs[index], share: share)
      parts.append(results)
      return gradients
    }
    let results = parts.dropFirst().reduce(parts[0]) {
      StepResults(loss: $0.loss + $1.loss, correct: $0.correct + $1.correct)
    }
    optimizer.applyUpdate(loss: results.loss)
    return results
  }

  /// The mean loss over the batch, times `share` where it is a part of a step's images, with its gradients, which are
  /// times the loss scale.
  private func gradients(of input: StepInput, share: Float? = nil) -> (results: StepResults, gradients: GradientStore) {
    var correct: Tensor?
    let (loss, gradients) = withTraining {
      valueWithGradients(seed: optimizer.lossScale?.seed) {
        let result = self.loss(of: input)
        correct = result.correct
        return share.map { result.loss.scaled(by: $0) } ?? result.loss
      }
    }
    return (StepResults(loss: loss, correct: correct ?? loss), gradients)
  }

  func evaluationStep(_ batch: TrainingBatch) -> StepInFlight {
    let input = HostInput(
      pixels: batch.pixels, shape: batch.shape, targets: oneHot(batch.labels), labelSmoothing: labelSmoothing)
    let (logits, loss, correct) = loss(of: input.enqueued(on: device))
    var step = inFlight(StepResults(loss: loss, correct: correct), batch.count)
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

  /// The mean loss over the batch that training lowers, of shape [].
  func trainingLoss(of batch: TrainingBatch) -> Tensor {
    captured?.releaseMemory()
    return loss(of: trainingInput(batch).enqueued(on: device)).loss
  }

  private func trainingInput(_ batch: TrainingBatch) -> HostInput {
    var input = HostInput(
      pixels: batch.pixels, shape: batch.shape, targets: oneHot(batch.labels), labelSmoothing: labelSmoothing)
    guard classWeights != nil || batch.partners != nil else { return input }
    // The loss is linear in the targets: weights and shares can be multiplied into them, once they are smooth.
    input.labelSmoothing = 0
    input.targets = weighted(batch.labels, share: batch.share)
    if let partners = batch.partners {
      input.targets = zip(input.targets, weighted(partners, share: 1 - batch.share)).map(+)
    }
    return input
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

  private func loss(of input: StepInput) -> (logits: Tensor, loss: Tensor, correct: Tensor) {
    let logits = device.labellingMemory(.activations) { forward(input.photos) }
    let (loss, correct) = logits.softmaxCrossEntropy(targets: input.targets, labelSmoothing: input.labelSmoothing)
    return (logits, loss, correct)
  }

  private func inFlight(_ results: StepResults, _ count: Int) -> StepInFlight {
    StepInFlight(
      loss: results.loss.storage.buffer.enqueueRead(floats: 1, at: results.loss.elementOffset),
      correct: results.correct.storage.buffer.enqueueRead(floats: 1, at: results.correct.elementOffset), count: count)
  }

  private func oneHot(_ labels: [Int32]) -> [Float] { oneHotRows(labels, classes: classes) }
}

/// Why training stopped.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
  /// - `step`: of the epoch, from 1.
  /// - `origin`: what is known of where it began.
  case lossIsNotFinite(step: Int, loss: Float, origin: String?)
  /// No loss scale makes the gradients finite, although the loss is; the step as above.
  case gradientsAreNotFinite(step: Int, scale: Float)

  /// What happened and what may help, in one line.
  public var description: String {
    switch self {
    case .lossIsNotFinite(let step, let loss, let origin):
      "the loss is \(loss.isNaN ? "NaN" : "\(loss)") at step \(step)\(origin.map { ": \($0)" } ?? ""); try a smaller --lr, --clip-norm or another "
        + "--seed"
    case .gradientsAreNotFinite(let step, let scale):
      "the gradients are NaN or infinite at step \(step), although the loss scale went down to \(scale); try "
        + "--precision bfloat16, a smaller --lr, --clip-norm or another --seed"
    }
  }
}
