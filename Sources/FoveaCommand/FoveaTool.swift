import ArgumentParser
import CommandSupport

@main
struct FoveaTool: ParsableCommand {
  static func main() { runWithOneLineErrors() }

  static let configuration = CommandConfiguration(
    commandName: "fovea",
    abstract: "Tools around training on OpenCL: devices, models, exactness and speed.",
    discussion: "The command `train` trains; these do the rest.",
    version: "fovea \(foveaVersion)",
    subcommands: [
      Devices.self, Evaluate.self, Predict.self, Resize.self, Inspect.self, Export.self, Import.self,
      Compare.self, Verify.self, Tune.self, Bench.self,
    ])
}
