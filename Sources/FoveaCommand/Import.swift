import ArgumentParser
import CommandSupport
import Fovea
import NeuralNetwork

struct Import: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Take over weights of torchvision, timm or Keras, and show what fits.",
    discussion: """
      The file is safetensors with torchvision's and timm's names of a DenseNet, Keras's or our own; \
      Scripts/keras_weights.py makes one of a Keras file, and Python's safetensors.torch.save_file one of a PyTorch \
      state_dict. Written are the tensors that fit the model, for --weights of the other commands and of `train`, which \
      reads such files directly as well. Photos enter our backbones as 0…1: for weights that were trained on normalised \
      photos, as torchvision's and timm's were, give --normalization imagenet.
      """)

  @Argument(help: "The safetensors file.", completion: .file(extensions: ["safetensors"]))
  var file: String

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("The safetensors file to write; without it the fit is only shown.", valueName: "file"),
    completion: .file(extensions: ["safetensors"]))
  var output: String?

  @OptionGroup var model: ModelOptions

  @Option(help: "Classes that the model tells apart. Default: the file's, else 2.")
  var classes: Int?

  @Option(help: "Take this normalisation of photos, which the weights were trained with, into the first layer.")
  var normalization = Normalization.none

  @OptionGroup(title: "Device") var device: DeviceOptions

  @Flag(help: "Print JSON.")
  var json = false

  enum Normalization: String, ExpressibleByArgument, CaseIterable {
    case none, imagenet
  }

  func validate() throws {
    if let classes, !(1...100_000).contains(classes) {
      throw ValidationError("--classes must be 1 to 100000, not \(classes)")
    }
    if let output {
      guard output.hasSuffix(".safetensors") else {
        throw ValidationError("--output must end in .safetensors, not '\(output)'")
      }
      try checkOutput(output, of: "--output")
    }
  }

  func run() throws {
    let weights = try PretrainedWeights(contentsOf: file)
    var description = ModelDescription()
    description.model = weights.model ?? "densenet121"
    description.classes = classes ?? weights.classes ?? 2
    description = model.applied(to: description)
    let classifier = try description.build()
    let arena = ParameterArena(classifier, on: try device.open(for: nil))
    let match = try weights.load(into: arena, partially: true)
    if normalization == .imagenet {
      // Of ImageNet's photos as 0…1, the same in torchvision, timm and Keras.
      try classifier.backbone.foldInputNormalization(
        mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225], in: arena)
    }
    if let output {
      let loaded = Set(match.loaded)
      try SafetensorsWriter.write(
        arena.parameters.filter { loaded.contains($0.name) }.map {
          ($0.name, $0.shape.dimensions, try $0.tensor.floats())
        }, metadata: ["model": description.model], to: output)
    }
    if json { return print(try jsonText(match)) }
    say("\(file) → \(description.model), \(description.classes) classes")
    for line in match.lines() { say(line) }
    if let output { say("Wrote \(output)") }
  }
}
