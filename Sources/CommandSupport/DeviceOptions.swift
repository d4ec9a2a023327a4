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

  /// The device that was asked for, with what was measured on it and a place for its compiled programs; `say` is told
  /// where measurements cannot be used.
  package func describe(
    environment: [String: String] = ProcessInfo.processInfo.environment, say: (String) -> Void = note
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
    if noTuning || environment["FOVEA_TUNING"] == "off" { return description }
    switch TuningDatabase.read(for: description, in: UserCache.folder(environment: environment)) {
    case .none: break
    case .usable(let database): description.convolutionTable = database.table
    case .unusable(let why): say("Default kernels: \(why); `fovea tune` measures again")
    }
    return description
  }

  /// Opens the device.
  public func open(profiling: Bool = false) throws -> Device {
    try Device(describe(), profiling: profiling)
  }
}
