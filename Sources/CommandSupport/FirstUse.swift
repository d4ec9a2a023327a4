import Foundation
import Fovea
import KernelVerification

/// The short check of a device's kernels before something is trained on it for the first time, remembered in the user's
/// cache folder by device, driver, kernels and their tuning. Another model or batch size is checked again only if its
/// step runs programs that have not been checked.
package struct FirstUse {
  /// Why a device is not trained on.
  package struct WrongResults: Error, CustomStringConvertible {
    let device: String
    let failure: KernelReport.Failure
    let others: Int

    package var description: String {
      "kernels compute wrongly on \(device): \(failure.check): \(failure.comparison)"
        + (others > 0 ? ", and \(others) more" : "") + "; `fovea verify` says more, another driver may help"
    }
  }

  private let model: ModelDescription
  private let batchSize: Int
  private let folder: String

  package init(model: ModelDescription, batchSize: Int, folder: String = UserCache.folder()) {
    self.model = model
    self.batchSize = batchSize
    self.folder = folder
  }

  /// Checks the kernels of a training step unless that was done before; says so through `say`. Throws `WrongResults`.
  package func check(_ device: DeviceDescription, say: (String) -> Void) throws {
    if try isKnown(device) { return }
    let start = Date()
    let plan = try StepPlan(trainingStepOf: model, batchSize: batchSize, on: device)
    let identity = try identity(of: device)
    let needed = Set(plan.programs.map { "\($0.source) \($0.kernel) \($0.options)" })
    let checked = checkedPrograms(on: device)
    if needed.isSubset(of: checked) {
      // Where that cannot be noted, the next run looks again.
      try? UserCache.write(identity, to: UserCache.name("verified", for: identity), in: folder)
      return
    }
    // A device of its own: what it keeps goes with it.
    let report = try verifyKernels(of: plan, on: Device(device), .short, dtype: model.precision?.storage ?? .float32)
    if let failure = report.failures.first {
      throw WrongResults(device: device.summary, failure: failure, others: report.failures.count - 1)
    }
    let checks = report.groups.reduce(0) { $0 + $1.cases }
    let seconds = -start.timeIntervalSinceNow
    var line = String(
      format: "Kernels  %d checks passed in %.1f s, once for the programs of this step on this device", checks, seconds)
    do {
      let kernels = kernels(of: device)
      try UserCache.write(
        kernels + checked.union(needed).sorted().joined(separator: "\n"), to: UserCache.name("checked", for: kernels),
        in: folder)
      try UserCache.write(identity, to: UserCache.name("verified", for: identity), in: folder)
    } catch {
      line += "; that could not be noted in \(folder): \(error)"
    }
    say(line)
  }

  /// Whether the device has been checked before.
  package func isKnown(_ device: DeviceDescription) throws -> Bool {
    let identity = try identity(of: device)
    return UserCache.text(of: UserCache.name("verified", for: identity), in: folder) == identity
  }

  /// The programs that have been checked on the device, a line each.
  private func checkedPrograms(on device: DeviceDescription) -> Set<String> {
    let kernels = kernels(of: device)
    guard let text = UserCache.text(of: UserCache.name("checked", for: kernels), in: folder), text.hasPrefix(kernels)
    else { return [] }
    return Set(text.dropFirst(kernels.count).split(separator: "\n").map(String.init))
  }

  private func identity(of device: DeviceDescription) throws -> String {
    """
    \(kernels(of: device))batch \(batchSize)
    \(try jsonText(model))

    """
  }

  /// What a program's results depend on besides its source's name and its options.
  private func kernels(of device: DeviceDescription) -> String {
    """
    \(device.identity)
    kernels \(String(KernelSource.libraryFingerprint, radix: 16)), tuned \(device.convolutionTable?.date ?? "never")
    products of \(device.matrixUnits.map { $0.operands.map(\.rawValue).sorted().joined(separator: " ") } ?? "float32")

    """
  }
}
