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
      """
      Leave a part as it is: resizer, backbone, or features, which is the backbone without its last layer. Its \
      BatchNorms use their moving statistics.
      """, valueName: "part"))
  var freeze: ModelDescription.Part?

  /// Opens the file, so that a wrong name is an error before anything is written.
  func check() throws {
    if let weights { _ = try PretrainedWeights(contentsOf: weights) }
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
    let match = try PretrainedWeights(contentsOf: weights).load(into: arena, partially: true)
    // Statistics are not trainable either, and start alike everywhere.
    let random = Set(match.missing + match.mismatched.map(\.name))
    let frozen = arena.parameters.first {
      !$0.isTrainable && !$0.name.contains("/moving_") && random.contains($0.name)
    }
    if let freeze, let frozen {
      throw ValidationError(
        "--freeze \(freeze) would keep \(frozen.name) at random values: \(weights) does not hold it"
          + (freeze == .backbone ? "; --freeze features trains the last layer" : ""))
    }
    let lines = match.lines()
    say("Weights  \(weights): \(lines[0])")
    for line in lines.dropFirst() { say("         \(line)") }
  }
}

extension ModelDescription.Part: ExpressibleByArgument {}
