import Foundation
import NeuralNetwork
import OpenCLRuntime

/// Where decoded pictures are kept.
public enum ImageCachePlace: Sendable, Equatable {
  /// In memory, for as long as the process lasts.
  case memory
  /// In the file at this path, which is mapped into memory and serves later processes too.
  case file(String)
}

/// What it takes to have an ``ImageCache`` for some data sets: made before anything long is begun, because it finds out
/// what cannot work.
public struct ImageCachePlan {
  /// What takes long.
  public enum Work: Sendable {
    /// The pictures in a file are compared with their checksums.
    case checking
    /// Pictures are read, decoded and squashed.
    case decoding
  }

  private let place: ImageCachePlace
  private let datasets: [any ImageDataset]
  private let identities: [[String]]
  private let height: Int
  private let width: Int
  private let found: ImageCacheFile?
  /// Why the file that is there will not do.
  private let complaint: String?

  /// Looks at what is there. Nothing is written. The folder of a file may be made later, but before `carryOut`.
  ///
  /// A file serves when it holds every picture of the data sets in this size, unchanged since; it may hold others.
  ///
  /// - Throws: ``ImageCacheError`` when the pictures have no room, or the file is none of ours; ``FileError``.
  public init(_ place: ImageCachePlace, of datasets: [any ImageDataset], height: Int, width: Int) throws {
    try self.init(
      place, of: datasets, height: height, width: width, availableMemory: SystemResources.availableMemory(),
      availableDisk: SystemResources.availableDisk)
  }

  init(
    _ place: ImageCachePlace, of datasets: [any ImageDataset], height: Int, width: Int, availableMemory: Int?,
    availableDisk: (_ folder: String) -> Int?
  ) throws {
    self.place = place
    self.datasets = datasets
    self.height = height
    self.width = width
    identities = datasets.map { dataset in (0..<dataset.count).map { dataset.identity(at: $0) } }
    let count = identities.reduce(0) { $0 + $1.count }
    let bytes = count * height * width * 3
    switch place {
    case .memory:
      (found, complaint) = (nil, nil)
      if let availableMemory, bytes > availableMemory {
        throw ImageCacheError.noMemory(
          pictures: count, height: height, width: width, bytes: bytes, available: availableMemory)
      }
    case .file(let path):
      let folder = Self.existingFolder(above: path)
      guard FolderDataset.isFolder(folder) else { throw FileError("write", path, code: ENOTDIR) }
      guard access(folder, W_OK | X_OK) == 0 else { throw FileError("write", path) }
      (found, complaint) = try Self.look(at: path, for: identities.joined(), height: height, width: width)
      if found == nil, let available = availableDisk(folder), bytes > available {
        throw ImageCacheError.noDisk(
          path: path, pictures: count, height: height, width: width, bytes: bytes, available: available)
      }
    }
  }

  /// A run's own folder is only made when the run begins.
  private static func existingFolder(above path: String) -> String {
    let folder = AtomicFile.folder(of: path)
    let isThere = folder == "." || folder == "/" || access(folder, F_OK) == 0
    return isThere ? folder : existingFolder(above: folder)
  }

  private static func look(
    at path: String, for identities: some Sequence<String>, height: Int, width: Int
  ) throws -> (ImageCacheFile?, complaint: String?) {
    switch try ImageCacheFile.open(path) {
    case .missing: return (nil, nil)
    case .unusable(let problem): return (nil, problem)
    case .usable(let file):
      guard file.index.height == height, file.index.width == width else {
        return (nil, "holds photos of \(file.index.height)×\(file.index.width), not \(height)×\(width)")
      }
      let cache = file.cache
      let missing = identities.count { !cache.covers($0) }
      return missing == 0
        ? (file, nil) : (nil, "lacks \(missing) photo\(missing == 1 ? "" : "s"), or they have changed since")
    }
  }

  /// Makes the cache: checks the file, or decodes all pictures, in the data sets' order.
  ///
  /// - Parameters:
  ///   - workers: threads that decode.
  ///   - say: takes a line about a file that is replaced.
  ///   - progress: told how many pictures of how many are done. What it throws ends the work and leaves nothing behind.
  public func carryOut(
    workers: Int, say: (String) -> Void, progress: (_ work: Work, _ done: Int, _ total: Int) throws -> Void
  ) throws -> ImageCache {
    switch place {
    case .memory:
      let memory = try MappedMemory(zeros: identities.reduce(0) { $0 + $1.count } * height * width * 3)
      var end = 0
      let index = try fill(workers: workers, progress) { pixels in
        UnsafeMutableRawBufferPointer(rebasing: memory.mutableBytes[end...]).copyMemory(from: pixels)
        end += pixels.count
      }
      return ImageCache(index, in: memory, firstByte: 0)
    case .file(let path):
      var complaint = complaint
      if let found {
        let total = found.index.pictures.count
        if try found.isWhole({ try progress(.checking, $0, total) }) { return found.cache }
        complaint = "is damaged"
      }
      if let complaint { say("\(path) \(complaint): it is made anew") }
      // A process that was killed may have left half of a cache.
      AtomicFile.removeTemporaries(in: AtomicFile.folder(of: path))
      try ImageCacheFile.write(to: path) { append in try fill(workers: workers, progress, append) }
      guard case .usable(let file) = try ImageCacheFile.open(path) else {
        throw FileError("read", path, reason: "it has changed while it was written")
      }
      return file.cache
    }
  }

  private func fill(
    workers: Int, _ progress: (_ work: Work, _ done: Int, _ total: Int) throws -> Void,
    _ append: (UnsafeRawBufferPointer) throws -> Void
  ) throws -> ImageCacheIndex {
    var index = ImageCacheIndex(height: height, width: width)
    let total = identities.reduce(0) { $0 + $1.count }
    for (dataset, identities) in zip(datasets, identities) {
      let loader = BatchLoader(
        dataset, batchSize: min(16, dataset.count), height: height, width: width, shuffle: false, workers: workers)
      let stream = loader.epoch(0)
      let before = index.pictures.count + index.undecodable.count
      do {
        while let batch = try stream.next() {
          try batch.pixels.withUnsafeBytes { bytes in
            for (slot, position) in batch.indices.enumerated() {
              let size = index.pictureBytes
              let pixels = UnsafeRawBufferPointer(rebasing: bytes[slot * size..<(slot + 1) * size])
              try append(pixels)
              index.pictures.append(.init(identity: identities[position], checksum: checksum(of: pixels)))
            }
          }
          try progress(.decoding, index.pictures.count + index.undecodable.count + loader.skipped.count, total)
        }
      } catch DatasetError.noReadableImage {
        // Whoever reads the data set will meet it too, and say so.
      }
      index.undecodable += loader.skipped.map { identities[$0.index] }
      // The last of a data set may be bad.
      try progress(.decoding, before + dataset.count, total)
    }
    return index
  }
}

/// Why pictures cannot be cached.
public enum ImageCacheError: Error, Equatable, Sendable, CustomStringConvertible {
  /// They need more memory than is available.
  case noMemory(pictures: Int, height: Int, width: Int, bytes: Int, available: Int)
  /// They need more room than the file's disk has.
  case noDisk(path: String, pictures: Int, height: Int, width: Int, bytes: Int, available: Int)
  /// There is something else at that path.
  case foreign(path: String)

  /// What is wrong and what to do, in one line.
  public var description: String {
    func need(_ pictures: Int, _ height: Int, _ width: Int, _ bytes: Int) -> String {
      "\(pictures) photos of \(height)×\(width)×3 bytes need \(formatBytes(bytes))"
    }
    switch self {
    case .noMemory(let pictures, let height, let width, let bytes, let available):
      return "a cache in memory: \(need(pictures, height, width, bytes)), \(formatBytes(available)) are available; "
        + "a file (--cache FILE) or a smaller --limit or --input-size helps"
    case .noDisk(let path, let pictures, let height, let width, let bytes, let available):
      return "a cache in \(path): \(need(pictures, height, width, bytes)), \(formatBytes(available)) are free there"
    case .foreign(let path): return "\(path) exists and is no cache of photos: name another file"
    }
  }
}
