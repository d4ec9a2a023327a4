import ArgumentParser
import Fovea

/// The device, as every command asks for it.
public struct DeviceOptions: ParsableArguments {
  @Option(
    help: """
      auto, gpu, cpu, gpu:1, PLATFORM:DEVICE or part of a name; `fovea devices` lists them. Default: the environment's \
      FOVEA_DEVICE, else auto.
      """)
  public var device: String?

  public init() {}

  public func open(profiling: Bool = false) throws -> Device {
    try Device.open(device, profiling: profiling)
  }
}
