import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification
import NeuralNetwork
import Training

struct BenchScaling: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scaling",
    abstract: "Time the training step over batch sizes, image sizes and depths, beside its arithmetic.",
    discussion: """
      Each is the main job with one thing changed. Where time grows as the arithmetic does, GFLOP/s stay level.
      """)

  @OptionGroup var device: DeviceOptions

  @Option(help: "Steps to time for each, after two that are not.")
  var steps = 3

  @Option(
    name: .shortAndLong, help: ArgumentHelp("Also draw the figures (SVG).", valueName: "file"),
    completion: .file(extensions: ["svg"]))
  var output: String?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Row: Encodable {
    var what: String
    var value: Int
    var seconds: Double
    var gflop: Double
    var gflopPerSecond: Double
  }

  func validate() throws {
    guard (1...1000).contains(steps) else { throw ValidationError("--steps must be 1 to 1000, not \(steps)") }
    if let output {
      guard output.hasSuffix(".svg") else {
        throw ValidationError("the drawing is an SVG: --output must end in .svg, not '\(output)'")
      }
      try checkOutput(output, of: "--output")
    }
  }

  func run() throws {
    var rows: [Row] = []
    for size in [8, 16, 32, 64] { rows.append(try row("batch", size) { $1 = size }) }
    for side in [100, 200, 300, 400] {
      rows.append(
        try row("image", side) { model, _ in
          (model.inputHeight, model.inputWidth, model.targetHeight, model.targetWidth) = (
            side, side, side / 2, side / 2
          )
        })
    }
    for depth in [121, 169, 201] {
      rows.append(try row("depth", depth) { model, _ in model.model = "resizer+densenet\(depth)" })
    }
    if let output { try AtomicFile.write(drawing(of: rows), to: output) }
    if json { return print(try jsonText(rows)) }
    print("what    value      s a step    GFLOP   GFLOP/s")
    for row in rows {
      print(
        row.what.padding(toLength: 6, withPad: " ", startingAt: 0)
          + String(format: "%7d %13.3f %8.1f %9.1f", row.value, row.seconds, row.gflop, row.gflopPerSecond))
    }
  }

  /// The main job with 16 images a step, as `change` changes it.
  private func row(
    _ what: String, _ value: Int, _ change: (_ model: inout ModelDescription, _ batchSize: inout Int) -> Void
  ) throws -> Row {
    FileHandle.standardError.write(Data("\(what) \(value)\n".utf8))
    var model = ModelDescription()
    var batchSize = 16
    change(&model, &batchSize)
    let workload = try BenchWorkload(model, batchSize: batchSize, on: device.open(for: model.precision))
    let times = try (0..<steps + 3).map { _ in try workload.train() }
    workload.device.countsCosts = true
    let before = workload.device.counters.flops
    _ = try workload.train()
    let flops = workload.device.counters.flops - before
    let middle = median(Array(times[3...]))
    return Row(
      what: what, value: value, seconds: middle, gflop: flops * 1e-9, gflopPerSecond: flops / middle * 1e-9)
  }

  private func drawing(of rows: [Row]) -> String {
    let axes: [(what: String, label: String)] = [
      ("batch", "batch size, images of 300×300"), ("image", "side of the image in pixels, batch 16"),
      ("depth", "layers of the DenseNet, batch 16"),
    ]
    func chart(_ title: String, _ style: String, _ axis: (what: String, label: String), _ value: (Row) -> Double)
      -> LineChart
    {
      let points = rows.filter { $0.what == axis.what }
      return LineChart(
        title: title, series: [.init(name: title, style: style, points: points.map { (Double($0.value), value($0)) })],
        width: Double(points.map(\.value).max() ?? 1), xLabel: axis.label, startsAtZero: true
      ) { String(format: "%g", $0) }
    }
    return LineChart.grid([
      axes.map { chart("seconds a step", "training", $0, \.seconds) },
      axes.map { chart("GFLOP/s", "fresh", $0, \.gflopPerSecond) },
    ])
  }
}
