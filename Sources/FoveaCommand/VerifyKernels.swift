import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification

extension Verify {
  /// What `--json` prints.
  private struct Report: Encodable {
    struct Group: Encodable {
      var kernels: String
      var cases: Int
      var worstError: Double
      var limit: Double
    }
    struct Failure: Encodable {
      var check: String
      var comparison: String
      var error: Double
      var limit: Double
      var programs: [String]
    }
    var device: String
    var platform: String
    var driver: String
    var passed: Bool
    var seconds: Double
    var groups: [Group]
    var failures: [Failure]
    var unchecked: [String]
  }

  func verifyKernels() throws {
    let device = try device.open(for: model.precision)
    let description = device.description
    let start = Date()
    let plan = try StepPlan(
      trainingStepOf: model.description(classes: 2, batchNormMomentum: 0.99), batchSize: batchSize, on: description)
    let report = try checked(plan, on: device)
    let seconds = -start.timeIntervalSinceNow
    if json {
      print(try jsonText(encodable(report, description, seconds)))
    } else {
      printTable(report, description, seconds, programs: plan.programs.count)
    }
    if !report.passed || !report.unchecked.isEmpty { throw ExitCode.failure }
  }

  /// Progress goes to standard error: the table alone can be kept.
  private func checked(_ plan: StepPlan, on device: Device) throws -> KernelReport {
    let thoroughness: Thoroughness = thorough ? .thorough : .normal
    var line: ProgressLine?
    let report = try KernelVerification.verifyKernels(
      of: plan, on: device, thoroughness, dtype: model.precision?.storage ?? .float32
    ) { done, total in
      line =
        line ?? standardErrorProgress("Checking the kernels of a step on \(device.description.summary)", total: total)
      line?.update(step: done, fields: [])
    }
    line?.finish(fields: [])
    return report
  }

  private func printTable(
    _ report: KernelReport, _ device: DeviceDescription, _ seconds: Double, programs: Int
  ) {
    print(device.header)
    print("kernels               cases  worst error     limit")
    for group in report.groups {
      let failed = report.failures.contains { failure in group.worst.map { $0.what == failure.comparison.what } ?? false
      }
      print(
        group.name.padding(toLength: 20, withPad: " ", startingAt: 0)
          + String(format: "%7d", group.cases) + "     \(scientific(group.worst?.error ?? 0))  "
          + scientific(group.worst?.limit ?? 0) + (failed ? "  BEYOND ITS LIMIT" : ""))
    }
    for failure in report.failures {
      print("FAILED \(failure.check)\n  \(failure.comparison)")
      print("  device \(device.name), platform \(device.platformName), driver \(device.driverVersion)")
      for program in failure.programs { print("  \(program.text)") }
    }
    let wrong = report.failures.flatMap(\.programs)
    if device.miscompilesBarriers, wrong.contains(where: { $0.kernel.hasPrefix("conv_tiled") }) {
      print("POCL 5 and 6 compile some kernels with barriers wrongly, others each time; POCL 7.1 does not")
    }
    for program in report.unchecked { print("NOT CHECKED \(program.text)") }
    let verdict = report.passed && report.unchecked.isEmpty ? "passed" : "FAILED"
    print(
      String(
        format: "%@: %d of the step's %d programs checked in %.1f s", verdict, programs - report.unchecked.count,
        programs, seconds))
  }

  private func encodable(_ report: KernelReport, _ device: DeviceDescription, _ seconds: Double) -> Report {
    Report(
      device: device.name, platform: device.platformName, driver: device.driverVersion,
      passed: report.passed && report.unchecked.isEmpty, seconds: seconds,
      groups: report.groups.map {
        .init(kernels: $0.name, cases: $0.cases, worstError: $0.worst?.error ?? 0, limit: $0.worst?.limit ?? 0)
      },
      failures: report.failures.map {
        .init(
          check: $0.check, comparison: $0.comparison.what, error: $0.comparison.error, limit: $0.comparison.limit,
          programs: $0.programs.map(\.text))
      }, unchecked: report.unchecked.map(\.text))
  }
}

extension PlannedProgram {
  /// Kernel, file and options.
  var text: String { "\(kernel) of \(source), options '\(options)'" }
}
