import OpenCLRuntime
import TensorCore

/// Convolution by `convolution_tiled.cl`, `convolution_tiled_patch.cl` and `convolution_tiled_patch_filter_gradient.cl`;
/// see there for the schemes.
package struct TiledConvolution: ConvolutionKernels {
  /// The part of a matrix product that a work-group computes, of work-items with `down` × `across` tiles of 4 × 4, some
  /// terms at a time.
  package struct Tile: Sendable, Hashable, Codable {
    package let rows: Int
    package let columns: Int
    package let down: Int
    package let across: Int
    /// Terms of a step; with a patch, those under each tap: channels.
    package let terms: Int
    /// What matrix units multiply; nil for products in single precision.
    package let operand: MatrixOperand?
    /// Positions of an image that `conv_tiled_patch` keeps for all taps; nil for `conv_tiled`.
    package let patch: Int?
    /// Positions of images that `conv_tiled_patch_filter_gradient` keeps for all taps; nil for other kernels.
    package let ring: Int?

    package init(
      rows: Int, columns: Int, down: Int = 1, across: Int = 1, terms: Int = 16, operand: MatrixOperand? = nil,
      patch: Int? = nil, ring: Int? = nil
    ) {
      self.rows = rows
      self.columns = columns
      self.down = down
      self.across = across
      self.terms = terms
      self.operand = operand
      self.patch = patch
      self.ring = ring
    }

    /// The same with a patch, of images with so many channels: a step has as many as matrix units take at once, or a quad,
    /// which suffices for few.
    package func with(patch: Int, channels: Int) -> Tile {
      Tile(
        rows: rows, columns: columns, down: down, across: across, terms: channels > 4 ? 4 * wholeQuads : 4,
        operand: operand, patch: patch)
    }

    package func with(ring: Int) -> Tile {
      Tile(rows: rows, columns: columns, down: down, across: across, terms: terms, operand: operand, ring: ring)
    }

    /// Quads of channels that matrix units take at once.
    private var wholeQuads: Int { operand.map { 2 * $0.perWord } ?? 1 }

    /// Terms of a step, under so many taps. Those of a patch are filled up to what matrix units take at once.
    package func termsOfStep(taps: Int) -> Int {
      guard patch != nil else { return terms }
      let together = max(4 * wholeQuads / terms, 1)
      return (taps + together - 1) / together * together * terms
    }

    /// Work-items of a work-group.
    package var items: Int { rows / (4 * down) * (columns / (4 * across)) }

    func options(on device: DeviceDescription) -> String {
      "-D VEC=4 -D TM=\(rows) -D TN=\(columns) -D RM=\(down) -D RN=\(across) "
        + (patch.map { "-D PATCH=\($0)" } ?? "-D TK=\(terms)") + (ring.map { " -D RING=\($0)" } ?? "")
        + (operand?.options(on: device) ?? "")
        + Self.subgroupOption(on: device)
    }

    /// Intel's GPUs share the registers of a thread, 4 KiB or, where 16 is their smallest sub-group, 8 KiB, among its
    /// work-items. Where the compiler may choose 32 it does, and spills.
    private static func subgroupOption(on device: DeviceDescription) -> String {
      device.subgroupSizes.first == 16 ? " -D SUBGROUP=16" : ""
    }

    // Terms in a 32-bit word of a tile in local memory.
    private var perWord: Int { operand?.perWord ?? 1 }

    // What a work-item holds in 32-bit registers: sums, the operands of a step, and what it fetches for the next one.
    package var accumulators: Int { 16 * down * across }
    package var operands: Int { operand == nil ? 4 + 4 * across : 8 + 4 * across }
    package func fetched(taps: Int, kept: Int? = nil) -> Int { 4 * (rowQuads + columnQuads(taps: taps, kept: kept)) }

    /// Quads of the tile's rows, or of its patch, that a work-item fetches for a step, at most.
    package var rowQuads: Int {
      patch.map { ($0 * terms / 4 + items - 1) / items } ?? quads(rows, terms: terms)
    }

    /// Quads of its columns, or of so many of them.
    package func columnQuads(taps: Int, kept: Int? = nil) -> Int {
      quads(kept ?? columns, terms: termsOfStep(taps: taps))
    }

    /// For matrix units whole pairs of words.
    private func quads(_ extent: Int, terms: Int) -> Int {
      let together = operand == nil ? 1 : 2 * perWord
      return together * ((extent * terms / (4 * together) + items - 1) / items)
    }

    /// Local memory of a work-group, by the macros of the kernel: tiles of one or two steps, which with `sums` are reused
    /// for those of an affine's gradient or the moments.
    ///
    /// - Parameters:
    ///   - taps: those of the convolution, which count only with a patch.
    ///   - steps: how many there are, if it matters.
    ///   - kept: columns of a patch's filter, where there are fewer than the tile's.
    package func localBytes(sums: Bool, taps: Int = 1, steps: Int = 2, kept: Int? = nil) -> Int {
      let buffer =
        if let patch {
          (patch * terms / perWord + 3) / 4 + size(kept ?? columns, terms: termsOfStep(taps: taps))
        } else {
          size(rows, terms: terms) + columnSize(terms: terms)
        }
      return 16 * max((patch != nil && steps == 1 ? 1 : 2) * buffer, sums ? 2 * across * items : 0)
    }

    /// Quads of words that the columns of a step take in local memory.
    func columnSize(terms: Int) -> Int { size(columns, terms: terms) }

    private func size(_ extent: Int, terms: Int) -> Int {
      let words = terms / perWord
      return operand == nil ? words * (extent / 4 + 1) : words / 2 * (extent / 2 + 2) + words / 8
    }

    /// The same with as many terms a step as the device's local memory has room for.
    func fitting(_ device: DeviceDescription) -> Tile {
      let fewest = operand == nil ? 4 : 8 * perWord
      var tile = self
      while tile.terms > fewest, tile.localBytes(sums: true) > device.localMemory {
        tile = Tile(
          rows: rows, columns: columns, down: down, across: across, terms: tile.terms / 2, operand: operand)
      }
      return tile
    }

    /// The same for the filter gradient, which has none.
    private var withoutPatch: Tile {
      Tile(rows: rows, columns: columns, down: down, across: across, terms: terms, operand: operand)
    }

    /// Every pass with this tile, to force it; forward pass and data gradient in so many splits.
    package func everywhere(splits: Int = 1) -> [ConvolutionPass: ConvolutionConfiguration] {
      [
        .forward: .tiled(self, splits: splits), .inputGradient: .tiled(self, splits: splits),
        .filterGradient: .tiledFilterGradient(withoutPatch, groups: 8),
      ]
    }

    /// Rows that are computed for so many.
    func padded(_ rows: Int) -> Int { (rows + self.rows - 1) / self.rows * self.rows }

    func groups(_ rows: Int, _ columns: Int) -> Int {
      (rows + self.rows - 1) / self.rows * ((columns + self.columns - 1) / self.columns)
    }
  }

  /// The tiles that an untuned GPU gets, with fewer terms where local memory is small.
  package struct StandardTiles: Sendable {
    let medium, tall, large, narrow, narrowest: Tile
    /// For small work-groups.
    let small, smallest: Tile
    /// What 144 or 147 rows fill: those of a filter gradient with 16 channels under 3×3 taps, or three under 7×7.
    let filling: Tile
    /// Medium and narrow by twice as many work-items.
    let mediumSpread, narrowSpread: Tile

    package var all: [Tile] {
      [medium, tall, large, narrow, narrowest, small, smallest, filling, mediumSpread, narrowSpread]
    }
  }

  /// For products in single precision.
  package static let tiles = StandardTiles(
    medium: Tile(rows: 64, columns: 64, down: 2),
    tall: Tile(rows: 128, columns: 64, down: 2),
    large: Tile(rows: 128, columns: 128, down: 2, across: 2),
    narrow: Tile(rows: 128, columns: 32, down: 2),
    narrowest: Tile(rows: 256, columns: 16),
    small: Tile(rows: 32, columns: 32),
    smallest: Tile(rows: 16, columns: 16),
    filling: Tile(rows: 160, columns: 16),
    mediumSpread: Tile(rows: 64, columns: 64),
    narrowSpread: Tile(rows: 128, columns: 32))

  /// For matrix units. A warp has 64 × 32 values of them where there is room, for which it reads 24 words of local memory a
  /// work-item for 16 instructions.
  package static func matrixTiles(_ operand: MatrixOperand) -> StandardTiles {
    func tile(_ rows: Int, _ columns: Int, down: Int = 1, across: Int = 1, words: Int = 16) -> Tile {
      Tile(
        rows: rows, columns: columns, down: down, across: across, terms: words * operand.perWord, operand: operand)
    }
    // Sixteen terms, whatever lies in a word, where a work-item would fetch much for few values.
    let few = 16 / operand.perWord
    return StandardTiles(
      medium: tile(64, 64, down: 2),
      tall: tile(128, 64, down: 2, across: 2),
      large: tile(128, 128, down: 2, across: 2),
      narrow: tile(128, 32, down: 2),
      narrowest: tile(256, 16, down: 2, words: few),
      small: tile(32, 32),
      smallest: tile(32, 16, words: few),
      filling: tile(160, 16, words: few),
      mediumSpread: tile(64, 64),
      narrowSpread: tile(128, 32))
  }

  /// A tile for a product of that size: narrow for few columns, large where enough work-groups are left to fill the
  /// device with it, small for devices with small work-groups. Intel's GPUs have at most 128 registers for a work-item, too
  /// few for the largest, and for 8 × 4 values in the narrow one, which fetches most. AMD's compute units with wavefronts
  /// of 64 have local memory for so few work-groups that those of 128 work-items would leave a SIMD one wavefront.
  ///
  /// - Parameter splits: parts that the sums are cut into at most, which multiply the work-groups.
  static func tile(
    rows: Int, columns: Int, splits: Int = 1, _ operand: MatrixOperand?, on device: DeviceDescription
  ) -> Tile {
    let tiles = operand.map(matrixTiles) ?? tiles
    let isWide = device.wavefrontWidth == 64 && operand == nil
    let isIntel = !device.subgroupSizes.isEmpty
    func isFilled(with tile: Tile) -> Bool { tile.groups(rows * splits, columns) >= 4 * device.computeUnits }
    let tile =
      switch (device.maximumWorkGroupSize, columns) {
      case (..<64, _): tiles.smallest
      case (..<256, _): tiles.small
      case (_, ...16): tiles.filling.padded(rows) < tiles.narrowest.padded(rows) ? tiles.filling : tiles.narrowest
      case (_, ...32): isWide || isIntel ? tiles.narrowSpread : tiles.narrow
      case (_, 65...) where !isIntel && isFilled(with: tiles.large): tiles.large
      default: isFilled(with: tiles.tall) ? tiles.tall : isWide ? tiles.mediumSpread : tiles.medium
      }
    return tile.fitting(device)
  }

  func forward(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor,
    leavingMoments: Bool
  ) -> PartialMoments? {
    let configuration = x.device.configuration(of: .forward, geometry, x.base.dtype, .tiled)
    guard case .tiled(let tile, let splits) = configuration else { preconditionFailure("no tile") }
    return forward(
      geometry, tile, splits: splits, x, filter: filter, bias: bias, to: y, leavingMoments: leavingMoments,
      flops: geometry.flops)
  }

  /// - Parameters:
  ///   - given: parts of the terms; nil for what `TiledProduct.splits` says.
  ///   - flops: operations that count.
  private func forward(
    _ g: ConvolutionGeometry, _ tile: Tile, splits given: Int?, _ x: DeferredTensor, filter: Tensor, bias: Tensor?,
    to y: Tensor, leavingMoments: Bool, flops: Double
  ) -> PartialMoments? {
    let device = x.device
    let rows = g.batch * g.outHeight * g.outWidth
    Self.checkOffsets(g, source: x.base)
    let product = TiledProduct(.forward, g, tile)
    product.checkPatch()
    let options =
      tile.options(on: device.description) + g.kernelOptions + product.options
      + alignment("VX", x.inputs, channels: g.inputs) + alignment("VF", [filter], channels: g.outputs)
      + x.prologueOptions()
    let arguments =
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
      + filter.vectorArguments + [
        .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
      ] + product.arguments
    let splits = given ?? product.splits(on: device.description)
    if splits > 1 {
      let partials = Tensor(uninitialized: [splits, rows, g.outputs], on: device)
      launch(
        product, splits, options + alignment("VY", [partials], channels: g.outputs), arguments, to: partials,
        cost: LaunchCost(
          "conv \(g.label)", flops: flops,
          bytes: Double(x.base.byteCount + filter.byteCount + partials.byteCount),
          requestedBytes: Self.requestedBytes(
            tile, rows: rows, x.base, columns: g.outputs, filter, terms: g.taps * g.inputs, taps: g.taps,
            others: partials.byteCount)))
      return addSplits(partials, bias: bias, to: y, accumulate: false, leavingMoments: leavingMoments, g)
    }
    let groups = (rows + tile.rows - 1) / tile.rows
    let moments = MomentsTarget(of: leavingMoments ? y : nil, groups: groups, standIn: filter)
    device.launch(
      product.source, product.kernel,
      options: options + alignment("VY", [y], channels: g.outputs) + (moments.left == nil ? "" : " -D MOMENTS=1"),
      global: [groups * tile.items, (g.outputs + tile.columns - 1) / tile.columns, 1],
      local: [tile.items, 1, 1],
      arguments + y.storedArguments + [.int(0)] + (bias ?? filter).vectorArguments + [.int(bias == nil ? 0 : 1)]
        + (moments.left == nil ? [] : moments.arguments),
      cost: LaunchCost(
        "conv \(g.label)", flops: flops,
        bytes: Double(x.base.byteCount + filter.byteCount + y.byteCount),
        requestedBytes: Self.requestedBytes(
          tile, rows: rows, x.base, columns: g.outputs, filter, terms: g.taps * g.inputs, taps: g.taps,
          others: y.byteCount)))
    return moments.left
  }

  func inputGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, _ dy: Tensor, _ store: GradientStore
  ) {
    let g = geometry
    let device = x.device
    let dx = store.destination(for: x.base)
    let daffine = x.prologue.affine.flatMap { store.destination(for: $0) }
    guard dx != nil || daffine != nil else { return }
    let phases = g.strideHeight * g.strideWidth
    let rows = Self.gradientRows(g) / phases
    let tile: Tile
    let given: Int?
    switch device.configuration(of: .inputGradient, g, x.base.dtype, .tiled) {
    case .tiled(let chosen, let splits): (tile, given) = (chosen, splits)
    case .tiledPhases(let product, let splits):
      // What steps are pending is another kernel's, which has its own tile.
      if x.prologue.isIdentity, let dx {
        return inputGradientByPhases(g, product, splits: splits, filter: filter, dy, to: dx)
      }
      let operand = product.operand
      (tile, given) = (
        Self.tile(rows: Self.gradientRows(g), columns: g.inputs, operand, on: device.description), nil
      )
    default: preconditionFailure("no tile")
    }
    Self.checkOffsets(g, source: dy)
    let product = TiledProduct(.inputGradient, g, tile)
    product.checkPatch()
    let options =
      tile.options(on: device.description) + g.kernelOptions + product.options + " -D GRADIENT=1"
      + dy.storageOptions + alignment("VX", [dy], channels: g.outputs) + alignment("VF", [filter], channels: g.outputs)
    let arguments =
      dy.storedArguments + [.int(g.outHeight), .int(g.outWidth), .int(g.outputs)] + dy.deferred.prologueArguments
      + filter.vectorArguments + [
        .int(g.batch), .int(g.height), .int(g.width), .int(g.inputs), .int(g.padTop), .int(g.padLeft),
      ] + product.arguments
    // Each tap belongs to one phase.
    func requestedBytes(others: Int) -> Double {
      Self.requestedBytes(
        tile, rows: rows, dy, columns: g.inputs, filter, terms: g.taps * g.outputs, taps: g.taps, others: others)
    }
    let splits = given ?? product.splits(on: device.description)
    if splits > 1 {
      let partials = Tensor(uninitialized: [splits, x.shape.rows, g.inputs], on: device)
      launch(
        product, splits, options + alignment("VY", [partials], channels: g.inputs), arguments, to: partials,
        cost: LaunchCost(
          "conv input gradient \(g.label)", flops: g.flops,
          bytes: Double(dy.byteCount + filter.byteCount + partials.byteCount),
          requestedBytes: requestedBytes(others: partials.byteCount)))
      if let dx, x.prologue.isIdentity {
        addSplits(partials, bias: nil, to: dx.tensor, accumulate: dx.accumulate, g)
      } else {
        // In single precision, so that it is rounded to the type of dx once.
        let gradient = Tensor(uninitialized: x.shape, on: device)
        addSplits(partials, bias: nil, to: gradient, accumulate: false, g)
        x.backpropagate(gradient, dx: dx, daffine: daffine)
      }
      return
    }

    // Without anyone asking for dx it is computed all the same for the affine's sums, into scratch memory.
    let target = dx?.tensor ?? Tensor(uninitialized: x.shape, on: device, dtype: x.base.dtype)
    let groups = (rows + tile.rows - 1) / tile.rows
    let epilogue = Epilogue(of: x.prologue.isIdentity ? nil : x, items: phases * groups, standIn: target)
    device.launch(
      product.source, product.kernel,
      options: options
        + alignment("VY", [target] + (x.prologue.isIdentity ? [] : x.inputs), channels: g.inputs) + epilogue.options,
      global: [groups * tile.items, (g.inputs + tile.columns - 1) / tile.columns, phases],
      local: [tile.items, 1, 1],
      arguments + target.storedArguments + [.int(dx?.accumulate ?? false ? 1 : 0)] + filter.vectorArguments
        + [.int(0)] + epilogue.arguments,
      cost: LaunchCost(
        "conv input gradient \(g.label)", flops: g.flops,
        bytes: Double(dy.byteCount + filter.byteCount + x.base.byteCount * (x.prologue.isIdentity ? 1 : 2)),
        requestedBytes: requestedBytes(
          others: x.base.byteCount * ((x.prologue.isIdentity ? 1 : 2) + (dx?.accumulate ?? false ? 1 : 0)))))
    if let affine = x.prologue.affine, let daffine, let sums = epilogue.sums {
      finishAffineGradient(sums: sums, chunks: phases * groups, affine: affine, destination: daffine)
    }
  }

  /// dx (+)= the data gradient of a stride, all phases in one product. A sum is rounded to the type of dx before it is
  /// added to what is there, as well as afterwards.
  private func inputGradientByPhases(
    _ g: ConvolutionGeometry, _ tile: Tile, splits: Int?, filter: Tensor, _ dy: Tensor,
    to dx: GradientStore.Destination
  ) {
    guard let gradient = StridedGradient(g) else { preconditionFailure("conv \(g.label): no product of all phases") }
    let product = gradient.product
    let phases = Tensor(uninitialized: product.outputShape, on: dy.device, dtype: dy.dtype)
    _ = forward(
      product, tile, splits: splits, dy.deferred, filter: gradient.filter(filter), bias: nil, to: phases,
      leavingMoments: false, flops: g.flops)
    gradient.spread(phases, to: dx)
  }

  func filterGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination,
    bias _: GradientStore.Destination?
  ) -> Bool {
    let g = geometry
    let device = x.device
    let rows = Self.filterRows(g)
    guard
      case .tiledFilterGradient(let tile, let perUnit) = device.configuration(
        of: .filterGradient, g, x.base.dtype, .tiled)
    else {
      preconditionFailure("no tile")
    }
    let product = FilterGradientProduct(g, tile, groups: perUnit, on: device.description)
    let size = rows * g.outputs
    let partials = PartialSums(splits: product.splits, values: size, of: dw)
    let options =
      tile.options(on: device.description) + g.kernelOptions + " -D FILTER_GRADIENT=1"
      + alignment("VX", x.inputs, channels: g.inputs)
      + alignment("VY", [dy], channels: g.outputs) + x.prologueOptions()
    device.launch(
      product.source, product.kernel, options: options, global: product.global, local: [tile.items, 1, 1],
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
        + dy.storedArguments + [
          .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
        ] + product.arguments + partials.arguments,
      cost: LaunchCost(
        "conv filter gradient \(g.label)", flops: g.flops,
        bytes: Double(x.base.byteCount + dy.byteCount + partials.byteCount),
        requestedBytes: product.requestedBytes(x: x.base.dtype, dy: dy.dtype) + Double(partials.byteCount)))
    partials.finish()
    return false
  }

  // MARK: - Splits

  /// The product's splits, each to its own part of `partials`, [splits, pixels, columns].
  private func launch(
    _ product: TiledProduct, _ splits: Int, _ options: String, _ arguments: [KernelArgument], to partials: Tensor,
    cost: LaunchCost
  ) {
    let tile = product.tile
    partials.device.launch(
      product.source, product.kernel, options: options + " -D SPLIT=1",
      global: [
        (product.rows + tile.rows - 1) / tile.rows * tile.items,
        (product.columns + tile.columns - 1) / tile.columns, product.phases * splits,
      ],
      local: [tile.items, 1, 1], arguments + [.int(splits), .buffer(partials.storage.buffer)], cost: cost)
  }

  /// y (+)= bias + the sum of the splits of `partials`, in order.
  ///
  /// - Returns: the moments of y, if they are wanted.
  @discardableResult
  private func addSplits(
    _ partials: Tensor, bias: Tensor?, to y: Tensor, accumulate: Bool, leavingMoments: Bool = false,
    _ g: ConvolutionGeometry
  ) -> PartialMoments? {
    let device = partials.device
    let (splits, pixels, columns) = (partials.shape[0], partials.shape[1], partials.channels)
    // Work-groups for moments are of 32 pixels by 32 outputs, SUM_PIXELS and SUM_OUTPUTS of the kernel.
    let groups = (pixels + 31) / 32
    let moments = MomentsTarget(of: leavingMoments ? y : nil, groups: groups, standIn: partials)
    let options =
      "-D VEC=4 -D SPLIT_SUM=1" + y.storageOptions + alignment("VX", [partials], channels: columns)
      + alignment("VY", [y], channels: columns)
    let arguments =
      [.buffer(partials.storage.buffer), .int(splits), .int(pixels), .int(columns)] + y.storedArguments
      + [.int(accumulate ? 1 : 0)] + (bias ?? partials).vectorArguments + [.int(bias == nil ? 0 : 1)]
    let cost = LaunchCost(
      "conv sum of \(splits) splits \(g.label)",
      bytes: Double(partials.byteCount + y.byteCount * (accumulate ? 2 : 1)))
    if let left = moments.left {
      // A work-item takes one quad, or several where work-groups are small.
      let items = [256, 64].first { $0 <= device.description.maximumWorkGroupSize } ?? 16
      device.launch(
        .convolutionTiled, "conv_tiled_sum", options: options + " -D MOMENTS=1 -D SUM_ITEMS=\(items)",
        global: [groups * items, (columns + 31) / 32, 1], local: [items, 1, 1], arguments + moments.arguments,
        cost: cost)
      return left
    }
    let items = pixels * ((columns + 3) / 4)
    // A multiple of 64 leaves the driver free in the choice of work-groups.
    device.launch(
      .convolutionTiled, "conv_tiled_sum", options: options, global: [(items + 63) / 64 * 64],
      local: device.independent(1), arguments, cost: cost)
    return nil
  }

  // MARK: - Structure

  /// Rows of the data gradient's product: for each phase the pixels of the largest one, those that share the taps which
  /// reach them.
  static func gradientRows(_ g: ConvolutionGeometry) -> Int {
    g.batch * ((g.height + g.strideHeight - 1) / g.strideHeight) * ((g.width + g.strideWidth - 1) / g.strideWidth)
      * g.strideHeight * g.strideWidth
  }

  /// Work-groups for each compute unit that the splits of a filter gradient aim at: as many as are there at once with 128
  /// registers a work-item, on an NVIDIA GPU, or two. Each writes a tile of partial sums for itself, which is read once
  /// more: with eight work-groups they were a fifth of all bytes that a step has to move.
  static func filterGradientGroups(_ tile: Tile) -> Int { min(max(512 / tile.items, 2), 8) }

  /// Rows of the filter gradient's product: pairs of tap and channel.
  static func filterRows(_ g: ConvolutionGeometry) -> Int { g.taps * g.inputs }

  /// `conv_tiled` counts the elements between two taps, and those of the filter, in 32 bits.
  private static func checkOffsets(_ g: ConvolutionGeometry, source: Tensor) {
    let row = max(g.width, g.outWidth) * source.pixelStride
    precondition(
      g.kernelHeight * row < 1 << 31 && g.taps * g.inputs * g.outputs < 1 << 31,
      "a \(g.kernelHeight)×\(g.kernelWidth) convolution \(g.inputs)→\(g.outputs) over rows of \(row) values is too large"
    )
  }

  /// At least 128 pixels a split and at most `mostPartialValues`.
  static func mostSplits(_ g: ConvolutionGeometry) -> Int {
    max(1, min(g.batch * g.outHeight * g.outWidth / 128, mostPartialValues / max(filterRows(g) * g.outputs, 1)))
  }

  /// Values of the partial filter gradients of a layer, where it has several: 64 MiB.
  static let mostPartialValues = 1 << 24

  /// Bytes that the work-groups of a product load and store: each tile loads its rows, of one tensor, and its columns, of
  /// another, for all terms, and there are `others`. With a patch it loads its positions once for all taps. Values in the
  /// padding count as well; the rows of an affine do not.
  private static func requestedBytes(
    _ tile: Tile, rows: Int, _ rowValues: Tensor, columns: Int, _ columnValues: Tensor, terms: Int, taps: Int = 1,
    others: Int
  ) -> Double {
    let across = (columns + tile.columns - 1) / tile.columns
    let down = (rows + tile.rows - 1) / tile.rows
    let rowLoads = tile.patch.map { Double($0 * down) / Double(taps) } ?? Double(rows)
    let perTerm =
      rowLoads * Double(across * rowValues.dtype.byteCount) + Double(columns * down * columnValues.dtype.byteCount)
    return Double(terms) * perTerm + Double(others)
  }

  /// Bakes aligned access in where every quad of channels of these tensors is complete and starts at 16 bytes.
  private func alignment(_ name: String, _ tensors: [Tensor], channels: Int) -> String {
    let aligned = channels % 4 == 0 && tensors.allSatisfy { $0.elementOffset % 4 == 0 && $0.pixelStride % 4 == 0 }
    return aligned ? " -D \(name)=1" : ""
  }
}

extension ConvolutionGeometry {
  var taps: Int { kernelHeight * kernelWidth }

  fileprivate var kernelOptions: String {
    " -D KH=\(kernelHeight) -D KW=\(kernelWidth) -D SH=\(strideHeight) -D SW=\(strideWidth)"
  }
}
