import NeuralNetwork
import Operations
import TensorCore

/// The multilayer Laplacian resizer of Tu, Milanfar & Talebi 2023 ("MULLER: Multilayer Laplacian Resizer for Vision",
/// ICCV): a plain resize, to which each layer adds what a Gaussian blur takes away, through two trainable scalars.
///
/// With x₀ the image and x_l = blur(x_{l−1}), the result is
///
///     resize(x₀) + Σ tanh(weight_l · resize(x_l − x_{l−1}) + bias_l)
///
/// in the order of the authors' published code. All scalars start at 0: it starts as the plain resize. Images
/// [batch, height, width, 3] with values 0…1 to [batch, targetHeight, targetWidth, 3].
public struct MullerResizer: ImageResizer {
  /// The level in parameter names, as in the authors' code.
  public let name: String? = "muller_resizer"

  /// What may be chosen; the defaults are the published ones.
  public struct Options: Sendable {
    /// Size of the images that come out.
    public var targetSize: (height: Int, width: Int) = (150, 150)
    /// How the plain resizes inside interpolate.
    public var interpolation = Interpolation.bilinear
    /// Whether the plain resizes widen their kernel when they shrink.
    public var antialias = false
    /// Layers, each with its two scalars.
    public var layers = 2
    /// Half the width of the Gaussian, in pixels.
    public var blurRadius = 2
    /// Standard deviation of the Gaussian, in pixels.
    public var blurDeviation = 1.0
    /// Whether training changes the weights.
    public var isTrainable = true

    /// The published choices.
    public init() {}
  }

  /// What was chosen.
  public let options: Options
  private let weights: [Parameter]
  private let biases: [Parameter]

  /// A model without memory yet; see `ParameterArena`.
  public init(_ options: Options = Options()) {
    precondition(options.layers > 0, "MullerResizer: at least one layer")
    self.options = options
    func scalars(_ name: String) -> [Parameter] {
      (1...options.layers).map { Parameter([], .zeros, isTrainable: options.isTrainable, name: "\(name)_\($0)") }
    }
    weights = scalars("weight")
    biases = scalars("bias")
  }

  /// Size of the images that come out.
  public var targetSize: (height: Int, width: Int) { options.targetSize }

  /// How the resizes inside interpolate.
  public var interpolation: Interpolation { options.interpolation }

  /// Images [batch, height, width, 3] to [batch, targetSize.height, targetSize.width, 3].
  public func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor {
    func resized(_ x: Tensor) -> Tensor {
      x.resized(
        height: targetSize.height, width: targetSize.width, interpolation: options.interpolation,
        antialias: options.antialias)
    }
    var image = images
    var small = resized(image)
    var result = small
    for (weight, bias) in zip(weights, biases) {
      image = image.blurred(weights: blurWeights)
      // The resize is linear: the difference is taken where there are fewer pixels.
      let blurred = resized(image)
      result = result + scaledTanh(blurred - small, weight, bias)
      small = blurred
    }
    return result
  }

  /// Writes the same down.
  public func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
    graph.within(name) { graph in
      var numbers = LayerNumbers()
      func resized(_ x: ModelGraph.Value, _ graph: inout ModelGraph) -> ModelGraph.Value {
        graph.resize(
          x, to: options.targetSize, options.interpolation, antialias: options.antialias, name: numbers.next("resize"))
      }
      var image = images
      var small = resized(image, &graph)
      var result = small
      for (weight, bias) in zip(weights, biases) {
        image = graph.add(
          .blur(weights: blurWeights.map { Float($0) }), [image], shape: image.shape, name: numbers.next("blur"))
        let blurred = resized(image, &graph)
        let residual = graph.add(.subtract, [blurred, small], shape: small.shape, name: numbers.next("subtract"))
        let bent = graph.add(
          .scaledTanh(weight: weight, bias: bias), [residual], shape: small.shape, name: numbers.next("tanh"))
        result = graph.sum(result, bent, name: numbers.next("add"))
        small = blurred
      }
      return result
    }
  }

  private var blurWeights: [Double] { gaussianWeights(radius: options.blurRadius, deviation: options.blurDeviation) }
}

/// tanh(weight · x + bias), with the scalars as a convolution over single values.
private func scaledTanh(_ x: Tensor, _ weight: Parameter, _ bias: Parameter) -> Tensor {
  let values = x.reshaped([x.shape[0], x.shape[1], x.shape[2] * x.shape[3], 1])
  let scaled = values.conv2d(
    filter: weight.tensor.reshaped([1, 1, 1, 1]), bias: bias.tensor.reshaped([1]), padding: .valid)
  return scaled.tanh().reshaped(x.shape)
}
