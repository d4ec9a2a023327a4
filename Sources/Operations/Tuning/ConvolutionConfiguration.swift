import OpenCLRuntime

/// A pass of a convolution, as they are configured apart.
package enum ConvolutionPass: String, Codable, Sendable, CaseIterable, CodingKeyRepresentable {
  case forward, inputGradient, filterGradient
}

/// How a pass of a convolution is computed: by which kernel, with which values for what its file leaves open. All that
/// are legal for a pass give the same values up to rounding, at different speeds; see `ConvolutionSpace`.
package enum ConvolutionConfiguration: Codable, Sendable, Hashable {
  /// `conv_forward`, for forward pass and data gradient: pixels of a tile, vectors of outputs in registers, tiles of a
  /// work-item.
  case vector(pixels: Int, vectors: Int, tiles: Int)
  /// `conv_filter_gradient`: rows of a block in registers by vectors of outputs, most pixels of a unit, most channels of
  /// a work-item (of 1×1 filters), splits for each compute unit.
  case vectorFilterGradient(rows: Int, vectors: Int, pixels: Int, channels: Int, splits: Int)
  /// `conv_input_gradient_gather`, the only one for CPUs and strides; nothing is open.
  case gather
  /// `winograd_forward`, for forward pass and data gradient: tiles by vectors of outputs in registers.
  case winograd(tiles: Int, vectors: Int)
  /// `winograd_filter_gradient`: rows of a block in registers by vectors of outputs, most channels of a work-item, tiles
  /// transformed at a time, splits for each compute unit.
  case winogradFilterGradient(rows: Int, vectors: Int, channels: Int, tiles: Int, splits: Int)
  /// `conv_forward_narrow`: pixels in registers, and how many such blocks a work-item takes.
  case narrow(pixels: Int, blocks: Int)
  /// `conv_filter_gradient_narrow`: vectors of a run in registers, splits for each compute unit.
  case narrowFilterGradient(vectors: Int, splits: Int)
  /// `conv_tiled`, or where the tile has a patch `conv_tiled_patch`, for forward pass and data gradient, with the number of
  /// splits of the terms; nil for what `TiledProduct.splits` says, which depends on the batch.
  case tiled(TiledConvolution.Tile, splits: Int? = nil)
  /// The same kernels for the data gradient of a stride, of all phases at once; see `StridedGradient`.
  case tiledPhases(TiledConvolution.Tile, splits: Int? = nil)
  /// `conv_tiled_filter_gradient`, or where the tile has a ring `conv_tiled_patch_filter_gradient`, with the number of
  /// work-groups for each compute unit that splits aim at.
  case tiledFilterGradient(TiledConvolution.Tile, groups: Int)

  /// The kernel's name.
  package var kernel: String {
    switch self {
    case .vector: "conv_forward"
    case .vectorFilterGradient: "conv_filter_gradient"
    case .gather: "conv_input_gradient_gather"
    case .winograd: "winograd_forward"
    case .winogradFilterGradient: "winograd_filter_gradient"
    case .narrow: "conv_forward_narrow"
    case .narrowFilterGradient: "conv_filter_gradient_narrow"
    case .tiled(let tile, _), .tiledPhases(let tile, _): tile.patch == nil ? "conv_tiled" : "conv_tiled_patch"
    case .tiledFilterGradient(let tile, _):
      tile.ring == nil ? "conv_tiled_filter_gradient" : "conv_tiled_patch_filter_gradient"
    }
  }

  /// The same with the number of splits that a convolution gets by it.
  package func withSplits(
    of pass: ConvolutionPass, _ geometry: ConvolutionGeometry, on device: DeviceDescription
  ) -> ConvolutionConfiguration {
    switch self {
    case .tiled(let tile, nil):
      return .tiled(tile, splits: TiledProduct(pass, geometry, tile).splits(on: device))
    case .tiledPhases(let tile, nil):
      guard let product = StridedGradient(geometry)?.product else { return self }
      return .tiledPhases(tile, splits: TiledProduct(.forward, product, tile).splits(on: device))
    default:
      return self
    }
  }

  /// Whether a tile's patch or ring has room for images of that size; what has none is indifferent to sizes.
  package func hasRoom(for pass: ConvolutionPass, _ geometry: ConvolutionGeometry) -> Bool {
    switch self {
    case .tiled(let tile, _) where tile.patch != nil: TiledProduct(pass, geometry, tile).patchViolation == nil
    case .tiledPhases(let tile, _):
      StridedGradient(geometry).map {
        ConvolutionConfiguration.tiled(tile).hasRoom(for: .forward, $0.product)
      } ?? false
    case .tiledFilterGradient(let tile, _):
      tile.ring.map { TiledRing(geometry, terms: tile.terms, room: $0, splits: 1) != nil } ?? true
    default: true
    }
  }

  /// Takes the place of every choice, by pass: for checks and for tuning. It must be legal.
  @TaskLocal package static var forced: [ConvolutionPass: ConvolutionConfiguration] = [:]
}

extension ConvolutionConfiguration {
  /// Without any measurement: what is right for devices of that kind.
  ///
  /// - Parameter operand: what tiled kernels give to matrix units; nil for products in single precision.
  package static func standard(
    _ pass: ConvolutionPass, _ geometry: ConvolutionGeometry, _ algorithm: ConvolutionAlgorithm,
    _ operand: MatrixOperand? = nil, on device: DeviceDescription
  ) -> ConvolutionConfiguration {
    if algorithm == .tiled { return standardTiled(pass, geometry, operand, on: device) }
    // The outputs of the product, which lie along vectors.
    let product = geometry.product(of: pass)
    let narrow = NarrowConvolution.suits(geometry)
    let winograd = algorithm == .winograd && WinogradConvolution.suits(geometry)
    switch pass {
    case .forward where narrow:
      return .narrow(pixels: 24 / geometry.outputs, blocks: 3)
    case .inputGradient where !geometry.isDense:
      return .gather
    case .forward where winograd, .inputGradient where winograd:
      // With two vectors of outputs 24 of 32 registers.
      return .winograd(tiles: 12, vectors: product.outputs % 32 == 0 ? 2 : 1)
    case .forward, .inputGradient:
      return VectorConvolution.standardProduct(product)
    case .filterGradient where narrow:
      return .narrowFilterGradient(
        vectors: min(NarrowConvolution.runVectors(geometry), 24 / geometry.outputs), splits: 4)
    case .filterGradient where winograd:
      let channels = min(geometry.inputs, 128)
      let vectors = geometry.outputs % 32 == 0 ? 2 : 1
      return .winogradFilterGradient(
        rows: 16 / vectors, vectors: vectors, channels: channels, tiles: 64, splits: 4)
    case .filterGradient:
      return VectorConvolution.standardFilterGradient(geometry)
    }
  }

  private static func standardTiled(
    _ pass: ConvolutionPass, _ g: ConvolutionGeometry, _ operand: MatrixOperand?, on device: DeviceDescription
  ) -> ConvolutionConfiguration {
    switch pass {
    case .forward:
      let tile = TiledConvolution.tile(
        rows: g.batch * g.outHeight * g.outWidth, columns: g.outputs, operand, on: device)
      return .tiled(tile.withPatch(pass, g, on: device) ?? tile)
    case .inputGradient:
      if let product = StridedGradient(g)?.product,
        case .tiled(let tile, _) = standardTiled(.forward, product, operand, on: device)
      {
        return .tiledPhases(tile)
      }
      let tile = TiledConvolution.tile(rows: TiledConvolution.gradientRows(g), columns: g.inputs, operand, on: device)
      return .tiled(tile.withPatch(pass, g, on: device) ?? tile)
    case .filterGradient:
      if let tile = TiledConvolution.ringTile(g, operand, on: device) {
        return .tiledFilterGradient(tile, groups: TiledConvolution.ringGroups(tile))
      }
      let tile = TiledConvolution.tile(
        rows: TiledConvolution.filterRows(g), columns: g.outputs, splits: TiledConvolution.mostSplits(g), operand,
        on: device)
      return .tiledFilterGradient(tile, groups: TiledConvolution.filterGradientGroups(tile))
    }
  }
}

extension ConvolutionGeometry {
  /// The convolution that a pass computes as: itself, but for the data gradient of a stride of 1 the one over dy.
  func product(of pass: ConvolutionPass) -> ConvolutionGeometry {
    pass == .inputGradient && isDense ? inputGradientGeometry : self
  }

  /// Channels of the images that a product of forward pass or data gradient reads.
  func sourceChannels(of pass: ConvolutionPass) -> Int { pass == .forward ? inputs : outputs }

  /// Whether windows follow each other without a stride.
  var isDense: Bool { strideHeight == 1 && strideWidth == 1 }
}
