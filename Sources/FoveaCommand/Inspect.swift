import ArgumentParser
import CommandSupport
import Fovea

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show a model's layers, weight shapes and parameters.")

  @OptionGroup var model: ModelOptions

  @Option(help: "Classes that the model tells apart.")
  var classes = 2

  @Flag(help: "Print JSON.")
  var json = false

  private struct Summary: Encodable {
    struct Weight: Encodable {
      var name: String
      var shape: [Int]
      var parameters: Int
      var trainable: Bool
    }
    var model: String
    var parameters: Int
    var trainableParameters: Int
    var weights: [Weight]
  }

  func validate() throws {
    guard (1...100_000).contains(classes) else {
      throw ValidationError("--classes must be 1 to 100000, not \(classes)")
    }
  }

  func run() throws {
    let description = model.description(classes: classes, batchNormMomentum: 0.99)
    let classifier = try description.build()
    let summary = Summary(
      model: description.model, parameters: classifier.parameterCount,
      trainableParameters: classifier.trainableParameterCount,
      weights: classifier.namedParameters().map { name, parameter in
        .init(
          name: name, shape: parameter.shape.dimensions, parameters: parameter.shape.count,
          trainable: parameter.isTrainable)
      })
    if json { return print(try jsonText(summary)) }
    print("weight".padded(to: 52) + "shape".padded(to: 20) + "parameters")
    for weight in summary.weights {
      print(
        weight.name.padded(to: 52) + "\(Shape(weight.shape))".padded(to: 20) + "\(weight.parameters)"
          + (weight.trainable ? "" : "  (not trained)"))
    }
    print("\(summary.model): \(summary.parameters) parameters, \(summary.trainableParameters) trainable")
  }
}
