import OpenCLRuntime
import TensorCore

/// A small product on matrix units that tells whether they compute as `matrix.cl` takes it that they do: every element of
/// the operands has its own share in the result, all sums are exact, and some operands have to be rounded.
package struct MatrixProbe {
  private let operand: MatrixOperand
  private var terms: Int { 8 * operand.perWord }

  package init(_ operand: MatrixOperand) { self.operand = operand }

  /// Why the units are not used; nil where all is well.
  package func problem(on device: Device) -> String? {
    do {
      return problem(of: try result(on: device))
    } catch {
      return "\(error)".split(separator: "\n").first.map(String.init) ?? "unknown"
    }
  }

  func problem(of values: [Float]) -> String? {
    let wanted = expected
    guard let wrong = wanted.indices.first(where: { values[$0] != wanted[$0] }) else { return nil }
    return "element \(wrong) of a product is \(values[wrong]) where \(wanted[wrong]) is right"
  }

  /// What the device computes, the products of two warps behind each other.
  func result(on device: Device) throws -> [Float] {
    let a = Tensor(left, shape: [left.count], on: device)
    let b = Tensor(right, shape: [right.count], on: device)
    let c = Tensor(uninitialized: [2 * 32 * 16], on: device)
    device.launch(
      .matrixProbe, "matrix_probe", options: "-D VEC=4" + operand.options(on: device.description), global: [64],
      local: [64],
      [.buffer(a.storage.buffer), .buffer(b.storage.buffer), .buffer(c.storage.buffer)])
    return try c.floats()
  }

  /// [warp][term][row]: small whole numbers, and a few halfway between two operands and a little beyond.
  private var left: [Float] {
    (0..<2 * terms * 32).map { index in
      let (warp, term, row) = (index / 32 / terms, index / 32 % terms, index % 32)
      let u = Float(operand.roundoff)
      switch (row, term) {
      case (3, 1): return 1 + u
      case (12, 5): return 1 + 3 * u
      case (21, 7): return -(1 + 1.5 * u)
      default: return Float((row * 5 + term * 3 + warp * 7) % 13 - 6)
      }
    }
  }

  /// [warp][term][column]: small whole numbers.
  private var right: [Float] {
    (0..<2 * terms * 16).map { index in
      let (warp, term, column) = (index / 16 / terms, index / 16 % terms, index % 16)
      return Float((column * 3 + term * 7 + warp * 5) % 11 - 5)
    }
  }

  /// [warp][row][column].
  private var expected: [Float] {
    let (a, b) = (left, right)
    return (0..<2 * 32 * 16).map { index in
      let (warp, row, column) = (index / 512, index / 16 % 32, index % 16)
      return (0..<terms).reduce(0) { sum, term in
        sum + operand.rounded(a[(warp * terms + term) * 32 + row]) * b[(warp * terms + term) * 16 + column]
      }
    }
  }
}

extension MatrixOperand {
  /// The operand that stands for a value.
  package func rounded(_ value: Float) -> Float {
    switch self {
    case .float16: DType.float16.rounded(value)
    case .bfloat16: DType.bfloat16.rounded(value)
    case .tf32:
      value.isNaN ? value : Float(bitPattern: (value.bitPattern + 0x1000) & 0xffff_e000)
    }
  }

  /// What the kernels call it.
  private var macro: String {
    switch self {
    case .tf32: "TF32"
    case .float16: "HALF"
    case .bfloat16: "BFLOAT"
    }
  }

  /// What images of that type want as operands; nil for products in single precision.
  package init?(for dtype: DType, usesTF32: Bool) {
    switch dtype {
    case .float32 where usesTF32: self = .tf32
    case .float16: self = .float16
    case .bfloat16: self = .bfloat16
    case .float32, .uint8, .int32: return nil
    }
  }

  /// The one that the kernels call so.
  package init?(macro: some StringProtocol) {
    guard let operand = Self.allCases.first(where: { $0.macro == macro }) else { return nil }
    self = operand
  }

  /// Options of programs that multiply with it.
  func options(on device: DeviceDescription) -> String {
    " -D MATRIX=\(macro)" + (device.matrixUnits?.areEmulated ?? true ? " -D EMULATED=1" : "")
  }
}

extension DeviceDescription {
  /// Tries the device's matrix units where it may have some (NVIDIA GPUs from compute capability 8.0 on), which opens it
  /// for a moment, and notes what was found.
  package mutating func probeMatrixUnits() {
    guard let capability = computeCapability, capability.major >= 8 else { return }
    // The instructions themselves are tried, nothing in their place.
    matrixUnits = MatrixUnits(operands: [])
    var found = MatrixUnits(operands: [])
    for operand in MatrixOperand.allCases {
      do {
        // A device of its own for each: what fails to compile fails a device.
        if let problem = MatrixProbe(operand).problem(on: try Device(self)) {
          found.problems[operand] = problem
        } else {
          found.operands.insert(operand)
        }
      } catch {
        found.problems[operand] = "\(error)"
      }
    }
    matrixUnits = found
  }

  /// What convolutions over images of that type round their operands to, on matrix units; nil where products are those
  /// of single precision.
  package func matrixOperand(for dtype: DType) -> MatrixOperand? {
    guard let wanted = MatrixOperand(for: dtype, usesTF32: usesTF32), let matrixUnits,
      matrixUnits.operands.contains(wanted), maximumWorkGroupSize >= 32
    else {
      return nil
    }
    return wanted
  }
}
