extension Reference {
  /// The largest value of each window: [batch, height, width, channels] → [batch, out height, out width, channels].
  ///
  /// `paddingValue` is what the padding holds: −∞ is TensorFlow's `SAME`, 0 is zero padding followed by a valid pool.
  public static func maxPool(
    _ x: ReferenceTensor, window: Size2D, strides: Size2D, padding: Padding = .valid,
    paddingValue: Double = -.infinity
  ) -> ReferenceTensor {
    maxima(x, WindowSweep(over: x, window: window, strides: strides, padding: padding), paddingValue).values
  }

  /// The first maximum of a window in row-major order takes its gradient; where that is in the padding, nobody does.
  public static func maxPoolGradient(
    _ x: ReferenceTensor, gradient: ReferenceTensor, window: Size2D, strides: Size2D, padding: Padding = .valid,
    paddingValue: Double = -.infinity
  ) -> ReferenceTensor {
    let sweep = WindowSweep(over: x, window: window, strides: strides, padding: padding)
    var dx = ReferenceTensor(x.shape)
    for (index, source) in maxima(x, sweep, paddingValue).sources.enumerated() {
      if let source { dx.values[source] += gradient.values[index] }
    }
    return dx
  }

  /// The maximum of every window and the element it came from, nil for the padding.
  private static func maxima(
    _ x: ReferenceTensor, _ sweep: WindowSweep, _ paddingValue: Double
  ) -> (values: ReferenceTensor, sources: [Int?]) {
    let channels = x.channels
    var y = ReferenceTensor(sweep.outputShape(channels: channels))
    var sources = [Int?](repeating: nil, count: y.count)
    sweep.forEach { outputPixel, inputPixel, tap in
      for c in 0..<channels {
        let index = outputPixel * channels + c
        let source = inputPixel.map { $0 * channels + c }
        let value = source.map { x.values[$0] } ?? paddingValue
        if tap == 0 || value > y.values[index] {
          y.values[index] = value
          sources[index] = source
        }
      }
    }
    return (y, sources)
  }

  /// The mean of each window that lies within the image; rows and columns left over are dropped.
  /// [batch, height, width, channels] → [batch, out height, out width, channels].
  public static func averagePool(_ x: ReferenceTensor, window: Size2D, strides: Size2D) -> ReferenceTensor {
    let sweep = WindowSweep(over: x, window: window, strides: strides, padding: .valid)
    let channels = x.channels
    var y = ReferenceTensor(sweep.outputShape(channels: channels))
    sweep.forEach { outputPixel, inputPixel, _ in
      guard let inputPixel else { return }
      for c in 0..<channels { y.values[outputPixel * channels + c] += x.values[inputPixel * channels + c] }
    }
    return scale(y, by: 1 / Double(window.height * window.width))
  }

  /// Every pixel of a window takes an equal share. `inputShape` is the shape of x.
  public static func averagePoolGradient(
    inputShape: [Int], gradient: ReferenceTensor, window: Size2D, strides: Size2D
  ) -> ReferenceTensor {
    var dx = ReferenceTensor(inputShape)
    let channels = dx.channels
    WindowSweep(over: dx, window: window, strides: strides, padding: .valid).forEach { outputPixel, inputPixel, _ in
      guard let inputPixel else { return }
      for c in 0..<channels { dx.values[inputPixel * channels + c] += gradient.values[outputPixel * channels + c] }
    }
    return scale(dx, by: 1 / Double(window.height * window.width))
  }

  /// The mean over height and width: [batch, height, width, channels] → [batch, channels].
  public static func globalAveragePool(_ x: ReferenceTensor) -> ReferenceTensor { mean(x, axes: [1, 2]) }

  /// Every pixel takes an equal share. `gradient` is [batch, channels].
  public static func globalAveragePoolGradient(inputShape: [Int], gradient: ReferenceTensor) -> ReferenceTensor {
    meanGradient(inputShape: inputShape, gradient: gradient, axes: [1, 2])
  }
}
