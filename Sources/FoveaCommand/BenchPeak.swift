import ArgumentParser
import CommandSupport
import Fovea

struct BenchPeak: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "peak", abstract: "Measure a device's peak of fused multiply-adds and its copy bandwidth.")

  @OptionGroup var device: DeviceOptions

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var device: String
    var gflopPerSecond: Double
    var gigabytesPerSecond: Double
  }

  func run() throws {
    let device = try device.open(for: nil)
    let peak = try DevicePeak.measure(on: device)
    let report = Report(
      device: device.description.summary, gflopPerSecond: peak.flopsPerSecond * 1e-9,
      gigabytesPerSecond: peak.bytesPerSecond * 1e-9)
    if json { return print(try jsonText(report)) }
    print(report.device)
    print("fused multiply-add  \(Int(report.gflopPerSecond.rounded())) GFLOP/s")
    print("copy                \(Int(report.gigabytesPerSecond.rounded())) GB/s, read and written")
  }
}
