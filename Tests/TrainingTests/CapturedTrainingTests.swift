import NeuralNetwork
import OpenCLRuntime
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
}
