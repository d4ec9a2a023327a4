extension Reference {
  /// What a kernel applies to its input while it loads: y = post((pre(x) − centre) · scale + shift), where pre and post
  /// are leaky activations given by their slope (1 for none, 0 for ReLU).
  ///
  /// - Parameters:
  ///   - x: [..., channels].
  ///   - centre: [channels], 0 when nil.
  ///   - scale: [channels], 1 when nil.
  ///   - shift: [channels], 0 when nil.
  public static func prologue(
    _ x: ReferenceTensor, pre: Double = 1, centre: ReferenceTensor? = nil, scale: ReferenceTensor? = nil,
    shift: ReferenceTensor? = nil, post: Double = 1
  ) -> ReferenceTensor {
    leakyRelu(affine(leakyRelu(x, slope: pre), centre, scale, shift), slope: post)
  }

  /// With g = gradient · post′: dshift = Σ g, dscale = Σ g · (pre(x) − centre), dcentre = −scale · dshift and
  /// dx = g · scale · pre′, sums over all pixels.
  public static func prologueGradient(
    _ x: ReferenceTensor, pre: Double = 1, centre: ReferenceTensor? = nil, scale: ReferenceTensor? = nil,
    shift: ReferenceTensor? = nil, post: Double = 1, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, centre: ReferenceTensor, scale: ReferenceTensor, shift: ReferenceTensor) {
    let activated = leakyRelu(x, slope: pre)
    let g = leakyReluGradient(affine(activated, centre, scale, shift), slope: post, gradient: gradient)
    let dshift = channelSum(g)
    let dscale = channelSum(affine(activated, centre, nil, nil).zip(g, *))
    let ones = scale ?? ReferenceTensor([x.channels], repeating: 1)
    let dx = leakyReluGradient(x, slope: pre, gradient: affine(g, nil, scale, nil))
    return (dx, dshift.zip(ones) { -$0 * $1 }, dscale, dshift)
  }

  private static func affine(
    _ x: ReferenceTensor, _ centre: ReferenceTensor?, _ scale: ReferenceTensor?, _ shift: ReferenceTensor?
  ) -> ReferenceTensor {
    var y = x
    x.forEachChannel { index, channel in
      let centred = x.values[index] - (centre?.values[channel] ?? 0)
      y.values[index] = centred * (scale?.values[channel] ?? 1) + (shift?.values[channel] ?? 0)
    }
    return y
  }
}
