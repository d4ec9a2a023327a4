import Foundation
import NeuralNetwork

/// Pictures decoded and squashed to one size, so that later epochs need not do it again: bytes that never change once they
/// are there, read by any number of threads.
///
/// ``ImageCachePlan`` makes one; ``ImageDataset/cached(in:)`` reads from it.
public final class ImageCache: Sendable {
  /// Rows of each picture.
  public let height: Int
  /// Columns of each picture.
  public let width: Int
  /// Pictures held.
  public let count: Int
  /// Where a picture's bytes begin, by the picture's identity; nil for one that could not be decoded.
  private let offsets: [String: Int?]
  private let memory: MappedMemory

  init(_ index: ImageCacheIndex, in memory: MappedMemory, firstByte: Int) {
    height = index.height
    width = index.width
    count = index.pictures.count
    let size = index.pictureBytes
    var offsets: [String: Int?] = [:]
    for identity in index.undecodable { offsets[identity] = .some(nil) }
    for (slot, picture) in index.pictures.enumerated() { offsets[picture.identity] = firstByte + slot * size }
    self.offsets = offsets
    self.memory = memory
  }

  /// Bytes of all pictures together.
  public var bytes: Int { count * height * width * 3 }

  /// Whether the picture has been looked at: it is here, or could not be decoded.
  func covers(_ identity: String) -> Bool { offsets[identity] != nil }

  fileprivate func offset(of identity: String) -> Int? { offsets[identity] ?? nil }

  fileprivate func pixels(at offset: Int) -> [UInt8] { Array(memory.bytes[offset..<offset + height * width * 3]) }
}

extension ImageDataset {
  /// The same pictures, taken from `cache` where they are wanted in its size and it holds them. Pictures that could not be
  /// decoded are tried again, and fail as they do without a cache.
  public func cached(in cache: ImageCache) -> any ImageDataset { CachedDataset(self, cache) }
}

private struct CachedDataset: ImageDataset {
  let base: any ImageDataset
  let cache: ImageCache
  /// Of each picture in the cache.
  let offsets: [Int?]

  init(_ base: any ImageDataset, _ cache: ImageCache) {
    self.base = base
    self.cache = cache
    offsets = (0..<base.count).map { cache.offset(of: base.identity(at: $0)) }
  }

  var classNames: [String] { base.classNames }
  var count: Int { base.count }
  func label(at index: Int) -> Int { base.label(at: index) }
  func name(at index: Int) -> String { base.name(at: index) }
  func identity(at index: Int) -> String { base.identity(at: index) }
  func image(at index: Int) throws -> RGBImage { try base.image(at: index) }

  func pixels(at index: Int, height: Int, width: Int) throws -> [UInt8] {
    guard height == cache.height, width == cache.width, let offset = offsets[index] else {
      return try base.pixels(at: index, height: height, width: width)
    }
    return cache.pixels(at: offset)
  }
}

/// What a cache holds, and where.
struct ImageCacheIndex: Codable {
  struct Picture: Codable {
    /// See ``ImageDataset/identity(at:)``.
    var identity: String
    /// Of its bytes, in hexadecimal.
    var checksum: String
  }

  var height: Int
  var width: Int
  /// In the order of their bytes, which follow each other without holes.
  var pictures: [Picture] = []
  /// Identities.
  var undecodable: [String] = []

  var pictureBytes: Int { height * width * 3 }
}

/// Bytes from the system, given back with the last reference.
///
/// Whoever makes one fills it before others see it: hence the unchecked Sendable.
final class MappedMemory: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  private let count: Int

  /// `count` zeros.
  convenience init(zeros count: Int) throws {
    try self.init(count, MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE, descriptor: -1, "memory for pictures")
  }

  /// The first `count` bytes of an open file, which must stay as it is. The descriptor may be closed afterwards.
  convenience init(mapping descriptor: Int32, count: Int, path: String) throws {
    try self.init(count, MAP_SHARED, PROT_READ, descriptor: descriptor, path)
  }

  private init(_ count: Int, _ flags: Int32, _ protection: Int32, descriptor: Int32, _ path: String) throws {
    let base = mmap(nil, max(count, 1), protection, flags, descriptor, 0)
    guard let base, base != MAP_FAILED else { throw FileError("map", path) }
    self.base = base
    self.count = count
  }

  deinit { munmap(base, max(count, 1)) }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// For the one who fills it.
  var mutableBytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: count) }
}
