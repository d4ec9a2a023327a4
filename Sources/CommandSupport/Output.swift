import Foundation
import Fovea

/// Prints a line at once, also into a pipe, where `print` would hold it back and mix up its order with progress lines.
public func say(_ line: String) {
  FileHandle.standardOutput.write(Data((line + "\n").utf8))
}

/// Prints a line to standard error: what concerns the user and is no result.
public func note(_ line: String) {
  FileHandle.standardError.write(Data((line + "\n").utf8))
}

/// The environment's name for: standard input is a pipe, and its end a request to stop. `fovea compare` sets it for the runs
/// that it starts.
package let stopsWithParent = "FOVEA_STOP_WITH_PARENT"

extension String {
  /// The text with spaces after it, `width` characters wide; a longer one is left as it is.
  public func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(width - count, 0))
  }

  /// The text with spaces before it, `width` characters wide; a longer one is left as it is.
  public func aligned(to width: Int) -> String {
    String(repeating: " ", count: max(width - count, 0)) + self
  }
}

/// A progress line on standard error, for commands whose result goes to standard output.
public func standardErrorProgress(_ title: String, total: Int) -> ProgressLine {
  ProgressLine(
    title: title, total: total, sink: { FileHandle.standardError.write(Data($0.utf8)) },
    isTerminal: isatty(STDERR_FILENO) == 1)
}
