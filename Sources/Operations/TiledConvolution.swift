import OpenCLRuntime
import TensorCore

/// Convolution by `convolution_tiled.cl`; see there for the scheme.
package struct TiledConvolution: ConvolutionKernels {
  /// The part of a matrix product that a work-group computes, of work-items with `down` × `across` tiles of 4 × 4, some
  /// terms at a time.
  package struct Tile: Sendable, Hashable, Codable {
    package let rows: Int
    package let columns: Int
    package let down: Int
    package let across: Int
    package let terms: Int
    /// What matrix units multiply; nil for products in single precision.
    package let operand: MatrixOperand?

    package init(
      rows: Int, columns: Int, down: Int = 1, across: Int = 1, terms: Int = 16, operand: MatrixOperand? = nil
    ) {
      self.rows = rows
      self.columns = columns
      self.down = down
      self.across = across
      self.terms = terms
      self.operand = operand
    }

    /// Work-items of a work-group.
    package var items: Int { rows / (4 * down) * (columns / (4 * across)) }

    func options(on device: DeviceDescription) -> String {
      "-D VEC=4 -D TM=\(rows) -D TN=\(columns) -D RM=\(down) -D RN=\(across) -D TK=\(terms)"
        + (operand?.options(on: device) ?? "") + Self.subgroupOption(on: device)
    }

    /// Intel's GPUs share the registers of a thread, 4 KiB or, where 16 is their smallest sub-group, 8 KiB, among its
    /// work-items. Where the compiler may choose 32 it does, and spills.
    private static func subgroupOption(on device: DeviceDescription) -> String {
      device.subgroupSizes.first == 16 ? " -D SUBGROUP=16" : ""
    }

    // Terms in a 32-bit word of a tile in local memory, and words of a step.
    private var perWord: Int { operand?.perWord ?? 1 }
    package var words: Int { terms / perWord }

    // What a work-item holds in 32-bit registers: sums, the operands of a step, and what it fetches for the next one.
    package var accumulators: Int { 16 * down * across }
    package var operands: Int { operand == nil ? 4 + 4 * across : 8 + 4 * across }
    package var fetched: Int { 4 * (quads(rows) + quads(columns)) }

    /// Quads of `extent` rows or columns that a work-item fetches for a step, at most: for matrix units whole pairs of words.
    package func quads(_ extent: Int) -> Int {
      let together = operand == nil ? 1 : 2 * perWord
      return together * ((extent * terms / (4 * together) + items - 1) / items)
    }

    /// Local memory of a work-group, by the macros of the kernel: two buffers of tiles, which with `sums` are reused for
    /// those of an affine's gradient or the moments.
    package func localBytes(sums: Bool) -> Int {
      func quads(_ extent: Int) -> Int {
        operand == nil ? words * (extent / 4 + 1) : words / 2 * (extent / 2 + 2) + words / 8
      }
      return 16 * max(2 * (quads(rows) + quads(columns)), sums ? 2 * across * items : 0)
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

    /// Every pass with this tile, to force it; forward pass and data gradient in so many splits.
    package func everywhere(splits: Int = 1) -> [ConvolutionPass: ConvolutionConfiguration] {
      [
        .forward: .tiled(self, splits: splits), .inputGradient: .tiled(self, splits: splits),
        .filterGradient: .tiledFilterGradient(self, groups: 8),
      ]
    }

    /// Rows that are computed for so many.
    func padded(_ rows: Int) -> Int { (rows + self.rows - 1) / self.rows * self.rows }

    func groups(_ rows: Int, _ columns: Int) -> Int {
      (rows + self.rows - 1) / self.rows * ((columns + self.columns - 1) / self.columns)
    }
  }

  /// The tiles that `tile` picks from, with fewer terms where local memory is small: medium, tall, large, two narrow ones,
  /// two for small work-groups, a narrow one that the 144 or 147 rows of a filter gradient with 16 channels under 3×3 taps,
  /// or three under 7×7, fill, and the medium and the first narrow one by twice as many work-items.
  package static let tiles = [
    Tile(rows: 64, columns: 64, down: 2), Tile(rows: 128, columns: 64, down: 2),
    Tile(rows: 128, columns: 128, down: 2, across: 2), Tile(rows: 128, columns: 32, down: 2),
    Tile(rows: 256, columns: 16),
    Tile(rows: 32, columns: 32), Tile(rows: 16, columns: 16), Tile(rows: 160, columns: 16),
    Tile(rows: 64, columns: 64), Tile(rows: 128, columns: 32),
  ]

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
    let isWide = device.subgroupSizes == [64] && operand == nil
    let isIntel = device.subgroupSizes.count > 1
    func filled(with tile: Tile) -> Bool { tile.groups(rows * splits, columns) >= 4 * device.computeUnits }
    let index =
      switch (device.maximumWorkGroupSize, columns) {
      case (..<64, _): 6
      case (..<256, _): 5
      case (_, ...16): tiles[7].padded(rows) < tiles[4].padded(rows) ? 7 : 4
      case (_, ...32): isWide || isIntel ? 9 : 3
      case (_, 65...) where !isIntel && filled(with: tiles[2]): 2
      default: filled(with: tiles[1]) ? 1 : isWide ? 8 : 0
      }
    return tiles[index].fitting(device)
  }

  /// The tiles for matrix units, in the same order. A warp has 64 × 32 values of them where there is room, for which it reads 24
  /// words of local memory a work-item for 16 instructions.
  package static func matrixTiles(_ operand: MatrixOperand) -> [Tile] {
    let terms = 16 * operand.perWord
    return [
      Tile(rows: 64, columns: 64, down: 2, terms: terms, operand: operand),
      Tile(rows: 128, columns: 64, down: 2, across: 2, terms: terms, operand: operand),
      Tile(rows: 128, columns: 128, down: 2, across: 2, terms: terms, operand: operand),
      Tile(rows: 128, columns: 32, down: 2, terms: terms, operand: operand),
      Tile(rows: 256, columns: 16, down: 2, terms: 16, operand: operand),
      Tile(rows: 32, columns: 32, terms: terms, operand: operand),
      Tile(rows: 32, columns: 16, terms: 16, operand: operand),
      Tile(rows: 160, columns: 16, terms: 16, operand: operand),
    ]
  }

  func forward(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor,
    leavingMoments: Bool
  ) -> PartialMoments? {
    let g = geometry
    let device = x.device
    let rows = g.batch * g.outHeight * g.outWidth
    guard case .tiled(let tile, let given) = device.configuration(of: .forward, g, x.base.dtype, .tiled) else {
      preconditionFailure("no tile")
    }
    Self.checkOffsets(g, source: x.base)
    let product = TiledProduct(.forward, g, tile)
    let options =
      tile.options(on: device.description) + g.kernelOptions + product.flatOption
      + alignment("VX", x.inputs, channels: g.inputs) + alignment("VF", [filter], channels: g.outputs)
      + x.prologueOptions()
    let arguments =
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
      + filter.vectorArguments + [
        .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
      ]
    let splits = given ?? product.splits(on: device.description)
    if splits > 1 {
      let partials = Tensor(uninitialized: [splits, rows, g.outputs], on: device)
      launch(
        product, splits, options + alignment("VY", [partials], channels: g.outputs), arguments, to: partials,
        cost: LaunchCost(
          "conv \(g.label)", flops: g.flops,
          bytes: Double(x.base.byteCount + filter.byteCount + partials.byteCount),
          requestedBytes: Self.requestedBytes(
            tile, rows: rows, x.base, columns: g.outputs, filter, terms: g.taps * g.inputs,
            others: partials.byteCount)))
      return addSplits(partials, bias: bias, to: y, accumulate: false, leavingMoments: leavingMoments, g)
    }
    let groups = (rows + tile.rows - 1) / tile.rows
    let moments = MomentsTarget(of: leavingMoments ? y : nil, groups: groups, standIn: filter)
    device.launch(
      .convolutionTiled, "conv_tiled",
      options: options + alignment("VY", [y], channels: g.outputs) + (moments.left == nil ? "" : " -D MOMENTS=1"),
      global: [groups * tile.items, (g.outputs + tile.columns - 1) / tile.columns, 1],
      local: [tile.items, 1, 1],
      arguments + y.storedArguments + [.int(0)] + (bias ?? filter).vectorArguments + [.int(bias == nil ? 0 : 1)]
        + (moments.left == nil ? [] : moments.arguments),
      cost: LaunchCost(
        "conv \(g.label)", flops: g.flops,
        bytes: Double(x.base.byteCount + filter.byteCount + y.byteCount),
        requestedBytes: Self.requestedBytes(
          tile, rows: rows, x.base, columns: g.outputs, filter, terms: g.taps * g.inputs, others: y.byteCount)))
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
    guard case .tiled(let tile, let given) = device.configuration(of: .inputGradient, g, x.base.dtype, .tiled) else {
      preconditionFailure("no tile")
    }
    Self.checkOffsets(g, source: dy)
    let product = TiledProduct(.inputGradient, g, tile)
    let options =
      tile.options(on: device.description) + g.kernelOptions + product.flatOption + " -D GRADIENT=1"
      + dy.storageOptions + alignment("VX", [dy], channels: g.outputs) + alignment("VF", [filter], channels: g.outputs)
    let arguments =
      dy.storedArguments + [.int(g.outHeight), .int(g.outWidth), .int(g.outputs)] + dy.deferred.prologueArguments
      + filter.vectorArguments + [
        .int(g.batch), .int(g.height), .int(g.width), .int(g.inputs), .int(g.padTop), .int(g.padLeft),
      ]
    // Each tap belongs to one phase.
    func requestedBytes(others: Int) -> Double {
      Self.requestedBytes(
        tile, rows: rows, dy, columns: g.inputs, filter, terms: g.taps * g.outputs, others: others)
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
      .convolutionTiled, "conv_tiled",
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

  func filterGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination,
    bias _: GradientStore.Destination?
  ) -> Bool {
    let g = geometry
    let device = x.device
    let rows = Self.filterRows(g)
    let pixels = g.batch * g.outHeight * g.outWidth
    let size = rows * g.outputs
    guard
      case .tiledFilterGradient(let tile, let perUnit) = device.configuration(
        of: .filterGradient, g, x.base.dtype, .tiled)
    else {
      preconditionFailure("no tile")
    }
    let wanted = perUnit * device.description.computeUnits / tile.groups(rows, g.outputs)
    let chunk = (pixels - 1) / max(1, min(wanted, Self.mostSplits(g))) + 1
    let splits = (pixels - 1) / chunk + 1
    let partials = Tensor(uninitialized: [splits, size], on: device)
    let options =
      tile.options(on: device.description) + g.kernelOptions + " -D FILTER_GRADIENT=1"
      + alignment("VX", x.inputs, channels: g.inputs)
      + alignment("VY", [dy], channels: g.outputs) + x.prologueOptions()
    device.launch(
      .convolutionTiled, "conv_tiled_filter_gradient", options: options,
      global: [
        (rows + tile.rows - 1) / tile.rows * tile.items, (g.outputs + tile.columns - 1) / tile.columns, splits,
      ],
      local: [tile.items, 1, 1],
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
        + dy.storedArguments + [
          .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
          .int(chunk), .buffer(partials.storage.buffer),
        ],
      cost: LaunchCost(
        "conv filter gradient \(g.label)", flops: g.flops,
        bytes: Double(x.base.byteCount + dy.byteCount + size * splits * 4),
        requestedBytes: Self.requestedBytes(
          tile, rows: rows, x.base, columns: g.outputs, dy, terms: pixels, others: size * splits * 4)))
    finishFilterGradient(partials, splits: splits, to: dw)
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
      .convolutionTiled, "conv_tiled", options: options + " -D SPLIT=1",
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

  /// At least 128 pixels a split and at most 64 MiB of partial gradients.
  static func mostSplits(_ g: ConvolutionGeometry) -> Int {
    max(1, min(g.batch * g.outHeight * g.outWidth / 128, (1 << 24) / max(filterRows(g) * g.outputs, 1)))
  }

  /// Bytes that the work-groups of a product load and store: each tile loads its rows, of one tensor, and its columns, of
  /// another, for all terms, and there are `others`. Values in the padding count as well; the rows of an affine do not.
  private static func requestedBytes(
    _ tile: Tile, rows: Int, _ rowValues: Tensor, columns: Int, _ columnValues: Tensor, terms: Int, others: Int
  ) -> Double {
    let across = (columns + tile.columns - 1) / tile.columns
    let down = (rows + tile.rows - 1) / tile.rows
    let perTerm = rows * across * rowValues.dtype.byteCount + columns * down * columnValues.dtype.byteCount
    return Double(terms) * Double(perTerm) + Double(others)
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
