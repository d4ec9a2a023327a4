import Foundation
import NeuralNetwork

/// The checkpoints of a run: `checkpoints/epoch-0002-step-000010/` in its folder is the state after 10 steps of the second
/// epoch. Each is one folder that appears whole or not at all:
///
/// - `model.safetensors`: the weights and the moving statistics;
/// - `optimizer.safetensors`: the optimizer's step and moments;
/// - `average.safetensors`: the averages of the weights, where the trainer keeps them;
/// - `progress.json`: a ``TrainingProgress``;
/// - files of those who write it.
public struct CheckpointFolder: Sendable {
  /// The folder that holds the checkpoints.
  public let path: String

  /// The checkpoints of the run in the folder `run`, which need not exist.
  public init(run: String) {
    path = run + "/checkpoints"
  }

  /// Writes a checkpoint of `trainer` at `progress`, and removes all but the newest `keep` once it is in place. The
  /// device must rest.
  ///
  /// - Parameter files: texts of further files, by name.
  /// - Returns: its path.
  @discardableResult public func write(
    _ trainer: Trainer, _ progress: TrainingProgress, files: [String: String] = [:], keep: Int = .max
  ) throws -> String {
    precondition(keep > 0, "CheckpointFolder: nothing would be kept")
    try RunDirectory.create(path)
    let target = path(of: progress)
    var texts = files
    texts["progress.json"] = try json(progress)
    func writeTexts(to folder: String) throws {
      for (name, text) in texts.sorted(by: { $0.key < $1.key }) { try AtomicFile.write(text, to: folder + "/" + name) }
    }
    if (try? Checkpoint(target)) != nil {
      // The run was resumed here, or comes by again: the tensors are the same, the configuration need not be.
      try writeTexts(to: target)
    } else {
      if access(target, F_OK) == 0 { try AtomicFolder.remove(target) }
      try AtomicFolder.write(to: target) { folder in
        try trainer.arena.save(to: folder + "/model.safetensors")
        try trainer.optimizer.save(to: folder + "/optimizer.safetensors")
        try trainer.average?.save(to: folder + "/average.safetensors")
        try writeTexts(to: folder)
      }
    }
    // What is later than this one is damaged: the run would have gone on from there otherwise.
    let paths = names().map { path + "/" + $0 }
    let (later, earlier) = (paths.drop { $0 != target }.dropFirst(), paths.prefix { $0 != target })
    for path in later + earlier.dropLast(keep - 1) { try AtomicFolder.remove(path) }
    return target
  }

  /// The newest whole checkpoint, nil when there is none; and, as one line each, what is wrong with newer ones.
  public func newest() -> (checkpoint: Checkpoint?, damaged: [String]) {
    var damaged: [String] = []
    for name in names().reversed() {
      do {
        return (try Checkpoint(path + "/" + name), damaged)
      } catch {
        damaged.append("\(error)")
      }
    }
    return (nil, damaged)
  }

  /// Removes all checkpoints.
  public func removeAll() throws {
    guard access(path, F_OK) == 0 else { return }
    try AtomicFolder.remove(path)
  }

  /// The names of the checkpoints, oldest first. Folders under temporary names are none.
  func names() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.compactMap { name in Self.position(name).map { (name, $0) } }
      .sorted { ($0.1.epoch, $0.1.step) < ($1.1.epoch, $1.1.step) }
      .map(\.0)
  }

  /// The path of the checkpoint at `progress`, whether there is one or not.
  public func path(of progress: TrainingProgress) -> String {
    path + "/" + String(format: "epoch-%04d-step-%06d", progress.epoch + 1, progress.step)
  }

  private static func position(_ name: String) -> (epoch: Int, step: Int)? {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 4, parts[0] == "epoch", parts[2] == "step", let epoch = Int(parts[1]), let step = Int(parts[3])
    else { return nil }
    return (epoch, step)
  }

  private func json(_ progress: TrainingProgress) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return String(decoding: try encoder.encode(progress), as: UTF8.self) + "\n"
  }
}

/// A whole checkpoint.
public struct Checkpoint: Sendable {
  /// Its folder.
  public let path: String
  /// How far the run had come.
  public let progress: TrainingProgress

  /// Opens the checkpoint in the folder `path` and checks that its files are whole.
  init(_ path: String) throws {
    self.path = path
    let file = path + "/progress.json"
    do {
      progress = try JSONDecoder().decode(TrainingProgress.self, from: Data(Self.text(file).utf8))
    } catch is DecodingError {
      throw FileError("read", file, reason: "it does not hold a run's progress")
    }
    var names = ["model.safetensors", "optimizer.safetensors"]
    if access(path + "/average.safetensors", F_OK) == 0 { names.append("average.safetensors") }
    for name in names {
      _ = try SafetensorsFile(contentsOf: path + "/" + name)
    }
  }

  /// The text of one of its files.
  public func text(of name: String) throws -> String { try Self.text(path + "/" + name) }

  private static func text(_ file: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: file) else { throw FileError("read", file) }
    return String(decoding: data, as: UTF8.self)
  }

  /// Puts weights, moving statistics and the optimizer's state where they were.
  public func restore(_ trainer: Trainer) throws {
    try trainer.optimizer.load(from: path + "/optimizer.safetensors")
    try trainer.arena.load(from: path + "/model.safetensors")
    try trainer.average?.load(from: path + "/average.safetensors")
  }
}

/// Writes checkpoints during a run: every so many steps, after each epoch, and when the run is asked to stop.
public final class Checkpointer: Callback {
  private let folder: CheckpointFolder
  private let interval: Int?
  private let keep: Int
  private let files: () throws -> [String: String]

  /// - Parameters:
  ///   - every: steps between checkpoints within an epoch; nil for none.
  ///   - keep: how many stay; older ones are removed once a new one is in place.
  ///   - files: texts that belong to each checkpoint, by file name.
  public init(
    _ folder: CheckpointFolder, every interval: Int? = nil, keep: Int = 2,
    files: @escaping () throws -> [String: String] = { [:] }
  ) {
    precondition(interval ?? 1 > 0, "Checkpointer: a checkpoint every \(interval ?? 1) steps")
    self.folder = folder
    self.interval = interval
    self.keep = keep
    self.files = files
  }

  /// Every so many steps.
  public func wantsRest(after step: Int) -> Bool { interval.map { step % $0 == 0 } ?? false }

  /// Writes a checkpoint within an epoch.
  public func deviceDidRest(in loop: TrainingLoop) throws { try write(loop) }

  /// Writes a checkpoint between epochs.
  public func epochDidEnd(in loop: TrainingLoop) throws { try write(loop) }

  /// Writes the last checkpoint for now.
  public func runWillStop(in loop: TrainingLoop) throws { try write(loop) }

  private func write(_ loop: TrainingLoop) throws {
    try folder.write(loop.trainer, loop.progress, files: files(), keep: keep)
  }
}
