import OpenCLRuntime

/// How `conv_tiled_patch_filter_gradient` walks over padded images, whose positions it keeps in a ring; see there.
package struct TiledRing: Sendable, Hashable {
  /// Columns of a strip.
  let strip: Int
  /// Steps over all positions.
  let steps: Int
  /// Rounds of new positions before the first step of a work-group.
  let early: Int
  /// Positions that the ring has to have room for.
  package let positions: Int

  /// The cut into strips with which work-groups fetch least; nil where the kernel cannot compute the filter gradient.
  ///
  /// - Parameters:
  ///   - terms: positions of a step.
  ///   - room: positions that there is room for.
  ///   - splits: parts that the steps are cut into, each of which fetches the first positions for itself.
  package init?(_ g: ConvolutionGeometry, terms: Int, room: Int = .max, splits: Int) {
    guard g.isDense, g.taps > 1, g.batch * g.outHeight * g.outWidth > 0 else { return nil }
    let lines = g.outHeight + g.kernelHeight - 1
    // The kernel counts positions in 32 bits, and some steps beyond the last; in strips of one column there are most.
    guard g.batch * (lines + 1) * g.outWidth * g.kernelWidth < 1 << 30, g.batch * g.height * g.width < 1 << 31 else {
      return nil
    }

    let cuts = (1...g.outWidth).filter { g.outWidth % $0 == 0 }.map { strip in
      let line = strip + g.kernelWidth - 1
      let last = (g.batch * (g.outWidth / strip) * lines - g.kernelHeight) * line + strip
      let early = 1 + ((g.kernelHeight - 1) * line + g.kernelWidth - 1 + terms - 1) / terms
      return (strip: strip, steps: (last + terms - 1) / terms, early: early)
    }
    guard
      let best = cuts.filter({ ($0.early + 1) * terms <= room }).min(by: {
        ($0.steps + splits * $0.early, -$0.strip) < ($1.steps + splits * $1.early, -$1.strip)
      })
    else { return nil }
    (strip, steps, early) = best
    positions = (best.early + 1) * terms
  }

  /// So few different numbers that sizes of images share programs.
  var roundedPositions: Int { (positions + 63) / 64 * 64 }

  /// Parts of equal length but for the last, of the steps, so many at most; each at least four times as long as what
  /// comes before its first step.
  func stepsOfSplit(atMost splits: Int) -> Int { max((steps + splits - 1) / max(splits, 1), 4 * early) }
}

extension TiledConvolution {
  /// A tile with a ring, for a filter gradient of several taps: with the share of their time that work-items multiply what
  /// counts as high as possible, over all taps of at most eight quads of channels. Nil where there is none, or
  /// `conv_tiled_filter_gradient` is better: for small images, of which the positions between lines are too many; matrix
  /// units, which wait for what they multiply, gain by a ring even then.
  ///
  /// Work-items of Intel's GPUs have too few registers for several register tiles. The work-groups are too small for
  /// wavefronts of 64.
  static func ringTile(_ g: ConvolutionGeometry, _ operand: MatrixOperand?, on device: DeviceDescription) -> Tile? {
    guard device.subgroupSizes.isEmpty, device.wavefrontWidth != 64, g.isDense, g.taps > 1 else { return nil }
    // Where a step is a single instruction's work twice as many positions, for it is as long a wait.
    let choices = RingShape.all(g, channelQuads: 8, operand).compactMap { shape in
      shape.tile(g, words: operand != nil && shape.tiles == 1 ? 32 : 16, on: device).map { (shape: shape, tile: $0) }
    }
    // With more local memory for a warp there would be too few of them.
    let choice =
      choices.filter {
        $0.tile.ringBytes(taps: g.taps) <= 512 * $0.shape.lanes && $0.tile.ringViolation(g, on: device) == nil
      }
      .max { ($0.shape.use, $0.shape.items) < ($1.shape.use, $1.shape.items) }
    guard let tile = choice?.tile, let ring = TiledRing(g, terms: tile.terms, splits: 1) else { return nil }
    let padding = Double(ring.steps * tile.terms) / Double(g.batch * g.outHeight * g.outWidth)
    return padding <= (operand == nil ? 1.3 : 2.5) ? tile : nil
  }

  /// Those that tuning tries.
  static func ringTiles(_ g: ConvolutionGeometry, _ operand: MatrixOperand?, on device: DeviceDescription) -> [Tile] {
    [4, 8, 16].flatMap { quads in
      RingShape.all(g, channelQuads: quads, operand).flatMap { shape in
        [8, 16, 32].compactMap { shape.tile(g, words: $0, on: device) }
      }
    }
  }

  /// Work-groups for each compute unit that splits aim at, so many as an NVIDIA GPU has registers for at once.
  static func ringGroups(_ tile: Tile) -> Int { tile.accumulators > 64 ? 3 : 4 }
}

/// A work-group's register tiles for a filter gradient with a ring: `down` × `across` a work-item, in `rows` × `width`
/// work-items.
private struct RingShape {
  let down: Int
  let across: Int
  let rows: Int
  let width: Int
  let operand: MatrixOperand?
  /// Share of its time that a work-item multiplies what counts, by its lanes, its quads and what it loads for them.
  let use: Double

  var items: Int { rows * width }
  /// Those of whole warps.
  var lanes: Int { (items + 31) / 32 * 32 }
  var tiles: Int { down * across }

  /// With all taps of so many quads of channels at most, of as many in each work-group.
  static func all(_ g: ConvolutionGeometry, channelQuads: Int, _ operand: MatrixOperand?) -> [RingShape] {
    let allQuads = (g.inputs + 3) / 4
    let blocks = (allQuads + channelQuads - 1) / channelQuads
    let quads = (allQuads + blocks - 1) / blocks
    let columns = [4, 8, 16].first { g.outputs <= $0 && (operand == nil || $0 == 16) } ?? 32
    return (1...7).flatMap { down in
      (1...2).compactMap { across in
        RingShape(down: down, across: across, taps: g.taps, quads: quads, columns: columns, operand)
      }
    }
  }

  /// Nil where there is none of that kind.
  private init?(down: Int, across: Int, taps: Int, quads: Int, columns: Int, _ operand: MatrixOperand?) {
    guard columns % (4 * across) == 0, down * across <= 7 else { return nil }
    self.down = down
    self.across = across
    self.operand = operand
    let width = columns / (4 * across)
    // A warp with matrix units has eight quads of rows and four of columns.
    let together = operand == nil ? 1 : 8
    let needed = taps * quads
    var rows = (needed + together * down - 1) / (together * down) * together
    // Work-items divide evenly over what they fetch.
    while rows * width % quads != 0 || rows % across != 0 { rows += together }
    guard operand == nil || width == 4, rows * width <= 256 else { return nil }
    (self.width, self.rows) = (width, rows)
    let lanes = Double(rows * width) / Double((rows * width + 31) / 32 * 32)
    let work = Double(16 * down * across)
    // Beside them for each term two loads, and for a step's 16 what looks up, fetches and stores, by what ptxas makes of
    // it. A load of local memory takes an NVIDIA GPU as long as four of a warp's multiply-adds on all four schedulers.
    let multiplying =
      operand == nil
      ? min(work / (work + 1.75 * Double(down) + Double(across) + 8), Double(down * across) / Double(down + across))
      : 1
    use = Double(needed) / Double(rows * down) * lanes * multiplying
  }

  /// With so many words of terms a step, and a ring for the images.
  func tile(_ g: ConvolutionGeometry, words: Int, on device: DeviceDescription) -> TiledConvolution.Tile? {
    let tile = TiledConvolution.Tile(
      rows: 4 * down * rows, columns: 4 * across * width, down: down, across: across,
      terms: words * (operand?.perWord ?? 1), operand: operand)
    let groups = TiledConvolution.ringGroups(tile)
    // Any ring will do to count work-groups.
    let splits = TiledConvolution.splits(g, tile.with(ring: 1), groups: groups, on: device)
    return TiledRing(g, terms: tile.terms, splits: splits).map { tile.with(ring: $0.roundedPositions) }
  }
}

extension TiledConvolution.Tile {
  /// Quads of channels that the rows have room for under each tap.
  func ringQuads(taps: Int) -> Int { rows / 4 / taps }

  /// Work-groups that share the channels.
  func ringBlocks(_ g: ConvolutionGeometry) -> Int {
    let channels = 4 * ringQuads(taps: g.taps)
    return (g.inputs + channels - 1) / channels
  }

  /// Why `conv_tiled_patch_filter_gradient` cannot have this tile; nil when it can.
  func ringViolation(_ g: ConvolutionGeometry, on device: DeviceDescription) -> String? {
    guard let ring, TiledRing(g, terms: terms, room: ring, splits: 1) != nil else {
      return "a ring for a stride, for a single tap or for images that are too large"
    }
    let quads = ringQuads(taps: g.taps)
    guard quads > 0 else { return "\(rows) rows for \(g.taps) taps" }
    guard quads == 1 || 4 * quads < g.inputs + 4 else { return "more channels than there are" }
    if let violation = shapeViolation(on: device) { return violation }
    guard items % quads == 0, items % (columns / 4) == 0 else {
      return "work-items do not divide evenly over what they fetch"
    }
    let localBytes = ringBytes(taps: g.taps)
    guard localBytes <= device.localMemory else { return "\(localBytes) bytes of local memory" }
    guard ringRegisters <= 255 else { return "more than 255 registers" }
    return nil
  }

  /// 32-bit registers of a work-item, fitted to what ptxas 12.9 takes for sm_90 (Scripts/gpu-compile, 2026-11-27).
  package var ringRegisters: Int { 2 * accumulators + 30 }

  /// Local memory of a work-group, by the macros of the kernel.
  package func ringBytes(taps: Int) -> Int {
    let quads = ringQuads(taps: taps)
    let perWord = operand?.perWord ?? 1
    let distance = operand == nil ? quads : quads | 1
    let repeated = operand == nil ? 3 : 2 * perWord - 1
    let size = (((ring ?? 0) + repeated) * distance + perWord - 1) / perWord
    return 16 * (size + 2 * columnSize(terms: terms)) + 4 * 4 * terms
  }
}
