import NeuralNetwork
import Testing

@testable import Training

@Suite(.serialized) struct NonFiniteTests {
  /// The error of a run whose parameter `name` starts with `value` everywhere.
  private func error(_ name: String, _ value: Float, rule: OptimizerRule = .sgd()) throws -> String {
    let run = try TinyRun(rule: rule)
    let parameter = try #require(run.trainer.arena.parameter(named: name))
    run.trainer.arena.set(parameter, to: Array(repeating: value, count: parameter.shape.count))
    let before = try run.trainer.arena.weights.floats()
    let error = #expect(throws: TrainingError.self) { try run.loop.run() }
    // The updates that would have made everything NaN were left out, also that of the step after.
    #expect(try run.trainer.arena.weights.floats() == before)
    #expect(run.trainer.optimizer.step == 2)
    return error?.description ?? ""
  }

  private let advice = "; try a smaller --lr, --clip-norm or another --seed"

  @Test(arguments: [.sgd(), .sgd(momentum: 0.9), .adam()] as [OptimizerRule])
  func theFirstOperationIsNamed(_ rule: OptimizerRule) throws {
    // Squares of deviations near 1e30 leave the range of float32.
    let variance = try error("conv/kernel", 1e30, rule: rule)
    #expect(
      variance
        == "the loss is NaN at step 1: the output of moments behind conv/kernel, [4], is the first to be so" + advice)
    // Four channels of pooled rectified values.
    let logits = try error("head/kernel", 3e38, rule: rule)
    #expect(
      logits
        == "the loss is NaN at step 1: the output of conv2d with head/kernel, head/bias, [1, 1, 4, 2], is the first to be so"
        + advice)
  }

  @Test func parametersAreNamed() throws {
    let run = try TinyRun(rule: .sgd(), schedule: LearningRateSchedule { $0 == 7 ? .infinity : 0.01 })
    let error = #expect(throws: TrainingError.self) { try run.loop.run() }
    // Step 8 of the run is the second of its second epoch, and its update shows in the loss of the third.
    #expect(
      error?.description
        == "the loss is NaN at step 3: the last update made head/bias and 5 parameters before it so" + advice)
  }

  /// Gradients that no scale makes finite: the loss is, as the logits' own overflow comes on the way back alone.
  @Test func aScaleThatComesDownForNothingStops() throws {
    var scale = LossScale.Rule()
    scale.initial = 0x1p-13
    let run = try TinyRun(rule: .sgd(), precision: .float16, lossScale: scale)
    // The gradient before the head is beyond 65504 · 2¹³ in places, and the features are zero: so is the loss's part.
    let (head, gamma, beta) = try (
      #require(run.trainer.arena.parameter(named: "head/kernel")),
      #require(run.trainer.arena.parameter(named: "norm/gamma")),
      #require(run.trainer.arena.parameter(named: "norm/beta"))
    )
    run.trainer.arena.set(head, to: (0..<8).map { $0 % 2 == 0 ? 1e17 : -1e17 })
    run.trainer.arena.set(gamma, to: [0, 0, 0, 0])
    run.trainer.arena.set(beta, to: [1e-20, 1e-20, 1e-20, 1e-20])
    let before = try run.trainer.arena.weights.floats()
    let error = #expect(throws: TrainingError.self) { try run.loop.run() }
    #expect(
      error?.description
        == "the gradients are NaN or infinite at step 2, although the loss scale went down to 3.0517578e-05; try "
        + "--precision bfloat16, a smaller --lr, --clip-norm or another --seed")
    #expect(try run.trainer.arena.weights.floats() == before)
  }

  /// The search looks into 16-bit tensors too, where a value beyond 65504 is an infinity.
  @Test func overflowIsNamed() throws {
    let run = try TinyRun(rule: .sgd(), precision: .float16)
    let parameter = try #require(run.trainer.arena.parameter(named: "conv/kernel"))
    run.trainer.arena.set(parameter, to: Array(repeating: 1e5, count: parameter.shape.count))
    let error = #expect(throws: TrainingError.self) { try run.loop.run() }
    #expect(
      error?.description
        == "the loss is NaN at step 1: the output of conv2d with conv/kernel, conv/bias, [4, 6, 6, 4], is the first to be so"
        + advice)
  }

  @Test func validationMayBeNonFinite() throws {
    let trainer = try TinyRun().trainer
    let variance = try #require(trainer.arena.parameter(named: "norm/moving_variance"))
    trainer.arena.set(variance, to: [1, .nan, 1, 1])
    let stream = NoiseSource().epoch(0, startingAt: 0)
    let scores = try trainer.evaluate(next: { try stream.next() })
    #expect(scores.images == 22 && scores.loss.isNaN)
  }
}
