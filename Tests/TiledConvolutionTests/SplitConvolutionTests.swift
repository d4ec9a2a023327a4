import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension DeviceTests {
  /// Products whose terms are cut into parts for work-groups of their own, on a CPU passed off as a GPU with more compute
  /// units than the small ones have work-groups.
  struct SplitConvolutionTests {
    /// Single precision over sums of up to some hundred terms, as for the kernels without splits.
    private static let tolerance = 2e-6

    private static func gpu(computeUnits: Int, groupItems: Int = 1024) throws -> DeviceDescription {
      try DeviceTests.device.get().description
        .imitatingGPU(computeUnits: computeUnits, localMemory: 48 << 10, maximumWorkGroupSize: groupItems)
    }

    /// Launches of `conv_tiled` with and without splits.
    private func isSplit(_ device: Device, gradient: Bool) -> Set<Bool> {
      Set(
        device.programsInUse.filter {
          ["conv_tiled", "conv_tiled_patch"].contains($0.kernel) && $0.options.contains(" GRADIENT=1") == gradient
        }
        .map { $0.options.contains("SPLIT=1") })
    }

    /// Everything against the reference, twice with the same bits. The passes that are said are split, the others not.
    private func check(
      _ test: ConvolutionCase, splitsForward: Bool = true, splitsGradient: Bool = true, forced: Int? = nil,
      tile: TiledConvolution.Tile = .init(rows: 32, columns: 32)
    ) throws {
      let device = try Device(Self.gpu(computeUnits: 64))
      let configurations = forced.map { tile.everywhere(splits: $0) } ?? [:]
      func run() throws -> ConvolutionCase.Results {
        try ConvolutionConfiguration.$forced.withValue(configurations) { try test.run(on: device) }
      }
      let results = try run()
      #expect(isSplit(device, gradient: false) == [splitsForward], "\(test)")
      #expect(isSplit(device, gradient: true) == [splitsGradient], "\(test)")
      #expect(try run() == results, "\(test): two runs differ")
      #expect(results["guard"] == [], "\(test): writes beyond its channels")
      for (name, error) in try test.errors(of: results) {
        #expect(error < Self.tolerance, "\(test): \(name) is \(error) from the reference")
      }
    }

    /// Quads of channels, tap by tap: bias, then pending steps, then gradients that are added up.
    @Test func alignedChannels() throws {
      var test = ConvolutionCase(height: 4, width: 4, inputs: 64, outputs: 128)
      try check(test)
      test.twice = true
      try check(test)
      test.affine = true
      test.post = 0
      try check(test)
    }

    /// Terms through all taps, and no quad complete.
    @Test func oddChannels() throws {
      try check(ConvolutionCase(inputs: 33, outputs: 65, pre: 0.2, affine: true, post: 0.1, bias: false))
      try check(ConvolutionCase(inputs: 35, outputs: 38, pre: 0.2, twice: true))
    }

    /// Views of wider storages, aligned and not, in a product without taps to go through.
    @Test(arguments: [(4, 8), (3, 2)]) func slabs(gap: (Int, Int)) throws {
      try check(
        ConvolutionCase(
          inputs: 260, outputs: 36, kernel: (1, 1), pad: (0, 0, 0, 0), affine: true, post: 0, inputGap: gap,
          outputGap: (gap.1, gap.0), twice: true), splitsGradient: false)
      try check(
        ConvolutionCase(
          inputs: 36, outputs: 260, kernel: (1, 1), pad: (0, 0, 0, 0), inputGap: gap, outputGap: (gap.1, gap.0),
          twice: true), splitsForward: false)
    }

    /// Phases of a data gradient with one, two and four taps, and with none.
    @Test func strides() throws {
      try check(ConvolutionCase(inputs: 36, outputs: 68, strides: (2, 2), pre: 0.2, twice: true))
      try check(
        ConvolutionCase(inputs: 260, outputs: 260, kernel: (1, 1), strides: (2, 3), pad: (0, 0, 0, 0), affine: true))
    }

    @Test func theAffinesGradientAlone() throws {
      try check(ConvolutionCase(inputs: 36, outputs: 40, affine: true, post: 0, wantsInput: false))
    }

    /// As many splits as there are steps, and more than that.
    @Test(arguments: [2, 5, 7, 32]) func anyNumberOfSplits(splits: Int) throws {
      try check(
        ConvolutionCase(inputs: 8, outputs: 12, affine: true, post: 0, twice: true), forced: splits)
    }

    struct MomentsCase: Sendable, CustomTestStringConvertible {
      var image: [Int]
      var outputs: Int
      var bias = true
      var dtype = DType.float32
      /// Channels of the result's storage before it and behind it.
      var gap = (0, 0)
      var groupItems = 1024
      var testDescription: String { "\(image) → \(outputs), bias \(bias), \(dtype), gap \(gap), \(groupItems) items" }
    }

    /// What adds up the splits leaves moments of what it stores, for any number of pixels and outputs: one group that is
    /// not full, full ones, many; quads that are complete and not; work-items that have one quad and several.
    @Test(
      arguments: [
        MomentsCase(image: [2, 4, 4, 64], outputs: 20), .init(image: [2, 4, 4, 64], outputs: 128, bias: false),
        .init(image: [1, 3, 5, 35], outputs: 33), .init(image: [3, 7, 5, 64], outputs: 7, gap: (3, 2)),
        .init(image: [2, 9, 9, 64], outputs: 36, gap: (4, 8)), .init(image: [1, 1, 1, 300], outputs: 1),
        .init(image: [3, 7, 5, 64], outputs: 40, dtype: .float16),
        .init(image: [2, 9, 9, 64], outputs: 33, dtype: .bfloat16, gap: (1, 2)),
        .init(image: [3, 7, 5, 64], outputs: 70, groupItems: 64),
        .init(image: [3, 7, 5, 64], outputs: 34, bias: false, groupItems: 32),
      ])
    func momentsOfSums(_ test: MomentsCase) throws {
      let device = try Device(Self.gpu(computeUnits: 64, groupItems: test.groupItems))
      func random(_ shape: [Int], _ seed: UInt64, _ range: ClosedRange<Double> = -1...1, _ dtype: DType = .float32)
        -> Tensor
      {
        Tensor(
          ReferenceTensor.random(shape, seed: seed, range: range).floats, shape: Shape(shape), on: device, dtype: dtype)
      }
      let x = random(test.image, 1, -1...1, test.dtype)
      let filter = random([3, 3, test.image[3], test.outputs], 2)
      // Far from zero, where sums of squares would lose digits.
      let bias = test.bias ? random([test.outputs], 3, 30...31) : nil
      let tile = TiledConvolution.Tile(rows: 16, columns: 16)
      func run() throws -> (y: [Float], mean: [Float], variance: [Float]) {
        let untouched: Float = 12345
        let shape: Shape = [test.image[0], test.image[1], test.image[2], test.gap.0 + test.outputs + test.gap.1]
        let whole = Tensor(
          [Float](repeating: untouched, count: shape.count), shape: shape, on: device, dtype: test.dtype)
        let y = ConvolutionConfiguration.$forced.withValue(tile.everywhere(splits: 3)) {
          x.conv2d(
            filter: filter, bias: bias, into: whole.channels(test.gap.0..<test.gap.0 + test.outputs),
            leavingMoments: true)
        }
        let before = device.counters.launches
        let moments = y.moments()
        #expect(device.counters.launches - before == 1)
        let around = try whole.floats().enumerated().filter {
          !(test.gap.0..<test.gap.0 + test.outputs).contains($0.offset % shape.channels)
        }
        #expect(around.allSatisfy { $0.element == test.dtype.rounded(untouched) })
        return try (y.floats(), moments.mean.floats(), moments.variance.floats())
      }
      let (y, mean, variance) = try run()
      #expect(isSplit(device, gradient: false) == [true])
      let expected = Reference.moments(
        ReferenceTensor([test.image[0], test.image[1], test.image[2], test.outputs], values: y))
      // As in `PartialMomentsTests`: a group's sum is of up to 32 values.
      #expect(relativeL2(mean, to: expected.mean) <= 2e-6)
      #expect(relativeL2(variance, to: expected.variance) <= 4e-6)
      let again = try run()
      #expect(again.mean == mean && again.variance == variance && again.y == y)
    }

    // MARK: - How many

    private func product(
      _ pass: ConvolutionPass, side: Int, _ inputs: Int, _ outputs: Int, kernel: Int, batch: Int = 64, stride: Int = 1,
      on device: DeviceDescription
    ) -> TiledProduct {
      let geometry = ConvolutionGeometry(
        input: [batch, side, side, inputs], filter: [kernel, kernel, inputs, outputs], strides: (stride, stride),
        padding: .same)
      let configuration = device.configuration(of: pass, geometry, .float32, .tiled)
      guard case .tiled(let tile, nil) = configuration else { preconditionFailure("\(configuration)") }
      return TiledProduct(pass, geometry, tile)
    }

    /// DenseNet-121's last blocks at batch 64 on 132 compute units. Each value here follows from the rule by hand.
    @Test func smallGridsAreSplit() throws {
      let device = try Self.gpu(computeUnits: 132)
      // 4×4 pixels, 3×3: 8 tiles of 128 × 32, 32 steps of 4 channels under 9 taps, 4 of them at least.
      let narrow = product(.forward, side: 4, 128, 32, kernel: 3, on: device)
      #expect(narrow.groups == 8 && narrow.steps == 32 && narrow.splits(on: device) == 8)
      // 1×1: 32 tiles of 64 × 64, 64 steps.
      let pointwise = product(.forward, side: 4, 1024, 128, kernel: 1, on: device)
      #expect(pointwise.groups == 32 && pointwise.steps == 64 && pointwise.splits(on: device) == 8)
      // Its data gradient has 8 steps, too few for two splits.
      let gradient = product(.inputGradient, side: 4, 1024, 128, kernel: 1, on: device)
      #expect(gradient.steps == 8 && gradient.splits(on: device) == 1)
      // That of the 3×3 one has 18 steps over 32 tiles.
      let wide = product(.inputGradient, side: 4, 128, 32, kernel: 3, on: device)
      #expect(wide.groups == 32 && wide.steps == 18 && wide.splits(on: device) == 2)
      // 9×9 pixels: 41 tiles, so six splits of 6 steps at most for two groups a unit.
      let block = product(.forward, side: 9, 128, 32, kernel: 3, on: device)
      #expect(block.groups == 41 && block.splits(on: device) == 6)
    }

    @Test func largeGridsAreNotSplit() throws {
      let device = try Self.gpu(computeUnits: 132)
      for side in [19, 38, 75] {
        for pass in [ConvolutionPass.forward, .inputGradient] {
          let large = product(pass, side: side, 512, 128, kernel: 3, on: device)
          #expect(large.groups > 132 && large.splits(on: device) == 1)
        }
      }
      // Few compute units are filled by few work-groups, and CPUs by any.
      let few = try Self.gpu(computeUnits: 4)
      #expect(product(.forward, side: 4, 1024, 128, kernel: 1, on: few).splits(on: few) == 1)
      let cpu = try DeviceTests.device.get().description
      if cpu.kind == .cpu {
        #expect(product(.forward, side: 1, 2048, 2, kernel: 1, batch: 1, on: cpu).splits(on: cpu) == 1)
      }
    }

    /// Tiles that tuning may choose change how many splits there are, not whether there are any.
    @Test func tilesDoNotDecideWhetherToSplit() throws {
      let device = try Self.gpu(computeUnits: 132)
      let (small, large) = (TiledConvolution.Tile(rows: 16, columns: 16), TiledConvolution.tiles.large)
      func splits(side: Int, _ tile: TiledConvolution.Tile) -> Int {
        let geometry = ConvolutionGeometry(
          input: [64, side, side, 1024], filter: [1, 1, 1024, 128], strides: (1, 1), padding: .same)
        return TiledProduct(.forward, geometry, tile).splits(on: device)
      }
      // 512 work-groups of 16 × 16 would need no splits, 8 of 128 × 128 more than the eight that 1024 terms allow.
      #expect(splits(side: 4, small) == 2 && splits(side: 4, large) == 8)
      // 200 of 64 × 64 are not split, so neither are 50 of 128 × 128.
      #expect(splits(side: 10, .init(rows: 64, columns: 64)) == 1 && splits(side: 10, large) == 1)
    }

    /// Whatever the shape: no split without steps or with few, no more groups than two a compute unit, so that the
    /// partials are no larger than their tiles.
    @Test(arguments: [8, 40, 132], [MatrixOperand?.none, .tf32, .bfloat16])
    func splitsKeepTheirBounds(computeUnits: Int, operand: MatrixOperand?) throws {
      let device = try Self.gpu(computeUnits: computeUnits)
      var most = 0
      for (side, inputs, outputs, kernel, stride) in [
        (1, 1024, 2, 1, 1), (2, 2048, 33, 1, 1), (4, 128, 32, 3, 1), (4, 1024, 128, 1, 1), (5, 7, 5, 3, 2),
        (7, 512, 512, 3, 2), (3, 160, 3, 7, 3), (1, 25088, 10, 1, 1),
      ] {
        let geometry = ConvolutionGeometry(
          input: [16, side, side, inputs], filter: [kernel, kernel, inputs, outputs], strides: (stride, stride),
          padding: .same)
        for pass in [ConvolutionPass.forward, .inputGradient] {
          guard
            case .tiled(let tile, nil) = ConvolutionConfiguration.standard(pass, geometry, .tiled, operand, on: device)
          else {
            Issue.record("no tile")
            continue
          }
          let product = TiledProduct(pass, geometry, tile)
          let splits = product.splits(on: device)
          most = max(most, splits)
          guard splits > 1 else { continue }
          let length = (product.steps + splits - 1) / splits
          #expect((splits - 1) * length < product.steps, "a split of \(geometry.label) has nothing to do")
          #expect(length * product.termsOfStep >= (operand == nil ? 128 : 512))
          #expect(splits * product.groups <= 2 * computeUnits && splits <= TiledProduct.mostSplits)
        }
      }
      #expect(most > 1)
    }
  }
}
