import Foundation
import Synchronization
import Testing

@testable import Vision

/// Pictures of one grey level, their index; some cannot be decoded, and all take a time that varies.
private final class FakeDataset: ImageDataset {
  let classNames = ["even", "odd"]
  let count: Int
  private let bad: Set<Int>
  private let slow: Bool
  private let calls = Mutex<[Int: Int]>([:])

  init(count: Int, bad: Set<Int> = [], slow: Bool = true) {
    self.count = count
    self.bad = bad
    self.slow = slow
  }

  var decoded: [Int: Int] { calls.withLock { $0 } }

  func label(at index: Int) -> Int { index % 2 }
  func name(at index: Int) -> String { "file, \(index)" }

  func image(at index: Int) throws -> RGBImage {
    calls.withLock { $0[index, default: 0] += 1 }
    if slow { usleep(UInt32.random(in: 0...1500)) }
    if bad.contains(index) { throw ImageError.unknownFormat }
    let level = UInt8(index % 256)
    return RGBImage(width: 1, height: 1, color: (level, level, level))
  }
}

@Suite struct BatchLoaderTests {
  private func indices(_ stream: BatchStream) throws -> [[Int]] {
    var batches: [[Int]] = []
    while let batch = try stream.next() { batches.append(batch.indices) }
    return batches
  }

  private func chunks(_ order: [Int], _ size: Int) -> [[Int]] {
    stride(from: 0, to: order.count, by: size).map { Array(order[$0..<min($0 + size, order.count)]) }
  }

  /// With nobody to take batches the loader fills up: `prefetch` ready ones, one more of single pictures, and a picture
  /// for each worker. While a batch was made there was one more, not yet given up by its pictures.
  @Test func itHoldsNoMoreThanItSays() throws {
    let dataset = FakeDataset(count: 100, slow: false)
    let loader = BatchLoader(dataset, batchSize: 4, height: 2, width: 3, workers: 3, prefetch: 2)
    #expect(loader.largestBytesHeld == (4 * (2 + 2) + 3) * 2 * 3 * 3)
    let stream = loader.epoch(0)
    let full = 4 * (2 + 1) + 3
    for _ in 0..<2000 where dataset.decoded.count < full { usleep(1000) }
    usleep(20_000)
    #expect(dataset.decoded.count == full)
    #expect(try stream.next()?.count == 4)
  }

  @Test func observerHearsOfEveryPictureAndBatch() throws {
    let heard = Mutex<[LoaderActivity]>([])
    let loader = BatchLoader(
      FakeDataset(count: 7, bad: [3], slow: false), batchSize: 4, height: 2, width: 2, workers: 3,
      observer: { activity in heard.withLock { $0.append(activity) } })
    _ = try indices(loader.epoch(0))
    let activities = heard.withLock { $0 }
    let names = activities.compactMap { if case .decode(let name) = $0.work { name } else { nil } }
    #expect(names.sorted() == (0..<7).map { "file, \($0)" })
    #expect(activities.compactMap { if case .assemble(let count) = $0.work { count } else { nil } } == [4, 2])
    #expect(activities.allSatisfy { $0.start <= $0.end && (0..<3).contains($0.worker) })
  }

  @Test(arguments: [1, 2, 7])
  func badPicturesAreReplacedWhateverTheTiming(workers: Int) throws {
    let bad: Set = [0, 3, 4, 5, 17, 29, 40]
    let dataset = FakeDataset(count: 41, bad: bad)
    let loader = BatchLoader(dataset, batchSize: 6, height: 2, width: 3, seed: 11, workers: workers, prefetch: 2)
    #expect(loader.stepsPerEpoch == 7)
    for epoch in 0..<3 {
      let good = loader.order(epoch: epoch).filter { !bad.contains($0) }
      let stream = loader.epoch(epoch)
      var got: [[Int]] = []
      while let batch = try stream.next() {
        got.append(batch.indices)
        #expect(batch.labels == batch.indices.map { Int32($0 % 2) })
        #expect(batch.pixels == batch.indices.flatMap { [UInt8](repeating: UInt8($0), count: 18) })
      }
      #expect(got == chunks(good, 6))
      #expect(loader.skipped.map(\.index) == loader.order(epoch: 0).filter(bad.contains))
    }
    #expect(loader.stepsPerEpoch == 6)
    // Known bad pictures are not tried again, the others once in every epoch.
    #expect(dataset.decoded == Dictionary(uniqueKeysWithValues: (0..<41).map { ($0, bad.contains($0) ? 1 : 3) }))
  }

  @Test func ordersDifferByEpochAndSeed() {
    func loader(_ seed: UInt64, shuffle: Bool = true) -> BatchLoader {
      BatchLoader(FakeDataset(count: 100), batchSize: 10, height: 1, width: 1, seed: seed, shuffle: shuffle)
    }
    #expect(loader(1).order(epoch: 0) == loader(1).order(epoch: 0))
    #expect(loader(1).order(epoch: 0) != loader(1).order(epoch: 1))
    #expect(loader(1).order(epoch: 0) != loader(2).order(epoch: 0))
    #expect(loader(1).order(epoch: 3).sorted() == Array(0..<100))
    #expect(loader(1, shuffle: false).order(epoch: 3) == Array(0..<100))
    // Written down, because an order must survive every change to the code: runs are resumed.
    #expect(loader(1).order(epoch: 0).prefix(6) == [77, 42, 25, 98, 45, 29])
  }

  @Test func resumingFindsTheSameBatches() throws {
    let bad: Set = [2, 9, 30]
    let first = BatchLoader(FakeDataset(count: 50, bad: bad), batchSize: 8, height: 1, width: 1, seed: 5, workers: 3)
    let all = try indices(first.epoch(0))
    let resumed = BatchLoader(
      FakeDataset(count: 50, bad: bad), batchSize: 8, height: 1, width: 1, seed: 5, workers: 2, skipped: first.skipped)
    #expect(try indices(resumed.epoch(0, startingAt: 2)) == Array(all[2...]))
    #expect(try indices(resumed.epoch(0, startingAt: 99)) == [])
  }

  @Test func failPolicyEndsAtTheBadPicture() throws {
    let dataset = FakeDataset(count: 20, bad: [13])
    let loader = BatchLoader(
      dataset, batchSize: 5, height: 1, width: 1, shuffle: false, workers: 3, onBadImage: .fail)
    let stream = loader.epoch(0)
    #expect(try stream.next()?.indices == [0, 1, 2, 3, 4])
    #expect(try stream.next()?.indices == [5, 6, 7, 8, 9])
    let file = SkippedFile(index: 13, path: "file, 13", reason: ImageError.unknownFormat.description)
    #expect(throws: DatasetError.badImage(file)) { try stream.next() }
  }

  @Test func aDataSetWithoutAGoodPictureIsAnError() {
    let loader = BatchLoader(
      FakeDataset(count: 5, bad: Set(0..<5)), batchSize: 2, height: 1, width: 1, shuffle: false, workers: 2)
    #expect(throws: DatasetError.self) { try loader.epoch(0).next() }
    #expect(loader.skipped.count == 5)
  }

  @Test func abandoningAnEpochEndsItsThreads() throws {
    for taken in 0..<3 {
      let dataset = FakeDataset(count: 10_000)
      let loader = BatchLoader(dataset, batchSize: 4, height: 8, width: 8, workers: 4, prefetch: 2)
      do {
        let stream = loader.epoch(0)
        for _ in 0..<taken { _ = try stream.next() }
      }
      let after = dataset.decoded.values.reduce(0, +)
      // What was taken, two batches ahead, one in the making and one being gathered.
      #expect(after <= (taken + 2 + 1 + 1) * 4 + 4)
      usleep(20_000)
      #expect(dataset.decoded.values.reduce(0, +) == after)
    }
  }

  @Test func waitingIsMeasured() throws {
    let loader = BatchLoader(FakeDataset(count: 64), batchSize: 32, height: 1, width: 1, workers: 1)
    let stream = loader.epoch(0)
    _ = try indices(stream)
    #expect(stream.waitSeconds > 0.002)
    #expect(abs(loader.waitSeconds - stream.waitSeconds) < 1e-6)
  }

  @Test func skippedFilesAreListed() throws {
    let loader = BatchLoader(
      FakeDataset(count: 4, bad: [1]), batchSize: 2, height: 1, width: 1, shuffle: false, workers: 2)
    _ = try indices(loader.epoch(0))
    #expect(loader.skipped.csv == "path,reason\n\"file, 1\",\"not a JPEG, PNG, BMP, GIF or WebP file\"\n")
  }

  @Test func brokenFilesInAFolder() throws {
    let folder = try TemporaryFolder()
    for name in ["jpeg_color.jpg", "png_alpha.png", "truncated.jpg"] {
      try folder.write(Fixtures.bytes(name), "a/\(name)")
    }
    for name in ["gif_color.gif", "webp_lossy.webp", "zero.jpg"] { try folder.write(Fixtures.bytes(name), "b/\(name)") }
    let loader = BatchLoader(try FolderDataset(folder.path), batchSize: 4, height: 30, width: 30, seed: 2)
    #expect(try indices(loader.epoch(0)).map(\.count) == [4])
    #expect(Set(loader.skipped.map(\.path)) == ["a/truncated.jpg", "b/zero.jpg"])
  }
}
