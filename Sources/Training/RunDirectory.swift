import Foundation
import NeuralNetwork

/// The folder that holds what a run leaves behind: its configuration, weights, history and pictures.
public struct RunDirectory: Sendable {
  /// The folder's path as the caller gave it, without trailing slashes.
  public let path: String

  /// Creates the folder and its parents where they are missing and checks that files can be written there, so that a
  /// run fails before its first step and not after its last. Throws ``FileError``.
  public init(_ path: String) throws {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    guard !path.isEmpty else { throw FileError("create", "\"\"", reason: "the path is empty") }
    try Self.create(path)
    guard access(path, W_OK | X_OK) == 0 else { throw FileError("write to", path) }
    self.path = path
  }

  /// Claims the folder for this process until it ends, and removes what a killed run left half-written. Throws
  /// ``FileError`` when another run holds the folder.
  public func claim() throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    // Never closed: the lock lasts as long as the descriptor. Where the file system has no locks, nothing is claimed.
    if descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
      close(descriptor)
      throw FileError("write to", path, reason: "another run is writing there")
    }
    for folder in [path, CheckpointFolder(run: path).path] {
      AtomicFile.removeTemporaries(in: folder, folders: true)
    }
  }

  /// The path of the file `name` in the folder.
  public func path(of name: String) -> String {
    path == "/" ? "/" + name : path + "/" + name
  }

  /// Writes `text` to the file `name`, whole or not at all.
  public func write(_ text: String, to name: String) throws {
    try AtomicFile.write(text, to: path(of: name))
  }

  /// Creates the folder `path` and its parents where they are missing.
  static func create(_ path: String) throws {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFDIR else {
        throw FileError("create", path, reason: "it exists and is not a folder")
      }
      return
    }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try create(String(path[..<slash]))
    }
    // Another run may have created it meanwhile.
    guard mkdir(path, 0o777) == 0 || errno == EEXIST else { throw FileError("create", path) }
  }
}
