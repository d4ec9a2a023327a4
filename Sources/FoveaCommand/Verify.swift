import ArgumentParser
import CommandSupport
import Fovea
import Foundation

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Replay a reference file of another framework on a device and compare every tensor.",
    discussion: "Reference files come from Scripts/keras_reference.py. Exits 1 when a tensor is beyond its limit.")

  @Option(help: ArgumentHelp("The reference file.", valueName: "file"))
  var reference: String

  @OptionGroup var device: DeviceOptions

  @Option(help: "The convolution kernels: vector or tiled. Default: what suits the device.")
  var kernels: ConvolutionAlgorithm?

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let file = try ReferenceFile(contentsOf: reference)
    let report = try ConvolutionAlgorithm.$forced.withValue(kernels) { try replay(file, on: device.open()) }
    if json {
      print(try jsonText(report))
    } else {
      printTable(report)
    }
    if !report.passed { throw ExitCode.failure }
  }

  private func printTable(_ report: VerificationReport) {
    print("\(reference) on \(report.device)")
    print("relative L2   max abs   limit")
    for tensor in report.tensors {
      print(
        " \(scientific(tensor.relativeL2))   \(scientific(tensor.maximumAbsolute))  "
          + "\(tensor.limit.map(scientific) ?? "-       ")  \(tensor.name)\(tensor.passed ? "" : "   BEYOND ITS LIMIT")"
      )
    }
    if let median = report.gradientMedian {
      print("gradients: median \(scientific(median)), limit \(scientific(report.gradientMedianLimit))")
    }
    if let worst = report.tensors.filter({ $0.limit != nil }).max(by: { $0.judged < $1.judged }) {
      print("worst: \(scientific(worst.judged)) \(worst.name)")
    }
    print(report.passed ? "passed" : "FAILED")
  }
}

/// A number in scientific notation with three digits, such as 1.23e-06.
private func scientific(_ value: Double) -> String { String(format: "%.2e", value) }

extension ConvolutionAlgorithm: ExpressibleByArgument {}
