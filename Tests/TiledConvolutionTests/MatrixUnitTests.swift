import Foundation
import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension DeviceTests {
  /// The tiled kernels on matrix units, which plain OpenCL C emulates here: the same tiles, fragments and lanes, and operands
  /// rounded in the same way.
  struct MatrixUnitTests {
    typealias Tile = TiledConvolution.Tile

    /// Of one warp, and of two with several register tiles.
    private static func small(_ operand: MatrixOperand) -> Tile {
      Tile(rows: 32, columns: 16, terms: 8 * operand.perWord, operand: operand)
    }
    private static func wide(_ operand: MatrixOperand) -> Tile {
      Tile(rows: 64, columns: 32, across: 2, terms: 8 * operand.perWord, operand: operand)
    }

    /// Relative L2 errors of all results, by name.
    private func errors(_ test: ConvolutionCase, _ tile: Tile, splits: Int = 1) throws -> [String: Double] {
      let device = try DeviceTests.device.get()
      let results = try ConvolutionConfiguration.$forced.withValue(tile.everywhere(splits: splits)) {
        try ConvolutionAlgorithm.$forced.withValue(.tiled) { try test.run(on: device) }
      }
      #expect(results["guard"] == [], "\(test): writes beyond its channels")
      return try test.errors(of: results)
    }

    /// Operands that need no rounding multiply exactly, so that only sums round, as in single precision.
    private func checkExact(_ test: ConvolutionCase, _ tile: Tile, splits: Int = 1) throws {
      var test = test
      test.roundedTo = tile.operand
      for (name, error) in try errors(test, tile, splits: splits) {
        #expect(error < 2e-6, "\(test), \(tile): \(name) is \(error) from the reference")
      }
    }

    /// Right units pass. Those that would exchange two rows or columns, or the two warps, do not, nor those that leave one
    /// operand unrounded.
    @Test(arguments: MatrixOperand.allCases) func probeTellsRightFromWrong(operand: MatrixOperand) throws {
      let probe = MatrixProbe(operand)
      #expect(try probe.problem(on: DeviceTests.device.get()) == nil)
      let values = try probe.result(on: DeviceTests.device.get())
      func isCaught(_ source: (_ warp: Int, _ row: Int, _ column: Int) -> (Int, Int, Int)) -> Bool {
        let moved = values.indices.map { index in
          let (warp, row, column) = source(index / 512, index / 16 % 32, index % 16)
          return values[(warp * 32 + row) * 16 + column]
        }
        return probe.problem(of: moved)?.contains("is right") == true
      }
      #expect(!isCaught { ($0, $1, $2) })
      #expect(isCaught { (1 - $0, $1, $2) })
      for bit in [1, 2, 4, 8, 16] { #expect(isCaught { ($0, $1 ^ bit, $2) }) }
      for bit in [1, 2, 4, 8] { #expect(isCaught { ($0, $1, $2 ^ bit) }) }
      for row in [3, 12, 21] {
        var unrounded = values
        for column in 0..<16 { unrounded[row * 16 + column] += Float(operand.roundoff) }
        #expect(probe.problem(of: unrounded) != nil)
      }
    }

    // Each program takes POCL half a second to compile, so not every type does everything by default.

    /// Complete quads, tap by tap; two tiles of rows and of columns, several steps.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.float16]) func alignedChannels(operand: MatrixOperand) throws
    {
      try checkExact(ConvolutionCase(inputs: 32, outputs: 20), Self.small(operand))
    }

    /// Quads across taps, phases of a stride.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.tf32]) func oddChannels(operand: MatrixOperand) throws {
      try checkExact(ConvolutionCase(inputs: 7, outputs: 5, strides: (2, 1)), Self.small(operand))
    }

    @Test(arguments: thorough ? MatrixOperand.allCases : [.bfloat16]) func severalWarps(operand: MatrixOperand) throws {
      try checkExact(
        ConvolutionCase(height: 9, width: 8, inputs: 36, outputs: 68, kernel: (1, 1), pad: (0, 0, 0, 0)),
        Self.wide(operand))
    }

    /// Terms in parts for work-groups of their own: operands that need no rounding, and others as below.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.bfloat16]) func splits(operand: MatrixOperand) throws {
      try checkExact(ConvolutionCase(inputs: 20, outputs: 36), Self.small(operand), splits: 3)
      let test = ConvolutionCase(inputs: 8, outputs: 12, affine: true, post: 0)
      for (name, error) in try errors(test, Self.small(operand), splits: 3) where name != "db" {
        #expect(error < 2 * operand.roundoff, "\(test): \(name) is \(error) from the reference")
      }
    }

    /// Others are rounded, by no more than their type says, and with prologue, epilogue and sums of both.
    @Test(arguments: thorough ? MatrixOperand.allCases : [.tf32]) func roundedOperands(operand: MatrixOperand) throws {
      let test = ConvolutionCase(inputs: 8, outputs: 12, affine: true, post: 0)
      for (name, error) in try errors(test, Self.small(operand)) where name != "db" {
        #expect(
          error < 2 * operand.roundoff && error > operand.roundoff / 20,
          "\(test): \(name) is \(error) from the reference")
      }
    }

    /// 16-bit tensors, whose quads are operands as they lie in memory: what is summed is exact, what is stored rounded once.
    @Test(arguments: thorough ? [DType.float16, .bfloat16] : [.bfloat16]) func sixteenBitTensors(dtype: DType) throws {
      let operand: MatrixOperand = dtype == .float16 ? .float16 : .bfloat16
      for test in [
        ConvolutionCase(inputs: 32, outputs: 20, roundedTo: operand, dtype: dtype),
        ConvolutionCase(inputs: 7, outputs: 5, strides: (2, 1), roundedTo: operand, dtype: dtype),
      ] {
        for (name, error) in try errors(test, Self.small(operand)) {
          let isStored = name == "y" || name == "dx"
          #expect(
            error < 2e-6 + (isStored ? operand.roundoff : 0) && (!isStored || error > operand.roundoff / 20),
            "\(test): \(name) is \(error) from the reference")
        }
      }
    }

    @Test(.enabled(if: thorough), arguments: MatrixOperand.allCases) func everyTile(operand: MatrixOperand) throws {
      for tile in TiledConvolution.matrixTiles(operand).all {
        try checkExact(ConvolutionCase(height: 13, width: 12, inputs: 36, outputs: 40, twice: false), tile)
        try checkExact(
          ConvolutionCase(height: 13, width: 12, inputs: 35, outputs: 131, kernel: (1, 1), pad: (0, 0, 0, 0)), tile)
      }
    }

    /// A device uses its units for what is asked of it, and no emulation by itself.
    @Test func devicesChoose() throws {
      var gpu = try DeviceTests.device.get().description
        .imitatingGPU(computeUnits: 100, localMemory: 48 << 10, maximumWorkGroupSize: 1024)
      #expect([DType.float32, .float16, .bfloat16].allSatisfy { gpu.matrixOperand(for: $0) == nil })
      gpu.usesTF32 = true
      #expect(gpu.matrixOperand(for: .float32) == nil)
      gpu.matrixUnits = MatrixUnits(operands: [.tf32, .bfloat16], problems: [.float16: "wrong"])
      #expect(gpu.matrixOperand(for: .float32) == .tf32)
      #expect(gpu.matrixOperand(for: .bfloat16) == .bfloat16)
      #expect(gpu.matrixOperand(for: .float16) == nil)
      gpu.usesTF32 = false
      #expect(gpu.matrixOperand(for: .float32) == nil)
      let geometry = ConvolutionGeometry(
        input: [8, 16, 16, 64], filter: [3, 3, 64, 64], strides: (1, 1), padding: .same)
      for pass in ConvolutionPass.allCases {
        switch gpu.configuration(of: pass, geometry, .bfloat16, .tiled) {
        case .tiled(let tile, _), .tiledFilterGradient(let tile, _):
          #expect(tile.operand == .bfloat16 && !tile.options(on: gpu).contains("EMULATED"))
        default: Issue.record("\(pass) without a tile")
        }
      }
      // Tuning keeps to the operands that are asked for.
      let space = ConvolutionSpace(.forward, geometry, .tiled, .bfloat16, on: gpu)
      #expect(space.configurations.count > 10)
      #expect(space.violation(of: .tiled(Tile(rows: 64, columns: 64)))?.contains("float32") == true)
      #expect(space.violation(of: .tiled(Tile(rows: 64, columns: 8, operand: .bfloat16))) != nil)
      var table = ConvolutionTable(date: "today")
      let chosen = ConvolutionConfiguration.tiled(Tile(rows: 32, columns: 32, terms: 32, operand: .bfloat16))
      table[.forward, geometry, .bfloat16, .bfloat16] = chosen
      gpu.convolutionTable = table
      #expect(gpu.configuration(of: .forward, geometry, .bfloat16, .tiled) == chosen)
      gpu.matrixUnits = nil
      #expect(gpu.configuration(of: .forward, geometry, .bfloat16, .tiled) != chosen)
      let text = try JSONEncoder().encode(table)
      #expect(try JSONDecoder().decode(ConvolutionTable.self, from: text) == table)
    }
  }
}
