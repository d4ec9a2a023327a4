import Foundation

/// A file or folder that could not be read or written, and why.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What was being done, such as "read" or "write".
  public let action: String
  /// The path as the caller gave it.
  public let path: String
  /// The system's own words, such as "Permission denied".
  public let reason: String

  /// What failed and why, in one line.
  public var description: String { "cannot \(action) \(path): \(reason)" }

  package init(_ action: String, _ path: String, reason: String) {
    self.action = action
    self.path = path
    self.reason = reason
  }

  /// The failure of the system call that was made last.
  package init(_ action: String, _ path: String, code: Int32 = errno) {
    self.init(action, path, reason: String(cString: strerror(code)))
  }
}

/// Files that are either written whole or not at all.
///
/// The bytes go to a temporary file in the same folder, which takes the final name only once they are on the disk. A
/// run that is killed, or a disk that fills up, leaves the previous file as it was.
package struct AtomicFile: ~Copyable {
  private let descriptor: Int32
  private let path: String

  /// Writes `text` to `path`.
  package static func write(_ text: String, to path: String) throws {
    try write(to: path) { file in
      var text = text
      try text.withUTF8 { try file.append(UnsafeRawBufferPointer($0)) }
    }
  }

  /// Writes `bytes` to `path`.
  package static func write(_ bytes: [UInt8], to path: String) throws {
    try write(to: path) { file in try bytes.withUnsafeBytes { try file.append($0) } }
  }

  /// Writes to `path` what `body` appends. When it throws, nothing is left behind.
  package static func write(to path: String, _ body: (borrowing AtomicFile) throws -> Void) throws {
    // Renaming would replace a device such as /dev/null by a plain file.
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
      throw FileError("write", path, reason: "it exists and is not a plain file")
    }
    // The access rights are those of any new file: the umask applies, as it would not with mkstemp.
    let temporary = Self.temporaryPath(beside: path)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw FileError("write", path) }
    var isOpen = true
    do {
      try body(AtomicFile(descriptor: descriptor, path: path))
      guard fsync(descriptor) == 0 else { throw FileError("write", path) }
      isOpen = false
      guard close(descriptor) == 0 else { throw FileError("write", path) }
      guard rename(temporary, path) == 0 else { throw FileError("write", path) }
    } catch {
      if isOpen { close(descriptor) }
      unlink(temporary)
      throw error
    }
    Self.syncFolder(Self.folder(of: path))
  }

  /// Appends `bytes`.
  package borrowing func append(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = Foundation.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if count < 0 {
        guard errno == EINTR else { throw FileError("write", path) }
      } else {
        rest = rest.dropFirst(count)
      }
    }
  }

  /// A path in the same folder that nothing has yet: short and without the final name, which may itself be as long as
  /// the file system allows.
  static func temporaryPath(beside path: String) -> String {
    folder(of: path) + "/" + temporaryPrefix + String(UInt64.random(in: 0...UInt64.max), radix: 36) + temporarySuffix
  }

  /// Removes what writing to files of `folder` left behind when it was killed. Nothing may be writing there.
  package static func removeTemporaries(in folder: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where name.hasPrefix(temporaryPrefix) && name.hasSuffix(temporarySuffix) {
      try? FileManager.default.removeItem(atPath: folder + "/" + name)
    }
  }

  private static let temporaryPrefix = ".fovea-"
  private static let temporarySuffix = ".tmp"

  /// New names in a folder survive a power cut only once the folder is on the disk too. Some file systems cannot do
  /// this; the files are complete either way.
  static func syncFolder(_ folder: String) {
    let descriptor = open(folder, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }

  package static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }
}
