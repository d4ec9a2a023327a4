import Foundation
import NeuralNetwork
import Testing

@testable import Training

/// A path of its own for one test, removed with the last reference to it.
final class TemporaryPath {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func text(_ name: String) throws -> String { try String(contentsOfFile: path + "/" + name, encoding: .utf8) }
}

@Suite struct RunDirectoryTests {
  @Test func createsParentsAndWrites() throws {
    let folder = TemporaryPath()
    let directory = try RunDirectory(folder.path + "/a/b//")
    #expect(directory.path == folder.path + "/a/b")
    #expect(directory.path(of: "x.txt") == folder.path + "/a/b/x.txt")
    try directory.write("one", to: "x.txt")
    try directory.write("two", to: "x.txt")
    #expect(try folder.text("a/b/x.txt") == "two")
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["x.txt"])
    // An existing folder is fine.
    _ = try RunDirectory(directory.path)
  }

  @Test func saysWhatIsWrong() throws {
    let folder = TemporaryPath()
    let directory = try RunDirectory(folder.path)
    try directory.write("", to: "file")
    #expect(throws: FileError.self) { try RunDirectory("") }
    let error = #expect(throws: FileError.self) { try RunDirectory(directory.path(of: "file")) }
    #expect(error?.description == "cannot create \(folder.path)/file: it exists and is not a folder")
    #expect(throws: FileError.self) { try RunDirectory(directory.path(of: "file/below")) }
  }

  // The superuser may write anywhere.
  @Test(.enabled(if: geteuid() != 0)) func refusesAFolderThatCannotBeWritten() throws {
    let folder = TemporaryPath()
    _ = try RunDirectory(folder.path)
    #expect(chmod(folder.path, 0o555) == 0)
    let error = #expect(throws: FileError.self) { try RunDirectory(folder.path) }
    #expect(error?.description == "cannot write to \(folder.path): Permission denied")
    #expect(chmod(folder.path, 0o755) == 0)
  }
}
