import NeuralNetwork
import Operations
import TensorCore
import Testing

@testable import Training

/// A classifier without BatchNorm: only then do several batches give what one gives.
private struct PlainClassifier: Module {
  let conv = Conv2D(inputs: 3, filters: 4, kernelSize: 3)
  let head = Dense(inputs: 4, units: 2)

  func callAsFunction(_ photos: Tensor) -> Tensor {
    head(conv(photos.scaled(by: 1 / 255)).relu().globalAveragePool())
  }
}

@Suite(.serialized) struct AccumulationTests {
  private func train(batchSize: Int, accumulation: Int, clipNorm: Float? = nil) throws -> TrainingLoop {
    let device = try Shared.device.get()
    let classifier = PlainClassifier()
    let arena = ParameterArena(classifier, on: device, seed: 3)
    let optimizer = Optimizer(.sgd(momentum: 0.9), schedule: .constant(0.05), clipNorm: clipNorm, arena: arena)
    let trainer = Trainer(arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1) { classifier($0) }
    let loop = TrainingLoop(
      trainer, training: NoiseSource(batchSize: batchSize), validation: NoiseSource(images: 4), epochs: 2,
      accumulation: accumulation)
    try loop.run()
    return loop
  }

  /// 22 images: steps of 12 and 10, the last in batches of 4, 4 and 2; or of 15 and 7, the last in batches of 5 and 2.
  /// Sums of at most 15 · 36 terms in another order, over four steps: a few dozen roundings of 6e-8.
  @Test(arguments: [(12, 4, 3), (15, 5, 3)], [nil, 0.1] as [Float?])
  func severalBatchesGiveWhatOneGives(_ sizes: (whole: Int, batch: Int, count: Int), clipNorm: Float?) throws {
    let whole = try train(batchSize: sizes.whole, accumulation: 1, clipNorm: clipNorm)
    let parts = try train(batchSize: sizes.batch, accumulation: sizes.count, clipNorm: clipNorm)
    #expect(parts.progress.totalSteps == 4 && whole.progress.totalSteps == 4)
    let (a, b) = (try whole.trainer.arena.weights.floats(), try parts.trainer.arena.weights.floats())
    let difference = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    let size = a.reduce(0) { $0 + Double($1) * Double($1) }
    #expect((difference / size).squareRoot() < 5e-6)
    for (one, other) in zip(whole.progress.history.epochs, parts.progress.history.epochs) {
      #expect(abs(one.loss - other.loss) < 5e-6 && one.accuracy == other.accuracy && one.steps == other.steps)
    }
  }

  @Test func runsWithSeveralBatchesResume() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let whole = try TinyRun(accumulation: 4)
    try whole.loop.run()
    #expect(whole.loop.progress.totalSteps == 6)
    var stop: StopRequest?
    let cut = try TinyRun(
      accumulation: 4, callbacks: [AtStep(.training, epoch: 1, step: 1) { stop?.make() }, Checkpointer(checkpoints)])
    stop = cut.stop
    #expect(try cut.loop.run() == .stopped)
    let resumed = try TinyRun(seed: 4, from: checkpoints.newest().checkpoint, accumulation: 4)
    try resumed.loop.run()
    #expect(try resumed.outcome() == whole.outcome())
  }
}
