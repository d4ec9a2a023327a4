import ArgumentParser
import Foundation

extension ParsableCommand {
  /// Parses the command line and runs the command, as `main()` does, but for mistakes that only show in running, such as a
  /// folder that does not exist: they print their one line, without the usage, and exit with 64 as all wrong uses do.
  public static func runWithOneLineErrors() {
    KernelPreparation.serveIfAsked()
    var command: any ParsableCommand
    do {
      command = try parseAsRoot()
    } catch {
      exit(withError: error)
    }
    do {
      try command.run()
    } catch let error as ValidationError {
      note("Error: \(error.message)")
      Foundation.exit(ExitCode.validationFailure.rawValue)
    } catch {
      exit(withError: error)
    }
  }
}
