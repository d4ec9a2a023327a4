import ArgumentParser
import Foundation
import Fovea

/// A model with its weights, as every command asks for it that uses one: a run, or a file of weights.
public struct TrainedModelOptions: ParsableArguments {
  /// The run's folder.
  @Option(
    help: ArgumentHelp(
      "Folder of a run: its best weights, and its model in place of the defaults below. Default: runs/latest, unless "
        + "--weights is given.",
      valueName: "dir"), completion: .directory)
  public var run: String?

  /// The weights.
  @Option(
    help: ArgumentHelp(
      "Weights as safetensors instead of the run's best ones, or of a model described by the options below.",
      valueName: "file"), completion: .file(extensions: ["safetensors"]))
  public var weights: String?

  /// What the model's description is changed to.
  @OptionGroup(title: "Model") public var model: ModelOptions

  /// Nothing given.
  public init() {}

  /// The model's description and where its weights are, before anything is opened on a device.
  public func resolve() throws -> (
    description: ModelDescription, classNames: [String]?, run: RunDescription?, weights: PretrainedWeights
  ) {
    if run == nil, let weights {
      let file = try PretrainedWeights(contentsOf: weights)
      var description = ModelDescription()
      if let name = file.model { description.model = name }
      if let classes = file.classes { description.classes = classes }
      return (model.applied(to: description), nil, nil, file)
    }
    let folder = run ?? "runs/latest"
    let configuration: RunDescription
    do {
      configuration = try RunDescription(folder: folder)
    } catch RunError.missing where run == nil {
      throw ValidationError(
        "there is no run in \(folder): name the folder of one with --run DIR, or weights with --weights FILE")
    }
    let file = try PretrainedWeights(contentsOf: weights ?? folder + "/best.safetensors")
    let description = model.applied(to: configuration.model)
    // Its backbone's weights would fit, and expect other pictures than they get.
    if let weights, let name = file.model, name != description.model {
      throw ValidationError("\(weights) holds weights of \(name), \(folder) is a run of \(description.model)")
    }
    return (description, configuration.classNames, configuration, file)
  }

  /// The model with its weights on the device that is asked for, which is opened.
  public func load(on options: DeviceOptions) throws -> TrainedModel {
    let (description, names, run, weights) = try resolve()
    let device = try options.open(for: description.precision)
    let classifier = try description.build()
    let arena = ParameterArena(classifier, on: device)
    try weights.load(into: arena)
    return TrainedModel(
      description: description, classifier: classifier, arena: arena,
      classNames: names ?? (0..<description.classes).map { "class \($0)" }, hasClassNames: names != nil, run: run)
  }
}

/// A model with its weights.
public struct TrainedModel {
  /// How it is built.
  public let description: ModelDescription
  /// The model.
  public let classifier: ImageClassifier
  /// Its weights.
  public let arena: ParameterArena
  /// The classes in the order of the logits.
  public let classNames: [String]
  /// Whether the class names are known, and not made up.
  public let hasClassNames: Bool
  /// The run that it comes from; nil for a file of weights.
  public let run: RunDescription?

  /// What the model makes of a batch of photos in inference: on the device, nothing waited for.
  public func callAsFunction(_ batch: ImageBatch) -> (resized: Tensor, logits: Tensor) {
    classifier(
      Tensor(
        enqueueing: batch.pixels, shape: [batch.count, description.inputHeight, description.inputWidth, 3],
        on: arena.device))
  }
}

/// Probabilities from one photo's logits.
public func softmax(_ logits: some Collection<Float>) -> [Double] {
  let largest = Double(logits.max() ?? 0)
  let powers = logits.map { exp(Double($0) - largest) }
  let sum = powers.reduce(0, +)
  return powers.map { $0 / sum }
}
