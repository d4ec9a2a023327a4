import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct BenchEpoch: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "epoch",
    abstract: "Time steps on photos that are loaded meanwhile beside the same steps without loading.",
    discussion: """
      Turns of both kinds alternate, first of training steps, then of forward passes as in a validation; the bare ones \
      use one batch again and again while the loader rests. The last line is for an epoch over the folder: its training \
      steps and the two validations that follow them, without checkpoints and pictures.
      """)

  @OptionGroup var options: BenchOptions

  @Option(
    help: ArgumentHelp("Folder of photos as train takes it: a sub-folder for each class.", valueName: "dir"),
    completion: .directory)
  var data: String

  @Option(help: "Turns of each kind.")
  var rounds = 5

  @OptionGroup var decoding: DecodingOptions

  func validate() throws {
    guard (1...100).contains(rounds) else { throw ValidationError("--rounds must be 1 to 100, not \(rounds)") }
  }

  /// Seconds of a step, and how often an epoch has it.
  private struct Part: Encodable {
    var name: String
    var stepsPerEpoch: Double
    var bareSeconds: Double
    var loadedSeconds: Double
    /// Of the loaded steps' time, what they waited for photos.
    var waitShare: Double
    /// Median over pairs of turns that follow each other, because others may use the machine, now more and now less.
    var shareOfBareSpeed: Double
  }

  private struct Report: Encodable {
    var device: String
    var batchSize: Int
    var workers: Int
    var training: Part
    var validation: Part
    var shareOfBareSpeed: Double
  }

  func run() throws {
    let split = try DatasetSplit.open(directory: data, seed: 0)
    for part in [split.training, split.validation] where part.count < options.batchSize {
      throw ValidationError(
        "\(data) has \(split.training.count) training and \(split.validation.count) validation photos: too few for "
          + "--batch-size \(options.batchSize)")
    }
    let workload = try BenchWorkload(options)
    let line = standardErrorProgress("Steps in turns, \(rounds) of each kind", total: 4 * rounds)
    defer { line.abandon() }
    var turns = 0
    func tick() {
      turns += 1
      line.update(step: turns, fields: [])
    }
    for _ in 0..<3 { _ = try workload.train() }
    let training = try part("training", of: split.training, passes: 1, tick: tick, workload.train)
    _ = try workload.infer()
    // With the moving statistics, and with those estimated again.
    let validation = try part("validation", of: split.validation, passes: 2, tick: tick, workload.infer)
    line.finish(fields: [])
    func epoch(_ seconds: (Part) -> Double) -> Double {
      [training, validation].reduce(0) { $0 + $1.stepsPerEpoch * seconds($1) }
    }
    let share = epoch(\.bareSeconds) / epoch { $0.bareSeconds / $0.shareOfBareSpeed }
    let report = Report(
      device: workload.device.description.header, batchSize: options.batchSize, workers: decoding.threads,
      training: training,
      validation: validation, shareOfBareSpeed: share)
    if options.json { return print(try jsonText(report)) }
    print(
      "\(workload.model.model), batch \(options.batchSize), \(decoding.threads) threads decode, \(rounds) turns of "
        + "\(options.steps) steps, on \(report.device)")
    print("              bare, s  loading, s  speed  waiting")
    for part in [training, validation] {
      let name = part.name.padding(toLength: 12, withPad: " ", startingAt: 0)
      print(
        String(
          format: "\(name) %8.3f  %10.3f  %3.0f %%  %5.1f %%", part.bareSeconds, part.loadedSeconds,
          part.shareOfBareSpeed * 100, part.waitShare * 100))
    }
    print(
      String(
        format: "an epoch of %.0f steps, validated twice: %.1f %% of the bare speed", training.stepsPerEpoch,
        report.shareOfBareSpeed * 100))
  }

  /// Alternates turns of `run` without and with photos of `dataset`, which an epoch goes through `passes` times.
  private func part(
    _ name: String, of dataset: any ImageDataset, passes: Int, tick: () -> Void,
    _ run: (_ steps: Int, _ photos: BenchWorkload.Photos?) throws -> Double
  ) throws -> Part {
    let photos = EndlessPhotos(
      BatchLoader(
        dataset, batchSize: options.batchSize, height: options.description.inputHeight,
        width: options.description.inputWidth, workers: decoding.threads))
    // Has the loader begun, so that all its turns find it as an epoch does.
    _ = try run(options.steps, photos.next)
    var bare: [Double] = []
    var loaded: [Double] = []
    let waited = photos.waitSeconds
    for _ in 0..<rounds {
      bare.append(try run(options.steps, nil))
      tick()
      loaded.append(try run(options.steps, photos.next))
      tick()
    }
    let waitShare = (photos.waitSeconds - waited) / loaded.reduce(0, +)
    return Part(
      name: name, stepsPerEpoch: Double(passes * dataset.count) / Double(options.batchSize),
      bareSeconds: median(bare) / Double(options.steps), loadedSeconds: median(loaded) / Double(options.steps),
      waitShare: waitShare, shareOfBareSpeed: median(zip(bare, loaded).map(/)))
  }
}

/// The full batches of a loader, epoch after epoch.
private final class EndlessPhotos {
  private let loader: BatchLoader
  private var epoch = 0
  private var stream: BatchStream?

  init(_ loader: BatchLoader) {
    self.loader = loader
  }

  var waitSeconds: Double { loader.waitSeconds }

  func next() throws -> TrainingBatch {
    while true {
      if let batch = try stream?.next(), batch.count == loader.batchSize {
        // The model has two classes; which photo is of which does not matter to the time.
        return TrainingBatch(
          pixels: batch.pixels, shape: [batch.count, loader.height, loader.width, 3],
          labels: batch.labels.map { $0 % 2 })
      }
      guard loader.imagesPerEpoch >= loader.batchSize else {
        throw ValidationError(
          "\(loader.imagesPerEpoch) photos can be decoded, fewer than a batch of \(loader.batchSize)")
      }
      stream = loader.epoch(epoch)
      epoch += 1
    }
  }
}
