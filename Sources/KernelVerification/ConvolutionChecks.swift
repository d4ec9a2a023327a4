import OpenCLRuntime
import Operations

/// The checks that run every convolution program of `plan`, on images of a few pixels.
///
/// A program depends on the size of the images: on a CPU by the tile that wastes least of a row, on a GPU by the tile
/// that leaves enough work-groups. So sizes and tiles are tried, by planning, until they give the same programs.
package func convolutionChecks(
  of plan: StepPlan, on description: DeviceDescription, _ thoroughness: Thoroughness
) throws -> [KernelCheck] {
  let sizes = [(3, 5), (5, 13), (3, 10), (7, 26), (1, 1)]
  let tiles: [TiledConvolution.Tile?] = [nil] + TiledConvolution.tiles
  let planned = plan.programs
  var covered: Set<PlannedProgram> = []
  var checks: [KernelCheck] = []

  func add(_ check: ConvolutionCheck, _ tile: TiledConvolution.Tile?) {
    let algorithm = ConvolutionAlgorithm.forced
    let tileText = tile.map { ", tiles of \($0.rows) × \($0.columns)" } ?? ""
    func forcing<Result>(_ body: () throws -> Result) rethrows -> Result {
      try ConvolutionAlgorithm.$forced.withValue(algorithm) {
        try TiledConvolution.$forcedTile.withValue(tile, operation: body)
      }
    }
    checks.append(
      KernelCheck(
        "convolution \(check.kernel.0)×\(check.kernel.1)", "\(check)\(tileText)",
        programs: { description in try forcing { try check.programs(on: description) } },
        run: { device in try forcing { try check.check().run(on: device) } }))
  }

  // Few channels first: they are checked fastest, and often share their programs with many.
  let calls = plan.convolutions.sorted { $0.geometry.filterSize < $1.geometry.filterSize }
  for call in calls {
    var needed = try call.programs(on: description).intersection(planned).subtracting(covered)
    if needed.isEmpty, thoroughness == .thorough, let check = call.reduced(batch: 2, image: sizes[0]), check.fits {
      add(check, nil)
    }
    for tile in tiles {
      for (index, size) in sizes.enumerated() {
        guard !needed.isEmpty, let check = call.reduced(batch: 2, image: size), check.fits else { continue }
        let programs = try TiledConvolution.$forcedTile.withValue(tile) { try check.programs(on: description) }
        let found = needed.intersection(programs)
        guard !found.isEmpty else { continue }
        needed.subtract(found)
        covered.formUnion(found)
        add(check, tile)
        // The same programs over other extents, a single pixel among them.
        guard thoroughness != .short else { continue }
        for other in sizes[(index + 1)...].suffix(thoroughness == .normal ? 1 : sizes.count) {
          if let more = call.reduced(batch: 1, image: other), more.fits { add(more, tile) }
        }
      }
    }
  }
  if thoroughness == .thorough {
    for (inputs, outputs, kernel) in [(1, 65, 3), (7, 31, 1), (31, 2, 3), (33, 7, 1), (65, 33, 3), (2, 1, 5)] {
      var check = ConvolutionCheck(
        image: (7, 5), inputs: inputs, outputs: outputs, kernel: (kernel, kernel), bias: true, prologue: .preAffinePost)
      check.dtype = calls.first?.dtype ?? .float32
      add(check, nil)
    }
  }
  return checks
}

extension ConvolutionGeometry {
  fileprivate var filterSize: Int { kernelHeight * kernelWidth * inputs * outputs }
}

extension ConvolutionCheck {
  /// Whether the window fits the padded image.
  fileprivate var fits: Bool {
    guard case .explicit(let top, let bottom, let left, let right) = padding else { return true }
    return image.0 + top + bottom >= kernel.0 && image.1 + left + right >= kernel.1
  }
}
