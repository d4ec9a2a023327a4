import ArgumentParser
import Fovea

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show a model's layers, shapes and parameters.")

  @Option(help: "resizer+densenet121, densenet121, densenet169, densenet201 or resizer.")
  var model = "resizer+densenet121"

  @Flag(help: "Print JSON.")
  var json = false

  private struct Row: Encodable {
    var name: String
    var shape: [Int]
    var parameters: Int
    var trainable: Bool
  }

  private struct Summary: Encodable {
    var model: String
    var parameters: Int
    var trainable_parameters: Int
    var weights: [Row]
  }

  func run() throws {
    print("")
  }
}
