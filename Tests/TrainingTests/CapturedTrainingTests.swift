import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Training

/// A captured training step is the step itself: the same bits, whatever the run needs besides.
@Suite struct CapturedTrainingTests {
  @Test(arguments: [1, 3]) func runsGiveTheSameBits(accumulation: Int) throws {
    func outcome(_ capturesSteps: Bool) throws -> [String] {
      let run = try TinyRun(ema: 0.9, accumulation: accumulation, capturesSteps: capturesSteps)
      try run.loop.run()
      return try run.outcome()
    }
    #expect(try outcome(true) == outcome(false))
  }

  @Test func optimizers() throws {
    for rule in [OptimizerRule.sgd(momentum: 0.9, nesterov: true), .adam(), .adamW(weightDecay: 0.1)] {
      func outcome(_ capturesSteps: Bool) throws -> [String] {
        let run = try TinyRun(rule: rule, capturesSteps: capturesSteps)
        try run.loop.run()
        return try run.outcome()
      }
      #expect(try outcome(true) == outcome(false), "\(rule)")
    }
  }

  @Test func stepsAreReplayed() throws {
    var calls = 0
    let run = try TinyRun(onForward: { calls += 1 })
    let source = NoiseSource(images: 40)
    let stream = source.epoch(0, startingAt: 0)
    _ = try run.trainer.train(next: { try stream.next().map { [$0] } }, report: { _, _ in })
    #expect(calls == 3)
  }

  @Test func aForwardPassThatChangesIsRefused() throws {
    let device = try Shared.device.get()
    let classifier = TinyClassifier()
    let arena = ParameterArena(classifier, on: device)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.01), arena: arena)
    var factor: Float = 1
    func trainer(capturesSteps: Bool) -> Trainer {
      Trainer(arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0, capturesSteps: capturesSteps) {
        factor *= 0.9
        return classifier($0).scaled(by: factor)
      }
    }
    func train(_ trainer: Trainer) throws {
      let stream = NoiseSource(images: 40).epoch(0, startingAt: 0)
      _ = try trainer.train(next: { try stream.next().map { [$0] } }, report: { _, _ in })
    }
    #expect(throws: CaptureError.self) { try train(trainer(capturesSteps: true)) }
    try train(trainer(capturesSteps: false))
  }

  /// On GPUs filter gradients are added up together: the same bits as one by one, captured and not, with clipping, and
  /// with several batches a step.
  @Test(arguments: [1, 3]) func gradientsAddedUpTogether(accumulation: Int) throws {
    func weights(capturesSteps: Bool, capacity: Int?) throws -> (launches: Int, weights: [Float]) {
      try PartialSumPool.$forcedCapacity.withValue(capacity) {
        let device = try Device(
          Shared.device.get().description
            .imitatingGPU(computeUnits: 8, localMemory: 48 << 10, maximumWorkGroupSize: 256))
        let classifier = TinyClassifier()
        let arena = ParameterArena(classifier, on: device, seed: 3)
        let optimizer = Optimizer(.sgd(momentum: 0.9), schedule: .constant(0.05), clipNorm: 0.1, arena: arena)
        let trainer = Trainer(
          arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1, capturesSteps: capturesSteps
        ) { classifier($0) }
        try TrainingLoop(
          trainer, training: NoiseSource(images: 40), validation: NoiseSource(images: 4), epochs: 2,
          accumulation: accumulation
        ).run()
        return (device.counters.launches, try arena.weights.floats())
      }
    }
    let apart = try weights(capturesSteps: false, capacity: 1)
    #expect(apart.weights.filter { !$0.isFinite }.isEmpty)
    for capturesSteps in [false, true] {
      let together = try weights(capturesSteps: capturesSteps, capacity: nil)
      #expect(together.weights == apart.weights, "captured: \(capturesSteps)")
      // Two layers' gradients in one launch, for each of ten batches an epoch.
      #expect(apart.launches - together.launches == 20, "captured: \(capturesSteps)")
    }
  }
}
