import COpenCL

/// The type that matrix units (NVIDIA: tensor cores) round their operands to. They add up in single precision.
package enum MatrixOperand: String, Codable, Sendable, CaseIterable {
  /// The range of `float32` with a fraction of 11 bits: to the nearest, ties away from zero.
  case tf32
  /// To the nearest, ties to even, as the next.
  case float16
  case bfloat16

  /// The largest relative error of rounding to it.
  package var roundoff: Double {
    switch self {
    case .tf32, .float16: 0x1p-11
    case .bfloat16: 0x1p-8
    }
  }

  /// How many are in a 32-bit word of the tiles in local memory.
  package var perWord: Int { self == .tf32 ? 1 : 2 }
}

/// What was found out about a device's matrix units by trying them.
package struct MatrixUnits: Sendable, Hashable {
  /// What they multiply, and that rightly.
  package var operands: Set<MatrixOperand>
  /// Why they are not used for others.
  package var problems: [MatrixOperand: String]
  /// Whether plain OpenCL C computes the same in their place, for tests.
  package var areEmulated: Bool

  package init(operands: Set<MatrixOperand>, problems: [MatrixOperand: String] = [:], areEmulated: Bool = false) {
    self.operands = operands
    self.problems = problems
    self.areEmulated = areEmulated
  }

  /// Plain OpenCL C in their place: the same values up to the order of additions, slowly.
  package static let emulated = MatrixUnits(operands: Set(MatrixOperand.allCases), areEmulated: true)
}

extension DeviceDescription {
  /// NVIDIA's number for what a GPU's instructions are; nil for other devices and drivers.
  package var computeCapability: (major: Int, minor: Int)? {
    guard kind == .gpu, extensions.contains("cl_nv_device_attribute_query") else { return nil }
    // CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV and _MINOR_NV.
    var numbers: [cl_uint] = [0, 0]
    for index in 0..<2 {
      guard
        clGetDeviceInfo(deviceID, cl_device_info(0x4000 + index), MemoryLayout<cl_uint>.size, &numbers[index], nil)
          == CL_SUCCESS
      else { return nil }
    }
    return (Int(numbers[0]), Int(numbers[1]))
  }
}
