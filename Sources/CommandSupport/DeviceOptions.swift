import ArgumentParser
import Fovea

/// The device, as every command asks for it.
public struct DeviceOptions: ParsableArguments {
  /// What `--device` names.
  @Option(
    help: """
      auto, gpu, cpu, gpu:1, PLATFORM:DEVICE or part of a name; `fovea devices` lists them. Default: the environment's \
      FOVEA_DEVICE, else auto.
      """)
  public var device: String?

  /// The defaults.
  public init() {}

  /// What the device is, without opening it.
  public func description() throws -> DeviceDescription {
    try DeviceSelection.pick(device)
  }

  /// Opens the device.
  public func open(profiling: Bool = false) throws -> Device {
    try Device.open(device, profiling: profiling)
  }
}
