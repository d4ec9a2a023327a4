import Foundation
import Fovea

/// What this machine has for OpenCL beside the devices themselves: loader, drivers, hardware, caches. It is read from
/// files, so that it also tells something where no device can be opened.
public struct OpenCLInstallation: Encodable {
  /// The loaded OpenCL library; nil where that cannot be told.
  public let loader: String?
  /// Where the loader looks for drivers.
  public let driverFolder: String
  /// Files that name drivers to the loader, with the library that each names.
  public let drivers: [Driver]
  /// Graphics processors that the system sees, with or without a driver.
  public let graphics: [Graphics]
  /// Folders where drivers keep compiled kernels, and where we do for drivers that keep none.
  public let caches: [Cache]

  /// A driver as the loader finds it.
  public struct Driver: Encodable {
    /// The `.icd` file.
    public let file: String
    /// The library in it.
    public let library: String
  }

  /// A graphics processor on the bus.
  public struct Graphics: Encodable {
    /// NVIDIA, AMD, Intel, or the vendor's number.
    public let vendor: String
    /// The device file that OpenCL needs; nil where the vendor's driver has made none.
    public let deviceFile: String?
    /// Whether this user may open it.
    public let isAccessible: Bool
  }

  /// A folder of compiled kernels.
  public struct Cache: Encodable {
    /// Whose.
    public let driver: String
    /// Where.
    public let folder: String
    /// Bytes in it; nil while there is none.
    public let bytes: Int?
  }

  /// Looks around. Call it after the devices have been listed, when the loader is in memory.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    driverFolder = Self.driverFolder(environment)
    loader = Self.mappedLibrary("libOpenCL")
    drivers = Self.findDrivers(environment)
    graphics = Self.findGraphics()
    let home = environment["HOME"] ?? NSHomeDirectory()
    let cacheHome = environment["XDG_CACHE_HOME"] ?? home + "/.cache"
    caches = [
      ("POCL", environment["POCL_CACHE_DIR"] ?? cacheHome + "/pocl"),
      ("NVIDIA", environment["CUDA_CACHE_PATH"] ?? home + "/.nv/ComputeCache"),
      ("Intel", environment["NEO_CACHE_DIR"] ?? cacheHome + "/neo_compiler_cache"),
      ("Mesa", environment["MESA_SHADER_CACHE_DIR"] ?? cacheHome + "/mesa_shader_cache"),
      ("Fovea", UserCache.folder(environment: environment) + "/programs"),
    ].map { Cache(driver: $0, folder: $1, bytes: Self.size(of: $1)) }
  }

  /// What to do where a processor has no device, one line each; `kinds` are the vendors that devices were found of.
  ///
  /// - Parameters:
  ///   - hasDevices: whether there is any device at all.
  ///   - vendors: the vendors' names of the devices found.
  public func advice(hasDevices: Bool, vendors: [String]) -> [String] {
    var lines: [String] = []
    for processor in graphics {
      let isDriven = vendors.contains { $0.lowercased().contains(Self.keyword(processor.vendor)) }
      guard !isDriven else { continue }
      if let file = processor.deviceFile, !processor.isAccessible {
        lines.append(
          "\(processor.vendor) graphics: this user may not open \(file); sudo usermod -aG render,video $USER, "
            + "then log in again")
      } else {
        lines.append("\(processor.vendor) graphics without OpenCL: \(Self.package(for: processor.vendor))")
      }
    }
    if !hasDevices {
      lines.append("for the CPU: apt-get install pocl-opencl-icd, or run Scripts/setup")
    }
    return lines
  }

  private static func keyword(_ vendor: String) -> String { vendor == "AMD" ? "advanced micro" : vendor.lowercased() }

  private static func package(for vendor: String) -> String {
    switch vendor {
    case "NVIDIA": "install NVIDIA's driver with its OpenCL part (Debian and Ubuntu: nvidia-opencl-icd)"
    case "AMD": "install AMD's ROCm OpenCL (rocm-opencl-runtime), or Mesa's (mesa-opencl-icd)"
    case "Intel": "install Intel's compute runtime (Debian and Ubuntu: intel-opencl-icd)"
    default: "install the vendor's OpenCL driver"
    }
  }

  private static func mappedLibrary(_ name: String) -> String? {
    // Its size is said to be 0, so it has to be read to its end.
    guard let bytes = try? FileHandle(forReadingAtPath: "/proc/self/maps")?.readToEnd() else { return nil }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").lazy.compactMap { line in
      line.firstIndex(of: "/").map { String(line[$0...]) }
    }.first { $0.contains("/" + name) }
  }

  private static func findDrivers(_ environment: [String: String]) -> [Driver] {
    let folder = driverFolder(environment)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(".icd") }.sorted().map { name in
      let text = (try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)) ?? ""
      return Driver(file: folder + "/" + name, library: text.trimmingCharacters(in: .whitespacesAndNewlines))
    }
  }

  /// Both loaders' variables replace the usual folder.
  private static func driverFolder(_ environment: [String: String]) -> String {
    environment["OCL_ICD_VENDORS"] ?? environment["OPENCL_VENDOR_PATH"] ?? "/etc/OpenCL/vendors"
  }

  private static func findGraphics() -> [Graphics] {
    let folder = "/sys/class/drm"
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    var found = names.filter { $0.hasPrefix("renderD") }.compactMap { name -> Graphics? in
      let path = "\(folder)/\(name)/device/vendor"
      guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
      let number = text.trimmingCharacters(in: .whitespacesAndNewlines)
      let vendor = ["0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"][number] ?? "vendor \(number)"
      let file = "/dev/dri/" + name
      return Graphics(vendor: vendor, deviceFile: file, isAccessible: access(file, R_OK | W_OK) == 0)
    }
    // In a container NVIDIA's device may be there without its entry under drm.
    if !found.contains(where: { $0.vendor == "NVIDIA" }), FileManager.default.fileExists(atPath: "/dev/nvidia0") {
      found.append(
        Graphics(
          vendor: "NVIDIA", deviceFile: "/dev/nvidia0", isAccessible: access("/dev/nvidia0", R_OK | W_OK) == 0))
    }
    return found
  }

  private static func size(of folder: String) -> Int? {
    guard let paths = FileManager.default.enumerator(atPath: folder) else { return nil }
    var bytes = 0
    while paths.nextObject() != nil {
      if paths.fileAttributes?[.type] as? FileAttributeType == .typeRegular {
        bytes += (paths.fileAttributes?[.size] as? NSNumber)?.intValue ?? 0
      }
    }
    return FileManager.default.fileExists(atPath: folder) ? bytes : nil
  }
}
