import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension DeviceTests {
  /// Data gradients of strided convolutions that compute all phases at once, against the double-precision reference.
  struct StridedGradientTests {
    typealias Tile = TiledConvolution.Tile

    private func check(_ test: ConvolutionCase, patch: Bool = false, splits: Int = 1, rounding: Double = 0) throws {
      let device = try Device(DeviceTests.device.get().description)
      let product = try #require(StridedGradient(test.geometry)).product
      var tile = Tile(rows: 32, columns: 16)
      var configurations = tile.everywhere()
      if patch {
        let positions = try #require(TiledPatch(.forward, product, rows: tile.rows)).positions
        tile = tile.with(patch: positions, channels: product.inputs)
      }
      configurations[.inputGradient] = .tiledPhases(tile, splits: splits)
      let results = try test.tiled(by: configurations, on: device)
      let kernels = Set(device.programsInUse.map(\.kernel))
      #expect(kernels.contains("phase_pixels"))
      #expect(kernels.contains("conv_tiled_patch") == patch)
      let error = try #require(try test.errors(of: results)["dx"])
      #expect(error < 2e-6 + rounding, "\(test): dx is \(error) from the reference")
    }

    /// DenseNet's first layer, TensorFlow's padding for it, none; images that strides do not divide, on either side.
    @Test(arguments: [
      ConvolutionCase(
        height: 14, width: 12, inputs: 3, outputs: 8, kernel: (7, 7), strides: (2, 2), pad: (3, 3, 3, 3)),
      ConvolutionCase(
        height: 13, width: 16, inputs: 3, outputs: 8, kernel: (7, 7), strides: (2, 2), pad: (2, 3, 2, 3), twice: true),
      ConvolutionCase(height: 12, width: 11, inputs: 4, outputs: 7, strides: (2, 2), pad: (0, 0, 0, 0)),
      ConvolutionCase(
        height: 12, width: 14, inputs: 2, outputs: 5, kernel: (5, 4), strides: (3, 2), pad: (1, 2, 0, 3)),
      ConvolutionCase(height: 9, width: 17, inputs: 1, outputs: 3, kernel: (4, 4), strides: (4, 4), pad: (2, 1, 0, 0)),
      ConvolutionCase(height: 8, width: 9, inputs: 5, outputs: 3, kernel: (1, 5), strides: (1, 3), pad: (0, 0, 4, 1)),
      ConvolutionCase(
        height: 5, width: 4, inputs: 3, outputs: 8, kernel: (7, 7), strides: (2, 2), pad: (3, 3, 3, 3),
        outputGap: (4, 4)
      ),
    ])
    func geometries(test: ConvolutionCase) throws {
      try check(test)
      try check(test, patch: true, splits: 2)
    }

    /// A sum is rounded once, or twice where it is added to another.
    @Test(arguments: [DType.float16, .bfloat16]) func sixteenBits(dtype: DType) throws {
      for twice in [false, true] {
        let test = ConvolutionCase(
          height: 9, width: 8, inputs: 3, outputs: 8, strides: (2, 2), twice: twice, dtype: dtype)
        try check(test, rounding: dtype == .float16 ? 0x1p-11 : 0x1p-8)
      }
    }

    /// What steps are pending for has its own kernel; so has what would be mostly zeros or has many channels.
    @Test func whereItIsChosen() throws {
      let gpu = try DeviceTests.device.get().description
        .imitatingGPU(computeUnits: 132, localMemory: 48 << 10, maximumWorkGroupSize: 1024)
      func chosen(_ inputs: Int, kernel: Int, stride: Int, size: Int = 150) -> ConvolutionConfiguration {
        .standard(
          .inputGradient,
          ConvolutionGeometry(
            input: [64, size, size, inputs], filter: [kernel, kernel, inputs, 64], strides: (stride, stride),
            padding: .same), .tiled, on: gpu)
      }
      guard case .tiledPhases(let tile, nil) = chosen(3, kernel: 7, stride: 2) else {
        Issue.record("DenseNet's first layer: \(chosen(3, kernel: 7, stride: 2))")
        return
      }
      #expect(tile.patch != nil && tile.columns == 16)
      for other in [chosen(5, kernel: 7, stride: 2), chosen(3, kernel: 7, stride: 1), chosen(3, kernel: 1, stride: 2)] {
        guard case .tiled = other else {
          Issue.record("\(other)")
          continue
        }
      }
      try check(pending: ConvolutionCase(height: 9, width: 8, inputs: 3, outputs: 8, strides: (2, 2), affine: true))
    }

    private func check(pending test: ConvolutionCase) throws {
      let device = try Device(DeviceTests.device.get().description)
      let configurations: [ConvolutionPass: ConvolutionConfiguration] = [
        .inputGradient: .tiledPhases(Tile(rows: 32, columns: 16))
      ]
      let results = try test.tiled(by: configurations, on: device)
      #expect(!device.programsInUse.contains { $0.kernel == "phase_pixels" })
      for (name, error) in try test.errors(of: results) {
        #expect(error < 2e-6, "\(test): \(name) is \(error) from the reference")
      }
    }
  }
}
