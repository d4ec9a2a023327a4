import ArgumentParser
import Fovea
import Foundation

@main
struct FoveaTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fovea",
    abstract: "Tools around training on OpenCL: devices, models, exactness and speed.",
    subcommands: [Devices.self, Inspect.self, Verify.self, Bench.self])
}

struct DeviceOptions: ParsableArguments {
  @Option(
    name: .long,
    help: "auto, gpu, cpu, gpu:1, PLATFORM:DEVICE or part of a name; see `fovea devices`. Default: FOVEA_DEVICE, else auto.")
  var device: String?

  func open(profiling: Bool = false) throws -> Device {
    try Device.open(device, profiling: profiling)
  }
}

/// Prints any value as JSON with sorted keys.
func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// A number in scientific notation with three digits, such as 1.23e-06.
func scientific(_ value: Double) -> String { String(format: "%.2e", value) }
