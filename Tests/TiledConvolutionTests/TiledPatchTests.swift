import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension DeviceTests {
  /// Convolutions that read an image once for all taps, against the double-precision reference.
  struct TiledPatchTests {
    typealias Tile = TiledConvolution.Tile

    private static let small = Tile(rows: 32, columns: 16)
    private static let tall = Tile(rows: 64, columns: 32, down: 2, across: 2)

    /// Everything against the reference, twice with the same bits, with just the patch that the images need.
    /// By a quad of channels a step where that is asked for.
    private func check(
      _ test: ConvolutionCase, _ tile: Tile = small, splits: Int = 1, byQuads: Bool = false, limit: Double = 2e-6
    ) throws {
      let device = try Device(DeviceTests.device.get().description)
      var configurations = tile.everywhere(splits: splits)
      for pass in [ConvolutionPass.forward, .inputGradient] {
        let patch = try #require(TiledPatch(pass, test.geometry, rows: tile.rows))
        let channels = byQuads ? 4 : pass == .forward ? test.inputs : test.outputs
        configurations[pass] = .tiled(tile.with(patch: patch.positions, channels: channels), splits: splits)
      }
      let results = try test.tiled(by: configurations, on: device)
      #expect(results["guard"] == [], "\(test): writes beyond its channels")
      let kernels = Set(device.programsInUse.map(\.kernel))
      #expect(kernels.contains("conv_tiled_patch") && !kernels.contains("conv_tiled"))
      for (name, error) in try test.errors(of: results) {
        #expect(error < limit, "\(test), \(tile): \(name) is \(error) from the reference")
      }
    }

    // Each program takes POCL seconds to compile, so windows and structures do not occur in all combinations by default.

    /// Images: several strips, lines and images in a tile, tiles that end within a line, padding on all sides or on some.
    @Test(arguments: [
      ConvolutionCase(height: 9, width: 12, inputs: 8, outputs: 4),
      ConvolutionCase(batch: 5, height: 3, width: 3, inputs: 8, outputs: 4),
      ConvolutionCase(batch: 3, height: 1, width: 1, inputs: 8, outputs: 4),
      ConvolutionCase(height: 8, width: 5, inputs: 8, outputs: 4, pad: (2, 0, 0, 2)),
      ConvolutionCase(height: 4, width: 40, inputs: 8, outputs: 4, pad: (0, 0, 0, 0)),
    ])
    func images(test: ConvolutionCase) throws { try check(test) }

    /// Windows of other forms, few and many taps, with everything pending.
    @Test(arguments: thorough ? [(2, 5), (5, 1), (1, 9), (5, 5), (7, 7)] : [(2, 5), (7, 7)])
    func windows(kernel: (Int, Int)) throws {
      try check(
        ConvolutionCase(
          batch: 1, height: 20, width: 18, inputs: 3, outputs: 16, kernel: kernel,
          pad: (kernel.0 / 2, kernel.0 / 2, kernel.1 / 2, kernel.1 / 2), pre: 0.2, affine: true, post: 0, twice: true))
    }

    /// Quads that are not complete, a single step and several, slabs of wider storages.
    @Test(arguments: thorough ? [(1, 5), (2, 1), (3, 33), (7, 4), (16, 16), (20, 31)] : [(2, 33), (7, 16)])
    func channels(inputs: Int, outputs: Int) throws {
      try check(ConvolutionCase(inputs: inputs, outputs: outputs, affine: true, post: 0.1))
      try check(
        ConvolutionCase(
          inputs: inputs, outputs: outputs, pre: 0, affine: true, inputGap: (3, 2), outputGap: (4, 8), twice: true),
        Self.tall)
    }

    @Test func theAffinesGradientAlone() throws {
      try check(ConvolutionCase(inputs: 20, outputs: 8, affine: true, post: 0, wantsInput: false))
    }

    /// As many parts of the channels as there are steps, and more.
    @Test(arguments: [2, 7]) func splits(splits: Int) throws {
      try check(ConvolutionCase(inputs: 20, outputs: 20, affine: true, post: 0, twice: true), splits: splits)
    }

    /// Moments of what is stored, also with tiles that images do not fill.
    @Test func momentsAreLeft() throws {
      let device = try DeviceTests.device.get()
      let tile = Self.tall
      let x = Tensor(ReferenceTensor.random([3, 9, 7, 8], seed: 1).floats, shape: [3, 9, 7, 8], on: device)
      let filter = Tensor(ReferenceTensor.random([3, 3, 8, 20], seed: 2).floats, shape: [3, 3, 8, 20], on: device)
      let bias = Tensor(ReferenceTensor.random([20], seed: 3).floats, shape: [20], on: device)
      let y = ConvolutionConfiguration.$forced.withValue([
        .forward: .tiled(tile.with(patch: 256, channels: 8), splits: 1)
      ]) {
        ConvolutionAlgorithm.$forced.withValue(.tiled) {
          x.conv2d(filter: filter, bias: bias, leavingMoments: true)
        }
      }
      #expect(!y.storage.partialMoments.isEmpty)
      let asked = y.moments()
      let (mean, variance) = try (asked.mean.floats(), asked.variance.floats())
      let computed = Reference.moments(ReferenceTensor([3, 9, 7, 20], try y.floats().map(Double.init)))
      for channel in 0..<20 {
        let deviation = computed.variance.values[channel].squareRoot()
        #expect(abs(Double(mean[channel]) - computed.mean.values[channel]) < 1e-6 * deviation)
        #expect(abs(Double(variance[channel]) / computed.variance.values[channel] - 1) < 1e-5)
      }
    }

    private static func matrixTile(_ operand: MatrixOperand, columns: Int = 32, down: Int = 1) -> Tile {
      Tile(
        rows: 32 * down, columns: columns, down: down, across: columns / 32, terms: 8 * operand.perWord,
        operand: operand)
    }

    /// Matrix units take eight words of a position at once. Operands that need no rounding multiply exactly.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.bfloat16]) func matrixUnits(operand: MatrixOperand) throws {
      for (tile, inputs) in [
        (Self.matrixTile(operand), 16), (Self.matrixTile(operand, columns: 64, down: 2), 36),
      ] {
        var test = ConvolutionCase(height: 9, width: 6, inputs: inputs, outputs: 20)
        test.roundedTo = operand
        try check(test, tile)
      }
    }

    /// Or four or two taps of few channels: windows whose taps fill whole sets, and others.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.float16])
    func matrixUnitsOnFewChannels(operand: MatrixOperand) throws {
      for (kernel, inputs, outputs) in [((3, 3), 3, 20), ((2, 4), 4, 2)] {
        var test = ConvolutionCase(height: 7, width: 6, inputs: inputs, outputs: outputs, kernel: kernel)
        test.roundedTo = operand
        try check(test, Self.matrixTile(operand))
      }
    }

    /// Or so of many, step by step; filters whose columns fill a warp's by far not.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.tf32]) func matrixUnitsByQuads(operand: MatrixOperand) throws
    {
      for (kernel, outputs) in [((5, 3), 3), ((3, 3), 12)] {
        var test = ConvolutionCase(height: 7, width: 6, inputs: 20, outputs: outputs, kernel: kernel)
        test.roundedTo = operand
        try check(test, Self.matrixTile(operand), byQuads: true)
      }
    }

    /// No more columns than a quad.
    @Test func fewOutputs() throws {
      try check(
        ConvolutionCase(height: 9, width: 8, inputs: 16, outputs: 3, kernel: (5, 5), pad: (2, 2, 2, 2), twice: true),
        Tile(rows: 64, columns: 4))
    }

    /// Others are rounded, by no more than their type says, and with prologue, epilogue and sums of both.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.float16]) func roundedOperands(operand: MatrixOperand) throws
    {
      try check(
        ConvolutionCase(height: 7, width: 6, inputs: 8, outputs: 12, affine: true, post: 0, twice: true),
        Self.matrixTile(operand), limit: 2 * operand.roundoff)
    }

    // MARK: - Positions

    /// What the cut says that a tile needs, by going through all tiles and pixels.
    @Test(arguments: [
      ([64, 37, 37], 3, 128), ([64, 18, 18], 3, 128), ([64, 9, 9], 3, 128), ([64, 4, 4], 3, 128), ([2, 1, 1], 3, 64),
      ([3, 30, 100], 7, 256), ([1, 5, 13], 3, 128), ([5, 7, 3], 5, 16),
    ]) func positionsSuffice(images: [Int], kernel: Int, rows: Int) throws {
      let (batch, height, width) = (images[0], images[1], images[2])
      let geometry = ConvolutionGeometry(
        input: [batch, height, width, 4], filter: [kernel, kernel, 4, 4], strides: (1, 1), padding: .same)
      let patch = try #require(TiledPatch(.forward, geometry, rows: rows))
      #expect(width % patch.strip == 0)
      let line = patch.strip + kernel - 1
      let positions = (0..<batch * height * width).map { pixel in
        let inLines = pixel / patch.strip
        return (inLines / height * (height + kernel - 1) + inLines % height) * line + pixel % patch.strip
      }
      let most = stride(from: 0, to: positions.count, by: rows).map { first in
        positions[min(first + rows, positions.count) - 1] - positions[first] + (kernel - 1) * line + kernel
      }.max()
      #expect(try #require(most) <= patch.positions)
      // No more than the ends of lines and strips that a tile need not have.
      #expect(try #require(most) > patch.positions - kernel * line - kernel)
    }

    /// What has none: a stride, a single tap.
    @Test func onlyDenseWindowsHavePatches() {
      func patch(kernel: Int, stride: Int) -> TiledPatch? {
        TiledPatch(
          .forward,
          ConvolutionGeometry(
            input: [2, 8, 8, 4], filter: [kernel, kernel, 4, 4], strides: (stride, stride), padding: .same), rows: 64)
      }
      #expect(patch(kernel: 3, stride: 1) != nil)
      #expect(patch(kernel: 3, stride: 2) == nil && patch(kernel: 1, stride: 1) == nil)
    }
  }
}
