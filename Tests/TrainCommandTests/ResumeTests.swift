import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import Testing

@testable import train

/// Going on with a run: which options it takes, and what it says about the others.
@Suite(.serialized) struct ResumeTests {
  private struct OneWeight: Module {
    let weight = Parameter([2], .zeros)
  }

  private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path

  /// Puts a checkpoint of a run with that command line into the folder.
  private func start(_ arguments: [String], kernels: String? = nil) throws {
    let arguments = ["--device", "cpu", "--limit", "16"] + arguments
    let command = try #require(try TrainCommand.parseAsRoot(arguments) as? TrainCommand)
    let configuration = try TrainingRun(command, arguments: arguments).configuration
    let arena = ParameterArena(OneWeight(), on: try Device.open("cpu"))
    let trainer = Trainer(
      arena: arena, optimizer: Optimizer(.sgd(), schedule: .constant(1), arena: arena), classes: 2, labelSmoothing: 0
    ) { $0 }
    var files = ["config.json": try jsonText(configuration)]
    files["kernels.json"] = kernels
    try CheckpointFolder(run: folder).write(trainer, TrainingProgress(), files: files)
  }

  /// What resuming with `given` says, nil when it begins.
  private func problem(_ given: [String]) throws -> String? {
    do {
      _ = try ResumedRun(folder: folder, given: given + ["--resume", folder])
      return nil
    } catch let error as ValidationError {
      return "\(error)"
    }
  }

  private let remedy = ": a resumed run keeps it (a new --output starts another run)"

  @Test func optionsThatDecideAboutTheResultAreKept() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try start(["--lr", "0.01", "--optimizer", "sgd"])
    for (given, difference) in [
      (["--lr", "0.02"], "learning_rate 0.01, not 0.02"), (["--lr=0.02"], "learning_rate 0.01, not 0.02"),
      (["--model", "densenet121"], "model resizer+densenet121, not densenet121"),
      (["--filters", "8"], "filters 16, not 8"), (["--batch-size", "8"], "batch_size 16, not 8"),
      (["--accumulate", "2"], "accumulate 1, not 2"), (["--optimizer", "adam"], "optimizer sgd, not adam"),
      (["--schedule", "cosine"], "schedule constant, not cosine"), (["--warmup", "3"], "warmup 0, not 3"),
      (["--steps", "3"], "steps none, not 3"), (["--limit", "20"], "limit 16, not 20"),
      (["--clip-norm", "2"], "clip_norm none, not 2"), (["--ema", "0.5"], "ema none, not 0.5"),
      (["--label-smoothing", "0"], "label_smoothing 0.1, not 0"), (["--mixup", "0.5"], "mixup 0, not 0.5"),
      (["--flip"], "flip 0, not 1"), (["--crop", "0.5"], "crop none, not 0.5"),
    ] {
      #expect(try problem(given) == "\(folder) was started with \(difference)\(remedy)")
    }
    #expect(try problem(["--seed", "3"])?.contains("seed 0, not 3") == true)
    #expect(
      try problem(["--output", "elsewhere"]) == "a resumed run stays in its folder, \(folder): leave out --output")
  }

  @Test func otherOptionsMayChange() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try start(["--lr", "0.01", "--early-stopping", "4"])
    #expect(try problem([]) == nil)
    // Once more what was said at the start.
    #expect(try problem(["--lr", "0.01", "--output", folder + "/"]) == nil)
    #expect(
      try problem([
        "--epochs", "9", "--early-stopping", "2", "--workers", "3", "--keep", "5", "--checkpoint-every", "7",
        "--on-bad-image", "fail",
      ]) == nil)
  }

  @Test func aResumedRunKeepsItsMicroBatch() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let small = ["--input-size", "160", "--target-size", "80", "--batch-size", "8", "--epochs", "1"]
    let command = try #require(
      try TrainCommand.parseAsRoot(["--device", "cpu", "--limit", "16"] + small) as? TrainCommand)
    var configuration = try TrainingRun(command, arguments: []).configuration
    configuration.microBatch = 2
    let held = try configuration.memoryPlan(on: DeviceSelection.pick("cpu")).held
    let limit = "\(held / 1024 + 1)K"
    try start(small + ["--memory-limit", limit])
    #expect(try problem([]) == nil)
    // More memory does not change it, too little is refused.
    #expect(try problem(["--memory-limit", "100G"]) == nil)
    let resumed = try ResumedRun(folder: folder, given: ["--resume", folder, "--memory-limit", "100G"])
    #expect(resumed.configuration.microBatch == 2)
    #expect(
      try problem(["--memory-limit", "1M"])
        == "--memory-limit 1.0 MiB is too little: the run takes 2 images at once, which it keeps when it is resumed, and "
        + "needs \(formatBytes(held)) of device memory")
  }

  /// Whatever has been tuned since.
  @Test func itKeepsItsKernels() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var device = try DeviceSelection.pick("cpu")
    var table = ConvolutionTable(date: "yesterday")
    let shape = ConvolutionGeometry(input: [1, 9, 9, 16], filter: [3, 3, 16, 32], strides: (1, 1), padding: .same)
    table[.forward, shape, .float32] = .vector(pixels: 4, vectors: 1, tiles: 2)
    for choice in [table, nil] {
      device.convolutionTable = choice
      let kernels = KernelChoice(of: device)
      try start([], kernels: jsonText(kernels))
      #expect(try ResumedRun(folder: folder, given: ["--resume", folder]).kernels == kernels)
      let refused =
        "\(folder) was started with tuned kernels, not --no-tuning" + remedy.replacing("it (", with: "them (")
      #expect(try problem(["--no-tuning"]) == (choice == nil ? nil : refused))
    }
    try start([], kernels: "{}")
    let error = #expect(throws: FileError.self) { try ResumedRun(folder: folder, given: ["--resume", folder]) }
    #expect(error?.reason == "it does not say which kernels the run uses")
  }

  @Test func whatItStartedFromIsRecordedAndKept() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let weights = folder + "-start.safetensors"
    // Enough of a DenseNet to start from.
    try SafetensorsWriter.write([("bn/beta", [1024], [Float](repeating: 0, count: 1024))], to: weights)
    try start(["--weights", weights])
    // The file is not needed any more.
    try FileManager.default.removeItem(atPath: weights)
    #expect(try ResumedRun(folder: folder, given: ["--resume", folder]).configuration.weights == weights)
    #expect(try problem(["--weights", "other"]) == "\(folder) was started with weights \(weights), not other\(remedy)")
  }

  @Test func theTraceOfTheFirstStepsIsLeftAlone() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let trace = FileManager.default.temporaryDirectory.appendingPathComponent("trace.json").path
    try start(["--profile", trace, "--profile-steps", "2"])
    #expect(try ResumedRun(folder: folder, given: ["--resume", folder]).trace == nil)
    #expect(try ResumedRun(folder: folder, given: ["--resume", folder, "--profile", trace]).trace == trace)
  }

  @Test func schedulesThatDependOnTheLengthKeepIt() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try start(["--schedule", "cosine", "--epochs", "4"])
    #expect(try problem(["--epochs", "4"]) == nil)
    #expect(
      try problem(["--epochs", "5"])
        == "\(folder) was started with epochs 4, not 5: the learning rate of its schedule, cosine, depends on it")
  }

  @Test func foldersWithoutACheckpoint() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try problem([]) == "\(folder) has no checkpoint to go on from")
    #expect(!FileManager.default.fileExists(atPath: folder))
    try start([])
    let checkpoint = folder + "/checkpoints/epoch-0001-step-000000"
    try FileManager.default.removeItem(atPath: checkpoint + "/model.safetensors")
    let damage = "cannot read \(checkpoint)/model.safetensors: No such file or directory"
    #expect(try problem([]) == "\(folder) has no whole checkpoint: \(damage)")
  }

  @Test func aStoppedRunIsNotOverwritten() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try start([])
    let arguments = ["--device", "cpu", "--limit", "16", "--output", folder]
    let command = try #require(try TrainCommand.parseAsRoot(arguments) as? TrainCommand)
    let error = #expect(throws: ValidationError.self) { try TrainingRun(command, arguments: arguments).execute() }
    #expect(
      error.map { "\($0)" }
        == "\(folder) holds a run that was stopped in epoch 1 at step 0: go on with --resume \(folder), "
        + "start over with --overwrite, or choose another --output")
    #expect(CheckpointFolder(run: folder).newest().checkpoint != nil)
  }

  @Test func classWeights() throws {
    #expect(ClassWeights(argument: "balanced") == .balanced)
    #expect(ClassWeights(argument: "1,2.5") == .values([1, 2.5]))
    for text in ["", "1,", "1,x", "0,1", "-1,1", "inf,1"] { #expect(ClassWeights(argument: text) == nil) }
    let dataset = SyntheticDataset(count: 5, seed: 1, size: 8)
    // Three of the first class, two of the second.
    #expect(try ClassWeights.balanced.weights(for: dataset) == [5.0 / 6, 5.0 / 4])
    let error = #expect(throws: ValidationError.self) { try ClassWeights.values([1]).weights(for: dataset) }
    #expect(error.map { "\($0)" } == "--class-weights has 1 weights for 2 classes (horizontal, vertical)")
  }
}
