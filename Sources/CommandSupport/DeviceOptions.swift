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
    let precision = precision ?? .float32
    description.equip(
      for: precision, usesTuning: !noTuning, cacheFolder: UserCache.folder(environment: environment),
      environment: environment, note: say)
    if let line = description.productsLine(precision) { say(line) }
    return description
  }

  /// Opens the device.
  ///
  /// - Parameter precision: of the model that it is for.
  public func open(for precision: Precision?, profiling: Bool = false) throws -> Device {
    try Device(describe(for: precision), profiling: profiling)
  }
}
