import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Training

/// The CPU device, opened once for all tests.
enum Shared {
  static let device = Result { try Device(DeviceSelection.pick("cpu")) }
}

/// A classifier with a bit of everything that a checkpoint must hold.
struct TinyClassifier: Module {
  let conv = Conv2D(inputs: 3, filters: 4, kernelSize: 3)
  let norm = BatchNorm(channels: 4, momentum: 0.8)
  let head: Dense
  let precision: Precision

  init(classes: Int = 2, precision: Precision = .float32) {
    head = Dense(inputs: 4, units: classes)
    self.precision = precision
  }

  func callAsFunction(_ photos: Tensor) -> Tensor {
    head(norm(conv(photos.scaled(by: 1 / 255, as: precision.storage))).relu().globalAveragePool())
  }
}

/// Noise whose brightness tells the class; a function of the seed, the epoch and the image's number in it alone.
struct NoiseSource: BatchSource {
  var images = 22
  var batchSize = 4
  var side = 6
  var classes = 2
  var seed: UInt64 = 1

  var batchesPerEpoch: Int { (images + batchSize - 1) / batchSize }

  func epoch(_ epoch: Int, startingAt start: Int) -> any BatchIterator {
    Iterator(source: self, epoch: epoch, index: start * batchSize)
  }

  func batch(epoch: Int, _ range: Range<Int>) -> TrainingBatch {
    var pixels: [UInt8] = []
    for image in range {
      var random = RandomNumbers(seed: seed, name: "\(epoch)/\(image)")
      let base = 100 * (image % classes) / classes
      pixels += (0..<side * side * 3).map { _ in UInt8(base + Int(random.next() % 100)) }
    }
    return TrainingBatch(
      pixels: pixels, shape: [range.count, side, side, 3], labels: range.map { Int32($0 % classes) })
  }

  private final class Iterator: BatchIterator {
    let source: NoiseSource
    let epoch: Int
    var index: Int
    let waitSeconds = 0.0

    init(source: NoiseSource, epoch: Int, index: Int) {
      (self.source, self.epoch, self.index) = (source, epoch, index)
    }

    func next() -> TrainingBatch? {
      guard index < source.images else { return nil }
      let range = index..<min(index + source.batchSize, source.images)
      index = range.upperBound
      return source.batch(epoch: epoch, range)
    }
  }
}

/// A run of the tiny classifier: three epochs of six steps.
struct TinyRun {
  let trainer: Trainer
  let loop: TrainingLoop
  let stop = StopRequest()

  /// - Parameters:
  ///   - seed: of the weights. A run that goes on from a checkpoint must not depend on it.
  ///   - checkpoint: where to go on.
  init(
    seed: UInt64 = 3, rule: OptimizerRule = .adamW(), schedule: LearningRateSchedule = .cosine(0.01, steps: 18),
    from checkpoint: Checkpoint? = nil,
    epochs: Int = 3, ema: Float? = nil, accumulation: Int = 1, earlyStopping: EarlyStopping? = nil,
    plateau: ReduceOnPlateau? = nil,
    callbacks: [any Callback] = [], capturesSteps: Bool = true, onForward: @escaping () -> Void = {},
    precision: Precision = .float32, lossScale: LossScale.Rule = LossScale.Rule(),
    on device: Device? = nil
  ) throws {
    let device = try device ?? Shared.device.get()
    let classifier = TinyClassifier(precision: precision)
    let arena = ParameterArena(classifier, on: device, seed: seed)
    let optimizer = Optimizer(
      rule, schedule: schedule, lossScale: precision.needsLossScale ? LossScale(lossScale, on: device) : nil,
      arena: arena)
    trainer = Trainer(
      arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1,
      average: ema.map { WeightAverage(of: arena, decay: $0) }, capturesSteps: capturesSteps
    ) {
      onForward()
      return classifier($0)
    }
    try checkpoint?.restore(trainer)
    loop = TrainingLoop(
      trainer, training: NoiseSource(), validation: NoiseSource(images: 10, seed: 2), epochs: epochs,
      accumulation: accumulation, earlyStopping: earlyStopping, plateau: plateau,
      progress: checkpoint?.progress ?? TrainingProgress(),
      callbacks: callbacks, stop: stop)
  }

  /// Everything that a resumed run must have in common with one that was never stopped.
  func outcome() throws -> [String] {
    let tensors = [trainer.arena.weights, trainer.arena.statistics] + trainer.optimizer.state
    let averages = try trainer.withResultingWeights { try trainer.arena.weights.floats() }
    return try tensors.map { "\(try $0.floats().map(\.bitPattern))" }
      + [
        "\(averages.map(\.bitPattern))", "\(trainer.optimizer.step)",
        "\(loop.progress.epoch) \(loop.progress.totalSteps)",
        "\(try trainer.optimizer.lossScale?.state() as Any)",
      ]
      + loop.progress.history.epochs.map { record in
        var record = record
        (record.seconds, record.imagesPerSecond, record.dataWaitShare) = (0, 0, 0)
        return "\(record)"
      }
  }
}

/// Does something when a phase of an epoch has come to a step.
final class AtStep: Callback {
  let (phase, epoch, step): (TrainingPhase, Int, Int)
  let action: () throws -> Void

  init(_ phase: TrainingPhase, epoch: Int, step: Int, action: @escaping () throws -> Void) {
    (self.phase, self.epoch, self.step, self.action) = (phase, epoch, step, action)
  }

  func stepDidFinish(_ step: Int, _ scores: Scores, of phase: TrainingPhase, in loop: TrainingLoop) throws {
    if (phase, loop.progress.epoch, step) == (self.phase, epoch, self.step) { try action() }
  }
}
