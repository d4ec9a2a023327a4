import ArgumentParser
import Foundation
import Fovea

extension ParsableCommand {
  /// Parses the command line and runs the command, as `main()` does, but for wrong uses, be they seen in the command line or
  /// in running, such as a folder that does not exist: they print one line, without the usage, and exit with 64.
  public static func runWithOneLineErrors() {
    KernelPreparation.serveIfAsked()
    guard let failure = failure(of: Array(CommandLine.arguments.dropFirst())) else { return }
    guard failure.status == ExitCode.validationFailure.rawValue else { exit(withError: failure.error) }
    note("Error: \(failure.text)")
    Foundation.exit(failure.status)
  }

  /// Parses the arguments and runs their command; nil when it went well.
  package static func failure(of arguments: [String]) -> CommandFailure? {
    do {
      var command = try parseAsRoot(joiningNegativeNumbers(arguments))
      do {
        try command.run()
        return nil
      } catch  where isWrongUse(error) {
        return CommandFailure(
          error: error, text: message(for: error), status: ExitCode.validationFailure.rawValue)
      }
    } catch {
      let status = exitCode(for: error)
      var text = message(for: error)
      if status == .validationFailure,
        let help = fullMessage(for: error).firstMatch(of: /See ('.+ --help')/)?.output.1
      {
        text += " (see \(help))"
      }
      return CommandFailure(error: error, text: text, status: status.rawValue)
    }
  }
}

/// Why a command ended otherwise than well, or with something to show, such as its help.
package struct CommandFailure {
  fileprivate let error: any Error
  /// In one line, without the usage, where the command line cannot be followed.
  package let text: String
  /// What the process ends with.
  package let status: Int32
}

/// Exit statuses: 64 when the command line cannot be followed as it stands, because an option is wrong, or what it names
/// is not there or is something else; 1 when the work that it asked for fails; 128 and the number for a signal.
///
/// - Returns: whether an error is of the first kind. The types of those tell, because each is thrown where something named
///   is opened.
package func isWrongUse(_ error: any Error) -> Bool {
  switch error {
  case is ValidationError, is RunError, is ModelError, is WeightsError, is ReferenceError, is ImageCacheError: true
  case OpenCLError.noDevice: true
  case DatasetError.badImage, DatasetError.noReadableImage: false
  case is DatasetError: true
  case let error as SafetensorsError:
    switch error.reason {
    case .changedWhileReading, .cannotRepresent: false
    default: true
    }
  case let error as FileError: error.action == "read"
  default: false
  }
}

/// The same arguments with `--epochs -1` as `--epochs=-1`: otherwise the number is taken for an option, and the message
/// says that the value is missing.
package func joiningNegativeNumbers(_ arguments: [String]) -> [String] {
  var result: [String] = []
  var rest = arguments[...]
  while let argument = rest.popFirst() {
    if argument == "--" { return result + [argument] + rest }
    let isOption = argument.hasPrefix("--") && !argument.contains("=")
    if isOption, let next = rest.first, next.hasPrefix("-"), Double(next) != nil {
      result.append("\(argument)=\(next)")
      rest.removeFirst()
    } else {
      result.append(argument)
    }
  }
  return result
}
