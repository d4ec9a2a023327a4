import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show a model's layers: output shapes, parameters, memory, operations.",
    discussion: """
      Without --run the model that the options describe; no weights are needed. Figures are for one photo in inference: \
      memory is a layer's output in float32, flops count a multiply-add as two. What training takes `train --plan` says.
      """)

  @Option(
    name: .customLong("run"), help: ArgumentHelp("Folder of a run whose model to show.", valueName: "dir"),
    completion: .directory)
  var folder: String?

  @OptionGroup var model: ModelOptions

  @Option(help: "Classes that the model tells apart. Default: the run's, else 2.")
  var classes: Int?

  @Flag(help: "One line for each operation; otherwise BatchNorm, activations and concatenation are left out.")
  var all = false

  @Flag(help: "List the weights instead of the layers.")
  var weights = false

  @Flag(help: "Print JSON.")
  var json = false

  private struct Summary: Encodable {
    struct Layer: Encodable {
      var name: String
      var operation: String
      var shape: [Int]
      var parameters: Int
      var bytes: Int
      var flops: Double
    }
    struct Weight: Encodable {
      var name: String
      var shape: [Int]
      var parameters: Int
      var trainable: Bool
    }
    var model: String
    var inputSize: [Int]
    var targetSize: [Int]
    var parameters: Int
    var trainableParameters: Int
    var weightBytes: Int
    var flops: Double
    var layers: [Layer]
    var weights: [Weight]
  }

  func validate() throws {
    if let classes, !(1...100_000).contains(classes) {
      throw ValidationError("--classes must be 1 to 100000, not \(classes)")
    }
  }

  func run() throws {
    var description = model.applied(to: try folder.map { try RunDescription(folder: $0).model } ?? ModelDescription())
    if let classes { description.classes = classes }
    let classifier = try description.build()
    let graph = classifier.graph(height: description.inputHeight, width: description.inputWidth)
    let summary = Summary(
      model: description.model, inputSize: [description.inputHeight, description.inputWidth],
      targetSize: [description.targetHeight, description.targetWidth], parameters: classifier.parameterCount,
      trainableParameters: classifier.trainableParameterCount, weightBytes: classifier.parameterCount * 4,
      flops: graph.nodes.reduce(0) { $0 + $1.flops },
      layers: graph.nodes.map { node in
        .init(
          name: node.name, operation: node.operation.label, shape: node.output.shape.dimensions,
          parameters: node.parameters.reduce(0) { $0 + $1.shape.count }, bytes: node.output.shape.count * 4,
          flops: node.flops)
      },
      weights: classifier.namedParameters().map { name, parameter in
        .init(
          name: name, shape: parameter.shape.dimensions, parameters: parameter.shape.count,
          trainable: parameter.isTrainable)
      })
    if json { return print(try jsonText(summary)) }
    weights ? printWeights(summary) : printLayers(summary)
    print(
      "\(summary.model), \(description.inputHeight)×\(description.inputWidth) → \(description.targetHeight)×"
        + "\(description.targetWidth), \(description.classes) classes")
    print("parameters   \(summary.parameters), of which \(summary.trainableParameters) trainable")
    print("weights      \(formatBytes(summary.weightBytes))")
    print("one photo    \(Self.flops(summary.flops)) in inference")
  }

  private func printLayers(_ summary: Summary) {
    let shown = summary.layers.filter { all || !Detail.operations.contains($0.operation) }
    let width = (shown.map(\.name.count).max() ?? 0) + 2
    print(
      "layer".padded(to: width) + "operation".padded(to: 20) + "output".padded(to: 22) + "parameters".aligned(to: 10)
        + "memory".aligned(to: 12) + "flops".aligned(to: 14))
    for layer in shown {
      print(
        layer.name.padded(to: width) + layer.operation.padded(to: 20)
          + layer.shape.dropFirst().map(String.init).joined(separator: "×").padded(to: 22)
          + (layer.parameters == 0 ? "" : "\(layer.parameters)").aligned(to: 10)
          + formatBytes(layer.bytes).aligned(to: 12) + Self.flops(layer.flops).aligned(to: 14))
    }
    if !all {
      print("(\(summary.layers.count - shown.count) BatchNorms, activations and concatenations; --all lists them)")
    }
    print("")
  }

  private func printWeights(_ summary: Summary) {
    print("weight".padded(to: 56) + "shape".padded(to: 20) + "parameters")
    for weight in summary.weights {
      print(
        weight.name.padded(to: 56) + "\(Shape(weight.shape))".padded(to: 20) + "\(weight.parameters)"
          + (weight.trainable ? "" : "  (not trained)"))
    }
    print("")
  }

  private static func flops(_ value: Double) -> String {
    if value == 0 { return "" }
    return value >= 1e9
      ? String(format: "%.3f GFLOP", value * 1e-9)
      : value >= 1e6 ? String(format: "%.2f MFLOP", value * 1e-6) : String(format: "%.1f kFLOP", value * 1e-3)
  }

  private enum Detail {
    static let operations: Set = ["BatchNorm", "ReLU", "LeakyReLU", "Concatenate"]
  }
}

extension ModelGraph.Operation {
  /// What a summary calls it.
  fileprivate var label: String {
    func window(_ window: (Int, Int), _ strides: (Int, Int)) -> String {
      "\(window.0)×\(window.1)" + (strides == (1, 1) ? "" : "/\(strides.0)")
    }
    return switch self {
    case .input: "Input"
    case .scale: "Scale"
    case .resize(let interpolation, _): "Resize \(interpolation.rawValue)"
    case .convolution(let kernel, _, let strides, _):
      "Conv2D " + window((kernel.shape[0], kernel.shape[1]), strides)
    case .batchNorm: "BatchNorm"
    case .leakyReLU(let slope): slope == 0 ? "ReLU" : "LeakyReLU"
    case .add: "Add"
    case .subtract: "Subtract"
    case .maxPool(let size, let strides, _): "MaxPool " + window(size, strides)
    case .averagePool(let size, let strides): "AveragePool " + window(size, strides)
    case .concatenate: "Concatenate"
    case .globalAveragePool: "GlobalAveragePool"
    case .dense: "Dense"
    case .blur(let weights): "Blur \(weights.count)×\(weights.count)"
    case .scaledTanh: "Tanh"
    case .softmax: "Softmax"
    }
  }
}
