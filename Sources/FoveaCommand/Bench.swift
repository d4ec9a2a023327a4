import ArgumentParser
import CommandSupport
import Fovea
import Foundation

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure speed and memory.", subcommands: [BenchStep.self])
}

struct BenchStep: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step", abstract: "Time the training step: median, images/s, GFLOP/s, peak memory.")

  @OptionGroup var device: DeviceOptions
  @Option var model = "resizer+densenet121"
  @Option var batchSize = 64
  @Option var steps = 5
  @Flag var profile = false

  func run() throws {
    let device = try device.open(profiling: profile)
    let start = Date()
    let front: ImageResizer =
      model == "densenet121" ? .plain(height: 150, width: 150, .bilinear) : .learnable(LearnableResizer())
    let classifier = ImageClassifier(resizer: front, backbone: DenseNet())
    let arena = ParameterArena(classifier, on: device)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.01), arena: arena)
    let trainer = Trainer(arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1) { classifier($0).logits }
    print("setup \(Date().timeIntervalSince(start))")
    let pixels = (0..<batchSize * 300 * 300 * 3).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
    let batch = TrainingBatch(
      pixels: pixels, shape: [batchSize, 300, 300, 3], labels: (0..<batchSize).map { Int32($0 % 2) })
    for step in 0..<steps {
      let start = Date()
      var given = false
      let scores = try trainer.train(next: {
        defer { given = true }; return given ? nil : batch
      }) { _, _ in }
      let seconds = Date().timeIntervalSince(start)
      print(
        "step \(step) \(seconds) s loss \(scores.loss) peak \(formatBytes(device.pool.statistics.peak)) reserved \(formatBytes(device.pool.statistics.reserved)) launches \(device.counters.launches) programs \(device.counters.programsBuilt) build \(device.counters.buildSeconds)"
      )
      if profile {
        let entries = try device.takeProfile()
        if step == steps - 1 {
          var sums: [String: (Double, Double, Double, Int)] = [:]
          for e in entries {
            let s = sums[e.label] ?? (0, 0, 0, 0);
            sums[e.label] = (s.0 + e.seconds, s.1 + e.flops, s.2 + e.bytes, s.3 + 1)
          }
          for (label, s) in sums.sorted(by: { $0.value.0 > $1.value.0 }).prefix(1000) {
            print(
              String(
                format: "%8.1f ms %7.1f GFLOP/s %6.1f GB/s ×%d ", s.0 * 1e3, s.1 / s.0 * 1e-9, s.2 / s.0 * 1e-9, s.3)
                + label)
          }
          print("total", entries.reduce(0) { $0 + $1.seconds })
        }
      }
    }
  }
}
