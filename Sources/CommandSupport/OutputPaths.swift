import ArgumentParser
import Foundation
import Fovea
import NeuralNetwork

// A folder that is to hold results is made, with those above it, as the default runs/latest is. A file's folder must be
// there: one that is missing is rather a typing mistake.

/// Refuses a file that cannot be written, before the work whose result it is to hold. Removes what killed processes have
/// left half-written beside it.
///
/// - Parameters:
///   - option: names the path in messages.
///   - made: the folder that the command makes for its results, which need not be there yet.
/// - Throws: `ValidationError`, which names the option.
public func checkOutput(_ path: String, of option: String, orIn made: String? = nil) throws {
  let folder = standardized(AtomicFile.folder(of: path))
  if let made, standardized(made) == folder, access(folder, F_OK) != 0 { return }
  var isFolder: ObjCBool = false
  guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
    throw ValidationError("\(option) \(path): there is no folder \(folder)")
  }
  guard access(folder, W_OK | X_OK) == 0 else {
    throw ValidationError("\(option) \(path): the folder \(folder) cannot be written to")
  }
  if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
    throw ValidationError("\(option) \(path): that is a folder, not a file")
  }
  AtomicFile.removeTemporaries(in: folder)
}

/// Refuses a folder that cannot be made whole in one step, before the work whose result it is to hold: there must be
/// nothing of that name, or an empty folder, in a folder that is there.
///
/// - Parameter option: names the path in messages.
/// - Returns: the path, standardized.
/// - Throws: `ValidationError`, which names the option and what to do.
public func checkedNewFolder(_ path: String, of option: String) throws -> String {
  let files = FileManager.default
  let folder = standardized(path)
  let parent = AtomicFile.folder(of: folder)
  var isFolder: ObjCBool = false
  guard files.fileExists(atPath: parent, isDirectory: &isFolder), isFolder.boolValue else {
    throw ValidationError("\(option) \(path): there is no folder \(parent): make it first, or name another place")
  }
  guard access(parent, W_OK | X_OK) == 0 else {
    throw ValidationError("\(option) \(path): the folder \(parent) cannot be written to: name another place")
  }
  guard files.fileExists(atPath: folder, isDirectory: &isFolder) else { return folder }
  guard isFolder.boolValue else {
    throw ValidationError("\(option) \(path): that is a file: name a folder that is not there yet")
  }
  guard try files.contentsOfDirectory(atPath: folder).isEmpty else {
    throw ValidationError("\(option) \(path): that folder is not empty: remove it, or name one that is not there yet")
  }
  return folder
}

private func standardized(_ path: String) -> String { URL(fileURLWithPath: path).standardizedFileURL.path }

/// The folder that an option names for results, made where it is missing.
///
/// - Throws: `ValidationError`.
public func openOutputFolder(_ path: String) throws -> RunDirectory {
  do {
    return try RunDirectory(path)
  } catch let error as FileError {
    throw ValidationError("--output: \(error)")
  }
}
