import Foundation
import NeuralNetwork
import Testing

@testable import Training

/// Where a run is interrupted.
struct Interruption: Sendable, CustomTestStringConvertible {
  var phase: TrainingPhase
  var epoch: Int
  var step: Int

  var testDescription: String { "\(phase) of epoch \(epoch), step \(step)" }
}

@Suite(.serialized) struct ResumeTests {
  /// The first, a middle and the last two steps of an epoch of six, the first of the next one, and both validations,
  /// whose last batch is the third.
  static let interruptions =
    [1, 3, 5, 6].map { Interruption(phase: .training, epoch: 0, step: $0) }
    + [1, 4].map { Interruption(phase: .training, epoch: 1, step: $0) } + [
      Interruption(phase: .validation, epoch: 0, step: 1), Interruption(phase: .validation, epoch: 1, step: 3),
      Interruption(phase: .reestimatedValidation, epoch: 1, step: 2),
      Interruption(phase: .reestimatedValidation, epoch: 2, step: 1),
    ]

  static let uninterrupted = Result {
    let run = try TinyRun()
    #expect(try run.loop.run() == .finished)
    return try run.outcome()
  }

  @Test(arguments: interruptions) func stoppedRunsEndAlike(_ interruption: Interruption) throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    var stop: StopRequest?
    let run = try TinyRun(callbacks: [
      AtStep(interruption.phase, epoch: interruption.epoch, step: interruption.step) { stop?.make() },
      Checkpointer(checkpoints),
    ])
    stop = run.stop
    #expect(try run.loop.run() == .stopped)
    #expect(run.loop.progress.isFinished == false)
    let checkpoint = try #require(checkpoints.newest().checkpoint)
    #expect(checkpoint.progress.history.epochs.count == interruption.epoch)
    let resumed = try TinyRun(seed: 4, from: checkpoint)
    #expect(try resumed.loop.run() == .finished)
    #expect(try resumed.outcome() == Self.uninterrupted.get())
  }

  private struct Killed: Error {}

  @Test(arguments: interruptions) func killedRunsEndAlike(_ interruption: Interruption) throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let run = try TinyRun(callbacks: [
      Checkpointer(checkpoints, every: 2),
      AtStep(interruption.phase, epoch: interruption.epoch, step: interruption.step) { throw Killed() },
    ])
    #expect(throws: Killed.self) { try run.loop.run() }
    // Before the first checkpoint there is only the beginning to go on from.
    let checkpoint = checkpoints.newest().checkpoint
    let resumed = try TinyRun(seed: checkpoint == nil ? 3 : 4, from: checkpoint)
    #expect(try resumed.loop.run() == .finished)
    #expect(try resumed.outcome() == Self.uninterrupted.get())
  }

  @Test(arguments: [.sgd(), .sgd(momentum: 0.9, nesterov: true)] as [OptimizerRule])
  func otherRulesResume(_ rule: OptimizerRule) throws {
    let whole = try TinyRun(rule: rule)
    try whole.loop.run()
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    var stop: StopRequest?
    let run = try TinyRun(
      rule: rule,
      callbacks: [AtStep(.training, epoch: 1, step: 2) { stop?.make() }, Checkpointer(checkpoints)])
    stop = run.stop
    try run.loop.run()
    let checkpoint = try #require(checkpoints.newest().checkpoint)
    let resumed = try TinyRun(seed: 4, rule: rule, from: checkpoint)
    try resumed.loop.run()
    #expect(try resumed.outcome() == whole.outcome())
  }

  /// With a loss scale that comes down and goes up again in a few steps.
  @Test(arguments: [Precision.float16, .bfloat16]) func sixteenBitRunsResume(_ precision: Precision) throws {
    var scale = LossScale.Rule()
    scale.initial = 0x1p30
    scale.interval = 4
    let whole = try TinyRun(precision: precision, lossScale: scale)
    try whole.loop.run()
    if precision.needsLossScale {
      let state = try #require(whole.trainer.lossScale)
      #expect(state.skipped > 0 && state.updates > 0 && state.skipped + state.updates == 18)
    }
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    var stop: StopRequest?
    let run = try TinyRun(
      callbacks: [AtStep(.training, epoch: 1, step: 2) { stop?.make() }, Checkpointer(checkpoints)],
      precision: precision, lossScale: scale)
    stop = run.stop
    try run.loop.run()
    let checkpoint = try #require(checkpoints.newest().checkpoint)
    let resumed = try TinyRun(seed: 4, from: checkpoint, precision: precision, lossScale: scale)
    try resumed.loop.run()
    #expect(try resumed.outcome() == whole.outcome())
  }

  @Test func aFinishedRunGoesOnForMoreEpochs() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    try TinyRun(epochs: 2, callbacks: [Checkpointer(checkpoints)]).loop.run()
    let finished = try #require(checkpoints.newest().checkpoint)
    #expect(finished.progress.isFinished)
    let again = try TinyRun(seed: 4, from: finished, epochs: 2)
    #expect(try again.loop.run() == .finished)
    #expect(again.loop.progress.totalSteps == 12)
    let longer = try TinyRun(seed: 4, from: finished)
    #expect(!longer.loop.progress.isFinished)
    try longer.loop.run()
    #expect(try longer.outcome() == Self.uninterrupted.get())
  }
}

@Suite(.serialized) struct CheckpointTests {
  private func progress(epoch: Int, step: Int) -> TrainingProgress {
    var progress = TrainingProgress()
    (progress.epoch, progress.step) = (epoch, step)
    return progress
  }

  @Test func theNewestAreKept() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    #expect(checkpoints.newest().checkpoint == nil && checkpoints.newest().damaged == [])
    for (epoch, step) in [(0, 9), (0, 10), (1, 0), (9, 3), (10_000, 1_000_000)] {
      try checkpoints.write(trainer, progress(epoch: epoch, step: step), keep: 3)
    }
    #expect(
      checkpoints.names() == ["epoch-0002-step-000000", "epoch-0010-step-000003", "epoch-10001-step-1000000"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: checkpoints.path).count == 3)
    #expect(checkpoints.newest().checkpoint?.progress.step == 1_000_000)
    try checkpoints.removeAll()
    #expect(checkpoints.names() == [] && !FileManager.default.fileExists(atPath: checkpoints.path))
    try checkpoints.removeAll()
  }

  @Test func halfWrittenOnesAreNoCheckpoints() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    let whole = try checkpoints.write(trainer, progress(epoch: 0, step: 2), files: ["note.txt": "kept"])
    // What a killed writer leaves: a folder under its temporary name.
    try FileManager.default.copyItem(atPath: whole, toPath: checkpoints.path + "/.fovea-1x.tmp")
    try FileManager.default.createDirectory(atPath: checkpoints.path + "/notes", withIntermediateDirectories: true)
    #expect(checkpoints.newest().checkpoint?.path == whole && checkpoints.newest().damaged == [])
    #expect(try checkpoints.newest().checkpoint?.text(of: "note.txt") == "kept")
    try RunDirectory(folder.path).claim()
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: checkpoints.path).sorted() == [
        "epoch-0001-step-000002", "notes",
      ])
  }

  /// Each file in turn is missing, empty or cut short.
  @Test(arguments: ["model.safetensors", "optimizer.safetensors", "progress.json"], [nil, 0, 40])
  func damagedOnesArePassedOver(file: String, size: Int?) throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    let old = try checkpoints.write(trainer, progress(epoch: 0, step: 2))
    let new = try checkpoints.write(trainer, progress(epoch: 0, step: 4))
    if let size {
      #expect(truncate(new + "/" + file, off_t(size)) == 0)
    } else {
      try FileManager.default.removeItem(atPath: new + "/" + file)
    }
    let newest = checkpoints.newest()
    #expect(newest.checkpoint?.path == old)
    #expect(newest.damaged.count == 1 && newest.damaged[0].contains(new + "/" + file))
    #expect(newest.damaged[0].split(whereSeparator: \.isNewline).count == 1)
    // When the run comes to that step again, a whole one takes its place.
    try checkpoints.write(trainer, progress(epoch: 0, step: 4))
    #expect(checkpoints.newest().checkpoint?.path == new)
  }

  /// A damaged checkpoint does not count among those to keep, nor is the only whole one removed for its sake.
  @Test func damagedOnesAreNotKept() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    try checkpoints.write(trainer, progress(epoch: 0, step: 2))
    let damaged = try checkpoints.write(trainer, progress(epoch: 1, step: 0))
    #expect(truncate(damaged + "/model.safetensors", 40) == 0)
    let next = try checkpoints.write(trainer, progress(epoch: 0, step: 4), keep: 1)
    #expect(checkpoints.newest().checkpoint?.path == next && checkpoints.names().count == 1)
  }

  @Test func writingAgainRenewsTheTextsOnly() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    let path = try checkpoints.write(trainer, progress(epoch: 0, step: 2), files: ["config.json": "old"])
    let before =
      try FileManager.default.attributesOfItem(atPath: path + "/model.safetensors")[.systemFileNumber] as? Int
    try checkpoints.write(trainer, progress(epoch: 0, step: 2), files: ["config.json": "new"])
    let after = try FileManager.default.attributesOfItem(atPath: path + "/model.safetensors")[.systemFileNumber] as? Int
    #expect(before == after)
    #expect(try checkpoints.newest().checkpoint?.text(of: "config.json") == "new")
  }

  @Test func failuresLeaveNothingBehind() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    let trainer = try TinyRun().trainer
    let old = try checkpoints.write(trainer, progress(epoch: 0, step: 2))
    // A name longer than file systems take fails after the tensors have been written.
    let name = String(repeating: "x", count: 300)
    let error = #expect(throws: FileError.self) {
      try checkpoints.write(trainer, progress(epoch: 0, step: 4), files: [name: ""], keep: 1)
    }
    #expect(error?.path == checkpoints.path + "/epoch-0001-step-000004/" + name)
    #expect(try FileManager.default.contentsOfDirectory(atPath: checkpoints.path) == ["epoch-0001-step-000002"])
    #expect(checkpoints.newest().checkpoint?.path == old)
  }

  @Test func anotherModelOrRuleIsRefused() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    try checkpoints.write(TinyRun(rule: .sgd()).trainer, progress(epoch: 0, step: 2))
    let checkpoint = try #require(checkpoints.newest().checkpoint)
    let error = #expect(throws: SafetensorsError.self) { try checkpoint.restore(TinyRun(rule: .adam()).trainer) }
    #expect(error?.reason == .missingTensor("first_moment"))
  }

  @Test func oneRunAFolder() throws {
    let folder = TemporaryPath()
    try RunDirectory(folder.path).claim()
    let error = #expect(throws: FileError.self) { try RunDirectory(folder.path).claim() }
    #expect(error?.description == "cannot write to \(folder.path): another run is writing there")
  }
}

@Suite struct StopRequestTests {
  @Test func statuses() {
    let request = StopRequest()
    #expect(!request.isMade && request.exitStatus == nil)
    request.make(signal: SIGINT)
    #expect(request.isMade && request.exitStatus == 130)
    request.make()
    #expect(request.exitStatus == 143)
  }

  /// As of the process at the other end, when it is killed.
  @Test func theEndOfAPipe() throws {
    let pipe = Pipe()
    let request = StopRequest()
    let ended = DispatchSemaphore(value: 0)
    request.make(atEndOf: pipe.fileHandleForReading.fileDescriptor) { ended.signal() }
    // What is written says nothing.
    try pipe.fileHandleForWriting.write(contentsOf: Data([1, 2]))
    #expect(ended.wait(timeout: .now() + 0.05) == .timedOut && !request.isMade)
    try pipe.fileHandleForWriting.close()
    ended.wait()
    #expect(request.exitStatus == 143)
  }
}
