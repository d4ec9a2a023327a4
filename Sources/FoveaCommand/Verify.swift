import ArgumentParser
import CommandSupport
import Fovea
import Foundation

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check that a device computes what it should.",
    discussion: """
      Without a file: every kernel that a training step launches, on small images of odd sizes, against double precision \
      on the host. With --reference: a training run of another framework, replayed tensor by tensor; such files come from \
      Scripts/keras_reference.py. Exits 1 when something is beyond its limit.
      """)

  @Option(
    help: ArgumentHelp("Replay this reference file.", valueName: "file"), completion: .file(extensions: ["safetensors"])
  )
  var reference: String?

  @Flag(help: "Check more channels, sizes and kernels than a step needs; that takes minutes.")
  var thorough = false

  @OptionGroup var device: DeviceOptions

  @OptionGroup(title: "Model whose step is checked") var model: ModelOptions

  @Option(help: "Images a step.")
  var batchSize = 64

  @Option(help: "The convolution kernels. Default: what suits the device.")
  var kernels: ConvolutionAlgorithm?

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if reference != nil, thorough { throw ValidationError("--thorough is for checks without --reference") }
    guard (1...4096).contains(batchSize) else {
      throw ValidationError("--batch-size must be 1 to 4096, not \(batchSize)")
    }
  }

  func run() throws {
    try ConvolutionAlgorithm.$forced.withValue(kernels) {
      if let reference {
        try replayReference(reference)
      } else {
        try verifyKernels()
      }
    }
  }

  private func replayReference(_ path: String) throws {
    let report = try replay(ReferenceFile(contentsOf: path), on: device.open(for: nil))
    if json {
      print(try jsonText(report))
    } else {
      printTable(report, of: path)
    }
    if !report.passed { throw ExitCode.failure }
  }

  private func printTable(_ report: VerificationReport, of path: String) {
    print("\(path) on \(report.device)")
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
func scientific(_ value: Double) -> String { String(format: "%.2e", value) }

extension ConvolutionAlgorithm: ExpressibleByArgument {}
