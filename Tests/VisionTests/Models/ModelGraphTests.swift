import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Vision

extension DeviceModelTests {
  /// What a model writes down, computed operation by operation, is what the model computes.
  @Test(arguments: ["resizer+densenet121", "muller+densenet121", "densenet121"])
  func graphIsTheModel(_ model: String) throws {
    let device = try Self.device.get()
    var description = ModelDescription()
    description.model = model
    (description.inputHeight, description.inputWidth) = (50, 41)
    (description.targetHeight, description.targetWidth) = (33, 38)
    description.filters = 3
    description.blocks = 2
    try compare(description.build(), on: device)
  }

  /// What the tutorial makes, as the resizer of the main model.
  private struct OwnResizer: ImageResizer {
    let targetSize = (height: 33, width: 38)
    let interpolation = Interpolation.bicubic
    let look = Conv2D(inputs: 3, filters: 4, kernelSize: 3, name: "look")
    let tell = Conv2D(inputs: 4, filters: 3, kernelSize: 1, name: "tell")

    func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor {
      func small(_ x: some TensorOperand) -> Tensor {
        x.resized(height: targetSize.height, width: targetSize.width, interpolation: interpolation)
      }
      return small(images) + tell(small(look(images).leakyReLU(slope: 0.3)))
    }

    func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
      graph.within("resizer") { graph in
        let plain = graph.resize(images, to: targetSize, interpolation, antialias: false, name: "plain")
        let detail = graph.leakyReLU(graph.convolution(look, images), slope: 0.3, name: "bend")
        let small = graph.resize(detail, to: targetSize, interpolation, antialias: false, name: "shrink")
        return graph.sum(plain, graph.convolution(tell, small), name: "sum")
      }
    }
  }

  @Test func aResizerOfOnesOwnIsPartOfAModel() throws {
    let device = try Self.device.get()
    let classifier = ImageClassifier(resizer: OwnResizer(), backbone: DenseNet(classes: 3))
    try compare(classifier, on: device)
    let names = classifier.namedParameters().map(\.name).prefix(4)
    #expect(names == ["resizer/look/kernel", "resizer/look/bias", "resizer/tell/kernel", "resizer/tell/bias"])
    // Several, for the last maps have one pixel: of a single photo the batch's variance would be 0, and all gradients too.
    var random = RandomNumbers(seed: 9)
    let pixels = (0..<4 * 50 * 41 * 3).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    let photos = Tensor(pixels, shape: [4, 50, 41, 3], on: device)
    let targets = Tensor.oneHot([1, 0, 2, 1], classes: 3, on: device)
    let gradients = withTraining {
      valueWithGradients { classifier(photos).logits.softmaxCrossEntropy(targets: targets).loss }.gradients
    }
    let resizer = try #require(classifier.resizer as? OwnResizer)
    let gradient = try #require(gradients[resizer.look.kernel.tensor]).floats()
    #expect(gradient.contains { $0 != 0 } && gradient.allSatisfy { $0.isFinite })
  }

  private func compare(_ classifier: ImageClassifier, on device: Device) throws {
    let arena = ParameterArena(classifier, on: device, seed: 5)
    // Nothing may be at its start, where a mistake would not show.
    var random = RandomNumbers(seed: 8)
    for parameter in arena.parameters where !parameter.name.hasSuffix("kernel") {
      arena.set(parameter, to: (0..<parameter.shape.count).map { _ in 0.5 + random.uniform() })
    }
    let pixels = (0..<2 * 50 * 41 * 3).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    let photos = Tensor(pixels, shape: [2, 50, 41, 3], on: device)
    let (resized, logits) = classifier(photos)
    let graph = classifier.graph(height: 50, width: 41)
    let values = interpret(graph, photos)
    for (node, value) in zip(graph.nodes, values) {
      #expect(value.shape.dimensions.dropFirst() == node.output.shape.dimensions.dropFirst(), "\(node.name)")
    }
    let last = try #require(classifier.resizerGraph(height: 50, width: 41).nodes.last?.name)
    let resizedIndex = try #require(graph.nodes.firstIndex { $0.name == last })
    // Both run the same kernels, but for steps that one fuses and the other computes alone: a few roundings an operation,
    // through up to 120 layers that each normalise again.
    try expectClose(values[resizedIndex].floats(), resized.floats(), within: 1e-5)
    try expectClose(values[values.count - 2].floats(), logits.floats(), within: 1e-5)
    try expectClose(values[values.count - 1].floats(), logits.softmax().floats(), within: 1e-5)

    let backbone = classifier.backboneGraph()
    try expectClose(interpret(backbone, resized)[backbone.nodes.count - 2].floats(), logits.floats(), within: 1e-5)

    // Every parameter once, under a node of its layer's name.
    let named = graph.nodes.flatMap { node in node.parameters.map { (node.name, $0) } }
    #expect(Set(named.map { ObjectIdentifier($0.1) }) == Set(arena.parameters.map { ObjectIdentifier($0) }))
    #expect(named.count == arena.parameters.count)
    for (name, parameter) in named where !parameter.name.hasPrefix("muller") {
      #expect(parameter.name.hasPrefix(name + "/"))
    }
  }

  private func expectClose(
    _ values: [Float], _ expected: [Float], within limit: Float, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(values.count == expected.count, sourceLocation: sourceLocation)
    let largest = expected.map(abs).max() ?? 0
    let error = zip(values, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(error <= limit * largest, "\(error) of \(largest)", sourceLocation: sourceLocation)
  }

  private func interpret(_ graph: ModelGraph, _ input: Tensor) -> [Tensor] {
    var values: [Tensor] = []
    for node in graph.nodes {
      let inputs = node.inputs.map { values[$0.index] }
      switch node.operation {
      case .input: values.append(input)
      case .scale(let factor): values.append(inputs[0].scaled(by: factor))
      case .resize(let interpolation, let antialias):
        values.append(
          inputs[0].resized(
            height: node.output.shape[1], width: node.output.shape[2], interpolation: interpolation,
            antialias: antialias))
      case .convolution(let kernel, let bias, let strides, let pads):
        values.append(
          inputs[0].conv2d(
            filter: kernel.tensor, bias: bias?.tensor, strides: strides,
            padding: .explicit(top: pads.0, bottom: pads.2, left: pads.1, right: pads.3)))
      case .batchNorm(let layer): values.append(layer(inputs[0]).materialized())
      case .leakyReLU(let slope): values.append(inputs[0].leakyReLU(slope: slope).materialized())
      case .add: values.append(inputs[0] + inputs[1])
      case .subtract: values.append(inputs[0] - inputs[1])
      case .maxPool(let window, let strides, let pads):
        values.append(
          inputs[0].maxPool(
            window: window, strides: strides,
            padding: .explicit(top: pads.0, bottom: pads.2, left: pads.1, right: pads.3), paddedWith: .zero))
      case .averagePool(let window, let strides):
        values.append(inputs[0].averagePool(window: window, strides: strides))
      case .concatenate: values.append(concatenate(inputs))
      case .globalAveragePool: values.append(inputs[0].globalAveragePool())
      case .dense(let kernel, let bias): values.append(inputs[0].dense(weights: kernel.tensor, bias: bias?.tensor))
      case .blur(let weights): values.append(inputs[0].blurred(weights: weights.map { Double($0) }))
      case .scaledTanh(let weight, let bias):
        let x = inputs[0]
        values.append(
          x.reshaped([x.shape.count, 1]).dense(
            weights: weight.tensor.reshaped([1, 1]), bias: bias.tensor.reshaped([1])
          ).tanh().reshaped(x.shape))
      case .softmax: values.append(inputs[0].softmax())
      }
    }
    return values
  }
}

extension ModelTests {
  /// The work of the published model: 1.258 GMAC for the backbone and 0.443 for the resizer.
  @Test func graphCountsTheWork() throws {
    let graph = try ModelDescription().build().graph(height: 300, width: 300)
    var flops = 0.0
    for node in graph.nodes {
      switch node.operation {
      case .convolution(_, let bias, _, _), .dense(_, let bias):
        flops += node.flops - Double(bias == nil ? 0 : node.output.shape.count)
      default: break
      }
    }
    // Both figures are rounded to three decimals.
    #expect(abs(flops / 2e9 - 1.701) <= 1e-3)
    #expect(graph.nodes.last?.output.shape == [1, 2])
    #expect(graph.nodes.first { $0.name == "densenet121/conv5_block16_concat" }?.output.shape == [1, 4, 4, 1024])
  }
}
