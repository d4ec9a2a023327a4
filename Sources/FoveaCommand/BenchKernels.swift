import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct BenchKernels: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Where a training step's time goes: one line per kind of launch, with its share of the device's roof.")

  @OptionGroup var options: BenchOptions

  @Option(help: "Lines to print, slowest first.")
  var lines = 40

  private struct Row: Encodable {
    var launch: String
    var count = 0
    var milliseconds = 0.0
    var gflopPerSecond = 0.0
    var gigabytesPerSecond = 0.0
    /// Of the larger of the two floors: operations at the measured peak, bytes at the measured bandwidth.
    var shareOfRoof = 0.0
  }

  func run() throws {
    let workload = try BenchWorkload(options, profiling: true)
    let device = workload.device
    for _ in 0..<2 { _ = try workload.train() }
    _ = try device.takeProfile()
    _ = try workload.train()
    let entries = try device.takeProfile()
    let peak = try DevicePeak.measure(on: device)
    let rows = Dictionary(grouping: entries, by: \.label).map { label, entries in
      let seconds = max(entries.reduce(0) { $0 + $1.seconds }, 1e-9)
      let flops = entries.reduce(0) { $0 + $1.flops }
      let bytes = entries.reduce(0) { $0 + $1.bytes }
      return Row(
        launch: label, count: entries.count, milliseconds: seconds * 1e3, gflopPerSecond: flops / seconds * 1e-9,
        gigabytesPerSecond: bytes / seconds * 1e-9,
        shareOfRoof: max(flops / peak.flopsPerSecond, bytes / peak.bytesPerSecond) / seconds)
    }
    .sorted { $0.milliseconds > $1.milliseconds }
    if options.json { return print(try jsonText(rows)) }
    let total = rows.reduce(0) { $0 + $1.milliseconds }
    print(
      String(
        format: "%@\nroofs: %.0f GFLOP/s, %.1f GB/s; one step: %.0f ms in %d launches and copies",
        device.description.header, peak.flopsPerSecond * 1e-9, peak.bytesPerSecond * 1e-9, total, entries.count))
    print("      ms  share  GFLOP/s    GB/s  of roof  launches")
    for row in rows.prefix(lines) {
      print(
        String(
          format: "%8.1f  %4.1f%%  %7.1f  %6.1f  %6.0f%%  %4d × ", row.milliseconds, 100 * row.milliseconds / total,
          row.gflopPerSecond, row.gigabytesPerSecond, row.shareOfRoof * 100, row.count) + row.launch)
    }
    let kinds = Dictionary(grouping: entries, by: \.kind)
      .mapValues { $0.reduce(0) { $0 + $1.seconds } * 1e3 }.sorted { $0.value > $1.value }
    print("by kind:")
    for (kind, milliseconds) in kinds {
      print(String(format: "%8.1f  %4.1f%%  ", milliseconds, 100 * milliseconds / total) + kind)
    }
  }
}
