import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension DeviceTests {
  /// Filter gradients that read an image once for all taps, against the double-precision reference.
  struct TiledRingTests {
    typealias Tile = TiledConvolution.Tile

    /// Two quads of channels under 3×3 taps, of 18 in 20; others have fewer or more.
    private static let small = Tile(rows: 80, columns: 8, terms: 8)
    private static let tall = Tile(rows: 144, columns: 16, down: 3, across: 2, terms: 16)

    /// The filter gradient against the reference, twice with the same bits, with just the ring that the images need. So
    /// many work-groups for each compute unit are aimed at.
    private func check(_ test: ConvolutionCase, _ tile: Tile = small, groups: Int = 2, limit: Double = 2e-6) throws {
      let device = try Device(DeviceTests.device.get().description)
      let ring = try #require(TiledRing(test.geometry, terms: tile.terms, splits: 4))
      let withRing = tile.with(ring: ring.positions)
      #expect(withRing.ringViolation(test.geometry, on: device.description) == nil)
      var configurations = TiledConvolution.tiles.small.everywhere()
      configurations[.filterGradient] = .tiledFilterGradient(withRing, groups: groups)
      let results = try test.tiled(by: configurations, on: device)
      let kernels = Set(device.programsInUse.map(\.kernel))
      #expect(
        kernels.contains("conv_tiled_patch_filter_gradient") && !kernels.contains("conv_tiled_filter_gradient"))
      let error = try #require(try test.errors(of: results)["dw"])
      #expect(error < limit, "\(test), \(tile): dw is \(error) from the reference")
    }

    /// Images: several strips, less than a step and many, padding on all sides, on some or none.
    @Test(arguments: [
      ConvolutionCase(height: 9, width: 12, inputs: 8, outputs: 4),
      ConvolutionCase(batch: 5, height: 3, width: 3, inputs: 8, outputs: 4),
      ConvolutionCase(batch: 3, height: 1, width: 1, inputs: 8, outputs: 4),
      ConvolutionCase(height: 8, width: 5, inputs: 8, outputs: 4, pad: (2, 0, 0, 2)),
      ConvolutionCase(height: 4, width: 40, inputs: 8, outputs: 4, pad: (0, 0, 0, 0)),
      ConvolutionCase(batch: 3, height: 20, width: 30, inputs: 8, outputs: 4, pad: (3, 2, 1, 4)),
    ])
    func images(test: ConvolutionCase) throws { try check(test) }

    /// A single work-group, and so many that some would have no step.
    @Test(arguments: [1, 64]) func splits(groups: Int) throws {
      try check(ConvolutionCase(batch: 7, height: 20, width: 12, inputs: 8, outputs: 8), groups: groups)
    }

    /// Windows of other forms, few and many taps, with everything pending.
    @Test(arguments: thorough ? [(2, 5), (5, 1), (1, 9), (5, 5), (7, 7)] : [(2, 5), (7, 7)])
    func windows(kernel: (Int, Int)) throws {
      let quads = kernel.0 * kernel.1
      try check(
        ConvolutionCase(
          batch: 2, height: 20, width: 18, inputs: 3, outputs: 16, kernel: kernel,
          pad: (kernel.0 / 2, kernel.0 / 2, kernel.1 / 2, kernel.1 / 2), pre: 0.2, affine: true, post: 0, twice: true),
        Tile(rows: 4 * (quads + quads % 2), columns: 16, down: 2, terms: 8))
    }

    /// Quads that are not complete, several work-groups of channels and of outputs, slabs of wider storages.
    @Test(arguments: thorough ? [(5, 5), (6, 1), (7, 33), (16, 16), (20, 31)] : [(6, 33), (16, 16)])
    func channels(inputs: Int, outputs: Int) throws {
      try check(ConvolutionCase(inputs: inputs, outputs: outputs, affine: true, post: 0.1))
      try check(
        ConvolutionCase(
          inputs: inputs + 8, outputs: outputs, pre: 0, affine: true, inputGap: (3, 2), outputGap: (4, 8), twice: true),
        Self.tall)
    }

    /// Two quads of channels under 3×3 taps by three warps; eight by five, with four times as much each.
    private static func matrixTile(_ operand: MatrixOperand, isLarge: Bool = false) -> Tile {
      let (rows, register) = isLarge ? (320, 2) : (96, 1)
      return Tile(
        rows: rows, columns: 16 * register, down: register, across: register, terms: 16 * operand.perWord,
        operand: operand)
    }

    /// Operands that need no rounding multiply exactly.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.bfloat16, .tf32])
    func matrixUnits(operand: MatrixOperand) throws {
      for (tile, inputs) in [(Self.matrixTile(operand), 8), (Self.matrixTile(operand, isLarge: true), 36)] {
        var test = ConvolutionCase(height: 9, width: 6, inputs: inputs, outputs: 20)
        test.roundedTo = operand
        try check(test, tile)
      }
    }

    /// Eight taps of few channels side by side.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.float16])
    func matrixUnitsOnFewChannels(operand: MatrixOperand) throws {
      var test = ConvolutionCase(height: 10, width: 12, inputs: 3, outputs: 5, kernel: (5, 4), pad: (2, 2, 1, 2))
      test.roundedTo = operand
      try check(test, Self.matrixTile(operand))
    }

    /// Others are rounded, by no more than their type says.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.float16]) func roundedOperands(operand: MatrixOperand) throws
    {
      try check(
        ConvolutionCase(height: 7, width: 6, inputs: 8, outputs: 12, affine: true, post: 0, twice: true),
        Self.matrixTile(operand), limit: 2 * operand.roundoff)
    }

    /// Images and results of 16 bits, which are operands as they lie in memory: sums are exact.
    @Test(arguments: [DType.float16, .bfloat16]) func sixteenBits(dtype: DType) throws {
      let operand: MatrixOperand = dtype == .float16 ? .float16 : .bfloat16
      for isOnUnits in [false, true] {
        let test = ConvolutionCase(
          height: 7, width: 6, inputs: 8, outputs: 12, roundedTo: isOnUnits ? operand : nil, dtype: dtype)
        try check(test, isOnUnits ? Self.matrixTile(operand) : Self.small)
      }
    }

    // MARK: - Choice

    /// Each output pixel and each tap of it is at its position, in the steps and in the ring.
    @Test(arguments: [
      ([64, 37, 37], 3, 16), ([64, 9, 9], 3, 32), ([2, 1, 1], 3, 8), ([3, 30, 100], 7, 32), ([5, 7, 3], 5, 16),
    ]) func positionsSuffice(images: [Int], kernel: Int, terms: Int) throws {
      let (batch, height, width) = (images[0], images[1], images[2])
      let geometry = ConvolutionGeometry(
        input: [batch, height, width, 4], filter: [kernel, kernel, 4, 4], strides: (1, 1), padding: .same)
      for splits in [1, 500] {
        let ring = try #require(TiledRing(geometry, terms: terms, splits: splits))
        #expect(width % ring.strip == 0)
        let line = ring.strip + kernel - 1
        let last = ((batch * (width / ring.strip) - 1) * (height + kernel - 1) + height - 1) * line + ring.strip - 1
        #expect(last / terms == ring.steps - 1)
        // A step's last position and the taps below it.
        #expect(terms - 1 + (kernel - 1) * line + kernel - 1 < ring.early * terms)
        #expect(ring.positions == (ring.early + 1) * terms && ring.positions <= ring.roundedPositions)
        #expect(TiledRing(geometry, terms: terms, room: ring.positions, splits: splits) == ring)
      }
      // More splits, narrower strips.
      let (one, many) = (TiledRing(geometry, terms: terms, splits: 1), TiledRing(geometry, terms: terms, splits: 5000))
      #expect(try #require(many).strip <= #require(one).strip)
    }

    /// What GPUs get for DenseNet's layers, the resizer's and others.
    @Test func gpusChoose() throws {
      func gpu(localMemory: Int = 48 << 10, wavefrontWidth: Int? = nil) throws -> DeviceDescription {
        try DeviceTests.device.get().description.imitatingGPU(
          computeUnits: 132, localMemory: localMemory, maximumWorkGroupSize: 1024, wavefrontWidth: wavefrontWidth)
      }
      let usual = try gpu()
      func tile(
        _ size: Int, _ inputs: Int, _ outputs: Int, _ kernel: Int, _ operand: MatrixOperand? = nil,
        on device: DeviceDescription? = nil
      ) -> Tile? {
        TiledConvolution.ringTile(
          ConvolutionGeometry(
            input: [64, size, size, inputs], filter: [kernel, kernel, inputs, outputs], strides: (1, 1),
            padding: .same), operand, on: device ?? usual)
      }
      #expect(
        tile(37, 128, 32, 3) == Tile(rows: 288, columns: 32, down: 3, across: 2, terms: 16, ring: 128))
      #expect(
        tile(37, 128, 32, 3, .bfloat16)
          == Tile(rows: 288, columns: 32, down: 3, across: 2, terms: 32, operand: .bfloat16, ring: 192))
      #expect(tile(300, 3, 16, 7)?.columns == 16)
      #expect(tile(150, 16, 3, 7)?.columns == 4)
      #expect(tile(150, 16, 3, 7, .tf32)?.columns == 16)
      // Too much between the lines of small images, unless products are cheap.
      #expect(tile(4, 128, 32, 3) == nil && tile(4, 128, 32, 3, .bfloat16) != nil)
      #expect(tile(37, 128, 32, 1) == nil)
      #expect(tile(37, 128, 32, 3, on: try gpu(localMemory: 8 << 10)) == nil)
      #expect(tile(37, 128, 32, 3, on: try gpu(wavefrontWidth: 64)) == nil)
    }
  }
}
