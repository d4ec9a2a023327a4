import COpenCL
import Foundation
import Synchronization

/// What kind of processor an OpenCL device is.
public enum DeviceKind: String, Sendable {
  /// The processor that the host runs on, too.
  case cpu
  /// A graphics processor.
  case gpu
  /// Anything else.
  case accelerator
}

/// One device of one platform as the loader lists it, before anything is opened on it.
public struct DeviceDescription: @unchecked Sendable {
  /// Position of the platform in the loader's list.
  public let platformIndex: Int
  /// Position of the device within its platform.
  public let deviceIndex: Int
  /// Name of the platform, that is of the driver package, such as `Portable Computing Language`.
  public let platformName: String
  /// Name of the device, such as `NVIDIA H100`.
  public let name: String
  /// Who makes it.
  public let vendor: String
  /// Version of the driver, as the driver writes it.
  public let driverVersion: String
  /// OpenCL version that the device supports, such as `OpenCL 3.0 CUDA`.
  public let openCLVersion: String
  /// What kind of processor it is.
  public private(set) var kind: DeviceKind
  /// Processors that work side by side: cores of a CPU, multiprocessors of a GPU.
  public private(set) var computeUnits: Int
  /// Bytes of device memory.
  public let globalMemory: Int
  /// Largest single allocation in bytes.
  public let maximumAllocation: Int
  /// Bytes of local memory per compute unit.
  public private(set) var localMemory: Int
  /// Most work-items that a work-group may have.
  public private(set) var maximumWorkGroupSize: Int
  /// OpenCL extensions, such as `cl_khr_fp16`.
  public let extensions: [String]
  /// Work-items that run in step on an AMD GPU (`cl_amd_device_attribute_query`); nil elsewhere.
  package private(set) var wavefrontWidth: Int?
  /// The numbers of work-items, smallest first, that can share a thread's registers on an Intel GPU, of which a kernel may
  /// ask for one (`cl_intel_required_subgroup_size`); empty elsewhere.
  package private(set) var subgroupSizes: [Int]

  /// What was measured on this device, for those who choose its kernels; this module only carries it to whoever opens
  /// the device or plans for it.
  package var tuning: (any Sendable)?

  /// What is known of its matrix units; nil where it has none, or they were not tried.
  package var matrixUnits: MatrixUnits?

  /// Whether products of `float32` values may be those of matrix units, which round them to tf32.
  package var usesTF32 = false

  /// Where whoever opens the device keeps its compiled programs; nil for nowhere.
  package var programCache: ProgramCache?

  /// What every program is compiled with besides its own options; see `compiling`.
  private(set) var additionalOptions = ""

  let platformID: cl_platform_id
  let deviceID: cl_device_id

  /// The text that selects exactly this device with `--device`.
  public var selector: String { "\(platformIndex):\(deviceIndex)" }

  /// Device and driver, a line each, for what is kept for them: another driver may compile otherwise.
  package var identity: String { [platformName, name, driverVersion, openCLVersion].joined(separator: "\n") }

  /// One line: selector, kind, name, platform and driver.
  public var summary: String {
    "\(selector) \(kind.rawValue) \(name) (\(platformName), driver \(driverVersion))"
  }

  /// Whether its compiler declares OpenCL C's functions by parsing a header, and can be kept from it. POCL's `_kernel.h`
  /// looks for the header's guard; that other versions get along with it was not tried.
  var parsesBuiltins: Bool { poclVersion == 3 }

  /// Whether it now and then computes a value once for all work-items that each of them has its own of, where work-groups
  /// have several and a barrier. POCL 5.0 and 6.0 made some such programs wrong, others each time, from the same text; 3.1
  /// and 7.1 none. What CPUs launch by default has no barriers.
  package var miscompilesBarriers: Bool { poclVersion == 5 || poclVersion == 6 }

  /// Which POCL it is, the first number of its version (of `5.0+debian` 5); nil for another driver.
  package var poclVersion: Int? {
    platformName == "Portable Computing Language" ? Int(driverVersion.prefix { $0 != "." }) : nil
  }

  /// Whether a kernel is compiled again for each size of work-groups.
  var compilesForEachGroupSize: Bool { poclVersion != nil }

  /// The same device, of whose programs every one is compiled with `options` besides its own: for tests, such as those
  /// that break kernels on purpose.
  package func compiling(with options: String) -> DeviceDescription {
    var copy = self
    copy.additionalOptions += " " + options
    return copy
  }

  /// The same device, whose compiler leaves programs as they are where optimizing them takes it most of the time: POCL 3
  /// compiles the tiled kernels five times as fast. For tests of many programs that run for milliseconds; with
  /// FOVEA_THOROUGH=1 in the environment they are optimized all the same.
  package var withoutOptimizations: DeviceDescription {
    let isThorough = getenv("FOVEA_THOROUGH") != nil
    return poclVersion == 3 && !isThorough ? compiling(with: "-cl-opt-disable") : self
  }

  /// The same device passed off as a GPU with those limits, for planning and for running a GPU's launches elsewhere.
  package func imitatingGPU(
    computeUnits: Int, localMemory: Int, maximumWorkGroupSize: Int, wavefrontWidth: Int? = nil,
    subgroupSizes: [Int] = []
  ) -> DeviceDescription {
    var copy = self
    copy.kind = .gpu
    copy.wavefrontWidth = wavefrontWidth
    copy.subgroupSizes = subgroupSizes
    copy.computeUnits = computeUnits
    copy.localMemory = localMemory
    copy.maximumWorkGroupSize = maximumWorkGroupSize
    copy.tuning = nil
    copy.matrixUnits = nil
    return copy
  }

  /// All devices of all platforms, in the loader's order; empty when there is no platform.
  ///
  /// - Throws: `OpenCLError.callFailed` when the loader or a driver fails.
  public static func all() throws -> [DeviceDescription] {
    // The first calls load and initialise drivers. ocl-icd and POCL do that without locks: two threads that come at
    // once find no platform, or crash.
    try discovery.withLock { _ in try discover() }
  }

  private static let discovery = Mutex(())

  private static func discover() throws -> [DeviceDescription] {
    var platformCount: cl_uint = 0
    let status = clGetPlatformIDs(0, nil, &platformCount)
    if status == -1001 || platformCount == 0 { return [] }
    try checkStatus(status, "clGetPlatformIDs", "the OpenCL loader")
    var platforms = [cl_platform_id?](repeating: nil, count: Int(platformCount))
    try checkStatus(clGetPlatformIDs(platformCount, &platforms, nil), "clGetPlatformIDs", "the OpenCL loader")

    var descriptions: [DeviceDescription] = []
    for (platformIndex, platform) in platforms.enumerated() {
      guard let platform else { continue }
      var deviceCount: cl_uint = 0
      guard clGetDeviceIDs(platform, cl_device_type(CL_DEVICE_TYPE_ALL), 0, nil, &deviceCount) == CL_SUCCESS,
        deviceCount > 0
      else { continue }
      var devices = [cl_device_id?](repeating: nil, count: Int(deviceCount))
      try checkStatus(
        clGetDeviceIDs(platform, cl_device_type(CL_DEVICE_TYPE_ALL), deviceCount, &devices, nil), "clGetDeviceIDs",
        "platform \(platformIndex)")
      for (deviceIndex, device) in devices.enumerated() {
        guard let device else { continue }
        descriptions.append(DeviceDescription(platform, platformIndex, device, deviceIndex))
      }
    }
    return descriptions
  }

  private init(_ platform: cl_platform_id, _ platformIndex: Int, _ device: cl_device_id, _ deviceIndex: Int) {
    func text(_ parameter: Int32) -> String {
      readString { clGetDeviceInfo(device, cl_device_info(parameter), $0, $1, $2) }
    }
    func number<T: FixedWidthInteger>(_ parameter: Int32, as type: T.Type) -> Int {
      var value: T = 0
      clGetDeviceInfo(device, cl_device_info(parameter), MemoryLayout<T>.size, &value, nil)
      return Int(clamping: value)
    }
    self.platformIndex = platformIndex
    self.deviceIndex = deviceIndex
    platformID = platform
    deviceID = device
    platformName = readString { clGetPlatformInfo(platform, cl_platform_info(CL_PLATFORM_NAME), $0, $1, $2) }
    name = text(CL_DEVICE_NAME)
    vendor = text(CL_DEVICE_VENDOR)
    driverVersion = text(CL_DRIVER_VERSION)
    openCLVersion = text(CL_DEVICE_VERSION)
    extensions = text(CL_DEVICE_EXTENSIONS).split(separator: " ").map(String.init)
    let type = number(CL_DEVICE_TYPE, as: cl_device_type.self)
    kind = type & Int(CL_DEVICE_TYPE_GPU) != 0 ? .gpu : type & Int(CL_DEVICE_TYPE_CPU) != 0 ? .cpu : .accelerator
    computeUnits = number(CL_DEVICE_MAX_COMPUTE_UNITS, as: cl_uint.self)
    globalMemory = number(CL_DEVICE_GLOBAL_MEM_SIZE, as: cl_ulong.self)
    maximumAllocation = number(CL_DEVICE_MAX_MEM_ALLOC_SIZE, as: cl_ulong.self)
    localMemory = number(CL_DEVICE_LOCAL_MEM_SIZE, as: cl_ulong.self)
    maximumWorkGroupSize = number(CL_DEVICE_MAX_WORK_GROUP_SIZE, as: Int.self)
    wavefrontWidth = kind == .gpu ? Self.wavefrontWidth(of: device, extensions) : nil
    subgroupSizes = kind == .gpu ? Self.subgroupSizes(of: device, extensions) : []
  }

  // The numbers of the queries are those of `cl_ext.h`, which is not everywhere.
  private static func wavefrontWidth(of device: cl_device_id, _ extensions: [String]) -> Int? {
    guard extensions.contains("cl_amd_device_attribute_query") else { return nil }
    var width: cl_uint = 0
    let status = clGetDeviceInfo(device, 0x4043, MemoryLayout<cl_uint>.size, &width, nil)
    return status == CL_SUCCESS && width > 0 ? Int(width) : nil
  }

  private static func subgroupSizes(of device: cl_device_id, _ extensions: [String]) -> [Int] {
    guard extensions.contains("cl_intel_required_subgroup_size") else { return [] }
    var sizes = [Int](repeating: 0, count: 16)
    var bytes = 0
    let status = clGetDeviceInfo(device, 0x4108, sizes.count * MemoryLayout<Int>.stride, &sizes, &bytes)
    return status == CL_SUCCESS ? sizes.prefix(bytes / MemoryLayout<Int>.stride).sorted() : []
  }
}

/// Reads an OpenCL text parameter through `query(size, pointer, &sizeNeeded)`.
private func readString(_ query: (Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> cl_int) -> String {
  var size = 0
  guard query(0, nil, &size) == CL_SUCCESS, size > 0 else { return "" }
  var bytes = [UInt8](repeating: 0, count: size)
  guard query(size, &bytes, nil) == CL_SUCCESS else { return "" }
  let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  return String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
}

/// Throws the typed error for an OpenCL status other than success.
func checkStatus(_ status: cl_int, _ call: String, _ device: String) throws {
  guard status == CL_SUCCESS else { throw OpenCLError.callFailed(call: call, code: status, device: device) }
}
