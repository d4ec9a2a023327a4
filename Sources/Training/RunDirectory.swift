import Foundation
import NeuralNetwork

/// The folder that a run writes to.
public struct RunDirectory: Sendable {
  public let path: String

  /// Creates the folder with its parents and makes sure that files can be written there; throws `FileError` otherwise.
  public init(_ path: String) throws {
    self.path = path
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      let reason = (error as NSError).userInfo[NSUnderlyingErrorKey].map { "\($0 as? any Error ?? error)" }
      throw FileError("create the folder", path, reason: Self.shortReason(error) ?? reason ?? "\(error)")
    }
    guard access(path, W_OK | X_OK) == 0 else { throw FileError("write to the folder", path) }
  }

  /// Where a file of this run lies.
  public func path(of name: String) -> String { path + "/" + name }

  /// Writes a text file, all of it or nothing.
  public func write(_ text: String, to name: String) throws {
    try AtomicFile.write(text, to: path(of: name))
  }

  private static func shortReason(_ error: any Error) -> String? {
    let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError
    return underlying.domain == NSPOSIXErrorDomain ? String(cString: strerror(Int32(underlying.code))) : nil
  }
}
