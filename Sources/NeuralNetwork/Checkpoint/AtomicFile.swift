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
    let (temporary, descriptor) = try Self.openTemporary(beside: path)
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

  /// A new temporary file, locked for as long as it is open: that tells one that is being written from one that a killed
  /// process has left.
  private static func openTemporary(beside path: String) throws -> (path: String, descriptor: Int32) {
    while true {
      let temporary = temporaryPath(beside: path)
      let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else { throw FileError("write", path) }
      // Where the file system has no locks, nobody removes it either.
      let isLocked = flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
      var status = stat()
      // Before it was locked, it may have been taken for one left behind.
      if isLocked, fstat(descriptor, &status) == 0, status.st_nlink > 0 { return (temporary, descriptor) }
      close(descriptor)
      unlink(temporary)
    }
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

  /// Removes the temporary files that killed processes have left in `folder`, and none that is still being written.
  ///
  /// - Parameter folders: whether to remove those of ``AtomicFolder`` as well: nobody else may be making or removing
  ///   any there.
  package static func removeTemporaries(in folder: String, folders: Bool = false) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where name.hasPrefix(temporaryPrefix) && name.hasSuffix(temporarySuffix) {
      let path = folder + "/" + name
      let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      guard descriptor >= 0 else { continue }
      defer { close(descriptor) }
      var status = stat()
      guard fstat(descriptor, &status) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFDIR {
        if folders { try? FileManager.default.removeItem(atPath: path) }
      } else if flock(descriptor, LOCK_EX | LOCK_NB) == 0 {
        unlink(path)
      }
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
