import ArgumentParser
import CommandSupport
import Fovea

/// Starting from weights that exist, and leaving a part of the model as it is.
struct WarmStartOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Start from these weights (safetensors): of a run, of Keras, or torchvision's and timm's DenseNets. Parameters that \
      are not in the file, or have another shape there, start afresh and are listed.
      """, valueName: "file"), completion: .file(extensions: ["safetensors"]))
  var weights: String?

  @Option(
    help: ArgumentHelp(
      """
      Leave a part as it is: resizer, backbone, or features, which is the backbone without its last layer. Its \
      BatchNorms use their moving statistics.
      """, valueName: "part"))
  var freeze: ModelDescription.Part?

  /// Reads the file into a planned model, so that what cannot be trained from it is an error before anything is written.
  ///
  /// - Parameter model: with the part frozen.
  func check(_ model: ModelDescription, on device: DeviceDescription) throws {
    guard weights != nil || freeze != nil else { return }
    let arena = ParameterArena(try model.build(), on: Device(planning: device))
    if let freeze, !arena.parameters.contains(where: \.isTrainable) {
      throw ValidationError(
        "--freeze \(freeze) leaves nothing to train: the model \(model.model) has no resizer with weights")
    }
    let match = try weights.map { try PretrainedWeights(contentsOf: $0).load(into: arena, partially: true) }
    // Statistics are not trainable either, and start alike everywhere.
    let filled = Set(match?.loaded ?? [])
    let random = arena.parameters.first {
      !$0.isTrainable && !$0.name.contains("/moving_") && !filled.contains($0.name)
    }
    if let freeze, let random {
      throw ValidationError(
        "--freeze \(freeze) would keep \(random.name) at random values: "
          + (weights.map { "\($0) does not hold it" } ?? "give --weights, which hold it")
          + (random.name.contains("/predictions/") ? "; --freeze features trains the last layer" : ""))
    }
  }

  /// The model with the part frozen.
  func applied(to model: ModelDescription) throws -> ModelDescription {
    var model = model
    model.frozen = freeze
    do {
      _ = try model.build()
    } catch let error as ModelError {
      throw ValidationError("\(error)")
    }
    return model
  }

  /// Overwrites what the file holds and says what it does not.
  func load(into arena: ParameterArena) throws {
    guard let weights else { return }
    let lines = try PretrainedWeights(contentsOf: weights).load(into: arena, partially: true).lines()
    say("Weights  \(weights): \(lines[0])")
    for line in lines.dropFirst() { say("         \(line)") }
  }
}

extension ModelDescription.Part: ExpressibleByArgument {}
