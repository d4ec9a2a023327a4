import OpenCLRuntime
import Operations
import TensorCore

/// What came out of checking a device's kernels.
package struct KernelReport: Sendable {
  /// A line: the kernels of a kind.
  package struct Group: Sendable {
    package let name: String
    package internal(set) var cases = 0
    /// The comparison that came closest to its limit, or went furthest beyond it.
    package internal(set) var worst: Comparison?
  }

  /// A comparison that failed, with the programs that its check runs: one of them computes wrongly here.
  package struct Failure: Sendable {
    package let check: String
    package let comparison: Comparison
    package let programs: [PlannedProgram]
  }

  package internal(set) var groups: [Group] = []
  package internal(set) var failures: [Failure] = []
  /// Programs of the plan that no check ran.
  package internal(set) var unchecked: [PlannedProgram] = []

  package var passed: Bool { failures.isEmpty }
}

/// Runs every kernel variant of `plan` on `device` and compares with double-precision loops on the host.
///
/// - Parameters:
///   - plan: of the step whose kernels matter, on a device of the same description.
///   - dtype: the type of the step's tensors between layers.
///   - progress: called after each check with the number done and of all.
/// - Throws: `DeviceFailedCheck`, which names program and options where one does not compile.
package func verifyKernels(
  of plan: StepPlan, on device: Device, _ thoroughness: Thoroughness = .normal, dtype: DType = .float32,
  progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
) throws -> KernelReport {
  let checks =
    try convolutionChecks(of: plan, on: device.description, thoroughness) + operationChecks(thoroughness, dtype)
  var report = KernelReport()
  for (index, check) in checks.enumerated() {
    let comparisons: [Comparison]
    do {
      comparisons = try check.run(device)
    } catch let error as OpenCLError {
      throw DeviceFailedCheck(check: check.name, device: device.description, error: error)
    }
    report.add(comparisons, of: check)
    let failed = comparisons.filter { !$0.passed }
    if !failed.isEmpty {
      let programs = try check.programs(device.description).sorted()
      report.failures += failed.map { .init(check: check.name, comparison: $0, programs: programs) }
    }
    progress(index + 1, checks.count)
  }
  report.unchecked = plan.programs.subtracting(device.programsInUse)
    .sorted()
  return report
}

/// A check that the device could not run, such as for a program that does not compile.
package struct DeviceFailedCheck: Error, CustomStringConvertible {
  package let check: String
  package let device: DeviceDescription
  package let error: OpenCLError

  package var description: String { "\(error) (driver \(device.driverVersion), in the check of \(check))" }
}

extension KernelReport {
  fileprivate mutating func add(_ comparisons: [Comparison], of check: KernelCheck) {
    let index =
      groups.firstIndex { $0.name == check.group }
      ?? {
        groups.append(Group(name: check.group))
        return groups.count - 1
      }()
    groups[index].cases += 1
    for comparison in comparisons
    where groups[index].worst.map({ comparison.badness > $0.badness }) ?? true {
      groups[index].worst = comparison
    }
  }
}

extension Comparison {
  /// Error as a share of the limit; not-a-number is worst.
  fileprivate var badness: Double {
    if passed { return limit > 0 ? error / limit : 0 }
    return error.isNaN ? .infinity : limit > 0 ? error / limit : .infinity
  }
}
