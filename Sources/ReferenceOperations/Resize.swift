import Foundation

/// How an image is interpolated, with the names of `keras.ops.image.resize`.
public enum ResizeMethod: String, Sendable, CaseIterable {
  /// The pixel whose area holds the sampling position.
  case nearest
  /// Two taps an axis.
  case bilinear
  /// Four taps an axis: Keys, "Cubic convolution interpolation", 1981, with a = −½.
  case bicubic
  /// Six taps an axis: sinc windowed by a sinc of radius 3.
  case lanczos3
  /// Ten taps an axis: sinc windowed by a sinc of radius 5.
  case lanczos5

  /// Half the width of the kernel, in input pixels.
  var radius: Double {
    switch self {
    case .nearest: 0.5
    case .bilinear: 1
    case .bicubic: 2
    case .lanczos3: 3
    case .lanczos5: 5
    }
  }

  /// The weight of a pixel at `distance` from the sampling position.
  func weight(at distance: Double) -> Double {
    let x = abs(distance)
    guard x < radius else { return 0 }
    switch self {
    case .nearest: return 1
    case .bilinear: return 1 - x
    case .bicubic: return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2
    case .lanczos3, .lanczos5: return sinc(x) * sinc(x / radius)
    }
  }

  private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(.pi * x) / (.pi * x) }
}

/// One pixel that an output pixel reads along one axis.
public struct ResizeTap: Sendable, Equatable {
  /// The number of the input pixel.
  public var index: Int
  /// Its weight; those of one output pixel sum to 1.
  public var weight: Double
}

extension Reference {
  /// The taps of every output pixel along one axis, at exact positions: output i samples the input at
  /// (i + ½) · inputSize / outputSize, pixel j has its centre at j + ½. Taps outside the image are dropped and the rest
  /// renormalised. With `antialias` the kernel is widened by the ratio when shrinking. So do jax.image.resize and
  /// TensorFlow's ScaleAndTranslate; TensorFlow's bicubic without antialiasing reads a table of 1,024 entries instead.
  public static func resizeWeights(
    inputSize: Int, outputSize: Int, method: ResizeMethod, antialias: Bool = false
  ) -> [[ResizeTap]] {
    let widening = antialias ? max(Double(inputSize) / Double(outputSize), 1) : 1
    return (0..<outputSize).map { i in
      // ⌊(i + ½) · inputSize / outputSize⌋ in integers, so that no rounding moves it.
      if method == .nearest { return [ResizeTap(index: (2 * i + 1) * inputSize / (2 * outputSize), weight: 1)] }
      let position = Double((2 * i + 1) * inputSize) / Double(2 * outputSize)
      let first = max(Int((position - method.radius * widening - 0.5).rounded(.up)), 0)
      let last = min(Int((position + method.radius * widening - 0.5).rounded(.down)), inputSize - 1)
      let taps = (first...last).map { j in
        ResizeTap(index: j, weight: method.weight(at: (Double(j) + 0.5 - position) / widening))
      }
      let total = taps.reduce(0) { $0 + $1.weight }
      return taps.filter { $0.weight != 0 }.map { ResizeTap(index: $0.index, weight: $0.weight / total) }
    }
  }

  /// The same taps seen from the input: for every input pixel the output pixels that read it. Its gradient is the sum
  /// of their gradients by these weights.
  public static func transposedWeights(_ weights: [[ResizeTap]], inputSize: Int) -> [[ResizeTap]] {
    var transposed = [[ResizeTap]](repeating: [], count: inputSize)
    for (output, taps) in weights.enumerated() {
      for tap in taps { transposed[tap.index].append(ResizeTap(index: output, weight: tap.weight)) }
    }
    return transposed
  }

  /// A resized image, [batch, height, width, channels] → [batch, size.height, size.width, channels]; any ratio, up or
  /// down, each axis on its own.
  public static func resize(
    _ x: ReferenceTensor, to size: Size2D, method: ResizeMethod, antialias: Bool = false
  ) -> ReferenceTensor {
    let (rows, columns) = weights(from: Size2D(x.shape[1], x.shape[2]), to: size, method, antialias)
    return gather(gather(x, axis: 1, rows), axis: 2, columns)
  }

  /// The transpose of the resize; `inputSize` is the size of x.
  public static func resizeGradient(
    inputSize: Size2D, gradient: ReferenceTensor, method: ResizeMethod, antialias: Bool = false
  ) -> ReferenceTensor {
    let size = Size2D(gradient.shape[1], gradient.shape[2])
    let (rows, columns) = weights(from: inputSize, to: size, method, antialias)
    let wide = gather(gradient, axis: 2, transposedWeights(columns, inputSize: inputSize.width))
    return gather(wide, axis: 1, transposedWeights(rows, inputSize: inputSize.height))
  }

  private static func weights(
    from input: Size2D, to output: Size2D, _ method: ResizeMethod, _ antialias: Bool
  ) -> (rows: [[ResizeTap]], columns: [[ResizeTap]]) {
    (
      resizeWeights(inputSize: input.height, outputSize: output.height, method: method, antialias: antialias),
      resizeWeights(inputSize: input.width, outputSize: output.width, method: method, antialias: antialias)
    )
  }

  /// Weighted sums along one axis: y[…, i, …] = Σ weight · x[…, index, …] over the taps of i.
  private static func gather(_ x: ReferenceTensor, axis: Int, _ weights: [[ResizeTap]]) -> ReferenceTensor {
    let outer = x.shape[..<axis].reduce(1, *)
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    var shape = x.shape
    shape[axis] = weights.count
    var y = ReferenceTensor(shape)
    for o in 0..<outer {
      for (i, taps) in weights.enumerated() {
        for tap in taps {
          let target = (o * weights.count + i) * inner
          let source = (o * x.shape[axis] + tap.index) * inner
          for k in 0..<inner { y.values[target + k] += tap.weight * x.values[source + k] }
        }
      }
    }
    return y
  }
}
