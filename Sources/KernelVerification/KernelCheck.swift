import OpenCLRuntime
import Operations
import ReferenceOperations

/// One check of a group of kernels.
package struct KernelCheck {
  /// The line of the report that it belongs to.
  package let group: String
  package let name: String
  /// On a planning device it launches the same and compares nothing.
  package let run: (Device) throws -> [Comparison]
  /// The programs under test on such a device.
  package let programs: (DeviceDescription) throws -> Set<PlannedProgram>

  /// - Parameter programs: nil for all that it launches.
  package init(
    _ group: String, _ name: String, programs: ((DeviceDescription) throws -> Set<PlannedProgram>)? = nil,
    run: @escaping (Device) throws -> [Comparison]
  ) {
    self.group = group
    self.name = name
    self.run = run
    self.programs = programs ?? { description in try StepPlan(on: description) { _ = try run($0) }.programs }
  }

  init(_ group: String, _ check: OperationCheck) {
    self.init(group, check.name) { try check.run(on: $0) }
  }
}

/// How much is checked.
package enum Thoroughness: Sendable {
  /// Each program of the plan once: before training on a device for the first time.
  case short
  /// Several sizes.
  case normal
  /// Also every channel count of the plan and odd ones, whose programs have to be compiled.
  case thorough
}
