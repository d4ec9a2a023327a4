import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import NeuralNetwork
import Testing

@testable import train

/// What is planned against what a run takes, and micro-batches chosen by it.
@Suite(.serialized) struct MemoryTests {
  private func run(_ arguments: [String]) throws -> TrainingRun {
    let arguments = ["--device", "cpu"] + arguments
    let command = try #require(try TrainCommand.parseAsRoot(arguments) as? TrainCommand)
    return try TrainingRun(command, arguments: arguments)
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  private static let small = ["--input-size", "40", "--target-size", "32", "--filters", "4", "--epochs", "2"]

  /// A whole run: pictures before, two epochs of three steps, the last of them smaller and the others captured, so that the
  /// fourth of these is replayed, both validations and pictures after each. With --accumulate one step more, and a
  /// validation of a whole batch and a smaller one.
  /// The pool is the same code on both sides and is asked for the same buffers in the same order, so that nothing but
  /// equality will do.
  @Test(arguments: [
    (["--limit", "10", "--batch-size", "4"], nil, nil, false),
    (
      ["--limit", "14", "--batch-size", "2", "--accumulate", "2", "--ema", "0.9", "--clip-norm", "1"], 1, nil, false
    ),
    (["--limit", "10", "--batch-size", "4", "--resizer", "none"], nil, ModelDescription.Part.features, false),
    (["--limit", "10", "--batch-size", "4", "--resizer", "none"], 2, ModelDescription.Part.features, true),
  ])
  func thePlanIsWhatTheRunTakes(
    _ arguments: [String], microBatch: Int?, frozen: ModelDescription.Part?, asGPU: Bool
  ) throws {
    var configuration = try run(Self.small + arguments).configuration
    configuration.microBatch = microBatch
    // Without --freeze, which wants weights.
    configuration.model.frozen = frozen
    var description = try DeviceSelection.pick("cpu")
    if asGPU {
      // Another pool and other kernels, which POCL runs too.
      description = description.imitatingGPU(computeUnits: 2, localMemory: 48 << 10, maximumWorkGroupSize: 256)
    }
    let device = try Device(description)
    let plan = try configuration.memoryPlan(on: description)
    #expect(plan.training.parts.reduce(0) { $0 + $1.bytes } == plan.training.bytes)
    #expect(plan.validation.parts.reduce(0) { $0 + $1.bytes } == plan.validation.bytes)

    let model = configuration.model
    let data = try DatasetSplit.open(data: nil, limit: configuration.limit, validationSplit: 0.2, seed: 0)
    func source(_ dataset: any ImageDataset) -> LoaderSource {
      LoaderSource(
        loader: BatchLoader(
          dataset, batchSize: configuration.batchSize, height: model.inputHeight, width: model.inputWidth),
        microBatch: configuration.microBatch)
    }
    let classifier = try model.build()
    let trainer = try configuration.trainer(of: classifier, on: device)
    let pictures =
      model.hasResizer
      ? try SamplePictures(from: data.validation, model: model, before: classifier, on: device) : nil
    let peaks = Peaks(pictures, classifier)
    try TrainingLoop(
      trainer, training: source(data.training), validation: source(data.validation), epochs: 2,
      accumulation: configuration.batchesPerStep, callbacks: [peaks]
    ).run()
    #expect(peaks.training == max(plan.training.bytes, plan.replayed))
    #expect(peaks.validation == plan.validation.bytes)
    #expect(device.pool.statistics.reservedPeak == plan.held)
    #expect(plan.held >= plan.inUse)
  }

  /// Most memory in use in training, and in the last epoch's validation.
  private final class Peaks: Callback {
    private let pictures: SamplePictures?
    private let classifier: ImageClassifier
    var training = 0
    var validation = 0

    init(_ pictures: SamplePictures?, _ classifier: ImageClassifier) {
      (self.pictures, self.classifier) = (pictures, classifier)
    }

    func phaseDidBegin(_ phase: TrainingPhase, steps: Int, in loop: TrainingLoop) {
      // As the validation does next.
      if phase == .validation { loop.trainer.releaseCapturedMemory() }
      if phase != .reestimatedValidation { loop.trainer.device.pool.resetPeak() }
    }

    func phaseDidEnd(_ phase: TrainingPhase, _ scores: Scores, in loop: TrainingLoop) {
      let peak = loop.trainer.device.pool.statistics.peak
      if phase == .training { training = max(training, peak) }
      if phase == .validation { validation = peak }
    }

    func epochDidEnd(in loop: TrainingLoop) throws {
      try loop.trainer.withResultingWeights { try pictures?.capture(classifier) }
    }
  }

  /// At each size's need, and a byte below it.
  @Test func theLargestMicroBatchThatFitsIsChosen() throws {
    // One epoch: how long the run is does not matter here, and each size that is tried plans all of it.
    let arguments = [
      "--input-size", "160", "--target-size", "80", "--limit", "10", "--batch-size", "4", "--epochs", "1",
    ]
    let whole = try run(arguments).configuration
    let device = try DeviceSelection.pick("cpu")
    let plans = try Dictionary(
      uniqueKeysWithValues: [1, 2, 4].map { size in
        var configuration = whole
        configuration.microBatch = size < 4 ? size : nil
        return (size, try configuration.memoryPlan(on: device))
      })
    let held = plans.mapValues(\.held)
    #expect(Set(held.values).count == 3)
    let least = try #require(held.min { $0.value < $1.value })
    // Planned once: planning is most of what this takes.
    func fit(_ configuration: inout RunConfiguration, _ bytes: Int) throws -> MemoryPlan {
      try configuration.fit(MemorySize(bytes: bytes), keepsMicroBatch: false, on: device) { sized, _ in
        try #require(plans[sized.imagesAtOnce])
      }
    }
    for limit in held.values.flatMap({ [$0, $0 - 1] }) where limit >= least.value {
      var configuration = whole
      let plan = try fit(&configuration, limit)
      #expect(plan.held <= limit)
      let largest = held.filter { $0.value <= limit }.keys.max()
      #expect(configuration.imagesAtOnce == largest)
      #expect(configuration.microBatch == (largest == 4 ? nil : largest))
    }
    var configuration = whole
    #expect(
      message { _ = try fit(&configuration, 1 << 20) }
        == "--memory-limit 1.0 MiB is too little: the least is \(formatBytes(least.value)) of device memory, with "
        + "\(least.key) image\(least.key == 1 ? "" : "s") at once; a smaller --input-size or --target-size helps")
    // Steps stay as they are; only what is computed at once becomes smaller.
    let kilobytes = try #require(held[2]) >> 10 + 1
    let cut = try run(arguments + ["--accumulate", "2", "--memory-limit", "\(kilobytes)K"]).configuration
    #expect(cut.imagesAtOnce < 4 && cut.batchesPerStep * cut.imagesAtOnce == 8)
    #expect(cut.stepsPerEpoch == 2 && cut.batchSize == 4 && cut.accumulate == 2)
    #expect(cut.batchText == "2 × 4 in micro-batches of \(cut.imagesAtOnce)")
  }

  /// A classifier without BatchNorm: only then do micro-batches give what whole ones give.
  private struct PlainClassifier: Module {
    let conv = Conv2D(inputs: 3, filters: 4, kernelSize: 3)
    let head = Dense(inputs: 4, units: 2)

    func callAsFunction(_ photos: Tensor) -> Tensor {
      head(conv(photos.scaled(by: 1 / 255)).relu().globalAveragePool())
    }
  }

  private func loader(mixup: Float = 0) -> BatchLoader {
    var augmentation = Augmentation()
    augmentation.mixup = mixup
    return BatchLoader(
      SyntheticDataset(count: 20, seed: 1, size: 8), batchSize: 8, height: 8, width: 8, augmentation: augmentation)
  }

  private func trained(microBatch: Int?) throws -> TrainingLoop {
    let classifier = PlainClassifier()
    let arena = ParameterArena(classifier, on: try Device.open("cpu"), seed: 3)
    let optimizer = Optimizer(.sgd(momentum: 0.9), schedule: .constant(0.05), clipNorm: 0.5, arena: arena)
    let trainer = Trainer(
      arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1, classWeights: [1, 2]
    ) { classifier($0) }
    let loop = TrainingLoop(
      trainer, training: LoaderSource(loader: loader(mixup: 0.5), microBatch: microBatch),
      validation: LoaderSource(loader: loader(), microBatch: microBatch), epochs: 2,
      accumulation: 8 / (microBatch ?? 8))
    try loop.run()
    return loop
  }

  /// Steps of 8, 8 and 4 images, twice. Sums of at most 8 · 64 terms in another order, over six steps: a few dozen
  /// roundings of 6e-8.
  @Test(arguments: [1, 2, 4]) func microBatchesGiveWhatWholeOnesGive(size: Int) throws {
    let whole = try trained(microBatch: nil)
    let parts = try trained(microBatch: size)
    #expect(whole.progress.totalSteps == 6 && parts.progress.totalSteps == 6)
    let (a, b) = (try whole.trainer.arena.weights.floats(), try parts.trainer.arena.weights.floats())
    let start = ParameterArena(PlainClassifier(), on: try Device.open("cpu"), seed: 3)
    #expect(try a != start.weights.floats())
    let difference = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    let size = a.reduce(0) { $0 + Double($1) * Double($1) }
    #expect((difference / size).squareRoot() < 5e-6)
    for (one, other) in zip(whole.progress.history.epochs, parts.progress.history.epochs) {
      #expect(abs(one.loss - other.loss) < 5e-6 && abs(one.valLoss - other.valLoss) < 5e-6)
      #expect(one.steps == other.steps && one.valAccuracy == other.valAccuracy)
    }
  }

  @Test func microBatchesArePartsOfTheBatches() throws {
    func all(_ source: LoaderSource, from start: Int) throws -> [TrainingBatch] {
      let stream = source.epoch(0, startingAt: start)
      var batches: [TrainingBatch] = []
      while let batch = try stream.next() { batches.append(batch) }
      return batches
    }
    let whole = LoaderSource(loader: loader(mixup: 0.5))
    let parts = LoaderSource(loader: loader(mixup: 0.5), microBatch: 2)
    #expect(whole.batchesPerEpoch == 3 && parts.batchesPerEpoch == 10)
    // At the beginning, at a batch, and within one.
    for (start, first) in [(0, 0), (4, 1), (5, 1)] {
      let (a, b) = (try all(whole, from: first), try all(parts, from: start))
      let left = (start - 4 * first) * 2
      #expect(b.count == 10 - start && b.allSatisfy { $0.count == 2 && $0.shape == [2, 8, 8, 3] })
      #expect(b.flatMap(\.pixels) == Array(a.flatMap(\.pixels).dropFirst(left * 192)))
      #expect(b.flatMap(\.labels) == Array(a.flatMap(\.labels).dropFirst(left)))
      #expect(b.flatMap { $0.partners ?? [] } == Array(a.flatMap { $0.partners ?? [] }.dropFirst(left)))
      #expect(b.flatMap { $0.indices ?? [] } == Array(a.flatMap { $0.indices ?? [] }.dropFirst(left)))
      #expect(
        b.map(\.share) == Array(a.flatMap { Array(repeating: $0.share, count: $0.count / 2) }.dropFirst(left / 2)))
    }
  }

  @Test func eachBatchIsWaitedForOnce() throws {
    var waits: [(start: UInt64, end: UInt64)] = []
    let stream = LoaderSource(loader: loader(), microBatch: 2, waiting: { waits.append(($0, $1)) }).epoch(
      0, startingAt: 0)
    var parts = 0
    while try stream.next() != nil { parts += 1 }
    #expect(parts == 10 && waits.count == 3)
    #expect(waits.allSatisfy { $0.start <= $0.end } && zip(waits, waits.dropFirst()).allSatisfy { $0.end <= $1.start })
  }
}
