import Foundation
import Fovea
import KernelVerification

/// Compiles the kernels of a training step in a second process while the first one begins.
///
/// Drivers that keep compiled kernels on disk, as POCL, NVIDIA's and Mesa's do, may still compile one at a time within a
/// process: POCL takes 19 s for the main job. The helper plans the step and goes through its kernels from the last to the
/// first; the two processes meet in the middle, each finding on disk what the other has compiled. Where a driver keeps nothing,
/// the helper's work is lost and harms nothing.
package enum KernelPreparation {
  private static let variable = "FOVEA_PREPARE_KERNELS"
  /// Seconds. A program that takes longer to build is being compiled, not found.
  private static let slowBuild = 0.05

  private struct Request: Codable {
    var device: String
    /// Whether kernels are those that were measured on it.
    var isTuned: Bool
    var model: ModelDescription
    var batchSize: Int
    /// The process that asked; without it there is nobody to prepare for.
    var parent: Int32
  }

  /// Starts the helper as soon as the device's driver seems to have nothing compiled yet.
  ///
  /// - Parameter isNew: whether it is known that this step has not run on this device before.
  package static func start(model: ModelDescription, batchSize: Int, on device: Device, isNew: Bool = false) {
    let helper = DispatchWorkItem { run(model: model, batchSize: batchSize, on: device) }
    DispatchQueue.global().asyncAfter(deadline: .now() + (isNew ? 0 : slowBuild), execute: helper)
    // A kernel that the step needs as well.
    Tensor(uninitialized: [1], on: device).fill(1)
    if !isNew { helper.cancel() }
  }

  private static func run(model: ModelDescription, batchSize: Int, on device: Device) {
    let request = Request(
      device: device.description.selector, isTuned: device.description.convolutionTable != nil, model: model,
      batchSize: batchSize,
      parent: ProcessInfo.processInfo.processIdentifier)
    guard let executable = Bundle.main.executableURL, let data = try? JSONEncoder().encode(request) else {
      return
    }
    let helper = Process()
    helper.executableURL = executable
    helper.environment = ProcessInfo.processInfo.environment.merging([variable: String(decoding: data, as: UTF8.self)])
    { $1 }
    (helper.standardInput, helper.standardOutput, helper.standardError) =
      (FileHandle.nullDevice, FileHandle.nullDevice, FileHandle.nullDevice)
    // Without it everything works, only later.
    try? helper.run()
  }

  /// Does a helper's work and ends the process, if that is what the process was started for.
  static func serveIfAsked() {
    guard let text = ProcessInfo.processInfo.environment[variable] else { return }
    do {
      try serve(JSONDecoder().decode(Request.self, from: Data(text.utf8)))
    } catch {
      note("\(variable): \(error)")
      exit(1)
    }
    exit(0)
  }

  private static func serve(_ request: Request) throws {
    var options = DeviceOptions()
    options.device = request.device
    options.noTuning = !request.isTuned
    let device = try options.open(for: request.model.precision)
    let plan = try StepPlan(trainingStepOf: request.model, batchSize: request.batchSize, on: device.description)
    for launch in plan.compilations.reversed() {
      guard getppid() == request.parent else { return }
      try device.prepare(launch)
    }
  }
}
