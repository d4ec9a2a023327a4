import ArgumentParser
import CommandSupport
import Fovea

struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List all OpenCL platforms and devices, with the text that --device wants.")

  @Flag(help: "Print JSON.")
  var json = false

  private struct Row: Encodable {
    var selector: String
    var kind: String
    var name: String
    var vendor: String
    var platform: String
    var driver: String
    var opencl: String
    var computeUnits: Int
    var memoryBytes: Int
    var largestAllocationBytes: Int
    var localMemoryBytes: Int
  }

  func run() throws {
    let devices = try DeviceDescription.all()
    if json {
      let rows = devices.map {
        Row(
          selector: $0.selector, kind: $0.kind.rawValue, name: $0.name, vendor: $0.vendor, platform: $0.platformName,
          driver: $0.driverVersion, opencl: $0.openCLVersion, computeUnits: $0.computeUnits,
          memoryBytes: $0.globalMemory, largestAllocationBytes: $0.maximumAllocation,
          localMemoryBytes: $0.localMemory)
      }
      return print(try jsonText(rows))
    }
    guard !devices.isEmpty else { throw OpenCLError.noPlatform }
    for device in devices {
      print("--device \(device.selector)  \(device.kind.rawValue)  \(device.name)")
      print("      platform    \(device.platformName), driver \(device.driverVersion), \(device.openCLVersion)")
      print("      compute     \(device.computeUnits) units, work-groups of up to \(device.maximumWorkGroupSize)")
      print(
        "      memory      \(formatBytes(device.globalMemory)), largest buffer "
          + "\(formatBytes(device.maximumAllocation)), local \(formatBytes(device.localMemory))")
    }
  }
}
