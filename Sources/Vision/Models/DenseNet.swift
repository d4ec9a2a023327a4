import NeuralNetwork
import Operations
import TensorCore

/// Densely connected network (Huang et al. 2017), layer for layer and name for name `keras.applications.DenseNet121` and
/// its larger sisters with `weights=None`.
///
/// Images [batch, height, width, 3] to logits [batch, classes].
public struct DenseNet: Module {
  /// The published depths.
  public enum Variant: String, Sendable, CaseIterable {
    /// Blocks of 6, 12, 24 and 16 layers.
    case densenet121
    /// Blocks of 6, 12, 32 and 32 layers.
    case densenet169
    /// Blocks of 6, 12, 48 and 32 layers.
    case densenet201

    /// Layers of the four dense blocks.
    public var blocks: [Int] {
      switch self {
      case .densenet121: [6, 12, 24, 16]
      case .densenet169: [6, 12, 32, 32]
      case .densenet201: [6, 12, 48, 32]
      }
    }
  }

  /// The variant's name, as in Keras.
  public var name: String? { variant.rawValue }
  /// The depth.
  public let variant: Variant
  /// Number of logits.
  public let classes: Int
  /// Whether layers read one shared channel stack; otherwise the plain form that copies and concatenates, the reference
  /// it is tested against.
  public let usesChannelStack: Bool
  /// How the values between the layers are kept; images and logits stay `float32`.
  public let precision: Precision

  private let stem: Conv2D
  private let stemNorm: BatchNorm
  private let blocks: [DenseBlock]
  private let transitions: [Transition]
  private let norm: BatchNorm
  private let predictions: Dense

  static let epsilon: Float = 1.001e-5

  /// A network without memory yet; see `ParameterArena`.
  ///
  /// - Parameters:
  ///   - isTrainable: whether training changes the layers up to the last.
  ///   - isHeadTrainable: whether it changes the last.
  ///   - precision: how the values between the layers are kept.
  public init(
    _ variant: Variant = .densenet121, classes: Int = 2, batchNormMomentum: Float = 0.99, usesChannelStack: Bool = true,
    isTrainable: Bool = true, isHeadTrainable: Bool = true, precision: Precision = .float32
  ) {
    precondition(classes > 0, "DenseNet: at least one class")
    self.variant = variant
    self.classes = classes
    self.usesChannelStack = usesChannelStack
    self.precision = precision
    let growth = 32
    var channels = 64
    stem = Conv2D(
      inputs: 3, filters: channels, kernelSize: 7, stride: 2,
      padding: .explicit(top: 3, bottom: 3, left: 3, right: 3), useBias: false, isTrainable: isTrainable,
      name: "conv1_conv")
    let norms = NormOptions(momentum: batchNormMomentum, isTrainable: isTrainable)
    stemNorm = norms.layer(channels, "conv1_bn")
    var blocks: [DenseBlock] = []
    var transitions: [Transition] = []
    for (index, layers) in variant.blocks.enumerated() {
      let block = DenseBlock(
        inputs: channels, layers: layers, growth: growth, norms: norms, name: "conv\(index + 2)")
      channels += layers * growth
      blocks.append(block)
      guard index < variant.blocks.count - 1 else { continue }
      transitions.append(Transition(inputs: channels, norms: norms, name: "pool\(index + 2)"))
      channels /= 2
    }
    self.blocks = blocks
    self.transitions = transitions
    norm = norms.layer(channels, "bn")
    predictions = Dense(inputs: channels, units: classes, isTrainable: isHeadTrainable, name: "predictions")
  }

  /// Images [batch, height, width, 3] to logits [batch, classes].
  public func callAsFunction(_ images: Tensor) -> Tensor {
    var x = stemNorm(stem(images.cast(to: precision.storage))).relu()
      .maxPool(
        window: (3, 3), strides: (2, 2), padding: .explicit(top: 1, bottom: 1, left: 1, right: 1), paddedWith: .zero)
    for (index, block) in blocks.enumerated() {
      x = usesChannelStack ? block(x) : block.concatenating(x)
      if index < transitions.count { x = transitions[index](x) }
    }
    return predictions(norm(x).relu().globalAveragePool())
  }

  /// Changes weights that were trained on images (x − mean) / deviation so that they expect x: the first filters are
  /// divided by the deviations, and what the means add to their results is added to the moving mean behind them.
  ///
  /// Within three pixels of the edge the results still differ a little: padding was the mean colour, and is black now.
  ///
  /// - Parameters:
  ///   - mean: of each channel.
  ///   - deviation: of each channel.
  public func foldInputNormalization(mean: [Float], deviation: [Float], in arena: ParameterArena) throws {
    let shape = stem.kernel.shape
    precondition(
      mean.count == shape[2] && deviation.count == shape[2] && deviation.allSatisfy { $0 > 0 },
      "foldInputNormalization: mean \(mean), deviation \(deviation) for \(shape[2]) channels")
    var kernel = try stem.kernel.tensor.floats()
    var shifts = [Double](repeating: 0, count: shape[3])
    for index in kernel.indices {
      let (input, output) = (index / shape[3] % shape[2], index % shape[3])
      kernel[index] /= deviation[input]
      shifts[output] += Double(kernel[index]) * Double(mean[input])
    }
    let moving = try stemNorm.movingMean.tensor.floats()
    arena.set(stem.kernel, to: kernel)
    arena.set(stemNorm.movingMean, to: zip(moving, shifts).map { Float(Double($0) + $1) })
  }

  /// Writes the same down: images to logits.
  func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
    graph.within(name) { graph in
      var x = graph.batchNorm(stemNorm, graph.convolution(stem, images))
      x = graph.leakyReLU(x, slope: 0, name: "conv1_relu")
      x = graph.add(
        .maxPool(window: (3, 3), strides: (2, 2), pads: (1, 1, 1, 1)), [x],
        shape: [x.shape[0], (x.shape[1] - 1) / 2 + 1, (x.shape[2] - 1) / 2 + 1, x.shape[3]], name: "pool1")
      for (index, block) in blocks.enumerated() {
        x = block.describe(in: &graph, x, name: "conv\(index + 2)")
        if index < transitions.count { x = transitions[index].describe(in: &graph, x, name: "pool\(index + 2)") }
      }
      x = graph.leakyReLU(graph.batchNorm(norm, x), slope: 0, name: "relu")
      x = graph.add(.globalAveragePool, [x], shape: [x.shape[0], x.shape[3]], name: "avg_pool")
      return graph.add(
        .dense(kernel: predictions.kernel, bias: predictions.bias), [x], shape: [x.shape[0], classes],
        name: "predictions")
    }
  }
}

/// What all BatchNorms of a net have in common, and whether the net is trained.
private struct NormOptions {
  let momentum: Float
  let isTrainable: Bool

  func layer(_ channels: Int, _ name: String) -> BatchNorm {
    BatchNorm(
      channels: channels, momentum: momentum, epsilon: DenseNet.epsilon, isTrainable: isTrainable, name: name)
  }
}

/// Layers that each read all channels so far and add `growth` more.
private struct DenseBlock: Module {
  let name: String? = ""
  let layers: [DenseLayer]
  let inputs: Int
  let growth: Int

  init(inputs: Int, layers: Int, growth: Int, norms: NormOptions, name: String) {
    self.inputs = inputs
    self.growth = growth
    self.layers = (0..<layers).map { index in
      DenseLayer(
        inputs: inputs + index * growth, growth: growth, norms: norms, name: "\(name)_block\(index + 1)")
    }
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    var stack = ChannelStack(
      shape: x.shape.withChannels(inputs + layers.count * growth), on: x.device, dtype: x.dtype)
    _ = x.copied(into: stack.appendSlab(channels: inputs))
    for layer in layers {
      let input = stack.prefix
      _ = layer(input, into: stack.appendSlab(channels: growth))
    }
    return stack.prefix
  }

  func describe(in graph: inout ModelGraph, _ x: ModelGraph.Value, name: String) -> ModelGraph.Value {
    var x = x
    for (index, layer) in layers.enumerated() {
      let prefix = "\(name)_block\(index + 1)"
      var y = graph.leakyReLU(graph.batchNorm(layer.norm1, x), slope: 0, name: "\(prefix)_0_relu")
      y = graph.batchNorm(layer.norm2, graph.convolution(layer.conv1, y))
      y = graph.convolution(layer.conv2, graph.leakyReLU(y, slope: 0, name: "\(prefix)_1_relu"))
      x = graph.concatenate([x, y], name: "\(prefix)_concat")
    }
    return x
  }

  /// The same by copying, with BatchNorm and ReLU computed into memory of their own.
  func concatenating(_ x: Tensor) -> Tensor {
    layers.reduce(x) { concatenate([$0, $1.plain($0)]) }
  }
}

/// BN-ReLU-conv 1×1-BN-ReLU-conv 3×3.
private struct DenseLayer: Module {
  let name: String? = ""
  let norm1: BatchNorm
  let conv1: Conv2D
  let norm2: BatchNorm
  let conv2: Conv2D

  init(inputs: Int, growth: Int, norms: NormOptions, name: String) {
    norm1 = norms.layer(inputs, "\(name)_0_bn")
    conv1 = Conv2D(
      inputs: inputs, filters: 4 * growth, kernelSize: 1, useBias: false, isTrainable: norms.isTrainable,
      name: "\(name)_1_conv")
    norm2 = norms.layer(4 * growth, "\(name)_1_bn")
    conv2 = Conv2D(
      inputs: 4 * growth, filters: growth, kernelSize: 3, useBias: false, isTrainable: norms.isTrainable,
      name: "\(name)_2_conv")
  }

  func callAsFunction(_ x: Tensor, into slab: Tensor? = nil) -> Tensor {
    let z = conv1(norm1(x).relu(), normalizedBy: norm2)
    // The next layer's BatchNorm is like this one's.
    return conv2(norm2(z).relu(), into: slab, normalizedBy: norm1)
  }

  func plain(_ x: Tensor) -> Tensor {
    let z = conv1(norm1(x).relu().materialized())
    return conv2(norm2(z).relu().materialized())
  }
}

/// BN-ReLU-conv 1×1 to half the channels, then 2×2 average pooling.
private struct Transition: Module {
  let name: String? = ""
  let norm: BatchNorm
  let conv: Conv2D

  init(inputs: Int, norms: NormOptions, name: String) {
    norm = norms.layer(inputs, "\(name)_bn")
    conv = Conv2D(
      inputs: inputs, filters: inputs / 2, kernelSize: 1, useBias: false, isTrainable: norms.isTrainable,
      name: "\(name)_conv")
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    conv(norm(x).relu()).averagePool(window: (2, 2), strides: (2, 2))
  }

  func describe(in graph: inout ModelGraph, _ x: ModelGraph.Value, name: String) -> ModelGraph.Value {
    let y = graph.convolution(conv, graph.leakyReLU(graph.batchNorm(norm, x), slope: 0, name: "\(name)_relu"))
    return graph.add(
      .averagePool(window: (2, 2), strides: (2, 2)), [y],
      shape: [y.shape[0], y.shape[1] / 2, y.shape[2] / 2, y.shape[3]], name: "\(name)_pool")
  }
}
