import OpenCLRuntime
import Operations
import TensorCore

/// The rule by which weights follow their gradients, with Keras's conventions.
public enum OptimizerRule: Sendable, Equatable {
  /// Stochastic gradient descent: without momentum `w −= lr · g`; else `v = momentum · v − lr · g` and `w += v`, or with
  /// Nesterov `w += momentum · v − lr · g`.
  case sgd(momentum: Float = 0, nesterov: Bool = false, weightDecay: Float = 0)
  /// Kingma & Ba 2015.
  case adam(beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-7)
  /// Adam with the decay applied to the weights (Loshchilov & Hutter 2019).
  case adamW(beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-7, weightDecay: Float = 0.004)
}

/// Updates a model's weights from their gradients: one launch for all of them.
public final class Optimizer: @unchecked Sendable {
  /// How the weights are updated.
  public let rule: OptimizerRule
  /// The learning rate of each step.
  public let schedule: LearningRateSchedule
  /// Largest global norm of the gradients; longer ones are scaled down to it. Nil leaves them as they are.
  public let clipNorm: Float?
  /// By what the losses are multiplied whose gradients it gets; nil where by nothing.
  public let lossScale: LossScale?
  /// What the schedule's rates are multiplied by, such as after a plateau.
  public var rateFactor: Float = 1
  /// Steps done.
  public private(set) var step = 0
  /// Momentum, or Adam's two moments, laid out like the arena's weights.
  public let state: [Tensor]

  private let arena: ParameterArena
  private let settings: Tensor

  /// An optimizer of all trainable parameters of `arena`, with its state at zero.
  ///
  /// - Parameter lossScale: for gradients of a backward pass that started from its `seed`. Steps that it skips still
  ///   count in `step`, which the schedule follows; Adam's bias corrections count updates alone.
  public init(
    _ rule: OptimizerRule, schedule: LearningRateSchedule, clipNorm: Float? = nil, lossScale: LossScale? = nil,
    arena: ParameterArena
  ) {
    self.rule = rule
    self.schedule = schedule
    self.clipNorm = clipNorm
    self.lossScale = lossScale
    self.arena = arena
    (settings, state) = arena.device.labellingMemory(.optimizer) {
      (
        Tensor.zeros([6], on: arena.device),
        rule.stateNames.map { _ in Tensor.zeros(arena.weights.shape, on: arena.device) }
      )
    }
  }

  /// The rate that the next update uses.
  public var learningRate: Float { schedule.rate(step) * rateFactor }

  /// Applies `gradients`, the result of a backward pass over the arena's model.
  ///
  /// - Parameter loss: the value that was differentiated. Once one is NaN or infinite, neither this update nor any later
  ///   one changes the weights: they stay as they were when they gave that value.
  public func update(_ gradients: GradientStore, loss: Tensor? = nil) {
    arena.completeGradients(gradients)
    updateFromArena(loss: loss)
  }

  /// Applies the arena's gradients as they are, such as a sum over several backward passes; see ``GradientAccumulator``.
  public func updateFromArena(loss: Tensor? = nil) {
    beginStep()
    applyUpdate(loss: loss)
  }

  /// Begins a step: copies what differs between steps, such as the learning rate, to where the update reads it, and
  /// counts. Before a ``CapturedStep`` that ends with ``applyUpdate(loss:)``; ``update(_:loss:)`` does both.
  public func beginStep() {
    // Without momentum betas of 0, and corrections of 1.
    let corrections = (1 - power(betas.0, step + 1), 1 - power(betas.1, step + 1))
    settings.storage.buffer.enqueueWrite([learningRate, 1, Float(corrections.0), Float(corrections.1)])
    step += 1
  }

  private var betas: (Double, Double) {
    switch rule {
    case .sgd: (0, 0)
    case .adam(let beta1, let beta2, _), .adamW(let beta1, let beta2, _, _): (Double(beta1), Double(beta2))
    }
  }

  /// Applies the arena's gradients in the step that ``beginStep()`` began.
  ///
  /// - Parameter loss: as for ``update(_:loss:)``.
  public func applyUpdate(loss: Tensor? = nil) {
    let device = arena.device
    if let loss { check(loss) }
    setGradientFactor()
    let vector = device.isCPU ? 16 : 4
    let vectors = arena.weights.shape.count / vector
    func launch(_ kernel: String, _ buffers: [Tensor], _ hyperparameters: [KernelArgument]) {
      device.launch(
        .optimizer, kernel, options: "-D VEC=\(vector)", global: [vectors], local: device.independent(1),
        (buffers + [settings]).map { .buffer($0.storage.buffer) } + hyperparameters,
        cost: LaunchCost("\(kernel) update", bytes: Double(arena.weights.shape.count * 4 * (buffers.count * 2 - 1))))
    }
    switch rule {
    case .sgd(let momentum, let nesterov, let weightDecay):
      launch(
        "sgd", [arena.weights, arena.gradients, state.first ?? arena.weights],
        [.float(momentum), .int(nesterov ? 1 : 0), .float(weightDecay)])
    case .adam(let beta1, let beta2, let epsilon):
      launch(
        "adam", [arena.weights, arena.gradients] + state, [.float(beta1), .float(beta2), .float(epsilon), .float(0)])
    case .adamW(let beta1, let beta2, let epsilon, let weightDecay):
      launch(
        "adam", [arena.weights, arena.gradients] + state,
        [.float(beta1), .float(beta2), .float(epsilon), .float(weightDecay)])
    }
  }

  /// Continues from a saved step; the state tensors are restored by whoever saved them.
  public func resume(at step: Int) {
    self.step = step
  }

  private func check(_ loss: Tensor) {
    arena.device.launch(
      .optimizer, "check_loss", global: [1], local: [1],
      [.buffer(settings.storage.buffer), .buffer(loss.storage.buffer), .int(loss.elementOffset)],
      cost: LaunchCost("check loss"))
  }

  /// Clipping and the loss scale, both of which need the norm of the gradients.
  private func setGradientFactor() {
    guard clipNorm != nil || lossScale != nil else { return }
    let squares = Tensor(uninitialized: [], on: arena.device)
    arena.gradients.addSum(.squares, factor: 1, to: squares)
    if let lossScale {
      return lossScale.apply(to: settings, squares: squares, clipNorm: clipNorm, betas: betas)
    }
    guard let clipNorm else { return }
    arena.device.launch(
      .optimizer, "clip_factor", global: [1], local: [1],
      [.buffer(squares.storage.buffer), .float(clipNorm), .buffer(settings.storage.buffer)],
      cost: LaunchCost("clip factor"))
  }
}

private func power(_ base: Double, _ exponent: Int) -> Double {
  var result = 1.0
  var factor = base
  var rest = exponent
  while rest > 0 {
    if rest & 1 == 1 { result *= factor }
    factor *= factor
    rest >>= 1
  }
  return result
}
