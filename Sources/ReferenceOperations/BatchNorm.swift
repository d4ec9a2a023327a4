extension Reference {
  /// Mean and biased variance of every channel over all leading dimensions: [..., channels] → [channels] twice.
  public static func moments(_ x: ReferenceTensor) -> (mean: ReferenceTensor, variance: ReferenceTensor) {
    let perPixel = Double(x.channels) / Double(x.count)
    let mean = scale(channelSum(x), by: perPixel)
    let centred = prologue(x, centre: mean)
    return (mean, scale(channelSum(centred.zip(centred, *)), by: perPixel))
  }

  /// dx = (mean′ + 2 · (x − mean) · variance′) / M over M pixels, where mean′ and variance′ are the incoming gradients,
  /// [channels] each. The variance's own dependence on the mean cancels, as Σ (x − mean) = 0.
  public static func momentsGradient(
    _ x: ReferenceTensor, mean meanGradient: ReferenceTensor, variance varianceGradient: ReferenceTensor
  ) -> ReferenceTensor {
    let perPixel = Double(x.channels) / Double(x.count)
    return prologue(
      x, centre: moments(x).mean, scale: scale(varianceGradient, by: 2 * perPixel),
      shift: scale(meanGradient, by: perPixel))
  }

  /// What turns statistics into a prologue, all [channels]: centre = mean, scale = gamma / √(variance + epsilon),
  /// shift = beta.
  public static func fold(
    mean: ReferenceTensor, variance: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor, epsilon: Double
  ) -> (centre: ReferenceTensor, scale: ReferenceTensor, shift: ReferenceTensor) {
    (mean, gamma.zip(variance) { $0 / ($1 + epsilon).squareRoot() }, beta)
  }

  /// dmean = centre′, dbeta = shift′, dgamma = scale′ / √(variance + epsilon) and
  /// dvariance = −½ · scale′ · gamma / (variance + epsilon)^(3/2); the primed are the incoming gradients.
  public static func foldGradient(
    variance: ReferenceTensor, gamma: ReferenceTensor, epsilon: Double,
    centre: ReferenceTensor, scale: ReferenceTensor, shift: ReferenceTensor
  ) -> (mean: ReferenceTensor, variance: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor) {
    let dgamma = scale.zip(variance) { $0 / ($1 + epsilon).squareRoot() }
    let dvariance = dgamma.zip(gamma, *).zip(variance) { -0.5 * $0 / ($1 + epsilon) }
    return (centre, dvariance, dgamma, shift)
  }

  /// Batch normalisation in training, [..., channels], gamma and beta [channels]:
  /// y = gamma · (x − mean) / √(variance + epsilon) + beta with the statistics of the batch
  /// (Ioffe and Szegedy, "Batch normalization", 2015, algorithm 1). Here as moments, fold and prologue.
  public static func batchNorm(
    _ x: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor, epsilon: Double
  ) -> ReferenceTensor {
    let (mean, variance) = moments(x)
    return batchNormInference(x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon)
  }

  /// The closed formula over M pixels, with x̂ = (x − mean) / √(variance + epsilon): dbeta = Σ g, dgamma = Σ g · x̂,
  /// dx = gamma / √(variance + epsilon) · (g − dbeta / M − x̂ · dgamma / M).
  public static func batchNormGradient(
    _ x: ReferenceTensor, gamma: ReferenceTensor, epsilon: Double, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor) {
    let (mean, variance) = moments(x)
    let inverse = variance.map { 1 / ($0 + epsilon).squareRoot() }
    let normalised = prologue(x, centre: mean, scale: inverse)
    let dbeta = channelSum(gradient)
    let dgamma = channelSum(normalised.zip(gradient, *))
    let perPixel = Double(x.channels) / Double(x.count)
    let along = prologue(normalised, scale: scale(dgamma, by: perPixel), shift: scale(dbeta, by: perPixel))
    return (prologue(gradient.zip(along, -), scale: inverse.zip(gamma, *)), dgamma, dbeta)
  }

  /// The same gradient by composition: through the prologue, fold and moments in turn, as a device computes it.
  public static func batchNormGradientComposed(
    _ x: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor, epsilon: Double, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor) {
    let (mean, variance) = moments(x)
    let (direct, folded) = batchNormInferenceGradient(
      x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon, gradient: gradient)
    let throughMoments = momentsGradient(x, mean: folded.mean, variance: folded.variance)
    return (add(direct, throughMoments), folded.gamma, folded.beta)
  }

  /// Batch normalisation with given statistics, [channels] each: the moving ones, at inference.
  public static func batchNormInference(
    _ x: ReferenceTensor, mean: ReferenceTensor, variance: ReferenceTensor,
    gamma: ReferenceTensor, beta: ReferenceTensor, epsilon: Double
  ) -> ReferenceTensor {
    let (centre, scale, shift) = fold(mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon)
    return prologue(x, centre: centre, scale: scale, shift: shift)
  }

  /// The gradients of the prologue and, behind it, of `fold`.
  public static func batchNormInferenceGradient(
    _ x: ReferenceTensor, mean: ReferenceTensor, variance: ReferenceTensor,
    gamma: ReferenceTensor, beta: ReferenceTensor, epsilon: Double, gradient: ReferenceTensor
  ) -> (
    x: ReferenceTensor,
    fold: (mean: ReferenceTensor, variance: ReferenceTensor, gamma: ReferenceTensor, beta: ReferenceTensor)
  ) {
    let (centre, scale, shift) = fold(mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: epsilon)
    let outer = prologueGradient(x, centre: centre, scale: scale, shift: shift, gradient: gradient)
    let inner = foldGradient(
      variance: variance, gamma: gamma, epsilon: epsilon,
      centre: outer.centre, scale: outer.scale, shift: outer.shift)
    return (outer.x, inner)
  }

  /// momentum · moving + (1 − momentum) · batch, for the moving mean and the moving (biased) variance alike.
  public static func movingStatistic(
    _ moving: ReferenceTensor, batch: ReferenceTensor, momentum: Double
  ) -> ReferenceTensor {
    moving.zip(batch) { momentum * $0 + (1 - momentum) * $1 }
  }
}
