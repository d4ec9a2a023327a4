import Foundation

/// Folders of files that appear whole or not at all.
///
/// The files go to a temporary folder beside the final one, which takes the final name only once they are on the disk.
package enum AtomicFolder {
  /// Makes the folder `path`, where there must be nothing, of the files that `body` writes with ``AtomicFile`` to the
  /// folder that it is given. When it throws, nothing is left behind.
  package static func write(to path: String, _ body: (_ folder: String) throws -> Void) throws {
    let temporary = AtomicFile.temporaryPath(beside: path)
    guard mkdir(temporary, 0o777) == 0 else { throw FileError("create", path) }
    do {
      try body(temporary)
      AtomicFile.syncFolder(temporary)
      guard rename(temporary, path) == 0 else { throw FileError("create", path) }
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      guard let error = error as? FileError, error.path.hasPrefix(temporary) else { throw error }
      // Nobody knows the temporary folder.
      throw FileError(error.action, path + error.path.dropFirst(temporary.count), reason: error.reason)
    }
    AtomicFile.syncFolder(AtomicFile.folder(of: path))
  }

  /// Removes the folder `path` with all that is in it. It loses its name first, so that it is never seen half empty.
  package static func remove(_ path: String) throws {
    let temporary = AtomicFile.temporaryPath(beside: path)
    guard rename(path, temporary) == 0 else { throw FileError("remove", path) }
    do {
      try FileManager.default.removeItem(atPath: temporary)
    } catch {
      throw FileError("remove", path, reason: error.localizedDescription)
    }
  }
}
