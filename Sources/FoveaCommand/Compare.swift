import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import Synchronization

struct Compare: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train several arms over several seeds and compare them: table, plot and paired test.",
    discussion: """
      Each run is one of `train`, in a folder of its own below --output. Arms of a seed share images, order, scaling and \
      the backbone's initial weights. Run the same command again to go on where it stopped, with more seeds or more arms \
      too. What follows -- is given to `train`:

        fovea compare --arms resizer,bilinear,bicubic -- --epochs 3 --limit 256
      """)

  @Option(
    help: ArgumentHelp(
      "Arms, the first compared with each other: resizer, muller, or a plain resize: nearest, bilinear, bicubic, "
        + "lanczos3, lanczos5.",
      valueName: "names"))
  var arms = "resizer,bilinear"

  @Option(help: ArgumentHelp("Seeds 0, 1, … of each arm.", valueName: "n"))
  var seeds = 5

  @Option(
    help: "The classifier behind the resize: densenet121, densenet169 or densenet201.",
    completion: .list(DenseNet.Variant.allCases.map(\.rawValue)))
  var backbone = "densenet121"

  @Option(
    help: ArgumentHelp("Folder for the runs, compare.md, compare.svg and compare.json.", valueName: "dir"),
    completion: .directory)
  var output = "runs/compare"

  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp("Options of `train`, the same for all runs, after --.", valueName: "train-options"))
  var trainOptions: [String] = []

  /// What compare decides itself.
  private static let reserved = [
    "--seed", "--model", "--resizer", "--interpolation", "--output", "--resume", "--overwrite", "--profile", "--plan",
    "--help",
  ]

  private var names: [String] { arms.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } }

  func validate() throws {
    guard (1...1000).contains(seeds) else { throw ValidationError("--seeds must be 1 to 1000, not \(seeds)") }
    guard !names.isEmpty, Set(names).count == names.count else {
      throw ValidationError("--arms must name each arm once, such as resizer,bilinear, not '\(arms)'")
    }
    for name in names {
      do {
        _ = try model(of: name).build()
      } catch let error as ModelError { throw ValidationError("\(error)") }
    }
    for option in trainOptions {
      if let reserved = Self.reserved.first(where: { option == $0 || option.hasPrefix($0 + "=") }) {
        throw ValidationError("\(reserved) cannot be given to train here: compare chooses it for each run")
      }
      if option == "--memory-limit" || option.hasPrefix("--memory-limit=") {
        throw ValidationError(
          "--memory-limit would give the arms different micro-batches: choose them with --batch-size and --accumulate")
      }
    }
  }

  func run() throws {
    let folder = try openOutputFolder(output)
    try folder.claim()
    try checkSetup(of: folder)
    let train = try TrainProcess()
    for seed in 0..<UInt64(seeds) {
      for arm in names {
        let path = folder.path(of: "\(arm)-\(seed)")
        let newest = CheckpointFolder(run: path).newest().checkpoint
        if newest?.progress.isFinished ?? false { continue }
        say("\n== \(arm), seed \(seed)\(newest == nil ? "" : ", goes on")")
        let fresh = try options(of: arm) + ["--seed", "\(seed)", "--output", path, "--overwrite"]
        let status = try train.run(newest == nil ? fresh : ["--resume", path])
        let stopped = train.exitStatus ?? ([SIGINT, SIGTERM].map { 128 + $0 }.contains(status) ? status : nil)
        guard status == 0 || stopped != nil else {
          say("compare: train failed in \(path) with status \(status)")
          throw ExitCode(status)
        }
        try write(to: folder)
        if let stopped {
          say("compare: stopped; the same command goes on from there")
          throw ExitCode(stopped)
        }
      }
    }
    try write(to: folder)
    say("\n" + (try String(contentsOfFile: folder.path(of: "compare.md"), encoding: .utf8)))
    say("Wrote \(folder.path): compare.md, compare.svg, compare.json")
  }

  // MARK: Arms

  /// Arms that learn to resize; any other is a plain resize.
  private static let learned = ["resizer", "muller"]

  private func model(of arm: String) throws -> ModelDescription {
    var model = ModelDescription()
    if Self.learned.contains(arm) {
      model.model = "\(arm)+\(backbone)"
    } else {
      guard Interpolation(rawValue: arm) != nil else {
        let known = Self.learned + Interpolation.allCases.map(\.rawValue)
        throw ValidationError("unknown arm '\(arm)'; known are \(known.joined(separator: ", "))")
      }
      model.model = backbone
      model.interpolation = arm
    }
    return model
  }

  private func options(of arm: String) throws -> [String] {
    let model = try model(of: arm)
    return trainOptions + ["--model", model.model, "--interpolation", model.interpolation]
  }

  // MARK: Files

  /// What all runs of a comparison have in common.
  private struct Setup: Codable, Equatable {
    var backbone: String
    var trainOptions: [String]
  }

  /// Runs of different options must not be mixed.
  private func checkSetup(of folder: RunDirectory) throws {
    let setup = Setup(backbone: backbone, trainOptions: trainOptions)
    let path = folder.path(of: "setup.json")
    if let data = FileManager.default.contents(atPath: path) {
      let old = try JSONDecoder().decode(Setup.self, from: data)
      // Options that `train` has refused have left no run.
      let hasRuns = (try? FileManager.default.contentsOfDirectory(atPath: folder.path))?.contains {
        CheckpointFolder(run: folder.path(of: $0)).newest().checkpoint != nil
      }
      guard old == setup || hasRuns == false else {
        throw ValidationError(
          "\(folder.path) was started with --backbone \(old.backbone) -- \(old.trainOptions.joined(separator: " ")): "
            + "give the same again, or another --output")
      }
    }
    try folder.write(String(decoding: JSONEncoder().encode(setup), as: UTF8.self) + "\n", to: "setup.json")
  }

  private struct RunResult: Encodable {
    var arm: String
    var seed: UInt64
    var accuracy: Double
    var accuracyMovingStatistics: Double
    var imagesPerSecond: Double
  }

  private struct RunConfigurationFile: Decodable {
    var device: String
    var model: ModelDescription
  }

  /// Writes what the finished runs show.
  private func write(to folder: RunDirectory) throws {
    var results: [RunResult] = []
    var reports: [ComparisonReport.Arm] = []
    var subtitle = ""
    for arm in names {
      var entry = ComparisonReport.Arm(name: arm, parameters: 0, accuracies: [:], imagesPerSecond: [:])
      for seed in 0..<UInt64(seeds) {
        let path = folder.path(of: "\(arm)-\(seed)")
        guard let progress = CheckpointFolder(run: path).newest().checkpoint?.progress, progress.isFinished,
          let last = progress.history.epochs.last
        else { continue }
        entry.accuracies[seed] = last.valAccuracyReestimated ?? last.valAccuracy
        entry.imagesPerSecond[seed] = last.imagesPerSecond
        results.append(
          RunResult(
            arm: arm, seed: seed, accuracy: last.valAccuracyReestimated ?? last.valAccuracy,
            accuracyMovingStatistics: last.valAccuracy, imagesPerSecond: last.imagesPerSecond))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let text = try Data(contentsOf: URL(fileURLWithPath: path + "/config.json"))
        let configuration = try decoder.decode(RunConfigurationFile.self, from: text)
        entry.parameters = try configuration.model.build().parameterCount
        subtitle = "`train \(trainOptions.joined(separator: " "))` on \(configuration.device)"
      }
      if !entry.accuracies.isEmpty { reports.append(entry) }
    }
    guard !reports.isEmpty else { return }
    let report = ComparisonReport(arms: reports, subtitle: subtitle)
    try folder.write(report.markdown, to: "compare.md")
    try folder.write(report.svg, to: "compare.svg")
    try folder.write(jsonText(results) + "\n", to: "compare.json")
  }
}

/// The `train` beside this program, and what stops it: while there is one of these, SIGINT and SIGTERM go on to the `train`
/// that runs, so that it can save a checkpoint; when this process is killed, it does so too.
private final class TrainProcess: Sendable {
  private let path: String
  private let state = Mutex<(child: Int32?, signal: Int32?)>((nil, nil))

  init() throws {
    let own = Bundle.main.executableURL ?? URL(fileURLWithPath: CommandLine.arguments[0])
    path = own.resolvingSymlinksInPath().deletingLastPathComponent().appendingPathComponent("train").path
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw ValidationError("\(path) is missing: build it with swift build --product train")
    }
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { [self] in
        state.withLock {
          if $0.signal == nil { $0.signal = number }
          if let child = $0.child { kill(child, number) }
        }
      }
      source.resume()
      // Works for as long as something holds it: to the end of the process.
      _ = Unmanaged.passRetained(source as AnyObject)
    }
  }

  /// 128 and the number of the signal that came; nil while there was none. It may have come too late to stop a `train`.
  var exitStatus: Int32? { state.withLock { $0.signal.map { 128 + $0 } } }

  /// Runs it to its end and returns its status, 128 and the signal's number where one ended it. Nothing is started after a
  /// signal.
  func run(_ arguments: [String]) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging([stopsWithParent: "1"]) { $1 }
    // Nothing is written to it: what counts is that it ends with this process.
    process.standardInput = Pipe()
    let stopped: Int32? = try state.withLock {
      if let signal = $0.signal { return 128 + signal }
      try process.run()
      $0.child = process.processIdentifier
      return nil
    }
    if let stopped { return stopped }
    process.waitUntilExit()
    // The number may be another process's from now on.
    state.withLock { $0.child = nil }
    return process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
  }
}
