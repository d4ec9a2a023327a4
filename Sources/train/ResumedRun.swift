import ArgumentParser
import CommandSupport
import Foundation
import Fovea

/// A run that goes on from a checkpoint, with the command line that it was started with.
struct ResumedRun {
  private let run: TrainingRun
  private let checkpoint: Checkpoint

  /// - Parameter given: this command's line; what it says goes before what the run was started with.
  init(folder: String, given: [String]) throws {
    let (newest, damaged) = CheckpointFolder(run: folder).newest()
    guard let newest else {
      throw ValidationError(
        damaged.first.map { "\(folder) has no whole checkpoint: \($0)" }
          ?? "\(folder) has no checkpoint to go on from")
    }
    for problem in damaged { say("Passed over a damaged checkpoint: \(problem)") }
    checkpoint = newest

    let text = try newest.text(of: "config.json")
    guard let stored = try? JSONDecoder().decode(StoredChoices.self, from: Data(text.utf8)) else {
      throw ValidationError("\(newest.path)/config.json does not say how the run was started")
    }
    // The trace of the first steps is of those that have been done.
    let arguments = Self.without(["--profile"], stored.arguments) + Self.without(["--resume"], given)
    guard var options = try TrainCommand.parseAsRoot(arguments) as? TrainCommand else {
      throw ValidationError("\(newest.path)/config.json holds another command")
    }
    if Self.isGiven("--output", in: given), !Self.isSame(options.output, folder) {
      throw ValidationError("a resumed run stays in its folder, \(folder): leave out --output")
    }
    options.output = folder
    let kernels = try newest.kernels()
    if given.contains("--no-tuning"), let kernels, kernels.isTuned {
      throw ValidationError(
        "\(folder) was started with tuned kernels, not --no-tuning: a resumed run keeps them (a new --output starts "
          + "another run)")
    }
    run = try TrainingRun(
      options, arguments: arguments, resuming: .init(microBatch: stored.microBatch, kernels: kernels))
    try Self.compare(Self.object(text), with: Self.object(jsonText(run.configuration)), folder: folder)
  }

  /// All choices of the run.
  var configuration: RunConfiguration { run.configuration }

  /// Which kernels it uses.
  var kernels: KernelChoice { run.kernels }

  /// Where a trace goes; nil where none is made.
  var trace: String? { run.options.profile }

  func execute() throws {
    try run.execute(from: checkpoint)
  }

  func printPlan() throws {
    try run.printPlan()
  }

  private struct StoredChoices: Decodable {
    var arguments: [String]
    var microBatch: Int?

    private enum CodingKeys: String, CodingKey {
      case arguments
      case microBatch = "micro_batch"
    }
  }

  /// What may differ between a run and its continuation: nothing that decides about the result, but for the device and
  /// when it ends.
  private static let free: Set = ["arguments", "data", "device", "early_stopping", "epochs", "workers"]
  private static let fingerprints = "data_fingerprints"

  private static func compare(_ old: [String: Any], with new: [String: Any], folder: String) throws {
    // The fingerprints last: what has changed them may have a name.
    let keys = Set(old.keys).union(new.keys).subtracting(free).subtracting([fingerprints]).sorted() + [fingerprints]
    for key in keys {
      guard let difference = difference(key, old[key], new[key]) else { continue }
      throw ValidationError(
        "\(folder) was started with \(difference): a resumed run keeps it (a new --output starts another run)")
    }
    if let schedule = old["schedule"] as? String, ScheduleName(rawValue: schedule)?.dependsOnLength ?? false,
      let difference = difference("epochs", old["epochs"], new["epochs"])
    {
      throw ValidationError(
        "\(folder) was started with \(difference): the learning rate of its schedule, \(schedule), depends on it")
    }
  }

  /// `key 1, not 2`; nil when both are the same. Of two objects, the first of their differing members.
  private static func difference(_ key: String, _ old: Any?, _ new: Any?) -> String? {
    if let old = old as? [String: Any], let new = new as? [String: Any] {
      return Set(old.keys).union(new.keys).sorted().lazy
        .compactMap { difference($0, old[$0], new[$0]) }.first
    }
    if let old = old as? NSObject, let new = new as? NSObject, old.isEqual(new) { return nil }
    if old == nil, new == nil { return nil }
    if key == fingerprints { return "other images in its data set" }
    func text(_ value: Any?) -> String { value.map { "\($0)" } ?? "none" }
    return "\(key) \(text(old)), not \(text(new))"
  }

  private static func object(_ text: String) throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
  }

  /// Leaves out options with their values.
  private static func without(_ options: Set<String>, _ arguments: [String]) -> [String] {
    var result: [String] = []
    var isValue = false
    for argument in arguments {
      if isValue {
        isValue = false
      } else if options.contains(argument) {
        isValue = true
      } else if !options.contains(where: { argument.hasPrefix($0 + "=") }) {
        result.append(argument)
      }
    }
    return result
  }

  private static func isGiven(_ option: String, in arguments: [String]) -> Bool {
    arguments.contains { $0 == option || $0.hasPrefix(option + "=") }
  }

  private static func isSame(_ first: String, _ second: String) -> Bool {
    URL(fileURLWithPath: first).standardizedFileURL.path == URL(fileURLWithPath: second).standardizedFileURL.path
  }
}

extension Checkpoint {
  /// The kernels that the run uses; nil where the checkpoint does not say, as those of early versions.
  fileprivate func kernels() throws -> KernelChoice? {
    let file = "kernels.json"
    guard FileManager.default.fileExists(atPath: path + "/" + file) else { return nil }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      return try decoder.decode(KernelChoice.self, from: Data(text(of: file).utf8))
    } catch is DecodingError {
      throw FileError("read", path + "/" + file, reason: "it does not say which kernels the run uses")
    }
  }
}
