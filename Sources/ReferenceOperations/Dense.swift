extension Reference {
  /// y = x · weights + bias: [batch, inputs], [inputs, outputs], [outputs] → [batch, outputs]. A 1×1 convolution of
  /// one-pixel images, and computed as one.
  public static func dense(
    _ x: ReferenceTensor, weights: ReferenceTensor, bias: ReferenceTensor? = nil
  ) -> ReferenceTensor {
    conv2d(pixels(x), filter: pixelFilter(weights), bias: bias).reshaped([x.shape[0], weights.shape[1]])
  }

  /// dx = gradient · weightsᵀ, dweights = xᵀ · gradient, dbias = Σ gradient over the batch.
  public static func denseGradient(
    _ x: ReferenceTensor, weights: ReferenceTensor, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, weights: ReferenceTensor, bias: ReferenceTensor) {
    let (dx, dfilter, dbias) = conv2dGradient(pixels(x), filter: pixelFilter(weights), gradient: pixels(gradient))
    return (dx.reshaped(x.shape), dfilter.reshaped(weights.shape), dbias)
  }

  private static func pixels(_ x: ReferenceTensor) -> ReferenceTensor { x.reshaped([x.shape[0], 1, 1, x.shape[1]]) }

  private static func pixelFilter(_ weights: ReferenceTensor) -> ReferenceTensor {
    weights.reshaped([1, 1] + weights.shape)
  }
}
