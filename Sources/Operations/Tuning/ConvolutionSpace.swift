import OpenCLRuntime

/// The configurations that a pass of a convolution may have on a device.
package struct ConvolutionSpace: Sendable {
  private let pass: ConvolutionPass
  private let geometry: ConvolutionGeometry
  private let algorithm: ConvolutionAlgorithm
  private let operand: MatrixOperand?
  private let device: DeviceDescription

  /// - Parameter operand: what tiled kernels give to matrix units; nil for products in single precision.
  package init(
    _ pass: ConvolutionPass, _ geometry: ConvolutionGeometry, _ algorithm: ConvolutionAlgorithm,
    _ operand: MatrixOperand? = nil, on device: DeviceDescription
  ) {
    self.pass = pass
    self.geometry = geometry
    self.algorithm = algorithm
    self.operand = operand
    self.device = device
  }

  /// The values that are tried for each parameter.
  private enum Values {
    static let pixels = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    static let vectors = [1, 2, 3, 4]
    static let tiles = [1, 2, 3, 4, 6, 8, 12]
    static let rows = [4, 6, 8, 9, 10, 11, 12, 13, 14, 16]
    static let unitPixels = [64, 128, 256]
    static let channels = [128, 256]
    static let splits = [1, 2, 4, 8]
    static let winogradTiles = [4, 6, 8, 9, 10, 11, 12, 13, 14, 20, 24, 28]
    static let winogradRows = [4, 8, 16]
    static let winogradChannels = [64, 128, 256]
    static let transformedTiles = [16, 24, 32, 48, 64, 96]
    static let narrowBlocks = [1, 2, 3, 4, 6]
    static let narrowVectors = [1, 2, 3, 4, 5, 6, 8, 12]
    static let tileExtents = [16, 32, 64, 128, 256]
    static let registerTiles = [1, 2, 4]
    static let terms = [8, 16, 32]
    static let groups = [2, 3, 4, 8, 16]
  }

  /// All that are legal, the standard one first and the others in a fixed order.
  package var configurations: [ConvolutionConfiguration] {
    let standard = ConvolutionConfiguration.standard(pass, geometry, algorithm, operand, on: device)
    var seen: Set<ConvolutionConfiguration> = []
    return ([standard] + candidates).filter { violation(of: $0) == nil && seen.insert($0).inserted }
  }

  private var candidates: [ConvolutionConfiguration] {
    if algorithm == .tiled {
      return pass == .filterGradient
        ? (tiles + TiledConvolution.ringTiles(geometry, operand, on: device)).flatMap { tile in
          Values.groups.map { .tiledFilterGradient(tile, groups: $0) }
        }
        : (tiles + patchTiles).map { .tiled($0) } + phaseTiles.map { .tiledPhases($0) }
    }
    let registers = Values.vectors
    if pass == .filterGradient {
      return Values.rows.flatMap { rows in
        registers.flatMap { vectors in
          Values.splits.flatMap { splits in
            Values.unitPixels.flatMap { pixels in
              Values.channels.map {
                ConvolutionConfiguration.vectorFilterGradient(
                  rows: rows, vectors: vectors, pixels: pixels, channels: $0, splits: splits)
              }
            }
          }
        }
      }
        + Values.winogradRows.flatMap { rows in
          registers.flatMap { vectors in
            Values.splits.flatMap { splits in
              Values.transformedTiles.flatMap { tiles in
                Values.winogradChannels.map {
                  ConvolutionConfiguration.winogradFilterGradient(
                    rows: rows, vectors: vectors, channels: min($0, geometry.inputs), tiles: tiles, splits: splits)
                }
              }
            }
          }
        }
        + Values.narrowVectors.flatMap { vectors in
          Values.splits.map { .narrowFilterGradient(vectors: vectors, splits: $0) }
        }
    }
    return Values.pixels.flatMap { pixels in
      registers.flatMap { vectors in
        Values.tiles.map { ConvolutionConfiguration.vector(pixels: pixels, vectors: vectors, tiles: $0) }
      }
    }
      + Values.winogradTiles.flatMap { tiles in registers.map { .winograd(tiles: tiles, vectors: $0) } }
      + Values.pixels.flatMap { pixels in Values.narrowBlocks.map { .narrow(pixels: pixels, blocks: $0) } }
  }

  private var tiles: [TiledConvolution.Tile] {
    Values.tileExtents.flatMap { rows in
      Values.tileExtents.flatMap { columns in
        Values.registerTiles.flatMap { down in
          Values.registerTiles.flatMap { across in
            Values.terms.map {
              TiledConvolution.Tile(
                rows: rows, columns: columns, down: down, across: across, terms: $0, operand: operand)
            }
          }
        }
      }
    }
  }

  /// Those of the product of all phases.
  private var phaseTiles: [TiledConvolution.Tile] {
    productOfPhases.map { $0.tiles + $0.patchTiles } ?? []
  }

  private var productOfPhases: ConvolutionSpace? {
    guard pass == .inputGradient else { return nil }
    return StridedGradient(geometry).map { ConvolutionSpace(.forward, $0.product, algorithm, operand, on: device) }
  }

  /// With the least patch for each tile; terms are not open then.
  private var patchTiles: [TiledConvolution.Tile] {
    let shapes = tiles.filter { $0.terms == Values.terms[0] }
    return shapes.compactMap { tile in
      TiledPatch(pass, geometry, rows: tile.rows).map {
        tile.with(patch: $0.roundedPositions, channels: geometry.sourceChannels(of: pass))
      }
    }
  }

  // MARK: - Constraints

  /// 16-wide registers of a core with AVX-512; where there are fewer, what is legal spills, and the standard does too.
  private static let registers = 32
  /// Bytes of private memory of a work-item, about what the largest standard configuration takes.
  private static let privateBytes = 576 << 10

  /// Why a configuration cannot compute the pass on the device, or had better not be tried; nil when it can.
  package func violation(of configuration: ConvolutionConfiguration) -> String? {
    let product = geometry.product(of: pass)
    let winogradSuits = algorithm == .winograd && WinogradConvolution.suits(geometry)
    switch configuration {
    case .vector(let pixels, let vectors, let tiles):
      guard algorithm != .tiled, pass == .forward || pass == .inputGradient && geometry.isDense else {
        return otherKernel
      }
      return positive([pixels, vectors, tiles])
        ?? fits(registers: (pixels + 1) * vectors + 1)
        ?? covers(vectors: vectors, outputs: product.outputs)
        ?? fits(
          privateBytes: 4
            * (VectorConvolution.windowFloats(product, pixels: pixels, tiles: tiles) + (pixels + 2) * 16 * vectors))
    case .vectorFilterGradient(let rows, let vectors, let pixels, let channels, let splits):
      guard algorithm != .tiled, pass == .filterGradient else { return otherKernel }
      return positive([rows, vectors, pixels, channels, splits])
        ?? fits(registers: (rows + 1) * vectors + 1)
        ?? (channels > 272 ? "more channels than a pixel has room for" : nil)
        ?? covers(vectors: vectors, outputs: product.outputs)
        ?? fits(
          privateBytes: 4
            * (FilterGradientUnits.capacity(geometry, channels: geometry.kernelWidth > 1 ? geometry.inputs : 272)
              + (pixels + rows) * 16 * vectors))
    case .gather:
      return algorithm != .tiled && pass == .inputGradient && !geometry.isDense ? nil : otherKernel
    case .winograd(let tiles, let vectors):
      guard winogradSuits, pass != .filterGradient else { return otherKernel }
      return positive([tiles, vectors])
        ?? fits(registers: (tiles + 1) * vectors + 1)
        ?? divides(vectors: vectors, outputs: product.outputs)
        ?? fits(
          privateBytes: 4
            * WinogradConvolution.transformedFloats(channels: product.inputs, tiles: tiles, vectors: vectors))
    case .winogradFilterGradient(let rows, let vectors, let channels, let tiles, let splits):
      guard winogradSuits, pass == .filterGradient else { return otherKernel }
      return positive([rows, vectors, channels, tiles, splits])
        ?? fits(registers: (rows + 1) * vectors + 1)
        ?? (16 % rows != 0 ? "\(rows) rows do not divide 16 channels" : nil)
        ?? (channels % 16 != 0 ? "\(channels) channels are no whole vectors" : nil)
        ?? (channels > geometry.inputs ? "more channels than there are" : nil)
        ?? divides(vectors: vectors, outputs: product.outputs)
        ?? fits(
          privateBytes: 4
            * WinogradConvolution.transformedFloats(
              channels: WinogradConvolution.filterChannels, tiles: tiles, vectors: vectors))
    case .narrow(let pixels, let blocks):
      guard algorithm != .tiled, pass == .forward, NarrowConvolution.suits(geometry) else { return otherKernel }
      return positive([pixels, blocks])
        ?? fits(registers: (pixels + 1) * geometry.outputs + 1)
        ?? fits(
          privateBytes: 4 * geometry.kernelHeight
            * ((pixels * blocks - 1) * geometry.strideWidth + geometry.kernelWidth) * geometry.inputs)
    case .narrowFilterGradient(let vectors, let splits):
      guard algorithm != .tiled, pass == .filterGradient, NarrowConvolution.suits(geometry) else { return otherKernel }
      return positive([vectors, splits])
        ?? fits(registers: (vectors + 1) * geometry.outputs + 1)
        ?? (vectors > NarrowConvolution.runVectors(geometry) ? "more vectors than a run has" : nil)
    case .tiled(let tile, let splits):
      guard algorithm == .tiled, pass != .filterGradient, tile.ring == nil else { return otherKernel }
      let product = TiledProduct(pass, geometry, tile)
      return otherOperand(tile) ?? positive([splits ?? 1]) ?? product.patchViolation
        ?? tile.violation(on: device, taps: geometry.taps, steps: product.steps, kept: product.keptColumns)
    case .tiledPhases(let tile, let splits):
      guard let productOfPhases else { return otherKernel }
      return productOfPhases.violation(of: .tiled(tile, splits: splits))
    case .tiledFilterGradient(let tile, let groups):
      guard algorithm == .tiled, pass == .filterGradient, tile.patch == nil else { return otherKernel }
      return otherOperand(tile) ?? positive([groups])
        ?? (tile.ring == nil ? tile.violation(on: device) : tile.ringViolation(geometry, on: device))
    }
  }

  /// Rounding of operands is asked for or not; it is not for tuning to decide.
  private func otherOperand(_ tile: TiledConvolution.Tile) -> String? {
    tile.operand == operand ? nil : "products of \(tile.operand?.rawValue ?? "float32")"
  }

  private var otherKernel: String { "not a kernel for this pass" }

  private func positive(_ values: [Int]) -> String? {
    values.allSatisfy { (1...1024).contains($0) } ? nil : "a value is not between 1 and 1024"
  }

  private func fits(registers: Int) -> String? {
    registers > Self.registers ? "\(registers) vector registers of \(Self.registers)" : nil
  }

  private func fits(privateBytes: Int) -> String? {
    privateBytes > Self.privateBytes ? "\(privateBytes) bytes of private memory" : nil
  }

  private func covers(vectors: Int, outputs: Int) -> String? {
    vectors > (outputs + 15) / 16 ? "more vectors than outputs fill" : nil
  }

  private func divides(vectors: Int, outputs: Int) -> String? {
    outputs % (16 * vectors) != 0 ? "\(vectors) vectors do not divide \(outputs) outputs" : nil
  }
}

extension TiledConvolution.Tile {
  /// Why the kernels cannot have this tile on the device; nil when they can. With a patch it depends on the convolution's
  /// taps, on how many steps it takes and on the columns of the filter.
  func violation(on device: DeviceDescription, taps: Int = 1, steps: Int = 2, kept: Int? = nil) -> String? {
    if let violation = shapeViolation(on: device) { return violation }
    guard items % (rows / 4) == 0, items % (columns / 4) == 0, items % (terms / 4) == 0 else {
      return "work-items do not divide evenly over what they fetch"
    }
    if patch != nil {
      // One bit of a word for each quad says whether it is of an image.
      guard rowQuads <= 32 else { return "\(rowQuads) quads of a patch for a work-item" }
    }
    let localBytes = localBytes(sums: true, taps: taps, steps: steps, kept: kept)
    guard localBytes <= device.localMemory else { return "\(localBytes) bytes of local memory" }
    // Fitted to the registers that ptxas gives them, so that none spills: Scripts/gpu-compile --all-tiles.
    if operand != nil {
      let needed = 4 * accumulators / 5 + 4 * across + 2 * fetched(taps: taps, kept: kept) + rowQuads
      guard needed < (patch == nil ? 195 : 225) else {
        return "registers would spill"
      }
      return nil
    }
    // With 24 more for pointers, sizes and loops, what a work-item may have on common GPUs.
    guard accumulators + operands + fetched(taps: taps, kept: kept) + 24 <= 255 else {
      return "more than 255 registers"
    }
    return nil
  }

  /// Why a work-group cannot have register tiles like that.
  func shapeViolation(on device: DeviceDescription) -> String? {
    guard [rows, columns, down, across, terms, patch ?? 1, ring ?? 1].allSatisfy({ (1...4096).contains($0) }),
      rows % (4 * down) == 0, columns % (4 * across) == 0, terms % 4 == 0
    else { return "register tiles do not divide the tile" }
    if let operand {
      let warp = patch == nil ? (rows: 32, columns: 16) : (rows: 16, columns: 32)
      guard rows % (warp.rows * down) == 0, columns % (warp.columns * across) == 0,
        patch != nil || terms % (8 * operand.perWord) == 0
      else {
        return "not in whole steps of whole warps for matrix units"
      }
    }
    guard items <= device.maximumWorkGroupSize else {
      return "\(items) work-items of at most \(device.maximumWorkGroupSize)"
    }
    return nil
  }
}
