import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification

struct Tune: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find the fastest convolution kernels for a training step on this device.",
    discussion: """
      Convolutions that share a program get one configuration. Each candidate is first compared with double precision on \
      the host and, at full size, with the default kernel; then it is timed in turns with the latter. What is clearly \
      faster is used from then on by all commands, on this device with this driver and version. All timings are kept in a \
      file that `fovea devices` names. Ctrl-C loses nothing but the convolution at hand: run again, it goes on from there.
      """)

  @OptionGroup var device: DeviceOptions
  @OptionGroup(title: "Model whose step is tuned") var model: ModelOptions

  @Option(help: "Images a step.")
  var batchSize = 64

  @Option(help: "Candidates for each kind of convolution, drawn by --seed where there are more.")
  var budget = 24

  @Option(help: "Kinds of convolution to tune, those with most work first. Default: all.")
  var limit: Int?

  @Option(help: "Seed of the draw.")
  var seed: UInt64 = 0

  @Flag(help: "Measure again what has been measured.")
  var again = false

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard (1...4096).contains(batchSize) else { throw ValidationError("--batch-size must be 1 to 4096") }
    guard (1...100_000).contains(budget) else { throw ValidationError("--budget must be 1 to 100000") }
    guard limit ?? 1 >= 1 else { throw ValidationError("--limit must be at least 1") }
    if device.noTuning { throw ValidationError("--no-tuning leaves nothing to tune") }
  }

  func run() throws {
    var description = try device.describe(for: model.precision)
    // The choices so far must not take the place of the standard, which candidates are compared with.
    description.convolutionTable = nil
    // Most of what is tried is never used again.
    description.programCache = nil
    let path = UserCache.folder() + "/" + TuningDatabase.name(for: description)
    var database = TuningDatabase(for: description)
    if case .usable(let earlier) = TuningDatabase.read(for: description) { database = earlier }

    let plan = try StepPlan(
      trainingStepOf: model.description(classes: 2, batchNormMomentum: 0.99), batchSize: batchSize, on: description)
    let tasks = try TuningTask.tasks(of: plan, on: description).prefix(limit ?? .max)
    let open = tasks.filter { task in again || !database.records.contains { $0.answers(task) } }
    note(
      "\(description.summary)\n\(open.count) of \(tasks.count) kinds of convolution to tune, at most \(budget) candidates "
        + "each; written to \(path)")
    let stop = StopRequest.onSignals { note("\nStopping before the next candidate; again to stop at once.") }
    var tuner = try ConvolutionTuner(budget: budget, seed: seed) { try Device(description, profiling: true) }
    for (index, task) in open.enumerated() {
      let line = standardErrorProgress(
        "\(index + 1)/\(open.count) \(task.name)", total: min(budget, task.candidates.count))
      let record = try tuner.tune(task) { done, _ in
        if done > 0 { line.update(step: done, fields: []) }
        return !stop.isMade
      }
      line.finish(fields: [])
      guard let record else { break }
      database.add(record)
      try database.write(for: description)
    }
    let records = tasks.compactMap { task in database.records.first { $0.answers(task) } }
    if json {
      say(try jsonText(records))
    } else {
      printTable(records)
    }
    if let status = stop.exitStatus {
      note("Stopped; the same command goes on")
      throw ExitCode(status)
    }
  }

  private func printTable(_ records: [TuningRecord]) {
    say("default ms     best ms  ratio  convolution")
    var saved = 0.0
    for record in records {
      let chosen = record.trials.last { $0.configuration == record.chosen }
      for timing in chosen?.timings ?? record.standardTimings {
        let standard = median(timing.standardMilliseconds)
        let ratio = chosen == nil ? 1 : timing.ratio
        say(
          String(format: "%10.3f  %10.3f  %5.2f  ", standard, standard * ratio, ratio)
            + "\(record.pass.rawValue) \(record.members[timing.member].convolution.label)"
            + (record.dtype == .float32 ? "" : ", \(record.dtype)"))
      }
      let launches = record.members.reduce(0) { $0 + $1.launches }
      let wrong = record.trials.filter { $0.ratio == nil && $0.timings.isEmpty }.count
      say(
        "\(String(repeating: " ", count: 31))\(record.name): \(launches) launches a step, \(record.trials.count) trials"
          + (wrong > 0 ? ", \(wrong) rejected before timing" : "")
          + "; \(chosen == nil ? "the default" : "\(record.chosen)")")
      saved += record.millisecondsSaved
    }
    say(String(format: "%.1f ms a step less, by these timings", saved))
  }
}

extension TuningRecord {
  /// Timings of the standard, beside whichever candidate was timed on all members.
  fileprivate var standardTimings: [Timing] { trials.first { $0.ratio != nil }?.timings ?? [] }

  /// By the members that were timed, for all that they stand for.
  fileprivate var millisecondsSaved: Double {
    guard let trial = trials.last(where: { $0.configuration == chosen }), !trial.timings.isEmpty else { return 0 }
    let launches = Double(members.reduce(0) { $0 + $1.launches })
    return trial.timings.reduce(0) { $0 + median($1.standardMilliseconds) * (1 - $1.ratio) }
      * launches / Double(trial.timings.count)
  }
}
