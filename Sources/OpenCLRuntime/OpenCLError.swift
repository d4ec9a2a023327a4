import COpenCL

/// A failure of the OpenCL environment: what was called, what came back and what the user can do about it.
///
/// Mistakes of the caller, such as shapes that do not fit, trap instead; see `TensorCore`.
public enum OpenCLError: Error, Sendable, CustomStringConvertible {
  /// The loader found no OpenCL platform at all.
  case noPlatform
  /// No device matches `selection`; `available` lists the ones there are.
  case noDevice(selection: String, available: [String])
  /// An OpenCL call returned the error `code`.
  case callFailed(call: String, code: Int32, device: String)
  /// A program did not compile; `log` is the compiler's own text.
  case buildFailed(program: String, options: String, log: String, device: String)
  /// The device had no room for `requested` bytes.
  case outOfMemory(requested: Int, inUse: Int, reserved: Int, device: String)

  /// What failed, where, and what helps; a failed build carries the compiler's log.
  public var description: String {
    switch self {
    case .noPlatform:
      return
        "no OpenCL platform found. Install a driver (Debian/Ubuntu, for the CPU: apt-get install pocl-opencl-icd), "
        + "then run `fovea devices`"
    case .noDevice(let selection, let available):
      return "no OpenCL device matches '\(selection)'. Available: "
        + (available.isEmpty ? "none" : available.joined(separator: "; "))
        + ". Choose one with --device or FOVEA_DEVICE"
    case .callFailed(let call, let code, let device):
      return "\(call) failed with \(Self.name(of: code)) (\(code)) on \(device)"
    case .buildFailed(let program, let options, let log, let device):
      return "the kernels of '\(program)' do not compile on \(device) with options '\(options)':\n\(log)"
    case .outOfMemory(let requested, let inUse, let reserved, let device):
      return "out of memory on \(device): \(formatBytes(requested)) asked for, \(formatBytes(inUse)) in use, "
        + "\(formatBytes(reserved)) held. A smaller --batch-size or --input-size helps, or `train`'s --memory-limit"
    }
  }

  /// The symbolic name of an OpenCL status code.
  static func name(of code: Int32) -> String {
    names[code] ?? "an unknown error"
  }

  private static let names: [Int32: String] = [
    -1: "CL_DEVICE_NOT_FOUND", -2: "CL_DEVICE_NOT_AVAILABLE", -3: "CL_COMPILER_NOT_AVAILABLE",
    -4: "CL_MEM_OBJECT_ALLOCATION_FAILURE", -5: "CL_OUT_OF_RESOURCES", -6: "CL_OUT_OF_HOST_MEMORY",
    -11: "CL_BUILD_PROGRAM_FAILURE", -14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", -30: "CL_INVALID_VALUE",
    -33: "CL_INVALID_DEVICE", -34: "CL_INVALID_CONTEXT", -36: "CL_INVALID_COMMAND_QUEUE", -38: "CL_INVALID_MEM_OBJECT",
    -43: "CL_INVALID_BUILD_OPTIONS", -45: "CL_INVALID_PROGRAM_EXECUTABLE", -46: "CL_INVALID_KERNEL_NAME",
    -48: "CL_INVALID_KERNEL", -49: "CL_INVALID_ARG_INDEX", -50: "CL_INVALID_ARG_VALUE", -51: "CL_INVALID_ARG_SIZE",
    -52: "CL_INVALID_KERNEL_ARGS", -53: "CL_INVALID_WORK_DIMENSION", -54: "CL_INVALID_WORK_GROUP_SIZE",
    -55: "CL_INVALID_WORK_ITEM_SIZE", -59: "CL_INVALID_OPERATION", -61: "CL_INVALID_BUFFER_SIZE",
    -63: "CL_INVALID_GLOBAL_WORK_SIZE", -1001: "CL_PLATFORM_NOT_FOUND_KHR",
  ]
}

/// Bytes as a short text with a binary unit, such as "1.5 GiB".
public func formatBytes(_ bytes: Int) -> String {
  let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  var value = Double(bytes)
  var unit = 0
  while value >= 1024, unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  let tenths = Int((value * 10).rounded())
  return unit == 0 ? "\(bytes) B" : "\(tenths / 10).\(tenths % 10) \(units[unit])"
}
