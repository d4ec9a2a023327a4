import NeuralNetwork
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// An optimizer's rule beside the reference.
package struct OptimizerCheck: Sendable {
  package let name: String
  package let rule: OptimizerRule
  package var clipNorm: Float?
  private let reference:
    @Sendable (inout ReferenceTensor, inout ReferenceTensor, inout ReferenceTensor, ReferenceTensor, Int) -> Void

  /// All rules, and clipping.
  package static let all: [OptimizerCheck] = [
    OptimizerCheck(name: "SGD", rule: .sgd(weightDecay: 0.1)) { w, first, _, g, _ in
      Reference.sgd(&w, velocity: &first, gradient: g, learningRate: 0.05, weightDecay: 0.1)
    },
    OptimizerCheck(name: "momentum", rule: .sgd(momentum: 0.9)) { w, first, _, g, _ in
      Reference.sgd(&w, velocity: &first, gradient: g, learningRate: 0.05, momentum: 0.9)
    },
    OptimizerCheck(name: "Nesterov", rule: .sgd(momentum: 0.9, nesterov: true, weightDecay: 0.1)) {
      w, first, _, g, _ in
      Reference.sgd(
        &w, velocity: &first, gradient: g, learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.1)
    },
    OptimizerCheck(name: "Adam", rule: .adam()) { w, first, second, g, step in
      Reference.adam(&w, first: &first, second: &second, gradient: g, step: step, learningRate: 0.05)
    },
    OptimizerCheck(name: "AdamW", rule: .adamW(weightDecay: 0.1)) { w, first, second, g, step in
      Reference.adam(
        &w, first: &first, second: &second, gradient: g, step: step, learningRate: 0.05, weightDecay: 0.1)
    },
    OptimizerCheck(name: "clipped SGD", rule: .sgd(), clipNorm: 0.5) { w, first, _, g, _ in
      let clipped = Reference.clipByGlobalNorm([g], maximum: 0.5).gradients[0]
      Reference.sgd(&w, velocity: &first, gradient: clipped, learningRate: 0.05)
    },
  ]

  private init(
    name: String, rule: OptimizerRule, clipNorm: Float? = nil,
    reference:
      @escaping @Sendable (
        inout ReferenceTensor, inout ReferenceTensor, inout ReferenceTensor, ReferenceTensor, Int
      ) -> Void
  ) {
    self.name = name
    self.rule = rule
    self.clipNorm = clipNorm
    self.reference = reference
  }

  /// A module with one weight that the loss is linear in, so that its gradient is what the check says.
  private struct OneWeight: Module {
    let weight: Parameter

    init(_ count: Int) { weight = Parameter([count], .uniform(-1, 1)) }
  }

  /// Five steps against the reference, and a sixth that must change nothing. A handful of float32 operations a step: errors of a few 6e-8.
  package func run(on device: Device, count: Int = 7) throws -> [Comparison] {
    let model = OneWeight(count)
    let arena = ParameterArena(model, on: device, seed: 1)
    let optimizer = Optimizer(rule, schedule: .constant(0.05), clipNorm: clipNorm, arena: arena)
    var weight = ReferenceTensor([count])
    if !device.isPlanning { weight = ReferenceTensor([count], values: try model.weight.tensor.floats()) }
    var (first, second) = (ReferenceTensor([count]), ReferenceTensor([count]))
    for step in 1...5 {
      let gradient = ReferenceTensor.random([count], seed: UInt64(step))
      let factors = gradient.tensor(on: device)
      let (loss, gradients) = valueWithGradients { (model.weight.tensor * factors).sum() }
      optimizer.update(gradients, loss: loss)
      reference(&weight, &first, &second, gradient, step)
    }
    // A loss that is not finite ends all updates: the weights must still be those of the five steps.
    let infinite = Tensor(uninitialized: [], on: device)
    infinite.fill(.infinity)
    optimizer.update(valueWithGradients { model.weight.tensor.sum() }.gradients, loss: infinite)
    return [try Comparison("\(name), weights after five steps", model.weight.tensor, weight, within: 1e-6)]
  }
}
