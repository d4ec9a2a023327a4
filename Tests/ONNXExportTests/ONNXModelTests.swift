import NeuralNetwork
import ONNXFormat
import OpenCLRuntime
import Operations
import SwiftProtobuf
import TensorCore
import Testing
import Vision

@testable import ONNXExport

/// The file's structure; that ONNX Runtime computes the same with it is what Scripts/onnx_check shows.
@Suite(.serialized) struct ONNXModelTests {
  private func exported(
    _ model: String, interpolation: String = "bilinear"
  ) throws -> (ImageClassifier, Onnx_ModelProto) {
    let device = try Device(DeviceSelection.pick("cpu"))
    var description = ModelDescription()
    description.model = model
    (description.targetHeight, description.targetWidth) = (32, 40)
    description.filters = 3
    description.interpolation = interpolation
    let classifier = try description.build()
    _ = ParameterArena(classifier, on: device, seed: 1)
    let file = try ONNXModel(
      classifier.graph(height: 60, width: 50),
      results: [("densenet121/predictions", "logits"), ("softmax", "probabilities")],
      metadata: ["model": model])
    return (classifier, try Onnx_ModelProto(serializedBytes: file.serialized()))
  }

  @Test(arguments: ["resizer+densenet121", "muller+densenet121", "densenet121"])
  func everyNameIsDefinedBeforeItIsUsed(_ name: String) throws {
    let (classifier, model) = try exported(name)
    #expect(model.opsetImport.map(\.version) == [18])
    #expect(model.irVersion == 8)
    #expect(model.metadataProps.map(\.key) == ["model"] && model.metadataProps.map(\.value) == [name])
    let graph = model.graph
    var known = Set(graph.initializer.map(\.name) + graph.input.map(\.name))
    #expect(known.count == graph.initializer.count + graph.input.count)
    for node in graph.node {
      for input in node.input where !input.isEmpty { #expect(known.contains(input), "\(node.name): \(input)") }
      for output in node.output { #expect(known.insert(output).inserted, "\(output) is defined twice") }
    }
    #expect(graph.output.map(\.name) == ["logits", "probabilities"])
    for output in graph.output { #expect(known.contains(output.name)) }
    // Batch, height and width are free.
    let extents = graph.input[0].type.tensorType.shape.dim
    #expect(extents.map(\.dimParam) == ["batch", "height", "width", ""])
    #expect(extents[3].dimValue == 3)
    // All numbers of the model and as many bytes as the shapes say.
    for tensor in graph.initializer {
      let size = tensor.dataType == Int32(Onnx_TensorProto.DataType.int64.rawValue) ? 8 : 4
      #expect(tensor.rawData.count == size * tensor.dims.reduce(1) { $0 * Int($1) }, "\(tensor.name)")
    }
    let weights = graph.initializer.filter {
      ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "weight"].contains(
        $0.name.split(separator: "/").last.map(String.init) ?? "")
    }
    #expect(weights.reduce(0) { $0 + $1.dims.reduce(1) { $0 * Int($1) } } == classifier.parameterCount)
  }

  /// HWIO becomes OIHW.
  @Test func filtersAreTransposed() throws {
    let (classifier, model) = try exported("densenet121")
    let kernel = try #require(
      classifier.namedParameters().first { $0.name == "densenet121/conv1_conv/kernel" }?.parameter
    ).tensor.floats()
    let tensor = try #require(model.graph.initializer.first { $0.name == "densenet121/conv1_conv/kernel" })
    #expect(tensor.dims == [64, 3, 7, 7])
    let values = tensor.rawData.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    for (row, column, input, output) in [(0, 0, 0, 0), (6, 2, 1, 63), (3, 5, 2, 17)] {
      #expect(
        values[((output * 3 + input) * 7 + row) * 7 + column]
          == kernel[((row * 7 + column) * 3 + input) * 64 + output])
    }
  }

  @Test func lanczosIsRefused() {
    let error = #expect(throws: ONNXError.self) { try exported("densenet121", interpolation: "lanczos3") }
    #expect(error?.description.hasPrefix("resize: ONNX has no operator for a resize with lanczos3") ?? false)
  }
}
