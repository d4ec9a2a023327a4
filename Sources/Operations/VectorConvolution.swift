import OpenCLRuntime
import TensorCore

/// Convolution by `convolution_vector.cl`; see there for the scheme. Shapes that other kernels suit better go there.
struct VectorConvolution: ConvolutionKernels {
  /// Vector or Winograd: whether 3×3 convolutions may go to the latter.
  let algorithm: ConvolutionAlgorithm

  func forward(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor,
    leavingMoments: Bool
  ) -> PartialMoments? {
    switch x.device.configuration(of: .forward, geometry, x.base.dtype, algorithm) {
    case .narrow(let pixels, let blocks):
      NarrowConvolution(geometry).forward(x, filter: filter, bias: bias, to: y, pixels: pixels, blocks: blocks)
      return nil
    case .winograd(let tiles, let vectors):
      return WinogradConvolution(geometry).forward(
        x, filter: filter, bias: bias, to: y, leavingMoments: leavingMoments, tiles: tiles, vectors: vectors)
    case .vector(let pixels, let vectors, let tiles):
      let pass = Pass(geometry, pixels: pixels, vectors: vectors, tiles: tiles)
      let packed = pack(filter, geometry, transposed: false, block: pass.block)
      let moments = MomentsTarget(of: leavingMoments ? y : nil, groups: pass.groups, standIn: packed)
      launch(
        pass, x: x, packed: packed, bias: bias, y: y, accumulate: false, moments: moments,
        label: "conv \(geometry.label)")
      return moments.left
    case let other: preconditionFailure("\(other) for a forward pass")
    }
  }

  func inputGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, _ dy: Tensor, _ store: GradientStore
  ) {
    let configuration = x.device.configuration(of: .inputGradient, geometry, x.base.dtype, algorithm)
    if configuration == .gather { return gatherInputGradient(geometry, x, filter: filter, dy, store) }
    let dx = store.destination(for: x.base)
    let daffine = x.prologue.affine.flatMap { store.destination(for: $0) }
    guard dx != nil || daffine != nil else { return }
    // Without anyone asking for dx it is computed all the same for the affine's sums, into scratch memory.
    let target = dx?.tensor ?? Tensor(uninitialized: x.shape, on: x.device, dtype: x.base.dtype)
    let accumulate = dx?.accumulate ?? false
    let epilogue = x.prologue.isIdentity ? nil : x
    let sums: Tensor?
    switch configuration {
    case .winograd(let tiles, let vectors):
      sums = WinogradConvolution(geometry).inputGradient(
        dy, filter: filter, to: target, accumulate: accumulate, epilogue: epilogue, tiles: tiles, vectors: vectors)
    case .vector(let pixels, let vectors, let tiles):
      let pass = Pass(geometry.inputGradientGeometry, pixels: pixels, vectors: vectors, tiles: tiles)
      let packed = pack(filter, geometry, transposed: true, block: pass.block)
      sums = launch(
        pass, x: dy.deferred, packed: packed, bias: nil, y: target, accumulate: accumulate, epilogue: epilogue,
        label: "conv input gradient \(geometry.label)")
    default: preconditionFailure("\(configuration) for a data gradient")
    }
    if let affine = x.prologue.affine, let daffine, let sums {
      finishAffineGradient(sums: sums, chunks: sums.shape[0], affine: affine, destination: daffine)
    }
  }

  func filterGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination,
    bias db: GradientStore.Destination?
  ) -> Bool {
    switch x.device.configuration(of: .filterGradient, geometry, x.base.dtype, algorithm) {
    case .narrowFilterGradient(let vectors, let splits):
      NarrowConvolution(geometry).filterGradient(x, dy, to: dw, vectors: vectors, splitsPerUnit: splits)
    case .winogradFilterGradient(let rows, let vectors, let channels, let tiles, let splits):
      WinogradConvolution(geometry).filterGradient(
        x, dy, to: dw, rows: rows, vectors: vectors, channels: channels, tiles: tiles, splitsPerUnit: splits)
    case .vectorFilterGradient(let rows, let vectors, let pixels, let channels, let splits):
      filterGradient(
        geometry, x, dy, to: dw, bias: db, rows: rows, vectors: vectors, pixels: pixels, channels: channels,
        splitsPerUnit: splits)
      return db != nil
    case let other: preconditionFailure("\(other) for a filter gradient")
    }
    return false
  }

  private func filterGradient(
    _ geometry: ConvolutionGeometry, _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination,
    bias db: GradientStore.Destination?, rows: Int, vectors: Int, pixels: Int, channels: Int, splitsPerUnit: Int
  ) {
    let g = geometry.flattenedIfPointwise
    let device = x.device
    // Channels of a 1×1 filter are cut into equal blocks that are work-items of their own.
    let channelBlocks = g.kernelWidth > 1 ? 1 : (g.inputs + channels - 1) / channels
    let itemChannels = g.kernelWidth > 1 ? g.inputs : (g.inputs + channelBlocks * 16 - 1) / (channelBlocks * 16) * 16
    // An odd number of cache lines keeps the pixels out of each other's cache sets; few sizes, for each is a program.
    let leadingDimension = g.kernelWidth > 1 ? g.inputs : itemChannels <= 16 ? 16 : 272
    let units = FilterGradientUnits(g, channels: leadingDimension, pixels: pixels)
    let splits = max(1, min(units.count, device.description.computeUnits * splitsPerUnit / channelBlocks))
    let size = g.kernelHeight * g.kernelWidth * g.inputs * g.outputs
    let partials = Tensor(uninitialized: [splits, size], on: device)
    let biasPartials = db.map { _ in Tensor(uninitialized: [2 * splits, g.outputs], on: device) }
    let options =
      "-D KH=\(g.kernelHeight) -D KW=\(g.kernelWidth) -D SH=\(g.strideHeight) -D SW=\(g.strideWidth) -D LD=\(leadingDimension)"
      + " -D PIXELS=\(pixels) -D NV=\(vectors) -D KB=\(rows)"
      + " -D CAPACITY=\(units.capacity)" + Self.partialOption(g.outputs % 16 != 0) + " -D VEC=16" + x.prologueOptions()
    device.launch(
      .convolutionVectorFilterGradient, "conv_filter_gradient", options: options, global: [splits, channelBlocks],
      local: device.independent(2),
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
        + dy.storedArguments + [
          .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft), .int(g.batch),
          .int(units.rows), .int(units.columns), .int(itemChannels), .int(splits),
          .buffer(partials.storage.buffer), .buffer((biasPartials ?? partials).storage.buffer),
          .int(biasPartials == nil ? 0 : 1),
        ],
      cost: LaunchCost(
        "conv filter gradient \(geometry.label)", flops: g.flops,
        bytes: Double(x.base.byteCount + dy.byteCount + size * splits * 4)))
    finishFilterGradient(partials, splits: splits, to: dw)
    if let db, let biasPartials {
      finishRowSums(biasPartials, count: 2 * splits, factor: 1, to: db.tensor, accumulate: db.accumulate)
    }
  }

  // MARK: - One pass of `conv_forward`

  /// What is convolved with what: the forward pass, or the data gradient as a convolution of dy with the mirrored filter.
  private struct Pass {
    let g: ConvolutionGeometry
    let vectors: Int
    let tile: Int
    let tiles: Int
    let leadingDimension: Int

    init(_ geometry: ConvolutionGeometry, pixels: Int, vectors: Int, tiles: Int) {
      g = geometry.flattenedIfPointwise
      tile = pixels
      self.vectors = vectors
      self.tiles = tiles
      leadingDimension = VectorConvolution.leadingDimension(g, pixels: pixels, tiles: tiles)
    }

    /// Output channels a panel of packed filters covers.
    var block: Int { 16 * vectors }
    var tileGroups: Int { (g.outWidth + tile * tiles - 1) / (tile * tiles) }
    var groups: Int { tileGroups * g.outHeight * g.batch }

    var options: String {
      let isPartial = g.outputs % 16 != 0 || VectorConvolution.servesManyShapes(pixels: tile, tiles: tiles)
      return "-D KH=\(g.kernelHeight) -D KW=\(g.kernelWidth) -D SH=\(g.strideHeight) -D SW=\(g.strideWidth)"
        + " -D LD=\(leadingDimension) -D TILE=\(tile) -D NV=\(vectors) -D TILES=\(tiles)"
        + VectorConvolution.partialOption(isPartial) + " -D VEC=16"
    }
  }

  /// Enqueues `conv_forward`; with an epilogue that has an affine, returns its sums [groups, 2, outputs].
  @discardableResult
  private func launch(
    _ pass: Pass, x: DeferredTensor, packed: Tensor, bias: Tensor?, y: Tensor, accumulate: Bool,
    epilogue: DeferredTensor? = nil, moments: MomentsTarget? = nil, label: String
  ) -> Tensor? {
    let g = pass.g
    let device = x.device
    let gradient = Epilogue(of: epilogue, items: pass.groups, standIn: packed)
    let arguments =
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments + [
        .buffer(packed.storage.buffer)
      ] + y.storedArguments + [
        .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
        .int(accumulate ? 1 : 0), .int(y.isWorthStreaming && !accumulate ? 1 : 0),
      ] + (bias ?? packed).vectorArguments + [.int(bias == nil ? 0 : 1)]
      + (epilogue == nil
        ? (moments ?? MomentsTarget(of: nil, groups: 0, standIn: packed)).arguments : gradient.arguments)
    device.launch(
      .convolutionVector, "conv_forward", options: pass.options + x.prologueOptions() + gradient.options,
      global: [pass.tileGroups, g.outHeight, g.batch], local: device.independent(3), arguments,
      cost: LaunchCost(
        label, flops: g.flops,
        bytes: Double(x.base.byteCount + y.byteCount * ((accumulate ? 2 : 1) + (epilogue == nil ? 0 : 1))))
    )
    return gradient.sums
  }

  private func pack(_ filter: Tensor, _ g: ConvolutionGeometry, transposed: Bool, block: Int) -> Tensor {
    let summed = (transposed ? g.outputs : g.inputs) * g.kernelHeight * g.kernelWidth
    let produced = transposed ? g.inputs : g.outputs
    let blocks = (produced + block - 1) / block
    let packed = Tensor(uninitialized: [blocks, summed, block], on: filter.device)
    filter.device.launch(
      .convolutionFilters, "pack_filter", options: "-D VEC=16", global: [(summed + 15) / 16, blocks],
      local: filter.device.independent(2),
      filter.vectorArguments + [
        .int(g.kernelHeight), .int(g.kernelWidth), .int(g.inputs), .int(g.outputs), .int(transposed ? 1 : 0),
        .int(block), .buffer(packed.storage.buffer),
      ],
      cost: LaunchCost("pack filter \(filter.shape)", bytes: Double(filter.shape.count) * 8))
    return packed
  }

  private func gatherInputGradient(
    _ g: ConvolutionGeometry, _ x: DeferredTensor, filter: Tensor, _ dy: Tensor, _ store: GradientStore
  ) {
    let direct = x.prologue.isIdentity ? store.destination(for: x.base) : nil
    if x.prologue.isIdentity && direct == nil { return }
    let target = direct?.tensor ?? Tensor(uninitialized: x.shape, on: x.device, dtype: x.base.dtype)
    let blockColumns = 8
    let columns = blockColumns * g.strideWidth
    x.device.launch(
      .convolutionGather, "conv_input_gradient_gather",
      options: "-D VEC=16 -D INPUTS=\(min(g.inputs, 4)) -D COLUMNS=\(blockColumns)" + dy.storageOptions,
      global: [(g.width + columns - 1) / columns, g.height, g.batch], local: x.device.independent(3),
      dy.storedArguments + [.int(g.outHeight), .int(g.outWidth), .int(g.outputs)] + filter.vectorArguments + [
        .int(g.kernelHeight), .int(g.kernelWidth), .int(g.strideHeight), .int(g.strideWidth), .int(g.padTop),
        .int(g.padLeft), .int(g.height), .int(g.width), .int(g.inputs),
      ] + target.storedArguments + [.int(direct?.accumulate ?? false ? 1 : 0)],
      cost: LaunchCost(
        "conv input gradient \(g.label)", flops: g.flops, bytes: Double(x.base.byteCount + dy.byteCount)))
    if direct == nil { x.backpropagate(target, into: store) }
  }

  /// Whether there may be outputs that fill no vector of 16.
  private static func partialOption(_ isPartial: Bool) -> String {
    " -D PARTIAL=\(isPartial ? 1 : 0)"
  }

  /// A pixel at a time is for little work, where one program for many shapes is worth more than speed.
  private static func servesManyShapes(pixels: Int, tiles: Int) -> Bool { pixels * tiles == 1 }

  // MARK: - Sizes

  /// Floats from one pixel of a packed window to the next, an odd number of cache lines; few values, for each is a program.
  /// What is beyond the channels is never touched.
  private static func leadingDimension(_ g: ConvolutionGeometry, pixels: Int, tiles: Int) -> Int {
    if g.kernelWidth > 1 { return g.inputs }
    if g.inputs <= 32, !servesManyShapes(pixels: pixels, tiles: tiles) { return 32 }
    return max(1, (g.inputs + 1007) / 1024) * 1024 + 16
  }

  /// Floats of the windows that a work-item of `conv_forward` packs.
  static func windowFloats(_ g: ConvolutionGeometry, pixels: Int, tiles: Int) -> Int {
    tiles * g.kernelHeight * ((pixels - 1) * g.strideWidth + g.kernelWidth)
      * leadingDimension(g, pixels: pixels, tiles: tiles)
  }

  /// How `conv_forward` computes a convolution that nobody measured.
  static func standardProduct(_ g: ConvolutionGeometry) -> ConvolutionConfiguration {
    let vectors = vectors(g.outputs)
    if g.kernelWidth > 1 {
      return .vector(pixels: fittingTile(g.outWidth, vectors: vectors), vectors: vectors, tiles: 1)
    }
    // Scores of few classes, a dense layer's row of pixels: quick in any way, and this kernel is compiled quickest.
    if g.batch * g.outHeight == 1, min(g.inputs, g.outputs) < 16, g.flops < 0x1p22 {
      return .vector(pixels: 1, vectors: 1, tiles: 1)
    }
    // Four lines of a pixel in turn are read and written faster than two, which is worth up to a third more arithmetic
    // for blocks that are not full.
    let covered = (g.outputs + 63) / 64 * 64
    if covered * 3 <= g.outputs * 4 { return .vector(pixels: 6, vectors: 4, tiles: 4) }
    return .vector(pixels: 8, vectors: vectors, tiles: g.inputs <= 32 ? 6 : 3)
  }

  /// 16-wide registers across the output channels.
  static func vectors(_ outputs: Int) -> Int { outputs > 16 ? 2 : 1 }

  /// Pixels of a tile that waste least of a row of `width`, as far as registers go; few sizes, because each is a program.
  static func fittingTile(_ width: Int, vectors: Int) -> Int {
    if width <= 4 { return 4 }
    let sizes = vectors == 1 ? [10] : [13, 10]
    func covered(_ tile: Int) -> Int { (width + tile - 1) / tile * tile }
    return sizes.min { covered($0) < covered($1) } ?? 10
  }

  /// How `conv_filter_gradient` computes a filter gradient that nobody measured.
  static func standardFilterGradient(_ g: ConvolutionGeometry) -> ConvolutionConfiguration {
    let pointwise = g.kernelWidth == 1
    let vectors = pointwise && g.outputs % 64 == 0 ? 4 : vectors(g.outputs)
    // Blocks of channels are multiples of 16: always the same rows there, for each number is a program.
    let rows = pointwise ? 16 / vectors : fittingBlock(g, vectors: vectors)
    return .vectorFilterGradient(rows: rows, vectors: vectors, pixels: 128, channels: 256, splits: 4)
  }

  /// Accumulator rows that waste least of a run.
  private static func fittingBlock(_ g: ConvolutionGeometry, vectors: Int) -> Int {
    let largest = vectors == 1 ? 24 : 13
    let run = g.kernelWidth * g.inputs
    func covered(_ block: Int) -> Int { (run + block - 1) / block * block }
    return (8...largest).min { (covered($0), -$0) < (covered($1), -$1) } ?? 8
  }
}

/// How the pixels of a filter gradient are cut into units whose input window fits a core's second-level cache.
struct FilterGradientUnits {
  let rows: Int
  let columns: Int
  /// Over all images.
  let count: Int
  /// Floats of a window.
  let capacity: Int

  /// - Parameters:
  ///   - channels: input channels that a window holds.
  ///   - pixels: most output pixels of a unit. 128 are 16 KiB of dy for 32 channels, half a first-level cache.
  init(_ g: ConvolutionGeometry, channels: Int, pixels: Int) {
    let limit = Self.windowLimit
    func window(_ rows: Int, _ columns: Int) -> Int {
      ((rows - 1) * g.strideHeight + g.kernelHeight) * ((columns - 1) * g.strideWidth + g.kernelWidth) * channels
    }
    /// Whole rows of few columns, as far as they go.
    func unit(_ groups: Int) -> (rows: Int, columns: Int)? {
      let columns = (g.outWidth + groups - 1) / groups
      guard columns <= pixels, window(1, columns) <= limit else { return nil }
      var rows = min(pixels / columns, g.outHeight)
      while window(rows, columns) > limit { rows -= 1 }
      return (rows, columns)
    }
    // Floats packed for a pixel, and what beginning a row of the inner loop costs, in the same terms.
    func cost(_ unit: (rows: Int, columns: Int)) -> Double {
      Double(window(unit.rows, unit.columns)) / Double(unit.rows * unit.columns) + Double(16 * channels)
        / Double(unit.columns)
    }
    let candidates = (1...max(g.outWidth, 1)).lazy.compactMap(unit).prefix(64)
    let (rows, columns) = candidates.min { cost($0) < cost($1) } ?? (1, 1)
    self.rows = rows
    self.columns = columns
    count = g.batch * ((g.outHeight + rows - 1) / rows) * ((g.outWidth + columns - 1) / columns)
    capacity = Self.capacity(g, channels: channels)
  }

  /// Floats that a window had better not exceed: 136 KiB.
  private static let windowLimit = 128 * 272

  static func capacity(_ g: ConvolutionGeometry, channels: Int) -> Int {
    max(windowLimit, g.kernelHeight * g.kernelWidth * channels)
  }
}

/// dw (+)= sum of the splits of partials [splits, size], in order.
func finishFilterGradient(_ partials: Tensor, splits: Int, to dw: GradientStore.Destination) {
  finishRowSums(partials, count: splits, factor: 1, to: dw.tensor, accumulate: dw.accumulate)
}

extension ConvolutionGeometry {
  /// A pointwise convolution seen as one long row of pixels; any other as it is.
  var flattenedIfPointwise: ConvolutionGeometry {
    guard isPointwise else { return self }
    return ConvolutionGeometry(
      input: [1, 1, batch * height * width, inputs], filter: [1, 1, inputs, outputs], strides: (1, 1), padding: .valid)
  }

  /// The convolution of dy with the mirrored filter that gives the data gradient, for stride 1.
  var inputGradientGeometry: ConvolutionGeometry {
    let padBottom = height + kernelHeight - 1 - outHeight - (kernelHeight - 1 - padTop)
    let padRight = width + kernelWidth - 1 - outWidth - (kernelWidth - 1 - padLeft)
    return ConvolutionGeometry(
      input: outputShape, filter: [kernelHeight, kernelWidth, outputs, inputs], strides: (1, 1),
      padding: .explicit(
        top: kernelHeight - 1 - padTop, bottom: padBottom, left: kernelWidth - 1 - padLeft, right: padRight))
  }
}
