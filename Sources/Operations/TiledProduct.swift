import OpenCLRuntime

/// The matrix product that `conv_tiled` computes for a pass, in tiles: its extents and how its terms are cut.
package struct TiledProduct: Sendable {
  let tile: TiledConvolution.Tile
  private let pass: ConvolutionPass
  private let geometry: ConvolutionGeometry
  /// Sets of rows that have taps of their own: of a strided data gradient, else one.
  let phases: Int
  /// Pixels of a phase, the largest.
  let rows: Int
  /// Channels of the result.
  let columns: Int
  /// Taps that reach the pixels of a phase, at most, and channels under each.
  private let taps: Int
  private let channels: Int
  /// Whether terms run through all taps, which wastes less than filling up each tap's channels.
  private let isFlat: Bool
  /// Nil where the tile has none.
  private let patch: TiledPatch?

  /// - Parameter pass: forward or the data gradient.
  package init(_ pass: ConvolutionPass, _ g: ConvolutionGeometry, _ tile: TiledConvolution.Tile) {
    precondition(pass != .filterGradient, "conv_tiled computes no filter gradient")
    self.tile = tile
    self.pass = pass
    geometry = g
    if pass == .forward {
      (phases, rows, columns) = (1, g.batch * g.outHeight * g.outWidth, g.outputs)
      (taps, channels) = (g.taps, g.inputs)
    } else {
      phases = g.strideHeight * g.strideWidth
      (rows, columns) = (TiledConvolution.gradientRows(g) / phases, g.inputs)
      taps =
        (g.kernelHeight + g.strideHeight - 1) / g.strideHeight * ((g.kernelWidth + g.strideWidth - 1) / g.strideWidth)
      channels = g.outputs
    }
    patch = tile.patch == nil ? nil : TiledPatch(pass, g, rows: tile.rows)
    isFlat = tile.patch == nil && g.taps > 1 && channels % tile.terms != 0
  }

  var kernel: String { patch == nil ? "conv_tiled" : "conv_tiled_patch" }

  var source: KernelSource { patch == nil ? .convolutionTiled : .convolutionTiledPatch }

  /// What is baked in besides tile, window and structure.
  var options: String {
    guard patch != nil else { return isFlat ? " -D FLAT=\(channels)" : "" }
    let kept = keptColumns.map { " -D KEPT=\($0)" } ?? ""
    let isFew = tile.terms == 4 && (channels < 4 || tile.operand != nil)
    return kept + (steps == 1 ? " -D ONE_STEP=1" : "") + (isFew ? " -D FEW=\(min(channels, 4))" : "")
  }

  /// Columns of the filter that a patch's kernel keeps in local memory, where those of a warp with matrix units are at
  /// least twice as many as the product has; nil for all.
  var keptColumns: Int? {
    guard patch != nil, tile.operand != nil, tile.columns == 32 else { return nil }
    return [8, 16].first { columns <= $0 }
  }

  /// What `kernel` takes behind the sizes of the images.
  var arguments: [KernelArgument] { patch.map { [.int($0.strip)] } ?? [] }

  /// Why the tile's patch cannot be that of the product; nil when it can.
  var patchViolation: String? {
    guard let room = tile.patch else { return nil }
    guard let patch else { return "a patch for a stride, for a single tap or for very large images" }
    guard [channels, 4].contains(where: { tile.terms == tile.with(patch: room, channels: $0).terms }) else {
      return "a patch of \(tile.terms) channels"
    }
    return patch.positions > room ? "\(patch.positions) positions in a patch of \(room)" : nil
  }

  /// Configurations are legal by `ConvolutionSpace`; those that are forced have to be as well.
  func checkPatch() {
    if let violation = patchViolation { preconditionFailure("conv \(geometry.label): \(violation)") }
  }

  /// Work-groups without splits.
  package var groups: Int { phases * tile.groups(rows, columns) }

  /// Terms of a step.
  package var termsOfStep: Int { tile.termsOfStep(taps: taps) }

  /// Steps of the loop over terms, in the phase that has most.
  package var steps: Int {
    if patch != nil { return (channels + tile.terms - 1) / tile.terms }
    return isFlat ? (taps * channels + tile.terms - 1) / tile.terms : taps * ((channels + tile.terms - 1) / tile.terms)
  }

  /// Parts that the steps are cut into, for work-groups of their own, so that a small product does not leave most of the
  /// device idle: as many as give it two work-groups for each compute unit, if they are not too short.
  ///
  /// Each split writes a float32 for each value of the result, and `conv_tiled_sum` reads it: 8 bytes for 2 operations a
  /// term. In the time of a byte to or from memory a GPU computes about 20 operations in single precision (by its data
  /// sheet an H100 22), so that 128 terms a split, 32 operations a byte, take longer than their bytes even if no cache
  /// helps. That one does is likely: with the standard tile all splits together are no more than the tiles of two
  /// work-groups for each compute unit, 17 MB with the largest on 132. Matrix units multiply several times as fast, and
  /// get four times the terms.
  ///
  /// CPUs, which run these kernels for checks only, split nothing: a work-group keeps a core busy.
  ///
  /// Whether there are splits at all is decided with the standard tile, whatever the tile: convolutions that share a
  /// program by the standard are tuned together, and share one then, too.
  package func splits(on device: DeviceDescription) -> Int {
    let standard = ConvolutionConfiguration.standard(pass, geometry, .tiled, tile.operand, on: device)
    guard case .tiled(let usual, _) = standard, usual != tile else { return wantedSplits(on: device) }
    return TiledProduct(pass, geometry, usual).wantedSplits(on: device) > 1 ? max(2, wantedSplits(on: device)) : 1
  }

  private func wantedSplits(on device: DeviceDescription) -> Int {
    guard device.kind != .cpu else { return 1 }
    let leastTerms = tile.operand == nil ? 128 : 512
    let leastSteps = (leastTerms + termsOfStep - 1) / termsOfStep
    let wanted = min(2 * device.computeUnits / max(groups, 1), steps / leastSteps, Self.mostSplits)
    guard wanted > 1 else { return 1 }
    // Of equal length but for the last, and none without steps.
    let length = (steps + wanted - 1) / wanted
    return (steps + length - 1) / length
  }

  /// So many that adding them up, one after another in each work-item, stays short.
  package static let mostSplits = 32
}
