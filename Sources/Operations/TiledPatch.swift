import OpenCLRuntime

/// How `conv_tiled_patch` cuts the images of a pass into strips, so that what the rows of a tile read lies in few lines; see
/// there for strips and positions.
package struct TiledPatch: Sendable, Hashable {
  /// Columns of a strip.
  let strip: Int
  /// Positions that the rows of a tile and their taps take at most.
  package let positions: Int

  /// The cut with the fewest positions; nil where the kernel cannot compute the pass.
  ///
  /// - Parameters:
  ///   - pass: forward or the data gradient.
  ///   - rows: those of a tile.
  package init?(_ pass: ConvolutionPass, _ g: ConvolutionGeometry, rows: Int) {
    guard pass != .filterGradient, g.isDense, g.taps > 1 else { return nil }
    let (height, width) = pass == .forward ? (g.outHeight, g.outWidth) : (g.height, g.width)
    // The kernel counts positions in 32 bits; in strips of one column there are most.
    guard g.batch * (height + g.kernelHeight) * width * g.kernelWidth < 1 << 31 else { return nil }

    func positions(strip: Int) -> Int {
      let pixels = min(rows, g.batch * height * width)
      let line = strip + g.kernelWidth - 1
      let ends = (pixels - 1 + strip - 1) / strip
      let stripEnds = min((pixels - 1 + height * strip - 1) / (height * strip), g.batch * (width / strip) - 1)
      return pixels + ends * (g.kernelWidth - 1) + stripEnds * (g.kernelHeight - 1) * line
        + (g.kernelHeight - 1) * line + g.kernelWidth - 1
    }
    let strips = (1...max(width, 1)).filter { width > 0 && width % $0 == 0 }
    guard g.batch * height > 0,
      let strip = strips.min(by: { (positions(strip: $0), -$0) < (positions(strip: $1), -$1) })
    else { return nil }
    self.strip = strip
    self.positions = positions(strip: strip)
  }

  /// So few different numbers that sizes of images share programs.
  var roundedPositions: Int { (positions + 63) / 64 * 64 }
}

extension TiledConvolution.Tile {
  /// The same with a patch, where that is possible and does not cost work-groups at once: in products of single precision it
  /// takes no more local memory than without, or than leaves every GPU two work-groups. Matrix units, which only NVIDIA's
  /// GPUs have so far, come with more local memory than registers suffice for.
  ///
  /// Matrix units take eight or sixteen channels together, or a quad of several taps, where there are no more or the filter
  /// of all taps has no room otherwise: images of others are left to `conv_tiled`. Work-items of Intel's GPUs have at most
  /// 128 registers, too few for two register tiles or for windows of more than nine taps.
  func withPatch(_ pass: ConvolutionPass, _ g: ConvolutionGeometry, on device: DeviceDescription) -> Self? {
    let shape = patchShape(columns: pass == .forward ? g.outputs : g.inputs)
    guard let positions = TiledPatch(pass, g, rows: shape.rows)?.roundedPositions else { return nil }
    let channels = g.sourceChannels(of: pass)
    let tiles = [shape.with(patch: positions, channels: channels), shape.with(patch: positions, channels: 4)]
    return tiles.first { tile in
      let product = TiledProduct(pass, g, tile)
      let (steps, kept) = (product.steps, product.keptColumns)
      guard operand == nil || channels <= 4 || channels % tile.terms == 0,
        device.subgroupSizes.isEmpty || tile.down * tile.across == 1 && g.taps <= 9,
        tile.violation(on: device, taps: g.taps, steps: steps, kept: kept) == nil
      else { return false }
      let localBytes = tile.localBytes(sums: true, taps: g.taps, steps: steps, kept: kept)
      return operand != nil || localBytes <= max(self.localBytes(sums: true), 24 << 10)
    }
  }

  /// Narrow tiles in another shape: eight columns of a work-item in place of eight rows, each of which would be read by
  /// itself, and no more columns than a quad where that is all. A warp with matrix units has 32 columns.
  private func patchShape(columns needed: Int) -> Self {
    switch (operand, columns) {
    case (nil, 16) where needed <= 4: Self(rows: 256, columns: 4)
    case (nil, 32) where down == 2: Self(rows: rows, columns: columns, across: 2)
    case (.some, ...16): Self(rows: 128, columns: 32, down: 2, operand: operand)
    default: self
    }
  }
}
