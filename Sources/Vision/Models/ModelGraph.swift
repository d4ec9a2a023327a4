import NeuralNetwork
import Operations
import TensorCore

/// A model in inference as a list of operations with their shapes: what summaries print and what is exported to other
/// formats. Nothing is computed.
///
/// Models write themselves down in `describe(in:_:)`, beside the `callAsFunction` that computes the same.
public struct ModelGraph {
  /// The result of an operation, or the graph's input.
  public struct Value: Sendable, Hashable {
    /// Position in `nodes`.
    public let index: Int
    /// [batch, height, width, channels] or [batch, channels].
    public let shape: Shape
  }

  /// What a node computes from its inputs.
  public enum Operation {
    /// Photos.
    case input
    /// Values times a factor.
    case scale(Float)
    /// See `TensorOperand.resized`; half-pixel centres.
    case resize(Interpolation, antialias: Bool)
    /// Filter [height, width, inputs, outputs]; padding top, left, bottom, right.
    case convolution(kernel: Parameter, bias: Parameter?, strides: (Int, Int), pads: (Int, Int, Int, Int))
    /// With the moving statistics.
    case batchNorm(BatchNorm)
    /// `x > 0 ? x : slope · x`.
    case leakyReLU(slope: Float)
    /// Sum of two values.
    case add
    /// First value minus second.
    case subtract
    /// Zeros around the image take part; padding top, left, bottom, right.
    case maxPool(window: (Int, Int), strides: (Int, Int), pads: (Int, Int, Int, Int))
    /// Windows inside the image.
    case averagePool(window: (Int, Int), strides: (Int, Int))
    /// Channels of all inputs, in order.
    case concatenate
    /// Mean over height and width.
    case globalAveragePool
    /// Weights [inputs, outputs].
    case dense(kernel: Parameter, bias: Parameter?)
    /// Every channel filtered by itself along both axes with the same weights, zeros beyond the edge.
    case blur(weights: [Float])
    /// tanh(weight · x + bias) with two trainable scalars.
    case scaledTanh(weight: Parameter, bias: Parameter)
    /// Over the innermost extent.
    case softmax
  }

  /// One operation.
  public struct Node {
    /// Keras's name of the layer where it has one, else one of our own; unique.
    public let name: String
    /// What is computed.
    public let operation: Operation
    /// From what.
    public let inputs: [Value]
    /// The result.
    public let output: Value
  }

  /// In the order of computation.
  public private(set) var nodes: [Node] = []
  private var path: [String] = []

  /// A graph without nodes.
  public init() {}

  /// Adds an operation. Its name is `name` below the levels of `within`.
  public mutating func add(_ operation: Operation, _ inputs: [Value], shape: Shape, name: String) -> Value {
    let output = Value(index: nodes.count, shape: shape)
    let name = (path + [name]).joined(separator: "/")
    precondition(!nodes.contains { $0.name == name }, "ModelGraph: two nodes are called \(name)")
    nodes.append(Node(name: name, operation: operation, inputs: inputs, output: output))
    return output
  }

  /// Adds what `body` adds one level down in names.
  public mutating func within<Result>(_ level: String?, _ body: (inout ModelGraph) -> Result) -> Result {
    guard let level, !level.isEmpty else { return body(&self) }
    path.append(level)
    defer { path.removeLast() }
    return body(&self)
  }
}

// MARK: - Operations with their shapes

extension ModelGraph {
  /// The graph's input, [1, height, width, channels].
  public mutating func input(height: Int, width: Int, channels: Int = 3, name: String) -> Value {
    add(.input, [], shape: [1, height, width, channels], name: name)
  }

  /// factor · x.
  public mutating func scale(_ x: Value, by factor: Float, name: String) -> Value {
    add(.scale(factor), [x], shape: x.shape, name: name)
  }

  /// [batch, height, width, channels] to that size.
  public mutating func resize(
    _ x: Value, to size: (height: Int, width: Int), _ interpolation: Interpolation, antialias: Bool, name: String
  ) -> Value {
    add(
      .resize(interpolation, antialias: antialias), [x], shape: [x.shape[0], size.height, size.width, x.shape[3]],
      name: name)
  }

  /// The layer with its weights, under its own name, else `conv`.
  public mutating func convolution(_ layer: Conv2D, _ x: Value) -> Value {
    let geometry = ConvolutionGeometry(
      input: x.shape, filter: layer.kernel.shape, strides: layer.strides, padding: layer.padding)
    let pads: (Int, Int, Int, Int)
    switch layer.padding {
    case .valid: pads = (0, 0, 0, 0)
    case .explicit(let top, let bottom, let left, let right): pads = (top, left, bottom, right)
    case .same:
      let height = (geometry.outHeight - 1) * geometry.strideHeight + geometry.kernelHeight - geometry.height
      let width = (geometry.outWidth - 1) * geometry.strideWidth + geometry.kernelWidth - geometry.width
      pads = (
        geometry.padTop, geometry.padLeft, max(height - geometry.padTop, 0), max(width - geometry.padLeft, 0)
      )
    }
    return add(
      .convolution(kernel: layer.kernel, bias: layer.bias, strides: layer.strides, pads: pads), [x],
      shape: geometry.outputShape, name: layer.name ?? "conv")
  }

  /// The layer with its weights, under its own name, else `bn`.
  public mutating func batchNorm(_ layer: BatchNorm, _ x: Value) -> Value {
    add(.batchNorm(layer), [x], shape: x.shape, name: layer.name ?? "bn")
  }

  /// x, or slope · x below 0.
  public mutating func leakyReLU(_ x: Value, slope: Float, name: String) -> Value {
    add(.leakyReLU(slope: slope), [x], shape: x.shape, name: name)
  }

  /// a + b, of the same shape.
  public mutating func sum(_ a: Value, _ b: Value, name: String) -> Value {
    precondition(a.shape == b.shape, "ModelGraph: \(a.shape) + \(b.shape)")
    return add(.add, [a, b], shape: a.shape, name: name)
  }

  /// The channels of all, one after another.
  public mutating func concatenate(_ values: [Value], name: String) -> Value {
    add(
      .concatenate, values, shape: values[0].shape.withChannels(values.reduce(0) { $0 + $1.shape.channels }), name: name
    )
  }
}

// MARK: - Costs

extension ModelGraph.Node {
  /// The parameters that belong to the node.
  public var parameters: [Parameter] {
    switch operation {
    case .convolution(let kernel, let bias, _, _), .dense(let kernel, let bias): [kernel] + (bias.map { [$0] } ?? [])
    case .batchNorm(let layer): [layer.gamma, layer.beta, layer.movingMean, layer.movingVariance]
    case .scaledTanh(let weight, let bias): [weight, bias]
    default: []
    }
  }

  /// Floating-point operations for one photo in inference, a multiply-add counted as two. Of a resize those of two taps
  /// an axis and more for wider kernels, whatever the size.
  public var flops: Double {
    let elements = Double(output.shape.count)
    switch operation {
    case .input, .concatenate: return 0
    case .convolution(let kernel, let bias, _, _), .dense(let kernel, let bias):
      let taps = Double(kernel.shape.dimensions.dropLast().reduce(1, *))
      return elements * (2 * taps + (bias == nil ? 0 : 1))
    case .batchNorm: return elements * 2
    case .scale, .leakyReLU, .add, .subtract: return elements
    case .maxPool(let window, _, _), .averagePool(let window, _): return elements * Double(window.0 * window.1)
    case .globalAveragePool: return Double(inputs[0].shape.count)
    case .resize(let interpolation, _):
      let taps = Double(interpolation.taps)
      return elements * 2 * taps * taps
    case .blur(let weights): return elements * 4 * Double(weights.count)
    case .scaledTanh: return elements * 3
    case .softmax: return elements * 3
    }
  }
}

extension Interpolation {
  /// Inputs along an axis that an output reads without widening.
  fileprivate var taps: Int {
    switch self {
    case .nearest: 1
    case .bilinear: 2
    case .bicubic: 4
    case .lanczos3: 6
    case .lanczos5: 10
    }
  }
}
