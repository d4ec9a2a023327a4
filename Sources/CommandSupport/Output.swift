import Foundation

/// Prints a line at once, also into a pipe, where `print` would hold it back and mix up its order with progress lines.
public func say(_ line: String) {
  FileHandle.standardOutput.write(Data((line + "\n").utf8))
}
