import Foundation
import NeuralNetwork
import OpenCLRuntime

/// The folder for what can be made again: `fovea` in `XDG_CACHE_HOME`, else in `~/.cache`.
public enum UserCache {
  /// The folder's path; it need not be there.
  public static func folder(environment: [String: String] = ProcessInfo.processInfo.environment) -> String {
    // A relative path there is to be ignored, says the XDG base directory specification.
    if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") { return cache + "/fovea" }
    return (environment["HOME"] ?? NSHomeDirectory()) + "/.cache/fovea"
  }

  /// A short name for a file in the sub-folder `kind` about something that takes lines to identify. The file must hold
  /// these too, because names of different things could be the same.
  package static func name(_ kind: String, for identity: String) -> String {
    "\(kind)/\(String(fnv1a(identity.utf8), radix: 16))"
  }

  /// Writes `text` to the file `name`, which may lie in folders of its own; whole or not at all, also beside other runs.
  package static func write(_ text: String, to name: String, in folder: String = UserCache.folder()) throws {
    let path = folder + "/" + name
    let parent = NSString(string: path).deletingLastPathComponent
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    AtomicFile.removeTemporaries(in: parent)
    try AtomicFile.write(text, to: path)
  }

  /// The text of the file `name`, or nil when there is none.
  package static func text(of name: String, in folder: String = UserCache.folder()) -> String? {
    try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)
  }
}
