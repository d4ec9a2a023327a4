import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification

struct BenchStep: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "Time the training step of the main job: median, images/s, GFLOP/s, share of the peak, memory.")

  @OptionGroup var options: BenchOptions

  @Flag(help: "Time the forward pass in inference instead.")
  var inference = false

  private struct Report: Encodable {
    var device: String
    var model: String
    var pass: String
    var precision: String
    var batchSize: Int
    var secondsToFirstStep: Double
    var medianSeconds: Double
    var enqueueSeconds: Double
    var imagesPerSecond: Double
    var gflopPerStep: Double
    var gflopPerSecond: Double
    var peakGflopPerSecond: Double
    var shareOfPeak: Double
    var gigabytesMoved: Double
    /// Of a captured step: what was planned, and the least that any plan needs.
    var plannedBytes: Int?
    var leastPlannedBytes: Int?
    var deviceMemoryPeakBytes: Int
    var processMemoryPeakBytes: Int
    var launchesPerStep: Int
    var programs: Int
  }

  func run() throws {
    let start = DispatchTime.now().uptimeNanoseconds
    let workload = try BenchWorkload(options, trains: !inference)
    let device = workload.device
    func step() throws -> Double { try inference ? workload.infer() : workload.train() }
    _ = try step()
    let first = Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
    let before = device.counters
    device.countsCosts = true
    _ = try step()
    device.countsCosts = false
    let after = device.counters
    // Two steps after the first are recorded; see `CapturedStep`.
    _ = try step()
    let enqueued = workload.enqueueSeconds
    let programs = device.counters.programsBuilt
    // The peak after each step, for others may use the device too, now more and now less.
    var times: [Double] = []
    var peaks: [Double] = []
    for _ in 0..<options.steps {
      times.append(try step())
      peaks.append(try DevicePeak.measureFlopsPerSecond(on: device))
    }
    let memory = (device.pool.statistics.peak, peakResidentBytes())
    let peak = median(peaks)
    let enqueueSeconds = (workload.enqueueSeconds - enqueued) / Double(times.count)
    let middle = median(times)
    let flops = after.flops - before.flops
    let report = Report(
      device: device.description.header, model: workload.model.model, pass: inference ? "inference" : "training",
      precision: (workload.model.precision ?? .float32).rawValue,
      batchSize: options.batchSize, secondsToFirstStep: first, medianSeconds: middle,
      enqueueSeconds: enqueueSeconds, imagesPerSecond: Double(options.batchSize) / middle, gflopPerStep: flops * 1e-9,
      gflopPerSecond: flops / middle * 1e-9, peakGflopPerSecond: peak * 1e-9,
      shareOfPeak: flops / middle / peak, gigabytesMoved: (after.bytes - before.bytes) * 1e-9,
      plannedBytes: workload.plannedMemory?.byteCount, leastPlannedBytes: workload.plannedMemory?.least,
      deviceMemoryPeakBytes: memory.0, processMemoryPeakBytes: memory.1,
      launchesPerStep: after.launches - before.launches, programs: programs)
    if options.json { return print(try jsonText(report)) }
    print("\(report.model), \(report.pass), \(report.precision), batch \(report.batchSize), on \(report.device)")
    print(String(format: "first step     %.1f s from the start of the process", first))
    print(
      String(format: "step           %.3f s, median of %d, %.1f images/s", middle, times.count, report.imagesPerSecond))
    print(String(format: "host           %.1f ms a step to enqueue it", enqueueSeconds * 1e3))
    print(
      String(
        format:
          "arithmetic     %.0f GFLOP a step, %.0f GFLOP/s, %.0f %% of float32's peak, %.0f as measured between steps",
        report.gflopPerStep, report.gflopPerSecond, report.shareOfPeak * 100, report.peakGflopPerSecond))
    print(String(format: "traffic        %.1f GB a step at the least", report.gigabytesMoved))
    print("memory         \(formatBytes(memory.0)) of buffers, \(formatBytes(memory.1)) of the process, at most")
    if let (planned, least) = workload.plannedMemory {
      print(
        String(
          format: "plan           \(formatBytes(planned)) for the captured step, %.3f times the least",
          Double(planned) / Double(least)))
    }
    print("launches       \(report.launchesPerStep) a step, \(report.programs) programs")
  }
}
