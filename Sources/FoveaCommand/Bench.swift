import ArgumentParser

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure speed and memory.",
    subcommands: [
      BenchStep.self, BenchKernels.self, BenchPeak.self, BenchPlan.self, BenchCompare.self, BenchScaling.self,
      BenchLoading.self, BenchEpoch.self,
    ])
}
