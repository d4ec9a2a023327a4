import Foundation
import Fovea
import KernelVerification

/// The short check of a device's kernels before something is trained on it for the first time, remembered in the user's
/// cache folder by device, driver, model, kernels and their tuning.
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
    // A device of its own: what it keeps goes with it.
    let report = try verifyKernels(of: plan, on: Device(device), .short, dtype: model.precision?.storage ?? .float32)
    if let failure = report.failures.first {
      throw WrongResults(device: device.summary, failure: failure, others: report.failures.count - 1)
    }
    let checks = report.groups.reduce(0) { $0 + $1.cases }
    let seconds = -start.timeIntervalSinceNow
    var line = String(
      format: "Kernels  %d checks passed in %.1f s, once for this model, batch and device", checks, seconds)
    do {
      let identity = try identity(of: device)
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

  private func identity(of device: DeviceDescription) throws -> String {
    """
    \(device.identity)
    kernels \(String(KernelSource.libraryFingerprint, radix: 16)), tuned \(device.convolutionTable?.date ?? "never")
    products of \(device.matrixUnits.map { $0.operands.map(\.rawValue).sorted().joined(separator: " ") } ?? "float32")
    batch \(batchSize)
    \(try jsonText(model))

    """
  }
}
