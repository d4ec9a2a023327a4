import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import NeuralNetwork
import ONNXExport

struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a trained model, its resizer or its backbone for other programs.",
    discussion: """
      onnx: opset \(ONNXModel.opset), float32. The input is `photos` [batch, height, width, 3] of 0…255, or for the \
      backbone alone `resized` of 0…1; batch, height and width are free. Results: `resized`, `logits`, `probabilities`.

      safetensors: the weights under Keras's names and layouts. Scripts/keras_weights.py makes Keras files of them.
      """)

  @OptionGroup(title: "Trained model") var model: TrainedModelOptions

  @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  var output: String

  @Option(help: "onnx or safetensors. Default: by the file's ending.")
  var format: Format?

  @Option(help: "Which part of the model to write.")
  var part = Part.both

  @OptionGroup(title: "Device") var device: DeviceOptions

  enum Format: String, ExpressibleByArgument, CaseIterable {
    case onnx, safetensors
  }

  enum Part: String, ExpressibleByArgument, CaseIterable {
    case resizer, backbone, both
  }

  func validate() throws {
    guard format != nil || Format(rawValue: (output as NSString).pathExtension) != nil else {
      throw ValidationError("--output \(output) ends neither in .onnx nor in .safetensors: say which with --format")
    }
    try checkOutput(output, of: "--output")
  }

  func run() throws {
    let model = try model.load(on: device)
    if part == .resizer, !model.description.hasResizer {
      throw ValidationError("\(model.description.model) has no learned resizer to export")
    }
    let metadata = [
      "model": part == .backbone ? model.description.backboneName : model.description.model, "part": part.rawValue,
      "classes": model.classNames.joined(separator: "\n"),
    ]
    switch format ?? Format(rawValue: (output as NSString).pathExtension) ?? .onnx {
    case .onnx:
      let bytes = try onnx(model, metadata).serialized()
      try AtomicFile.write(bytes, to: output)
      say(
        "Wrote \(output): \(part.rawValue) of \(model.description.model), ONNX opset \(ONNXModel.opset), "
          + formatBytes(bytes.count))
    case .safetensors:
      let names = Set(partParameters(model).map(\.name))
      let parameters = model.arena.parameters.filter { names.contains($0.name) }
      try SafetensorsWriter.write(
        parameters.map { ($0.name, $0.shape.dimensions, try $0.tensor.floats()) }, metadata: metadata, to: output)
      say("Wrote \(output): \(part.rawValue) of \(model.description.model), \(parameters.count) tensors")
    }
  }

  private func onnx(_ model: TrainedModel, _ metadata: [String: String]) throws -> ONNXModel {
    let (height, width) = (model.description.inputHeight, model.description.inputWidth)
    let classifier = model.classifier
    let backbone = classifier.backbone.name.map { "\($0)/predictions" } ?? "predictions"
    let probabilities = [(node: backbone, name: "logits"), (node: "softmax", name: "probabilities")]
    switch part {
    case .resizer:
      let graph = classifier.resizerGraph(height: height, width: width)
      return try ONNXModel(graph, results: [(graph.nodes[graph.nodes.count - 1].name, "resized")], metadata: metadata)
    case .backbone: return try ONNXModel(classifier.backboneGraph(), results: probabilities, metadata: metadata)
    case .both:
      let resizer = classifier.resizerGraph(height: height, width: width)
      return try ONNXModel(
        classifier.graph(height: height, width: width),
        results: [(node: resizer.nodes[resizer.nodes.count - 1].name, name: "resized")] + probabilities,
        metadata: metadata)
    }
  }

  private func partParameters(_ model: TrainedModel) -> [Parameter] {
    let named: [(name: String, parameter: Parameter)] =
      switch part {
      case .resizer: model.classifier.resizer.namedParameters()
      case .backbone: model.classifier.backbone.namedParameters()
      case .both: model.classifier.namedParameters()
      }
    return named.map(\.parameter)
  }
}
