import NeuralNetwork
import OpenCLRuntime
import TensorCore
import Testing

@testable import Vision

extension DeviceModelTests {
  /// torchvision's names and layouts, the old spelling of `norm1` too, another number of classes, and leftovers.
  @Test func torchvisionWeights() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/torch.safetensors"
    func numbers(_ count: Int, from first: Int) -> [Float] { (0..<count).map { Float(first + $0) } }
    try SafetensorsWriter.write(
      [
        ("features.conv0.weight", [64, 3, 7, 7], numbers(64 * 3 * 49, from: 0)),
        ("features.norm0.weight", [64], numbers(64, from: 1)), ("features.norm0.bias", [64], numbers(64, from: 2)),
        ("features.norm0.num_batches_tracked", [1], [7]),
        ("features.denseblock1.denselayer2.norm.1.weight", [96], numbers(96, from: 3)),
        ("features.denseblock4.denselayer16.conv2.weight", [32, 128, 3, 3], numbers(32 * 128 * 9, from: 4)),
        ("features.transition3.norm.running_var", [1024], numbers(1024, from: 5)),
        ("features.norm5.running_mean", [1024], numbers(1024, from: 6)),
        ("classifier.weight", [5, 1024], numbers(5 * 1024, from: 7)), ("classifier.bias", [5], numbers(5, from: 8)),
        ("other", [1], [0]),
      ], to: path)
    let file = try PretrainedWeights(contentsOf: path)
    #expect(file.classes == 5)

    var description = ModelDescription()
    description.model = "densenet121"
    description.classes = 5
    let arena = ParameterArena(try description.build(), on: try Self.device.get(), seed: 1)
    let match = try file.load(into: arena, partially: true)
    #expect(match.loaded.count == 9)
    #expect(match.missing.count == 606 - 9)
    #expect(match.unused == ["other"])
    func values(_ name: String) throws -> [Float] {
      try #require(arena.parameter(named: "densenet121/" + name)).tensor.floats()
    }
    let stem = try values("conv1_conv/kernel")
    let last = try values("conv5_block16_2_conv/kernel")
    let head = try values("predictions/kernel")
    for (row, column, input, output) in [(0, 0, 0, 0), (6, 2, 1, 63), (3, 5, 2, 17)] {
      #expect(
        stem[((row * 7 + column) * 3 + input) * 64 + output] == Float(((output * 3 + input) * 7 + row) * 7 + column))
      #expect(
        last[((row % 3 * 3 + column % 3) * 128 + input) * 32 + output % 32]
          == Float(4 + ((output % 32 * 128 + input) * 3 + row % 3) * 3 + column % 3))
      #expect(head[(input * 99 + row) * 5 + output % 5] == Float(7 + output % 5 * 1024 + input * 99 + row))
    }
    #expect(try values("conv1_bn/beta") == numbers(64, from: 2))
    #expect(try values("conv2_block2_0_bn/gamma") == numbers(96, from: 3))
    #expect(try values("pool4_bn/moving_variance") == numbers(1024, from: 5))
    #expect(try values("bn/moving_mean") == numbers(1024, from: 6))
    #expect(try values("predictions/bias") == numbers(5, from: 8))

    // Not all, and not the head of another number of classes.
    description.classes = 2
    let other = ParameterArena(try description.build(), on: try Self.device.get(), seed: 1)
    let before = try other.weights.floats()
    #expect(
      file.match(with: other).mismatched == [
        .init(name: "densenet121/predictions/kernel", model: [1024, 2], file: [1024, 5]),
        .init(name: "densenet121/predictions/bias", model: [2], file: [5]),
      ])
    let error = #expect(throws: WeightsError.self) { try file.load(into: other) }
    let text = try #require(error).description
    #expect(text.contains("it lacks 597 parameters") && text.contains("[1024, 5], in the model [1024, 2]"))
    #expect(!text.contains("\n"))
    #expect(try other.weights.floats() == before)
  }

  /// The model is told by the names.
  @Test(arguments: [
    (["features.denseblock3.denselayer24.conv1.weight"], "densenet121"),
    (
      ["learnable_resizer/conv2d/bias", "densenet169/conv4_block24_0_bn/beta", "densenet169/conv4_block32_0_bn/beta"],
      "resizer+densenet169"
    ),
    (
      ["muller_resizer/bias_1", "conv4_block24_0_bn/beta", "conv4_block32_0_bn/beta", "conv4_block48_0_bn/beta"],
      "muller+densenet201"
    ),
    (["learnable_resizer/conv2d/bias"], nil),
  ]) func modelOfAFile(_ names: [String], _ model: String?) throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/weights.safetensors"
    try SafetensorsWriter.write(names.map { ($0, [1], [0]) }, to: path)
    #expect(try PretrainedWeights(contentsOf: path).model == model)
  }

  /// A file of the backbone alone, with Keras's names below the model's or without that level.
  @Test(arguments: ["densenet121/", ""]) func backboneWeights(prefix: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/backbone.safetensors"
    try SafetensorsWriter.write(
      [(prefix + "conv1_bn/gamma", [64], Array(repeating: 3, count: 64)), (prefix + "conv1_bn/beta", [2], [1, 2])],
      to: path)
    let arena = ParameterArena(try ModelDescription().build(), on: try Self.device.get())
    let match = try PretrainedWeights(contentsOf: path).load(into: arena, partially: true)
    #expect(match.loaded == ["densenet121/conv1_bn/gamma"])
    #expect(match.mismatched.map(\.name) == ["densenet121/conv1_bn/beta"])
    #expect(match.unused.isEmpty)
    let gamma = try #require(arena.parameter(named: "densenet121/conv1_bn/gamma"))
    #expect(try gamma.tensor.floats() == Array(repeating: 3, count: 64))
  }

  /// (conv(normalised photo) − moving mean) stays what it was, for the changed filters, mean and the photo as it is.
  @Test func normalizationIsFoldedIntoTheFirstLayer() throws {
    let device = try Self.device.get()
    let backbone = DenseNet()
    let arena = ParameterArena(backbone, on: device, seed: 9)
    let kernel = try #require(arena.parameter(named: "densenet121/conv1_conv/kernel"))
    let moving = try #require(arena.parameter(named: "densenet121/conv1_bn/moving_mean"))
    arena.set(moving, to: (0..<64).map { Float($0) / 64 })
    var random = RandomNumbers(seed: 6)
    let photo = (0..<9 * 9 * 3).map { _ in random.uniform() }
    let (mean, deviation) = ([0.5, 0.25, 0.75] as [Float], [0.25, 0.5, 0.2] as [Float])
    let normalized = photo.enumerated().map { ($1 - mean[$0 % 3]) / deviation[$0 % 3] }
    func centred(_ photo: [Float]) throws -> [Float] {
      let y = Tensor(photo, shape: [1, 9, 9, 3], on: device)
        .conv2d(filter: kernel.tensor, strides: (2, 2), padding: .valid)
      let means = try moving.tensor.floats()
      return try y.floats().enumerated().map { $1 - means[$0 % 64] }
    }
    let expected = try centred(normalized)
    try backbone.foldInputNormalization(mean: mean, deviation: deviation, in: arena)
    let largest = expected.map(abs).max() ?? 0
    // 147 products each: √(147 / 2) + 4 roundings, and terms several times the result, for the means cancel.
    for (a, b) in zip(try centred(photo), expected) { #expect(abs(a - b) <= 8 * 13 * 0x1p-24 * largest) }
  }

  /// A file that has nothing in common with the model is a mistake even where parts may be left over.
  @Test func strangersWeights() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/other.safetensors"
    try SafetensorsWriter.write([("a", [1], [1]), ("b", [1], [1])], to: path)
    let arena = ParameterArena(LearnableResizer(), on: try Self.device.get())
    let error = #expect(throws: WeightsError.self) {
      try PretrainedWeights(contentsOf: path).load(into: arena, partially: true)
    }
    #expect(error?.description == "\(path) holds none of the model's parameters; it has a, b")
  }
}
