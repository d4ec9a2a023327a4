import Fovea

/// What a work-group of a tiled convolution takes, from the options it is compiled with. Local memory follows the macros
/// of `tiles.cl` exactly; registers are estimated.
struct TiledKernelResources {
  let pass: String
  /// Window, alignment and pending steps.
  let structure: String
  let tileText: String
  /// Layers of the grid that are no splits.
  private let phases: Int
  /// Work-items of a work-group.
  let items: Int
  let localBytes: Int
  /// 32-bit registers of a work-item, estimated by `formula`.
  let registers: Int
  /// The operands of all terms of a step, which AMD's compiler loads at once where it finds room.
  let stepOperands: Int

  /// How `registers` is estimated.
  static let formula =
    "16·RM·RN accumulators + 4 + 4·RN operands (8 + 4·RN for matrix units) + 20 for pointers, sizes and loops and 10 a quad "
    + "fetched for the next step, with an affine 4 and 5 a quad more; in filter gradients 30, without VX 55, and 8 a quad, with an "
    + "affine 5 more; with 16-bit matrix units 56, 5 a quad and with an affine 3 more; with PATCH 16 and 32·(RM + RN), for "
    + "matrix units 98 (with 16 bits and an affine 130), and 4 a quad beside the accumulators; with RING 30 and two for each "
    + "accumulator. Fitted to what ptxas 12.9 takes for sm_90 "
    + "(Scripts/gpu-compile, 2026-11-26): within 15 for 45 programs with float32 products, 32 for 37 of tf32, 38 for 62 of 16 bits"

  /// Nil for any other kernel.
  init?(_ program: PlannedProgram) {
    let words = program.options.split(separator: " ").filter { $0 != "-D" }
    var values: [String: Int] = [:]
    var operand: MatrixOperand?
    for word in words {
      let parts = word.split(separator: "=")
      if parts.count == 2, let value = Int(parts[1]) { values[String(parts[0])] = value }
      if word.hasPrefix("MATRIX=") { operand = MatrixOperand(macro: parts[1]) }
    }
    guard program.kernel.hasPrefix("conv_tiled"), let rows = values["TM"], let columns = values["TN"],
      let down = values["RM"], let across = values["RN"]
    else { return nil }
    func has(_ name: String) -> Bool { values[name, default: 0] > 0 }
    let isFilterGradient = has("FILTER_GRADIENT")
    pass = isFilterGradient ? "filter gradient" : has("GRADIENT") ? "input gradient" : "forward"
    let window = "\(values["KH", default: 1])×\(values["KW", default: 1])/\(values["SH", default: 1])"
    let known = [
      "PATCH", "RING", "FLAT", "VX", "VF", "VY", "PRE", "AFFINE", "POST", "EPRE", "EAFFINE", "EPOST", "MOMENTS",
      "SPLIT",
    ]
    let flags = known.filter(has)
    // Of a strided data gradient, which has a grid for each set of pixels with the same taps.
    phases = has("GRADIENT") ? values["SH", default: 1] * values["SW", default: 1] : 1
    structure = ([operand?.rawValue, window].compactMap(\.self) + flags).joined(separator: " ")
    tileText = "\(rows)×\(columns)"

    let whole = TiledConvolution.Tile(
      rows: rows, columns: columns, down: down, across: across, terms: values["TK", default: 16],
      operand: operand)
    let tile =
      values["PATCH"].map { whole.with(patch: $0, channels: values["FEW"] ?? .max) } ?? values["RING"].map(
        whole.with(ring:)) ?? whole
    let taps = values["KH", default: 1] * values["KW", default: 1]
    items = tile.items
    stepOperands = 4 * (down + across) * tile.terms
    guard tile.ring == nil else {
      (localBytes, registers) = (tile.ringBytes(taps: taps), tile.ringRegisters)
      return
    }
    localBytes = tile.localBytes(
      sums: has("EPILOGUE") && has("EAFFINE") || has("MOMENTS"), taps: taps, steps: has("ONE_STEP") ? 1 : 2,
      kept: values["KEPT"])
    let quads = tile.rowQuads + tile.columnQuads(taps: taps, kept: values["KEPT"])
    // With a patch those of two taps at once, of which those of matrix units are always as many.
    let operands = tile.patch == nil ? tile.operands : operand == nil ? 32 * (down + across) : 82
    let fetching: Int
    let affine: Int
    let isSixteenBit = operand.map { $0 != .tf32 } ?? false
    if tile.patch != nil {
      (fetching, affine) = (16 + 4 * quads, isSixteenBit ? 32 : 0)
    } else if isSixteenBit {
      (fetching, affine) = (56 + 5 * quads, 3 * quads)
    } else {
      fetching = isFilterGradient ? (has("VX") ? 30 : 55) + 8 * quads : 20 + 10 * quads
      affine = (isFilterGradient ? 0 : 4) + 5 * quads
    }
    registers = tile.accumulators + operands + fetching + (has("AFFINE") ? affine : 0)
  }

  /// Parts that a launch cuts the terms into.
  func splits(of launch: PlannedLaunch) -> Int { launch.global[2] / phases }
}

/// What a compute unit of a GPU offers.
struct GPULimits {
  let name: String
  let explanation: String
  private let compute: @Sendable (TiledKernelResources) -> Occupancy

  /// Work-groups at once, and why not more.
  struct Occupancy {
    var groups: Int
    var limit: String
    var note = ""

    var text: String { "\(groups) \(limit)\(note)" }

    /// The least of several limits; the first of equals.
    init(_ limits: [(limit: String, groups: Int)], note: String = "") {
      let least = limits.min { $0.groups < $1.groups } ?? ("", 0)
      (limit, groups) = least
      self.note = note
    }
  }

  func occupancy(of resources: TiledKernelResources) -> Occupancy { compute(resources) }

  static let all = [nvidia, amd, intel]

  private static func roundedUp(_ value: Int, to unit: Int) -> Int { (value + unit - 1) / unit * unit }

  /// CUDA C++ Programming Guide, technical specifications per compute capability.
  static let nvidia = GPULimits(
    name: "NVIDIA 9.0",
    explanation:
      "65,536 registers in portions of 256 a warp, at most 255 a thread; 64 warps, 32 groups, 228 KiB less 1 KiB "
      + "a group"
  ) { kernel in
    let warps = (kernel.items + 31) / 32
    let spills = kernel.registers > 255
    let registers = roundedUp(min(kernel.registers, 255) * 32, to: 256) * warps
    return Occupancy(
      [
        ("reg", 65536 / registers), ("local", (228 << 10) / (kernel.localBytes + 1024)), ("thr", 64 / warps),
        ("grp", 32),
      ], note: spills ? "*" : "")
  }

  /// AMD Instinct MI200 instruction set architecture; LLVM's AMDGPU backend, whose spilled registers go to accumulation
  /// registers first.
  static let amd = GPULimits(
    name: "AMD CDNA2",
    explanation:
      "four SIMDs of 512 registers a lane in portions of 8, accumulation registers among them; registers as above and "
      + "4·(RM + RN)·TK more, as clang loads all operands of a step at once; 8 waves of 64 a SIMD, 16 groups, 64 KiB in "
      + "portions of 512 B"
  ) { kernel in
    let waves = (kernel.items + 63) / 64
    let spills = kernel.registers > 512
    let wavesByRegisters = 4 * min(8, 512 / roundedUp(min(kernel.registers + kernel.stepOperands, 512), to: 8))
    return Occupancy(
      [
        ("reg", wavesByRegisters / waves), ("local", (64 << 10) / roundedUp(kernel.localBytes, to: 512)),
        ("thr", 32 / waves), ("grp", 16),
      ], note: spills ? "*" : "")
  }

  /// Intel's GPU occupancy calculator (oneAPI samples), Xe HPG.
  static let intel = GPULimits(
    name: "Intel Xe-HPG",
    explanation: "128 threads of 1,024 registers, shared by the widest of 32, 16 or 8 work-items that they suffice for "
      + "(w); 32 groups by barriers, 128 KiB in powers of two"
  ) { kernel in
    let width = [32, 16, 8].first { kernel.registers <= 1024 / $0 } ?? 8
    let spills = kernel.registers > 1024 / 8
    let threads = (kernel.items + width - 1) / width
    var local = 1024
    while local < kernel.localBytes { local *= 2 }
    return Occupancy(
      [("local", (128 << 10) / local), ("thr", 128 / threads), ("grp", 32)], note: " w\(width)\(spills ? "*" : "")")
  }
}
