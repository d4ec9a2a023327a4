import ArgumentParser

@main
struct FoveaTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fovea",
    abstract: "Tools around training on OpenCL: devices, models, exactness and speed.",
    subcommands: [Devices.self, Inspect.self, Verify.self, Bench.self, Compare.self])
}
