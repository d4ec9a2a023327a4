import Foundation

extension Reference {
  /// a + b, both of one shape.
  public static func add(_ a: ReferenceTensor, _ b: ReferenceTensor) -> ReferenceTensor { a.zip(b, +) }

  /// Both take the gradient as it is.
  public static func addGradient(gradient: ReferenceTensor) -> (a: ReferenceTensor, b: ReferenceTensor) {
    (gradient, gradient)
  }

  /// factor · x.
  public static func scale(_ x: ReferenceTensor, by factor: Double) -> ReferenceTensor { x.map { $0 * factor } }

  /// dx = factor · gradient, dfactor = Σ gradient · x.
  public static func scaleGradient(
    _ x: ReferenceTensor, by factor: Double, gradient: ReferenceTensor
  ) -> (x: ReferenceTensor, factor: Double) {
    (scale(gradient, by: factor), sum(x.zip(gradient, *)).scalar)
  }

  /// x where x > 0, else slope · x. Slope 1 is the identity, slope 0 is ReLU.
  public static func leakyRelu(_ x: ReferenceTensor, slope: Double) -> ReferenceTensor {
    x.map { $0 > 0 ? $0 : slope * $0 }
  }

  /// gradient where x > 0, else slope · gradient: at 0 the slope counts, as in TensorFlow.
  public static func leakyReluGradient(
    _ x: ReferenceTensor, slope: Double, gradient: ReferenceTensor
  ) -> ReferenceTensor {
    x.zip(gradient) { x, dy in x > 0 ? dy : slope * dy }
  }

  /// Hyperbolic tangent.
  public static func tanh(_ x: ReferenceTensor) -> ReferenceTensor { x.map { Foundation.tanh($0) } }

  /// gradient · (1 − tanh²).
  public static func tanhGradient(_ x: ReferenceTensor, gradient: ReferenceTensor) -> ReferenceTensor {
    x.zip(gradient) { x, dy in dy * (1 - Foundation.tanh(x) * Foundation.tanh(x)) }
  }

  /// max(x, 0).
  public static func relu(_ x: ReferenceTensor) -> ReferenceTensor { leakyRelu(x, slope: 0) }

  /// gradient where x > 0, else 0.
  public static func reluGradient(_ x: ReferenceTensor, gradient: ReferenceTensor) -> ReferenceTensor {
    leakyReluGradient(x, slope: 0, gradient: gradient)
  }

  /// Tensors that differ only in their last dimension, side by side: [..., a], [..., b] → [..., a + b].
  public static func concatenate(_ parts: [ReferenceTensor]) -> ReferenceTensor {
    let leading = parts[0].shape.dropLast()
    precondition(parts.allSatisfy { $0.shape.dropLast() == leading }, "\(parts.map(\.shape)) do not fit together")
    var values: [Double] = []
    for pixel in 0..<leading.reduce(1, *) {
      for part in parts { values += part.values[pixel * part.channels..<(pixel + 1) * part.channels] }
    }
    return ReferenceTensor(leading + [parts.map(\.channels).reduce(0, +)], values)
  }

  /// Each part takes its channels. `channels` are the channel counts of the parts.
  public static func concatenateGradient(channels: [Int], gradient: ReferenceTensor) -> [ReferenceTensor] {
    var start = 0
    return channels.map { count in
      defer { start += count }
      let pixels = gradient.count / gradient.channels
      let values = (0..<pixels).flatMap { pixel in
        gradient.values[pixel * gradient.channels + start..<pixel * gradient.channels + start + count]
      }
      return ReferenceTensor(gradient.shape.dropLast() + [count], values)
    }
  }
}
