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
      """, valueName: "file"))
  var weights: String?

  @Option(
    help: ArgumentHelp(
      "Leave the resizer or the backbone as it is; its BatchNorms use their moving statistics.", valueName: "part"))
  var freeze: ModelDescription.Part?

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
    let match = try PretrainedWeights(contentsOf: weights).load(into: arena, partially: true)
    let lines = match.lines()
    say("Weights  \(weights): \(lines[0])")
    for line in lines.dropFirst() { say("         \(line)") }
  }
}

extension ModelDescription.Part: ExpressibleByArgument {}
