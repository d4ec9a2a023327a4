import Foundation
import NeuralNetwork
import Testing

@testable import Training

/// Keeps weights and moving statistics as they are after every step.
private final class Recorder: Callback {
  var values: [[Float]] = []

  func wantsRest(after step: Int) -> Bool { true }
  func deviceDidRest(in loop: TrainingLoop) throws { values.append(try allValues(loop.trainer)) }
}

private func allValues(_ trainer: Trainer) throws -> [Float] {
  try trainer.arena.weights.floats() + trainer.arena.statistics.floats()
}

@Suite(.serialized) struct WeightAverageTests {
  @Test func followsTheReference() throws {
    let recorder = Recorder()
    let run = try TinyRun(epochs: 2, ema: 0.9, callbacks: [recorder])
    var expected = try allValues(run.trainer).map(Double.init)
    let plain = try TinyRun(epochs: 2)
    try run.loop.run()
    try plain.loop.run()
    #expect(recorder.values.count == 12)
    for values in recorder.values {
      expected = zip(expected, values).map { 0.9 * $0 + 0.1 * Double($1) }
    }
    // 0.9 as a float is off by 2.4e-8, and each of 12 steps rounds three times by up to 6e-8.
    let averages = try run.trainer.withResultingWeights { try allValues(run.trainer) }
    let scale = expected.map(abs).max()!
    #expect(zip(averages, expected).allSatisfy { abs(Double($0) - $1) < 12 * 4 * 6e-8 * scale })
    // The weights that train are what they would be without averages.
    #expect(try allValues(run.trainer) == allValues(plain.trainer))
    #expect(try allValues(run.trainer) == recorder.values.last)

    // Validation is that of the averages.
    let stream = NoiseSource(images: 10, seed: 2).epoch(0, startingAt: 0)
    let scores = try run.trainer.withResultingWeights { try run.trainer.evaluate(next: { try stream.next() }) }
    #expect(scores.loss == run.loop.progress.history.epochs[1].valLoss)
    #expect(scores.loss != plain.loop.progress.history.epochs[1].valLoss)
  }

  @Test(arguments: [
    Interruption(phase: .training, epoch: 1, step: 3), Interruption(phase: .validation, epoch: 1, step: 1),
    Interruption(phase: .reestimatedValidation, epoch: 1, step: 1),
  ])
  func resumedRunsAverageAlike(_ interruption: Interruption) throws {
    let whole = try TinyRun(ema: 0.8)
    try whole.loop.run()
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    var stop: StopRequest?
    let cut = try TinyRun(
      ema: 0.8,
      callbacks: [
        AtStep(interruption.phase, epoch: interruption.epoch, step: interruption.step) { stop?.make() },
        Checkpointer(checkpoints),
      ])
    stop = cut.stop
    #expect(try cut.loop.run() == .stopped)
    let checkpoint = try #require(checkpoints.newest().checkpoint)
    let resumed = try TinyRun(seed: 4, from: checkpoint, ema: 0.8)
    try resumed.loop.run()
    #expect(try resumed.outcome() == whole.outcome())
    #expect(truncate(checkpoint.path + "/average.safetensors", 9) == 0)
    #expect(checkpoints.newest().damaged.first?.contains("average.safetensors") == true)
  }
}
