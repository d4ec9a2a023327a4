import Foundation
import Operations
import OpenCLRuntime
import TensorCore
import Testing

@testable import NeuralNetwork

/// Dynamic loss scaling, by a model whose gradients are what the test says.
@Suite(.serialized) struct LossScaleTests {
  private static let device = Result { try Device(DeviceSelection.pick("cpu")) }

  private struct Weights: Module {
    let weight = Parameter([5], .uniform(-1, 1))
  }

  /// A weight, its optimizer, and steps with given gradients.
  private struct Subject {
    let weights = Weights()
    let arena: ParameterArena
    let optimizer: Optimizer

    init(_ optimizerRule: OptimizerRule, _ rule: LossScale.Rule?, clipNorm: Float? = nil) throws {
      let device = try LossScaleTests.device.get()
      arena = ParameterArena(weights, on: device, seed: 7)
      optimizer = Optimizer(
        optimizerRule, schedule: .constant(0.05), clipNorm: clipNorm, lossScale: rule.map { LossScale($0, on: device) },
        arena: arena)
    }

    /// A step whose gradient is `gradient`, or with a loss scale that many times it.
    func step(_ gradient: [Float]) throws {
      let factors = Tensor(gradient, shape: [5], on: arena.device)
      let (_, gradients) = valueWithGradients(seed: optimizer.lossScale?.seed) {
        (weights.weight.tensor * factors).sum()
      }
      // Without the loss: it is not finite here where the gradient is not.
      optimizer.update(gradients)
    }

    func values() throws -> [Float] { try weights.weight.tensor.floats() }
    func state() throws -> LossScale.State { try #require(optimizer.lossScale).state() }
  }

  private static func gradient(_ step: Int) -> [Float] { (0..<5).map { Float((step * 7 + $0 * 3) % 11) * 0.1 - 0.5 } }

  /// Powers of two change no digit: with a scale the weights are the same, to the bit where the rule has no corrections
  /// of its own making.
  @Test(arguments: [.sgd(), .sgd(momentum: 0.9, nesterov: true), .adam(), .adamW()] as [OptimizerRule])
  func updatesAreThoseWithoutIt(_ optimizerRule: OptimizerRule) throws {
    var rule = LossScale.Rule()
    rule.interval = 3
    let (scaled, plain) = (try Subject(optimizerRule, rule), try Subject(optimizerRule, nil))
    for step in 0..<8 {
      try scaled.step(Self.gradient(step))
      try plain.step(Self.gradient(step))
    }
    let (a, b) = (try scaled.values(), try plain.values())
    if case .sgd = optimizerRule {
      #expect(a == b)
    } else {
      // 1 − βⁿ in float32 in place of float64: expm1 may err by 3 units in the last place, and its argument by 1.
      for (a, b) in zip(a, b) { #expect(abs(a - b) <= 8 * 0.05 * 4 * 0x1p-23 + 0x1p-23) }
    }
    let state = try scaled.state()
    // Twice three steps in a row.
    #expect(state.scale == 65536 * 4 && state.steady == 2 && state.updates == 8 && state.skipped == 0)
  }

  /// Steps with a NaN, an infinity, or an overflow by the scale alone change nothing but the scale; Adam goes on as if
  /// they had not been.
  @Test(arguments: [.sgd(momentum: 0.9), .adam()] as [OptimizerRule])
  func badStepsAreSkipped(_ optimizerRule: OptimizerRule) throws {
    let (scaled, plain) = (try Subject(optimizerRule, LossScale.Rule()), try Subject(optimizerRule, nil))
    try scaled.step(Self.gradient(0))
    try plain.step(Self.gradient(0))
    let before = (try scaled.values(), try scaled.optimizer.state.map { try $0.floats() })
    for bad in [Float.nan, .infinity, 1e36] {
      try scaled.step([0.1, bad, 0.1, 0.1, 0.1])
      #expect(try scaled.values() == before.0)
      #expect(try scaled.optimizer.state.map { try $0.floats() } == before.1)
    }
    let state = try scaled.state()
    #expect(state.scale == 65536 / 8 && state.steady == 0 && state.updates == 1 && state.skipped == 3)
    #expect(state.last == 65536 / 4 && scaled.optimizer.step == 4)
    for step in 1..<4 {
      try scaled.step(Self.gradient(step))
      try plain.step(Self.gradient(step))
    }
    for (a, b) in zip(try scaled.values(), try plain.values()) { #expect(abs(a - b) <= 0x1p-20) }
  }

  /// The limit is for gradients as they are without the scale.
  @Test func clipping() throws {
    let (scaled, plain) = (
      try Subject(.sgd(), LossScale.Rule(), clipNorm: 0.5), try Subject(.sgd(), nil, clipNorm: 0.5)
    )
    for step in 0..<4 {
      try scaled.step(Self.gradient(step))
      try plain.step(Self.gradient(step))
    }
    for (a, b) in zip(try scaled.values(), try plain.values()) { #expect(abs(a - b) <= 0x1p-22) }
  }

  @Test func resumes() throws {
    let file = NSTemporaryDirectory() + "fovea-loss-scale-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: file) }
    let whole = try Subject(.adam(), LossScale.Rule())
    try whole.step(Self.gradient(0))
    try whole.step([.nan, 0, 0, 0, 0])
    try whole.step(Self.gradient(1))
    try whole.optimizer.save(to: file)
    let resumed = try Subject(.adam(), LossScale.Rule())
    resumed.arena.set(resumed.weights.weight, to: try whole.values())
    try resumed.optimizer.load(from: file)
    #expect(try resumed.state() == whole.state() && resumed.optimizer.step == 3)
    for subject in [whole, resumed] { try subject.step(Self.gradient(2)) }
    #expect(try resumed.values() == whole.values())
    #expect(try resumed.state() == whole.state())
    // A file without a scale is one of another run.
    let plain = try Subject(.adam(), nil)
    try plain.optimizer.save(to: file)
    #expect(throws: SafetensorsError.self) { try resumed.optimizer.load(from: file) }
  }
}
