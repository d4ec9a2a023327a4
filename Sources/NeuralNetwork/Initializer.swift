import Foundation
import TensorCore

/// How a parameter starts.
public enum Initializer: Sendable {
  /// 0 everywhere, as biases start.
  case zeros
  /// 1 everywhere, as the scales of a BatchNorm start.
  case ones
  /// The same value everywhere.
  case constant(Float)
  /// Uniform in ±√(6 / (fanIn + fanOut)) (Glorot & Bengio 2010), Keras's default for kernels.
  case glorotUniform
  /// Normal with variance 2 / (fanIn + fanOut), cut at two standard deviations.
  case glorotNormal
  /// Uniform in ±√(6 / fanIn) (He et al. 2015).
  case heUniform
  /// Normal with variance 2 / fanIn, cut at two standard deviations.
  case heNormal
  /// Uniform from the first number to the second.
  case uniform(Float, Float)
  /// Normal with the given mean and standard deviation.
  case normal(mean: Float, deviation: Float)

  /// The starting values of a parameter, row-major. Fans are those of Keras: the last two extents times the window.
  public func values(shape: Shape, using random: inout RandomNumbers) -> [Float] {
    let dimensions = shape.dimensions
    let window = dimensions.dropLast(2).reduce(1, *)
    let fanIn = Float(dimensions.count >= 2 ? dimensions[dimensions.count - 2] * window : dimensions.first ?? 1)
    let fanOut = Float(dimensions.count >= 2 ? dimensions[dimensions.count - 1] * window : dimensions.first ?? 1)
    switch self {
    case .zeros: return Array(repeating: 0, count: shape.count)
    case .ones: return Array(repeating: 1, count: shape.count)
    case .constant(let value): return Array(repeating: value, count: shape.count)
    case .glorotUniform: return uniform(shape.count, (6 / (fanIn + fanOut)).squareRoot(), &random)
    case .heUniform: return uniform(shape.count, (6 / fanIn).squareRoot(), &random)
    case .glorotNormal: return truncatedNormal(shape.count, (2 / (fanIn + fanOut)).squareRoot(), &random)
    case .heNormal: return truncatedNormal(shape.count, (2 / fanIn).squareRoot(), &random)
    case .uniform(let low, let high):
      return (0..<shape.count).map { _ in low + (high - low) * random.uniform() }
    case .normal(let mean, let deviation):
      return (0..<shape.count).map { _ in mean + deviation * normal(&random) }
    }
  }

  private func uniform(_ count: Int, _ limit: Float, _ random: inout RandomNumbers) -> [Float] {
    var values = [Float](repeating: 0, count: count)
    for index in 0..<count { values[index] = (random.uniform() * 2 - 1) * limit }
    return values
  }

  /// Keras divides by the deviation that the cut leaves, 0.8796.
  private func truncatedNormal(_ count: Int, _ deviation: Float, _ random: inout RandomNumbers) -> [Float] {
    (0..<count).map { _ in
      var value = normal(&random)
      while abs(value) > 2 { value = normal(&random) }
      return value * deviation / 0.879_625_66
    }
  }

  /// Box and Muller's method.
  private func normal(_ random: inout RandomNumbers) -> Float {
    let radius = (-2 * log(1 - Double(random.uniform()))).squareRoot()
    return Float(radius * cos(2 * Double.pi * Double(random.uniform())))
  }
}
