import Foundation
import Synchronization
import Testing

@testable import NeuralNetwork
@testable import Vision

/// Decoded photos in memory and in files: the same bytes as without, and what becomes of files that are not right.
@Suite struct ImageCacheTests {
  private let folder: TemporaryFolder
  private let file: String

  /// Two classes of pictures, one of which cannot be decoded.
  init() throws {
    folder = try TemporaryFolder()
    for name in ["jpeg_color.jpg", "png_alpha.png", "truncated.jpg"] {
      try folder.write(Fixtures.bytes(name), "photos/a/\(name)")
    }
    for name in ["gif_color.gif", "webp_lossy.webp", "zero.jpg"] {
      try folder.write(Fixtures.bytes(name), "photos/b/\(name)")
    }
    file = folder.path + "/photos.cache"
  }

  private func dataset() throws -> FolderDataset { try FolderDataset(folder.path + "/photos") }

  /// What was said and how many pictures were decoded, besides the cache.
  private func make(
    _ place: ImageCachePlace, of datasets: [any ImageDataset]? = nil, height: Int = 20, width: Int = 30
  ) throws -> (cache: ImageCache, said: [String], decoded: Int) {
    let plan = try ImageCachePlan(place, of: datasets ?? [dataset()], height: height, width: width)
    var said: [String] = []
    var decoded = 0
    let cache = try plan.carryOut(workers: 3, say: { said.append($0) }) { work, done, total in
      #expect(done <= total)
      if work == .decoding { decoded = done }
    }
    return (cache, said, decoded)
  }

  /// An epoch's batches and bad pictures.
  private func epoch(
    of dataset: any ImageDataset, _ augmentation: Augmentation = Augmentation(), workers: Int = 3
  ) throws -> (pixels: [[UInt8]], indices: [[Int]], skipped: [SkippedFile]) {
    let loader = BatchLoader(
      dataset, batchSize: 3, height: 20, width: 30, seed: 4, augmentation: augmentation, workers: workers)
    let stream = loader.epoch(1)
    var (pixels, indices): ([[UInt8]], [[Int]]) = ([], [])
    while let batch = try stream.next() {
      pixels.append(batch.pixels)
      indices.append(batch.indices)
    }
    return (pixels, indices, loader.skipped)
  }

  @Test(arguments: [false, true])
  func batchesAreTheSameBitForBit(inFile: Bool) throws {
    let plain = try dataset()
    let (cache, said, decoded) = try make(inFile ? .file(file) : .memory)
    #expect(said.isEmpty && decoded == 6)
    #expect(cache.count == 4 && cache.bytes == 4 * 20 * 30 * 3)
    let cached = plain.cached(in: cache)
    var changes = Augmentation()
    (changes.flip, changes.jitter, changes.mixup) = (true, 0.4, 0.5)
    for augmentation in [Augmentation(), changes] {
      let (a, b) = (try epoch(of: plain, augmentation), try epoch(of: cached, augmentation))
      #expect(a.pixels == b.pixels && a.indices == b.indices && a.skipped == b.skipped)
      #expect(b.skipped.count == 2)
    }
    // Other sizes and the picture itself are what they were.
    #expect(try cached.pixels(at: 0, height: 7, width: 9) == plain.pixels(at: 0, height: 7, width: 9))
    #expect(try cached.image(at: 0) == plain.image(at: 0))
    #expect(cached.fingerprint == plain.fingerprint && cached.classNames == plain.classNames)
  }

  @Test func picturesAreDecodedOnce() throws {
    let counted = CountingDataset(try dataset())
    let cache = try make(.memory, of: [counted]).cache
    let cached = counted.cached(in: cache)
    for _ in 0..<3 { _ = try epoch(of: cached) }
    // Those that could not be decoded are tried again, once by each loader.
    #expect(counted.calls == [1, 1, 4, 1, 1, 4])
  }

  @Test func aFileServesLaterRunsAndParts() throws {
    _ = try make(.file(file))
    let before = try Data(contentsOf: URL(fileURLWithPath: file))
    let parts = try dataset().split(validationSplit: 0.5, seed: 7)
    for datasets in [nil, [parts.validation, parts.training], [try dataset().limited(to: 2, seed: 1)]] {
      let (cache, said, decoded) = try make(.file(file), of: datasets)
      #expect(said.isEmpty && decoded == 0)
      #expect(cache.count == 4)
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == before)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["photos", "photos.cache"])
    // A part's file lacks the rest.
    let other = folder.path + "/part.cache"
    _ = try make(.file(other), of: [parts.training])
    let (_, said, decoded) = try make(.file(other))
    #expect(said == ["\(other) lacks 3 photos, or they have changed since: it is made anew"])
    #expect(decoded == 6)
  }

  @Test func staleFilesAreMadeAnew() throws {
    _ = try make(.file(file))
    let (_, said, decoded) = try make(.file(file), height: 10, width: 30)
    #expect(said == ["\(file) holds photos of 20×30, not 10×30: it is made anew"] && decoded == 6)
    _ = try make(.file(file))
    // A photo of the same size with another time, then one with other bytes.
    let photo = folder.path + "/photos/a/png_alpha.png"
    try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: photo)
    #expect(try make(.file(file)).said == ["\(file) lacks 1 photo, or they have changed since: it is made anew"])
    try folder.write(Fixtures.bytes("jpeg_color.jpg"), "photos/a/png_alpha.png")
    let (cache, again, _) = try make(.file(file))
    #expect(again.count == 1)
    #expect(try epoch(of: dataset().cached(in: cache)).pixels == epoch(of: dataset()).pixels)
  }

  @Test func everyDamageIsFound() throws {
    _ = try make(.file(file))
    let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
    let length = Int(whole[whole.count - 8]) + Int(whole[whole.count - 7]) << 8
    let index = whole.count - 8 - length
    let pixels = ImageCacheFile.signature.count
    #expect(index == pixels + 4 * 20 * 30 * 3)
    var damaged: [[UInt8]] = [0, 5, pixels - 1, pixels, index - 1, index, whole.count - 1].map { Array(whole[..<$0]) }
    for position in [pixels, pixels + 1801, index - 1, index, index + 30, whole.count - 8, whole.count - 1] {
      var bytes = whole
      bytes[position] ^= 0x10
      damaged.append(bytes)
    }
    damaged.append(whole + [0])
    for bytes in damaged {
      try Data(bytes).write(to: URL(fileURLWithPath: file))
      guard bytes.starts(with: Array("fovea-images-".utf8)) else {
        #expect(throws: ImageCacheError.foreign(path: file)) { try make(.file(file)) }
        #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: file))) == bytes)
        continue
      }
      let (_, said, decoded) = try make(.file(file))
      #expect(said.count == 1 && said[0].hasPrefix(file) && said[0].hasSuffix(": it is made anew"), "\(said)")
      #expect(decoded == 6)
      #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: file))) == whole)
    }
  }

  @Test func otherFilesAreLeftAlone() throws {
    let photo = folder.path + "/photos/a/jpeg_color.jpg"
    #expect(throws: ImageCacheError.foreign(path: photo)) { try make(.file(photo)) }
    #expect(throws: ImageCacheError.foreign(path: folder.path)) { try make(.file(folder.path)) }
    #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: photo))) == (try Fixtures.bytes("jpeg_color.jpg")))
    #expect(throws: FileError("write", photo + "/x", reason: "Not a directory")) { try make(.file(photo + "/x")) }
    // A folder may be made when all is planned, and is not made here.
    let runs = folder.path + "/runs"
    let plan = try ImageCachePlan(.file(runs + "/photos.cache"), of: [dataset()], height: 20, width: 30)
    #expect(throws: FileError("write", runs + "/photos.cache", reason: "No such file or directory")) {
      try plan.carryOut(workers: 1, say: { _ in }) { _, _, _ in }
    }
    try FileManager.default.createDirectory(atPath: runs, withIntermediateDirectories: false)
    #expect(try plan.carryOut(workers: 1, say: { _ in }) { _, _, _ in }.count == 4)
  }

  /// Left by a process that was killed while it filled a cache; the other is still being written.
  @Test func halvesOfCachesAreRemoved() throws {
    let (stale, live) = (folder.path + "/.fovea-1.tmp", folder.path + "/.fovea-2.tmp")
    try folder.write([1, 2], ".fovea-1.tmp")
    try folder.write([1, 2], ".fovea-2.tmp")
    let descriptor = open(live, O_WRONLY)
    defer { close(descriptor) }
    #expect(flock(descriptor, LOCK_EX) == 0)
    _ = try make(.file(file))
    #expect(access(stale, F_OK) != 0 && access(live, F_OK) == 0)
  }

  @Test func roomIsCheckedFirst() throws {
    func plan(_ place: ImageCachePlace, memory: Int?, disk: Int?) throws {
      _ = try ImageCachePlan(
        place, of: [dataset()], height: 20, width: 30, availableMemory: memory, availableDisk: { _ in disk })
    }
    let need = 6 * 20 * 30 * 3
    try plan(.memory, memory: need, disk: 0)
    try plan(.file(file), memory: 0, disk: need)
    try plan(.memory, memory: nil, disk: nil)
    #expect(
      throws: ImageCacheError.noMemory(pictures: 6, height: 20, width: 30, bytes: need, available: need - 1)
    ) { try plan(.memory, memory: need - 1, disk: nil) }
    #expect(
      throws: ImageCacheError.noDisk(path: file, pictures: 6, height: 20, width: 30, bytes: need, available: 5)
    ) { try plan(.file(file), memory: nil, disk: 5) }
    // A file that is there already needs no more room.
    _ = try make(.file(file))
    try plan(.file(file), memory: 0, disk: 0)
    #expect((SystemResources.availableMemory() ?? 1) > 0)
    #expect((SystemResources.availableDisk(folder.path) ?? 1) > 0)
  }

  @Test func whatIsStoppedLeavesTheOldFile() throws {
    struct Stopped: Error {}
    _ = try make(.file(file))
    let before = try Data(contentsOf: URL(fileURLWithPath: file))
    let plan = try ImageCachePlan(.file(file), of: [dataset()], height: 11, width: 30)
    #expect(throws: Stopped.self) {
      try plan.carryOut(workers: 2, say: { _ in }) { _, _, _ in throw Stopped() }
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == before)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["photos", "photos.cache"])
  }

  @Test func aSetOfBadPicturesIsLeftToTheLoader() throws {
    let only = SubsetDataset(try dataset(), indices: [2, 5])
    let (cache, _, decoded) = try make(.file(file), of: [only, try dataset()])
    #expect(cache.count == 4 && decoded == 8)
    #expect(throws: DatasetError.self) { try epoch(of: only.cached(in: cache)) }
  }

  @Test func syntheticPicturesAreKeptToo() throws {
    let split = SyntheticDataset.split(training: 5, validation: 3, seed: 2, size: 16)
    let plan = try ImageCachePlan(.memory, of: [split.training, split.validation], height: 20, width: 30)
    let cache = try plan.carryOut(workers: 2, say: { _ in }) { _, _, _ in }
    #expect(cache.count == 8)
    for dataset in [split.training, split.validation] {
      #expect(try epoch(of: dataset.cached(in: cache)).pixels == epoch(of: dataset).pixels)
    }
  }
}

/// Counts how often each picture of another data set is read.
private final class CountingDataset: ImageDataset {
  private let base: FolderDataset
  private let counts: Mutex<[Int]>

  init(_ base: FolderDataset) {
    self.base = base
    counts = Mutex(Array(repeating: 0, count: base.count))
  }

  var calls: [Int] { counts.withLock { $0 } }
  var classNames: [String] { base.classNames }
  var count: Int { base.count }
  func label(at index: Int) -> Int { base.label(at: index) }
  func name(at index: Int) -> String { base.name(at: index) }
  func identity(at index: Int) -> String { base.identity(at: index) }

  func image(at index: Int) throws -> RGBImage {
    counts.withLock { $0[index] += 1 }
    return try base.image(at: index)
  }
}
