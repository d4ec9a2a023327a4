import NeuralNetwork
import Operations
import TensorCore

/// The learnable resizer of Talebi & Milanfar 2021 ("Learning to Resize Images for Computer Vision Tasks", ICCV), as the
/// Keras example of that name builds it: a plain resize plus a small residual net that adds what the task needs.
///
/// Images [batch, height, width, 3] with values 0…1 to [batch, targetHeight, targetWidth, 3].
public struct LearnableResizer: ImageResizer {
  /// The level in parameter names, as in Keras's example.
  public let name: String? = "learnable_resizer"

  /// What may be chosen; the defaults are the published ones.
  public struct Options: Sendable, Equatable {
    /// Size of the images that come out.
    public var targetSize: (height: Int, width: Int) = (150, 150)
    /// Filters of the convolutions.
    public var filters = 16
    /// Residual blocks.
    public var blocks = 1
    /// How the plain resizes inside interpolate.
    public var interpolation = Interpolation.bilinear
    /// Whether the plain resizes widen their kernel when they shrink.
    public var antialias = false
    /// Slope of the leaky rectifiers.
    public var slope: Float = 0.2
    /// Momentum of the moving statistics; see ``BatchNorm``.
    public var batchNormMomentum: Float = 0.99
    /// Added to variances; see ``BatchNorm``.
    public var batchNormEpsilon: Float = 1e-3
    /// How the values between the layers are kept; images stay `float32`.
    public var precision = Precision.float32
    /// Whether training changes the weights.
    public var isTrainable = true

    /// The published choices.
    public init() {}

    /// Whether two sets of choices build the same model.
    public static func == (a: Options, b: Options) -> Bool {
      a.targetSize == b.targetSize && a.filters == b.filters && a.blocks == b.blocks
        && a.interpolation == b.interpolation && a.antialias == b.antialias && a.slope == b.slope
        && a.batchNormMomentum == b.batchNormMomentum && a.batchNormEpsilon == b.batchNormEpsilon
        && a.precision == b.precision && a.isTrainable == b.isTrainable
    }
  }

  /// What was chosen.
  public let options: Options
  private let wide: Conv2D
  private let pointwise: Conv2D
  private let norm: BatchNorm
  private let blocks: [ResidualBlock]
  private let last: Conv2D
  private let lastNorm: BatchNorm
  private let output: Conv2D

  /// A model without memory yet; see `ParameterArena`.
  public init(_ options: Options = Options()) {
    precondition(options.filters > 0 && options.blocks >= 0, "LearnableResizer: filters > 0 and blocks ≥ 0 needed")
    self.options = options
    let n = options.filters
    // Keras numbers layers of a kind in the order of their creation.
    var numbers = LayerNumbers()
    func batchNorm() -> BatchNorm {
      BatchNorm(
        channels: n, momentum: options.batchNormMomentum, epsilon: options.batchNormEpsilon,
        isTrainable: options.isTrainable, name: numbers.next("batch_normalization"))
    }
    func conv(_ inputs: Int, _ filters: Int, _ size: Int, useBias: Bool = true) -> Conv2D {
      Conv2D(
        inputs: inputs, filters: filters, kernelSize: size, useBias: useBias, isTrainable: options.isTrainable,
        name: numbers.next("conv2d"))
    }
    wide = conv(3, n, 7)
    pointwise = conv(n, n, 1)
    norm = batchNorm()
    blocks = (0..<options.blocks).map { _ in
      ResidualBlock(
        conv1: conv(n, n, 3, useBias: false), norm1: batchNorm(), conv2: conv(n, n, 3, useBias: false),
        norm2: batchNorm(), slope: options.slope)
    }
    last = conv(n, n, 3, useBias: false)
    lastNorm = batchNorm()
    output = conv(n, 3, 7)
  }

  /// Size of the images that come out.
  public var targetSize: (height: Int, width: Int) { options.targetSize }

  /// How the resizes inside interpolate.
  public var interpolation: Interpolation { options.interpolation }

  /// Images [batch, height, width, 3] to [batch, targetSize.height, targetSize.width, 3]: the weights fit any size.
  public func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor {
    func resized(_ x: some TensorOperand) -> Tensor {
      x.resized(
        height: targetSize.height, width: targetSize.width, interpolation: options.interpolation,
        antialias: options.antialias)
    }
    let naive = resized(images)
    let stored = images.cast(to: options.precision.storage)
    var x = pointwise(wide(stored).leakyReLU(slope: options.slope)).leakyReLU(slope: options.slope)
    x = norm(x)
    let bottleneck = resized(x)
    var features = bottleneck
    for block in blocks { features = block(features) }
    features = bottleneck.adding(lastNorm(last(features)))
    return naive.adding(output(features))
  }

  /// Writes the same down: images of 0…1 to images.
  public func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
    graph.within(name) { graph in
      var numbers = LayerNumbers()
      func resized(_ x: ModelGraph.Value, _ graph: inout ModelGraph) -> ModelGraph.Value {
        graph.resize(
          x, to: options.targetSize, options.interpolation, antialias: options.antialias, name: numbers.next("resize"))
      }
      func leaky(_ x: ModelGraph.Value, _ graph: inout ModelGraph) -> ModelGraph.Value {
        graph.leakyReLU(x, slope: options.slope, name: numbers.next("leaky_re_lu"))
      }
      let naive = resized(images, &graph)
      var x = leaky(graph.convolution(wide, images), &graph)
      x = leaky(graph.convolution(pointwise, x), &graph)
      x = graph.batchNorm(norm, x)
      let bottleneck = resized(x, &graph)
      var features = bottleneck
      for block in blocks {
        let inner = leaky(graph.batchNorm(block.norm1, graph.convolution(block.conv1, features)), &graph)
        let residual = graph.batchNorm(block.norm2, graph.convolution(block.conv2, inner))
        features = graph.sum(features, residual, name: numbers.next("add"))
      }
      let residual = graph.batchNorm(lastNorm, graph.convolution(last, features))
      features = graph.sum(bottleneck, residual, name: numbers.next("add"))
      return graph.sum(naive, graph.convolution(output, features), name: numbers.next("add"))
    }
  }
}

/// x + BN(conv(LeakyReLU(BN(conv(x))))).
private struct ResidualBlock: Module {
  let name: String? = ""
  let conv1: Conv2D
  let norm1: BatchNorm
  let conv2: Conv2D
  let norm2: BatchNorm
  let slope: Float

  func callAsFunction(_ x: Tensor) -> Tensor {
    x.adding(norm2(conv2(norm1(conv1(x, normalizedBy: norm1)).leakyReLU(slope: slope), normalizedBy: norm2)))
  }
}

/// Keras's automatic layer names: `conv2d`, `conv2d_1`, …
struct LayerNumbers {
  private var counts: [String: Int] = [:]

  mutating func next(_ kind: String) -> String {
    let number = counts[kind, default: 0]
    counts[kind] = number + 1
    return number == 0 ? kind : "\(kind)_\(number)"
  }
}
