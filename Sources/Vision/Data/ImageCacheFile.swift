import Foundation
import NeuralNetwork

/// The file of an ``ImageCache``: a signature, the pictures' bytes without holes, the index as JSON, and the index's length
/// as a little-endian 64-bit integer. The index comes last because which pictures can be decoded is known last.
struct ImageCacheFile {
  /// What every such file begins with, whatever its version.
  private static let family = Array("fovea-images-".utf8)
  /// The number stands for the layout and for how pictures are decoded, squashed and drawn: it goes up when one of these
  /// gives other bytes than before.
  static let signature = family + Array("1\r\n".utf8)

  /// A file as it is found.
  enum State {
    case missing
    /// A cache, but of no use; what is wrong, to follow the path.
    case unusable(String)
    case usable(ImageCacheFile)
  }

  let index: ImageCacheIndex
  private let memory: MappedMemory

  /// Opens the file at `path`. Its index has been checked then, its pictures have not.
  ///
  /// - Throws: `ImageCacheError.foreign` for a file that is no cache, `FileError` for one that cannot be read.
  static func open(_ path: String) throws -> State {
    let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0, errno == ENOENT { return .missing }
    guard descriptor >= 0 else { throw FileError("read", path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileError("read", path) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw ImageCacheError.foreign(path: path) }
    let memory = try MappedMemory(mapping: descriptor, count: Int(status.st_size), path: path)
    guard memory.bytes.starts(with: family) else { throw ImageCacheError.foreign(path: path) }
    guard memory.bytes.starts(with: signature) else { return .unusable("is of another version") }
    guard let index = index(of: memory.bytes) else { return .unusable("is damaged") }
    return .usable(ImageCacheFile(index: index, memory: memory))
  }

  private static func index(of bytes: UnsafeRawBufferPointer) -> ImageCacheIndex? {
    let rest = bytes.count - signature.count - 8
    guard rest >= 0 else { return nil }
    let length = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self))
    guard length <= UInt64(rest) else { return nil }
    let text = Data(bytes[(bytes.count - 8 - Int(length))..<(bytes.count - 8)])
    guard let index = try? JSONDecoder().decode(ImageCacheIndex.self, from: text),
      (1...1 << 20).contains(index.height), (1...1 << 20).contains(index.width),
      case let (size, overflows) = index.pictures.count.multipliedReportingOverflow(by: index.pictureBytes), !overflows,
      size == rest - Int(length)
    else { return nil }
    return index
  }

  /// Whether every picture has its checksum. Reads the whole file.
  func isWhole(_ progress: (_ done: Int) throws -> Void) rethrows -> Bool {
    let size = index.pictureBytes
    for (slot, picture) in index.pictures.enumerated() {
      let start = Self.signature.count + slot * size
      let pixels = UnsafeRawBufferPointer(rebasing: memory.bytes[start..<start + size])
      if checksum(of: pixels) != picture.checksum { return false }
      try progress(slot + 1)
    }
    return true
  }

  var cache: ImageCache { ImageCache(index, in: memory, firstByte: Self.signature.count) }

  /// Writes the file whole or not at all. `fill` hands each picture's bytes on and returns the index.
  static func write(
    to path: String, _ fill: (_ append: (UnsafeRawBufferPointer) throws -> Void) throws -> ImageCacheIndex
  ) throws {
    try AtomicFile.write(to: path) { file in
      try signature.withUnsafeBytes { try file.append($0) }
      let index = try fill { try file.append($0) }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      let text = try encoder.encode(index)
      try text.withUnsafeBytes { try file.append($0) }
      try withUnsafeBytes(of: UInt64(text.count).littleEndian) { try file.append($0) }
    }
  }
}

/// FNV-1a over 64-bit words: any change of a single word changes it.
func checksum(of bytes: UnsafeRawBufferPointer) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  var offset = 0
  while offset + 8 <= bytes.count {
    hash = (hash ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* 0x100_0000_01b3
    offset += 8
  }
  while offset < bytes.count {
    hash = (hash ^ UInt64(bytes[offset])) &* 0x100_0000_01b3
    offset += 1
  }
  return String(hash, radix: 16)
}
