import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct BenchLoading: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "loading",
    abstract: "Time the loading of photos, epoch by epoch, with nothing else to do: images/s.")

  @Option(
    help: ArgumentHelp("Folder of photos, with a sub-folder for each class.", valueName: "dir"), completion: .directory)
  var data: String

  @Option(
    help: ArgumentHelp("Size that photos are squashed to, N or HEIGHTxWIDTH.", valueName: "size"),
    transform: ImageSize.init(option:))
  var inputSize = ImageSize(300)

  @Option(help: "Passes over the photos.")
  var epochs = 3

  @OptionGroup var loading: LoadingOptions
  @OptionGroup var cache: CacheOptions

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var images: Int
    var skipped: Int
    var workers: Int
    /// To make the cache; nil without one.
    var cacheSeconds: Double?
    var imagesPerSecond: [Double]
  }

  func validate() throws {
    guard (1...1000).contains(epochs) else { throw ValidationError("--epochs must be 1 to 1000, not \(epochs)") }
  }

  func run() throws {
    var dataset: any ImageDataset = try FolderDataset(data)
    let workers = loading.decoding.threads
    var cacheSeconds: Double?
    if let plan = try cache.plan(for: [dataset], (inputSize.height, inputSize.width)) {
      let start = Date()
      dataset = dataset.cached(
        in: try plan.carryOut(workers: workers, say: note, line: standardErrorProgress, check: {}))
      cacheSeconds = -start.timeIntervalSinceNow
    }
    let loader = BatchLoader(
      dataset, batchSize: min(loading.batchSize, dataset.count), height: inputSize.height, width: inputSize.width,
      workers: workers)
    var rates: [Double] = []
    for epoch in 0..<epochs {
      let start = Date()
      let stream = loader.epoch(epoch)
      var images = 0
      while let batch = try stream.next() { images += batch.count }
      rates.append(Double(images) / -start.timeIntervalSinceNow)
    }
    let report = Report(
      images: dataset.count - loader.skipped.count, skipped: loader.skipped.count, workers: workers,
      cacheSeconds: cacheSeconds, imagesPerSecond: rates)
    if json { return print(try jsonText(report)) }
    print(
      "\(report.images) photos, \(report.skipped) more could not be decoded, to \(inputSize.height)×\(inputSize.width), "
        + "\(workers) threads")
    if let cacheSeconds { print(String(format: "cache     %.2f s to make or check", cacheSeconds)) }
    for (epoch, rate) in rates.enumerated() { print(String(format: "epoch %-3d %.0f images/s", epoch + 1, rate)) }
  }
}
