import ArgumentParser
import CommandSupport
import Foundation
import Fovea

/// The training step that benchmarks run: the main job on random photos.
struct BenchOptions: ParsableArguments {
  @OptionGroup var device: DeviceOptions
  @OptionGroup var model: ModelOptions

  @Option(help: "Images a step.")
  var batchSize = 64

  @Option(help: "Steps to time, after three that are not.")
  var steps = 5

  @Flag(help: "Launch every step anew instead of replaying it.")
  var eager = false

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard (1...4096).contains(batchSize) else {
      throw ValidationError("--batch-size must be 1 to 4096, not \(batchSize)")
    }
    guard (1...1000).contains(steps) else { throw ValidationError("--steps must be 1 to 1000, not \(steps)") }
  }
}

extension BenchOptions {
  /// The model to run.
  var description: ModelDescription { model.description(classes: 2, batchNormMomentum: 0.99) }
}

final class BenchWorkload {
  let device: Device
  let model: ModelDescription
  private let trainer: Trainer
  private let batch: TrainingBatch

  /// - Parameter trains: whether training steps are going to be run, whose kernels are then compiled in advance.
  convenience init(_ options: BenchOptions, profiling: Bool = false, trains: Bool = true) throws {
    let device = try options.device.open(for: options.model.precision, profiling: profiling)
    let model = options.description
    if trains { KernelPreparation.start(model: model, batchSize: options.batchSize, on: device) }
    try self.init(model, batchSize: options.batchSize, capturesSteps: !options.eager, on: device)
  }

  init(_ model: ModelDescription, batchSize: Int, capturesSteps: Bool = true, on device: Device) throws {
    self.model = model
    self.device = device
    let classifier = try model.build()
    let arena = ParameterArena(classifier, on: device)
    let optimizer = Optimizer(
      .sgd(), schedule: .constant(0.01), lossScale: model.lossScale(on: device), arena: arena)
    trainer = Trainer(
      arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1, capturesSteps: capturesSteps
    ) { classifier($0).logits }
    var random = RandomNumbers(seed: 1)
    let shape: Shape = [batchSize, model.inputHeight, model.inputWidth, 3]
    var pixels = [UInt8](repeating: 0, count: shape.count)
    pixels.withUnsafeMutableBytes { bytes in
      for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
    }
    batch = TrainingBatch(pixels: pixels, shape: shape, labels: (0..<batchSize).map { Int32($0 % 2) })
  }

  /// Seconds that the host has spent on enqueueing steps so far.
  var enqueueSeconds: Double { trainer.enqueueSeconds }

  /// See ``Trainer/plannedMemory``.
  var plannedMemory: (byteCount: Int, least: Int)? { trainer.plannedMemory }

  /// Where the batches of steps come from that are not run on the workload's own.
  typealias Photos = () throws -> TrainingBatch

  /// Seconds of training steps, each enqueued while the one before it runs, from the first's start to the last's loss.
  func train(steps: Int = 1, on photos: Photos? = nil) throws -> Double {
    try timed(steps, photos) { next in try trainer.train(next: { try next().map { [$0] } }, report: { _, _ in }) }
  }

  /// Seconds of forward passes in inference, likewise.
  func infer(steps: Int = 1, on photos: Photos? = nil) throws -> Double {
    try timed(steps, photos) { try trainer.evaluate(next: $0) }
  }

  private func timed(
    _ steps: Int, _ photos: Photos?, _ run: (() throws -> TrainingBatch?) throws -> Scores
  ) throws -> Double {
    var given = 0
    let start = DispatchTime.now().uptimeNanoseconds
    _ = try run {
      defer { given += 1 }
      return given == steps ? nil : try photos?() ?? batch
    }
    try device.synchronize()
    return Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
  }
}

/// Largest resident size of this process so far, in bytes.
func peakResidentBytes() -> Int {
  var usage = rusage()
  #if os(Linux)
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024  // KiB there, bytes elsewhere
  #else
    getrusage(RUSAGE_SELF, &usage)
    return usage.ru_maxrss
  #endif
}
