import ArgumentParser
import Foundation
import Fovea

/// The device, as every command asks for it.
public struct DeviceOptions: ParsableArguments {
  /// What `--device` names.
  @Option(
    help: """
      auto, gpu, cpu, gpu:1, PLATFORM:DEVICE or part of a name; `fovea devices` lists them. Default: the environment's \
      FOVEA_DEVICE, else auto.
      """, completion: .list(["auto", "gpu", "cpu"]))
  public var device: String?

  /// Whether to ignore what `fovea tune` measured.
  @Flag(help: "Ignore what `fovea tune` measured on the device; so does FOVEA_TUNING=off in the environment.")
  public var noTuning = false

  /// The defaults.
  public init() {}

  /// The device that was asked for, with what was measured on it, what its matrix units can do, and a place for its
  /// compiled programs; `say` is told where measurements cannot be used, and how products are computed where the precision
  /// leaves a choice.
  ///
  /// - Parameter precision: of the model that it is for.
  package func describe(
    for precision: Precision?, environment: [String: String] = ProcessInfo.processInfo.environment,
    say: (String) -> Void = note
  ) throws -> DeviceDescription {
    var description = try DeviceSelection.pick(device, environment: environment)
    let keepsPrograms =
      switch environment["FOVEA_PROGRAM_CACHE"] {
      case "on": true
      case "off": false
      default: ProgramCache.helps(description)
      }
    if keepsPrograms {
      description.programCache = ProgramCache(folder: UserCache.folder(environment: environment) + "/programs")
    }
    // Opening the device for it takes a moment that plain float32 need not pay.
    if let precision, precision != .float32 { description.probeMatrixUnits() }
    description.usesTF32 = precision == .tf32
    if let line = description.productsLine(precision ?? .float32) { say(line) }
    if noTuning || environment["FOVEA_TUNING"] == "off" { return description }
    switch TuningDatabase.read(for: description, in: UserCache.folder(environment: environment)) {
    case .none: break
    case .usable(let database): description.convolutionTable = database.table
    case .unusable(let why): say("Default kernels: \(why); `fovea tune` measures again")
    }
    return description
  }

  /// Opens the device.
  ///
  /// - Parameter precision: of the model that it is for.
  public func open(for precision: Precision?, profiling: Bool = false) throws -> Device {
    try Device(describe(for: precision), profiling: profiling)
  }
}

extension DeviceDescription {
  /// How convolutions multiply: nil where the precision does not ask for anything that the device might lack, as plain
  /// float32, or 16 bits on devices that are not known for matrix units.
  package func productsLine(_ precision: Precision) -> String? {
    guard let asked = MatrixOperand(for: precision.storage, usesTF32: precision == .tf32),
      precision == .tf32 || matrixUnits != nil
    else { return nil }
    if matrixOperand(for: precision.storage) == asked {
      return "Products of \(asked.rawValue) on tensor cores, sums in float32"
    }
    let reason = matrixUnits.map { $0.problems[asked] ?? "they do not multiply \(asked.rawValue)" }
    return "Products in float32: "
      + (reason.map { "the tensor cores of \(name) are not used, \($0)" }
        ?? "\(name) has no tensor cores for \(asked.rawValue)")
  }
}
