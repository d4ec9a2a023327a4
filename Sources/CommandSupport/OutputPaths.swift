import ArgumentParser
import Foundation
import Fovea

/// Refuses a file that cannot be written, before the work whose result it is to hold.
///
/// - Throws: `ValidationError`, which names the option.
public func checkOutput(_ path: String, of option: String) throws {
  let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
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
}

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
