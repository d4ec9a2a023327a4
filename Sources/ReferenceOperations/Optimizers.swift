import Foundation

extension Reference {
  /// The gradients, all scaled by maximum / max(norm, maximum), and the norm over all of them before.
  public static func clipByGlobalNorm(
    _ gradients: [ReferenceTensor], maximum: Double
  ) -> (gradients: [ReferenceTensor], norm: Double) {
    let norm = gradients.reduce(0) { $0 + sum($1.zip($1, *)).scalar }.squareRoot()
    return (gradients.map { scale($0, by: maximum / max(norm, maximum)) }, norm)
  }

  /// One step of Keras's SGD. First parameter −= learningRate · weightDecay · parameter; then, with
  /// velocity = momentum · velocity − learningRate · gradient, parameter += velocity, or with Nesterov
  /// parameter += momentum · velocity − learningRate · gradient. `velocity` starts at zero.
  public static func sgd(
    _ parameter: inout ReferenceTensor, velocity: inout ReferenceTensor, gradient: ReferenceTensor,
    learningRate: Double, momentum: Double = 0, nesterov: Bool = false, weightDecay: Double = 0
  ) {
    let step = scale(gradient, by: -learningRate)
    velocity = add(scale(velocity, by: momentum), step)
    parameter = add(
      scale(parameter, by: 1 - learningRate * weightDecay),
      nesterov ? add(scale(velocity, by: momentum), step) : velocity)
  }

  /// One step of Keras's Adam; with a weight decay it is AdamW (Loshchilov and Hutter, 2019), where first
  /// parameter −= learningRate · weightDecay · parameter. Then
  /// first += (1 − β₁)(gradient − first), second += (1 − β₂)(gradient² − second) and
  /// parameter −= learningRate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · first / (√second + epsilon): epsilon is outside the bias
  /// correction. `step` is t, 1 for the first; both moments start at zero.
  public static func adam(
    _ parameter: inout ReferenceTensor, first: inout ReferenceTensor, second: inout ReferenceTensor,
    gradient: ReferenceTensor, step: Int, learningRate: Double, beta1: Double = 0.9, beta2: Double = 0.999,
    epsilon: Double = 1e-7, weightDecay: Double = 0
  ) {
    let rate = learningRate * (1 - pow(beta2, Double(step))).squareRoot() / (1 - pow(beta1, Double(step)))
    first = first.zip(gradient) { $0 + (1 - beta1) * ($1 - $0) }
    second = second.zip(gradient) { $0 + (1 - beta2) * ($1 * $1 - $0) }
    let update = first.zip(second) { rate * $0 / ($1.squareRoot() + epsilon) }
    parameter = scale(parameter, by: 1 - learningRate * weightDecay).zip(update, -)
  }
}
