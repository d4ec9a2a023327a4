import Foundation
import NeuralNetwork
import ONNXFormat
import Operations
import SwiftProtobuf
import TensorCore
import Vision

/// A model in inference as an ONNX file.
///
/// Inputs and results of four extents are [batch, height, width, channels] as everywhere here; inside, the graph is in
/// ONNX's own order, channels first. The batch is free, and so are the input's height and width: a resize goes to the size
/// that the model was built for from wherever it comes.
public struct ONNXModel {
  /// Version of ONNX's operators; the first whose Resize takes the axes to resize, and so leaves the batch free.
  public static let opset = 18
  /// Version of the file format that belongs to it.
  public static let irVersion = 8

  private var graph = Onnx_GraphProto()
  /// What the value of each node of the model is called in the file.
  private var names: [String] = []
  private let metadata: [String: String]

  /// Writes a graph down with the weights as they are now.
  ///
  /// - Parameters:
  ///   - results: names of nodes, and what their values are called as results of the file.
  ///   - metadata: texts that the file carries.
  /// - Throws: `ONNXError` for what ONNX cannot express; errors of the device when weights cannot be read.
  public init(_ model: ModelGraph, results: [(node: String, name: String)], metadata: [String: String] = [:]) throws {
    self.metadata = metadata
    graph.name = "fovea"
    for node in model.nodes { try add(node) }
    for (name, result) in results {
      guard let node = model.nodes.first(where: { $0.name == name }) else {
        preconditionFailure("ONNXModel: no node is called \(name)")
      }
      let isImage = node.output.shape.rank == 4
      if isImage {
        add("Transpose", [name], [result], [.ints("perm", [0, 2, 3, 1])])
      } else {
        add("Identity", [name], [result])
      }
      graph.output.append(Self.valueInfo(result, ["batch"] + node.output.shape.dimensions.dropFirst().map { $0 }))
    }
  }

  /// The file's bytes.
  public func serialized() throws -> [UInt8] {
    var model = Onnx_ModelProto()
    model.irVersion = Int64(Self.irVersion)
    var opset = Onnx_OperatorSetIdProto()
    opset.version = Int64(Self.opset)
    model.opsetImport = [opset]
    model.producerName = "fovea"
    model.graph = graph
    model.metadataProps = metadata.sorted { $0.key < $1.key }.map { key, value in
      var entry = Onnx_StringStringEntryProto()
      entry.key = key
      entry.value = value
      return entry
    }
    return try model.serializedBytes()
  }
}

// MARK: - Nodes

extension ONNXModel {
  private mutating func add(_ node: ModelGraph.Node) throws {
    let name = node.name
    let inputs = node.inputs.map { names[$0.index] }
    switch node.operation {
    case .input:
      graph.input.append(
        Self.valueInfo(name, ["batch", "height", "width"] + [node.output.shape.channels as any Extent]))
      add("Transpose", [name], ["\(name)/channels_first"], [.ints("perm", [0, 3, 1, 2])])
      names.append("\(name)/channels_first")
      return
    case .scale(let factor):
      add("Mul", inputs + [constant("\(name)/factor", [factor], [])], [name])
    case .resize(let interpolation, let antialias):
      let shape = node.output.shape
      let sizes = constant("\(name)/sizes", integers: [shape[1], shape[2]])
      add("Resize", [inputs[0], "", "", sizes], [name], try resizeAttributes(interpolation, antialias, name))
    case .convolution(let kernel, let bias, let strides, let pads):
      let weights = constant("\(name)/kernel", try kernel.outputsFirst(), kernel.shape.outputsFirst)
      let biases = try bias.map { [constant("\(name)/bias", try $0.tensor.floats(), [$0.shape.count])] } ?? []
      add(
        "Conv", inputs + [weights] + biases, [name],
        [
          .ints("kernel_shape", [kernel.shape[0], kernel.shape[1]]), .ints("strides", [strides.0, strides.1]),
          .ints("pads", [pads.0, pads.1, pads.2, pads.3]),
        ])
    case .batchNorm(let layer):
      let parts = [
        ("gamma", layer.gamma), ("beta", layer.beta), ("moving_mean", layer.movingMean),
        ("moving_variance", layer.movingVariance),
      ]
      let constants = try parts.map { part, parameter in
        constant("\(name)/\(part)", try parameter.tensor.floats(), [parameter.shape.count])
      }
      add("BatchNormalization", inputs + constants, [name], [.float("epsilon", layer.epsilon)])
    case .leakyReLU(let slope):
      add(slope == 0 ? "Relu" : "LeakyRelu", inputs, [name], slope == 0 ? [] : [.float("alpha", slope)])
    case .add: add("Add", inputs, [name])
    case .subtract: add("Sub", inputs, [name])
    case .maxPool(let window, let strides, let pads):
      // ONNX's own padding never is the maximum; here zeros take part.
      let zeros = constant("\(name)/pads", integers: [0, 0, pads.0, pads.1, 0, 0, pads.2, pads.3])
      add("Pad", [inputs[0], zeros], ["\(name)/padded"])
      add(
        "MaxPool", ["\(name)/padded"], [name],
        [.ints("kernel_shape", [window.0, window.1]), .ints("strides", [strides.0, strides.1])])
    case .averagePool(let window, let strides):
      add(
        "AveragePool", inputs, [name],
        [.ints("kernel_shape", [window.0, window.1]), .ints("strides", [strides.0, strides.1])])
    case .concatenate: add("Concat", inputs, [name], [.int("axis", 1)])
    case .globalAveragePool:
      add("GlobalAveragePool", inputs, ["\(name)/pooled"])
      add("Flatten", ["\(name)/pooled"], [name])
    case .dense(let kernel, let bias):
      let weights = constant("\(name)/kernel", try kernel.tensor.floats(), kernel.shape.dimensions)
      let biases = try bias.map { [constant("\(name)/bias", try $0.tensor.floats(), [$0.shape.count])] } ?? []
      add("Gemm", inputs + [weights] + biases, [name])
    case .blur(let weights):
      let channels = node.output.shape.channels
      let all = Array(repeating: weights, count: channels).flatMap { $0 }
      let (taps, pad) = (weights.count, weights.count / 2)
      let rows = constant("\(name)/rows", all, [channels, 1, taps, 1])
      let columns = constant("\(name)/columns", all, [channels, 1, 1, taps])
      add(
        "Conv", [inputs[0], rows], ["\(name)/blurred_rows"],
        [.ints("kernel_shape", [taps, 1]), .ints("pads", [pad, 0, pad, 0]), .int("group", channels)])
      add(
        "Conv", ["\(name)/blurred_rows", columns], [name],
        [.ints("kernel_shape", [1, taps]), .ints("pads", [0, pad, 0, pad]), .int("group", channels)])
    case .scaledTanh(let weight, let bias):
      add("Mul", inputs + [constant("\(name)/weight", try weight.tensor.floats(), [])], ["\(name)/scaled"])
      add("Add", ["\(name)/scaled", constant("\(name)/bias", try bias.tensor.floats(), [])], ["\(name)/shifted"])
      add("Tanh", ["\(name)/shifted"], [name])
    case .softmax: add("Softmax", inputs, [name], [.int("axis", -1)])
    }
    names.append(name)
  }

  private func resizeAttributes(
    _ interpolation: Interpolation, _ antialias: Bool, _ name: String
  ) throws -> [Attribute] {
    var attributes: [Attribute] = [
      .ints("axes", [2, 3]), .string("coordinate_transformation_mode", "half_pixel"),
    ]
    if antialias { attributes.append(.int("antialias", 1)) }
    switch interpolation {
    case .nearest:
      attributes += [.string("mode", "nearest"), .string("nearest_mode", "round_prefer_ceil")]
    case .bilinear: attributes.append(.string("mode", "linear"))
    case .bicubic:
      // Keys' kernel; taps outside the image are dropped and the rest scaled to sum to 1.
      attributes += [.string("mode", "cubic"), .float("cubic_coeff_a", -0.5), .int("exclude_outside", 1)]
    case .lanczos3, .lanczos5: throw ONNXError.noOperator(node: name, what: "resize with \(interpolation.rawValue)")
    }
    return attributes
  }

  private mutating func add(
    _ operation: String, _ inputs: [String], _ outputs: [String], _ attributes: [Attribute] = []
  ) {
    var node = Onnx_NodeProto()
    node.opType = operation
    node.name = "\(outputs[0])/\(operation)"
    node.input = inputs
    node.output = outputs
    node.attribute = attributes.map(\.message)
    graph.node.append(node)
  }

  private mutating func constant(_ name: String, _ values: [Float], _ shape: [Int]) -> String {
    add(name, type: .float, shape, values.withUnsafeBytes { Data($0) })
  }

  private mutating func constant(_ name: String, integers: [Int]) -> String {
    add(name, type: .int64, [integers.count], integers.map { Int64($0).littleEndian }.withUnsafeBytes { Data($0) })
  }

  /// Every host that Swift supports is little-endian, as the format is.
  private mutating func add(_ name: String, type: Onnx_TensorProto.DataType, _ shape: [Int], _ data: Data) -> String {
    var tensor = Onnx_TensorProto()
    tensor.name = name
    tensor.dataType = Int32(type.rawValue)
    tensor.dims = shape.map { Int64($0) }
    tensor.rawData = data
    graph.initializer.append(tensor)
    return name
  }

  private static func valueInfo(_ name: String, _ extents: [any Extent]) -> Onnx_ValueInfoProto {
    var info = Onnx_ValueInfoProto()
    info.name = name
    info.type.tensorType.elemType = Int32(Onnx_TensorProto.DataType.float.rawValue)
    info.type.tensorType.shape.dim = extents.map { extent in
      var dimension = Onnx_TensorShapeProto.Dimension()
      switch extent {
      case let number as Int: dimension.dimValue = Int64(number)
      default: dimension.dimParam = "\(extent)"
      }
      return dimension
    }
    return info
  }
}

/// An extent of a shape: a number, or a name where it is free.
private protocol Extent {}
extension Int: Extent {}
extension String: Extent {}

/// An attribute of a node.
private enum Attribute {
  case int(String, Int)
  case ints(String, [Int])
  case float(String, Float)
  case string(String, String)

  var message: Onnx_AttributeProto {
    var attribute = Onnx_AttributeProto()
    switch self {
    case .int(let name, let value): (attribute.name, attribute.type, attribute.i) = (name, .int, Int64(value))
    case .ints(let name, let values):
      (attribute.name, attribute.type, attribute.ints) = (name, .ints, values.map { Int64($0) })
    case .float(let name, let value): (attribute.name, attribute.type, attribute.f) = (name, .float, value)
    case .string(let name, let value):
      (attribute.name, attribute.type, attribute.s) = (name, .string, Data(value.utf8))
    }
    return attribute
  }
}

extension Shape {
  /// HWIO as OIHW.
  fileprivate var outputsFirst: [Int] { [self[3], self[2], self[0], self[1]] }
}

extension Parameter {
  /// The values of a filter HWIO in the order OIHW.
  fileprivate func outputsFirst() throws -> [Float] {
    let values = try tensor.floats()
    let (window, inputs, outputs) = (shape[0] * shape[1], shape[2], shape[3])
    var result = [Float](repeating: 0, count: values.count)
    for position in 0..<window {
      for input in 0..<inputs {
        for output in 0..<outputs {
          result[(output * inputs + input) * window + position] = values[(position * inputs + input) * outputs + output]
        }
      }
    }
    return result
  }
}

/// Why a model cannot be written as ONNX.
public enum ONNXError: Error, Sendable, CustomStringConvertible {
  /// ONNX has no operator that computes what this node of the model does.
  case noOperator(node: String, what: String)

  /// What ONNX lacks, in one line.
  public var description: String {
    switch self {
    case .noOperator(let node, let what):
      "\(node): ONNX has no operator for a \(what); nearest, bilinear and bicubic can be exported"
    }
  }
}
