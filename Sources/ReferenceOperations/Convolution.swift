extension Reference {
  /// Two-dimensional convolution without flipping the filter, zeros in the padding.
  ///
  /// y[n, oy, ox, o] = bias[o] + Σ x[n, oy·s + ky − top, ox·s + kx − left, i] · filter[ky, kx, i, o]
  ///
  /// - Parameters:
  ///   - x: [batch, height, width, input channels].
  ///   - filter: [filter height, filter width, input channels, output channels].
  ///   - bias: [output channels], or nil for none.
  public static func conv2d(
    _ x: ReferenceTensor, filter: ReferenceTensor, bias: ReferenceTensor? = nil,
    strides: Size2D = Size2D(1), padding: Padding = .valid
  ) -> ReferenceTensor {
    let sweep = convolutionSweep(x, filter, strides, padding)
    let (inputs, outputs) = (filter.shape[2], filter.shape[3])
    var y = ReferenceTensor(sweep.outputShape(channels: outputs))
    sweep.forEach { outputPixel, inputPixel, tap in
      guard let inputPixel else { return }
      for i in 0..<inputs {
        let value = x.values[inputPixel * inputs + i]
        for o in 0..<outputs {
          y.values[outputPixel * outputs + o] += value * filter.values[(tap * inputs + i) * outputs + o]
        }
      }
    }
    if let bias { y.forEachChannel { index, channel in y.values[index] += bias.values[channel] } }
    return y
  }

  /// dx gathers every output a pixel took part in, dfilter every pair of pixels a tap joined; dbias is the sum over
  /// pixels. `gradient` has the shape of the result.
  public static func conv2dGradient(
    _ x: ReferenceTensor, filter: ReferenceTensor, gradient: ReferenceTensor,
    strides: Size2D = Size2D(1), padding: Padding = .valid
  ) -> (x: ReferenceTensor, filter: ReferenceTensor, bias: ReferenceTensor) {
    let sweep = convolutionSweep(x, filter, strides, padding)
    let (inputs, outputs) = (filter.shape[2], filter.shape[3])
    precondition(gradient.shape == sweep.outputShape(channels: outputs), "gradient of shape \(gradient.shape)")
    var dx = ReferenceTensor(x.shape)
    var dfilter = ReferenceTensor(filter.shape)
    sweep.forEach { outputPixel, inputPixel, tap in
      guard let inputPixel else { return }
      for i in 0..<inputs {
        let value = x.values[inputPixel * inputs + i]
        var sum = 0.0
        for o in 0..<outputs {
          let weight = (tap * inputs + i) * outputs + o
          let dy = gradient.values[outputPixel * outputs + o]
          sum += dy * filter.values[weight]
          dfilter.values[weight] += dy * value
        }
        dx.values[inputPixel * inputs + i] += sum
      }
    }
    return (dx, dfilter, channelSum(gradient))
  }

  private static func convolutionSweep(
    _ x: ReferenceTensor, _ filter: ReferenceTensor, _ strides: Size2D, _ padding: Padding
  ) -> WindowSweep {
    precondition(
      filter.shape.count == 4 && filter.shape[2] == x.channels,
      "filter \(filter.shape) does not fit an image \(x.shape)")
    return WindowSweep(
      over: x, window: Size2D(filter.shape[0], filter.shape[1]), strides: strides, padding: padding)
  }
}
