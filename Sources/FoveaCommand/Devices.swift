import ArgumentParser
import CommandSupport
import Foundation
import Fovea

struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List and try all OpenCL devices, with the text that --device wants, and say what is missing.",
    discussion: """
      Every device computes something small, which shows whether its driver and compiler work. Exits 1 when there is no \
      device that does.
      """)

  @Flag(inversion: .prefixedNo, help: "Try every device.")
  var test = true

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var devices: [Row]
    var installation: OpenCLInstallation
    var advice: [String]
  }

  private struct Row: Encodable {
    var selector: String
    var kind: String
    var name: String
    var vendor: String
    var platform: String
    var driver: String
    var opencl: String
    var computeUnits: Int
    var largestWorkGroup: Int
    var memoryBytes: Int
    var largestAllocationBytes: Int
    var localMemoryBytes: Int
    var capabilities: [String]
    /// What its matrix units (tensor cores) multiply, and why not the rest; nil where it has none that are used, or was not tried.
    var tensorCores: String?
    /// What is wrong; nil for a device that computes, or was not tried.
    var problem: String?
    /// Where `fovea tune` keeps what it measures on the device.
    var tuningFile: String
    /// When that was, or why it is not used.
    var tuning: String
  }

  func run() throws {
    let devices = try DeviceDescription.all()
    let rows = devices.map { device in
      Row(
        selector: device.selector, kind: device.kind.rawValue, name: device.name, vendor: device.vendor,
        platform: device.platformName, driver: device.driverVersion, opencl: device.openCLVersion,
        computeUnits: device.computeUnits, largestWorkGroup: device.maximumWorkGroupSize,
        memoryBytes: device.globalMemory, largestAllocationBytes: device.maximumAllocation,
        localMemoryBytes: device.localMemory, capabilities: Self.capabilities(of: device),
        tensorCores: test ? Self.tensorCores(of: device) : nil,
        problem: test ? Self.problem(of: device) : nil,
        tuningFile: UserCache.folder() + "/" + TuningDatabase.name(for: device), tuning: Self.tuning(of: device))
    }
    let installation = OpenCLInstallation()
    let advice = installation.advice(hasDevices: !devices.isEmpty, vendors: devices.map(\.vendor))
    let report = Report(devices: rows, installation: installation, advice: advice)
    json ? print(try jsonText(report)) : printText(report)
    if !rows.contains(where: { $0.problem == nil }) { throw ExitCode.failure }
  }

  private static func tensorCores(of device: DeviceDescription) -> String? {
    var device = device
    device.probeMatrixUnits()
    guard let units = device.matrixUnits else { return nil }
    let good = units.operands.map(\.rawValue).sorted()
    let bad = units.problems.map { "not \($0.key.rawValue): \($0.value)" }.sorted()
    return ([good.isEmpty ? "none used" : "tried and right: " + good.joined(separator: ", ")] + bad)
      .joined(separator: "; ")
  }

  private static func tuning(of device: DeviceDescription) -> String {
    switch TuningDatabase.read(for: device) {
    case .none: "never tuned"
    case .usable(let database): "tuned \(database.date)"
    case .unusable(let why): "not used: \(why)"
    }
  }

  /// A small sum on the device, from compiling its kernel to reading the result; what went wrong, in one line.
  private static func problem(of description: DeviceDescription) -> String? {
    do {
      let x = Tensor([1, 2, 3], shape: [3], on: try Device(description))
      let values = try (x + x).floats()
      return values == [2, 4, 6] ? nil : "it computes 1+1, 2+2, 3+3 as \(values)"
    } catch {
      return "\(error)".split(separator: "\n").first.map(String.init) ?? "unknown"
    }
  }

  private static func capabilities(of device: DeviceDescription) -> [String] {
    let names = [
      "cl_khr_fp16": "half precision", "cl_khr_fp64": "double precision", "cl_khr_subgroups": "sub-groups",
      "cl_intel_subgroups": "sub-groups", "cl_khr_command_buffer": "command buffers",
      "cl_nv_device_attribute_query": "NVIDIA PTX",
    ]
    return Set(device.extensions.compactMap { names[$0] }).sorted()
  }

  private func printText(_ report: Report) {
    if report.devices.isEmpty { print("No OpenCL device.") }
    for device in report.devices {
      print("--device \(device.selector)  \(device.kind)  \(device.name)")
      print("      platform    \(device.platform), driver \(device.driver), \(device.opencl)")
      print("      compute     \(device.computeUnits) units, work-groups of up to \(device.largestWorkGroup)")
      print(
        "      memory      \(formatBytes(device.memoryBytes)), largest buffer "
          + "\(formatBytes(device.largestAllocationBytes)), local \(formatBytes(device.localMemoryBytes))")
      print("      kernels     \(device.tuning); `fovea tune` writes \(device.tuningFile)")
      if !device.capabilities.isEmpty { print("      also        \(device.capabilities.joined(separator: ", "))") }
      if let tensorCores = device.tensorCores { print("      tensors     \(tensorCores)") }
      if test { print("      test        \(device.problem ?? "it compiles and computes")") }
    }
    let installation = report.installation
    print("")
    print("loader    \(installation.loader ?? "unknown")")
    if installation.drivers.isEmpty { print("drivers   none named in \(installation.driverFolder)") }
    for driver in installation.drivers { print("driver    \(driver.library)  (\(driver.file))") }
    for processor in installation.graphics {
      print(
        "graphics  \(processor.vendor)" + (processor.deviceFile.map { ", \($0)" } ?? "")
          + (processor.isAccessible ? "" : ", not accessible"))
    }
    for cache in installation.caches {
      guard let bytes = cache.bytes else { continue }
      print("kernels   \(cache.folder), \(formatBytes(bytes))  (\(cache.driver)'s cache)")
    }
    for line in report.advice { print("to do     \(line)") }
  }
}
