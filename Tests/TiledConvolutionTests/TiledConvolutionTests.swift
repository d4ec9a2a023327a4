import Foundation
import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

/// Whether every combination is tried. Each is a program that POCL compiles for seconds the first time, so by default
/// every value occurs, but not with every other: FOVEA_THOROUGH=1 tries all.
let thorough = ProcessInfo.processInfo.environment["FOVEA_THOROUGH"] != nil

/// All combinations of the two lists, or by default each value once, in the order given.
private func pairs<A, B>(_ a: [A], _ b: [B]) -> [(A, B)] {
  thorough ? a.flatMap { x in b.map { (x, $0) } } : Array(zip(a, b))
}

/// Tests on a device, one after another: one thread at a time builds work for a device, and POCL 3.1 crashed when two
/// threads opened it at once.
@Suite(.serialized, .allowingForMiscompilation)
struct DeviceTests {
  /// POCL takes most of these tests' time for compiling.
  static let device = Result { try Device(DeviceSelection.pick(nil).withoutOptimizations) }
}

extension DeviceTests {
  /// The tiled kernels against the double-precision reference and against the vector kernels.
  struct TiledConvolutionTests {
    /// Single precision over sums of up to some hundred terms, and half a unit of what is stored.
    private static func tolerance(_ dtype: DType) -> Double {
      switch dtype {
      case .float16: 2e-6 + 0x1p-11
      case .bfloat16: 2e-6 + 0x1p-8
      default: 2e-6
      }
    }

    private func check(_ test: ConvolutionCase, tile: TiledConvolution.Tile? = nil) throws {
      let device = try DeviceTests.device.get()
      let tile = tile?.fitting(device.description)
      let expected = test.reference()
      let tolerance = Self.tolerance(test.dtype)
      let tiled = try ConvolutionConfiguration.$forced.withValue(tile?.everywhere() ?? [:]) {
        try ConvolutionAlgorithm.$forced.withValue(.tiled) { try test.run(on: device) }
      }
      let again = try ConvolutionConfiguration.$forced.withValue(tile?.everywhere() ?? [:]) {
        try ConvolutionAlgorithm.$forced.withValue(.tiled) { try test.run(on: device) }
      }
      #expect(tiled == again, "\(test): two runs differ")
      #expect(tiled["guard"] == [], "\(test): writes beyond its channels")
      // The vector kernels keep windows in private memory: for CPUs only.
      let vector =
        device.isCPU ? try ConvolutionAlgorithm.$forced.withValue(.vector) { try test.run(on: device) } : tiled
      for (name, reference) in expected {
        let values = try #require(tiled[name], "\(test): no \(name)")
        let error = distance(values, reference.values.values, reference)
        #expect(error < tolerance, "\(test): \(name) is \(error) from the reference")
        let others = try #require(vector[name], "\(test): no \(name) from the vector kernels")
        let difference = distance(values, others.map(Double.init), reference)
        #expect(difference < tolerance, "\(test): \(name) is \(difference) from the vector kernels")
      }
    }

    private func distance(_ a: [Float], _ b: [Double], _ reference: ConvolutionCase.Expected) -> Double {
      guard a.count == b.count else { return .nan }
      let difference = ReferenceTensor(reference.values.shape, zip(a, b).map { Double($0) - $1 })
      func norm(_ x: ReferenceTensor) -> Double { x.values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
      return norm(difference) / max(norm(reference.magnitudes), .leastNormalMagnitude)
    }

    @Test("any number of channels", arguments: pairs([1, 2, 7, 31, 33, 65], [65, 1, 33, 2, 7, 31]))
    func channels(inputs: Int, outputs: Int) throws {
      let pointwise = (inputs + outputs) % 2 == 0
      try check(
        ConvolutionCase(
          inputs: inputs, outputs: outputs, kernel: pointwise ? (1, 1) : (3, 3),
          pad: pointwise ? (0, 0, 0, 0) : (1, 1, 1, 1), pre: 0.2, affine: true))
    }

    @Test("aligned channels, terms tap by tap", arguments: pairs([4, 16, 20, 32, 64], [36, 4, 16, 128, 32]))
    func alignedChannels(inputs: Int, outputs: Int) throws {
      try check(ConvolutionCase(inputs: inputs, outputs: outputs, affine: true, post: 0))
    }

    @Test("every structure of a prologue", arguments: pairs(Array(0..<8), [1, 3, 3, 1, 3, 1, 1, 3]))
    func prologues(bits: Int, side: Int) throws {
      let kernel = (side, side)
      var test = ConvolutionCase(inputs: 7, outputs: 5, kernel: kernel)
      test.pad = kernel.0 == 1 ? (0, 0, 0, 0) : (1, 1, 1, 1)
      test.pre = bits & 1 == 0 ? nil : 0.2
      test.affine = bits & 2 != 0
      test.post = bits & 4 == 0 ? nil : 0
      try check(test)
      test.inputs = 16
      test.outputs = 8
      test.twice = true
      try check(test)
    }

    @Test(
      "any stride, kernel and padding",
      arguments: [
        ConvolutionCase(kernel: (3, 3), strides: (2, 2)),
        ConvolutionCase(kernel: (3, 3), strides: (3, 3)),
        ConvolutionCase(kernel: (3, 3), strides: (2, 3), pad: (0, 1, 1, 0)),
        ConvolutionCase(kernel: (1, 1), strides: (2, 2), pad: (0, 0, 0, 0)),
        ConvolutionCase(kernel: (1, 1), strides: (3, 2), pad: (0, 0, 0, 0)),
        ConvolutionCase(kernel: (2, 5), strides: (3, 1), pad: (0, 0, 2, 2)),
        ConvolutionCase(
          height: 17, width: 15, inputs: 3, outputs: 20, kernel: (7, 7), strides: (2, 2), pad: (3, 3, 3, 3)),
        ConvolutionCase(height: 1, width: 9, kernel: (1, 9), pad: (0, 0, 4, 4)),
        ConvolutionCase(height: 4, width: 4, kernel: (5, 5), pad: (4, 4, 4, 4)),
        ConvolutionCase(height: 1, width: 1, kernel: (1, 1), pad: (0, 0, 0, 0)),
        ConvolutionCase(height: 2, width: 2, kernel: (1, 1), strides: (3, 3), pad: (0, 0, 0, 0)),
        ConvolutionCase(batch: 1, height: 7, width: 3, inputs: 16, outputs: 32, kernel: (3, 3), strides: (2, 2)),
        ConvolutionCase(batch: 3, height: 6, width: 7, inputs: 20, outputs: 12, kernel: (3, 2), strides: (3, 2)),
      ])
    func geometry(test: ConvolutionCase) throws {
      try check(test)
      var test = test
      test.pre = 0
      test.affine = true
      test.post = 0.1
      test.twice = true
      try check(test)
    }

    @Test("slabs of wider storages", arguments: [(0, 3), (4, 4), (3, 2), (1, 0), (8, 16)], [true, false])
    func slabs(gap: (Int, Int), aligned: Bool) throws {
      var test = ConvolutionCase(inputs: aligned ? 16 : 9, outputs: aligned ? 8 : 33, affine: true, post: 0)
      test.inputGap = gap
      test.outputGap = (gap.1, gap.0)
      try check(test)
      test.kernel = (1, 1)
      test.pad = (0, 0, 0, 0)
      test.twice = true
      test.bias = false
      try check(test)
    }

    @Test("the affine's gradient without that of the input", arguments: [1, 2])
    func affineOnly(stride: Int) throws {
      try check(
        ConvolutionCase(inputs: 33, outputs: 8, strides: (stride, stride), affine: true, post: 0, wantsInput: false))
    }

    @Test(
      "tiles that only tuning takes, with other terms a step",
      arguments: [
        TiledConvolution.Tile(rows: 32, columns: 16, terms: 8), .init(rows: 16, columns: 32, across: 2, terms: 32),
        .init(rows: 64, columns: 16, down: 4, terms: 8), .init(rows: 64, columns: 64, terms: 4),
      ])
    func tunedTiles(tile: TiledConvolution.Tile) throws {
      let device = try DeviceTests.device.get().description
        .imitatingGPU(computeUnits: 2, localMemory: 32 << 10, maximumWorkGroupSize: 256)
      let test = ConvolutionCase(height: 7, width: 6, inputs: 24, outputs: 20, affine: true, post: 0, twice: true)
      #expect(tile.violation(on: device) == nil)
      try check(test, tile: tile)
      try check(ConvolutionCase(height: 7, width: 6, inputs: 7, outputs: 33, pre: 0.2), tile: tile)
    }

    @Test("what an untuned GPU takes depends on its registers and wavefronts")
    func standards() throws {
      let cpu = try DeviceTests.device.get().description
      func standard(_ inputs: Int, _ outputs: Int, kernel: Int, batch: Int, wavefront: Int?, subgroups: [Int]) throws
        -> (
          tile: TiledConvolution.Tile, options: String
        )
      {
        let gpu = cpu.imitatingGPU(
          computeUnits: 60, localMemory: 48 << 10, maximumWorkGroupSize: 1024, wavefrontWidth: wavefront,
          subgroupSizes: subgroups)
        let geometry = ConvolutionGeometry(
          input: [batch, 32, 32, inputs], filter: [kernel, kernel, inputs, outputs], strides: (1, 1), padding: .same)
        let configuration = ConvolutionConfiguration.standard(.forward, geometry, .tiled, on: gpu)
        guard case .tiled(let tile, nil) = configuration else {
          Issue.record("\(configuration)")
          return (TiledConvolution.tiles.medium, "")
        }
        return (tile, tile.options(on: gpu))
      }
      typealias Tile = TiledConvolution.Tile
      // 128 columns and work-groups enough; as many columns and few; 32 columns under 3×3 taps, and under a single one.
      let large = Tile(rows: 128, columns: 128, down: 2, across: 2)
      let tall = Tile(rows: 128, columns: 64, down: 2)
      for (wavefront, subgroups, most, medium, narrow) in [
        (nil, [], large, 2, 2), (32, [], large, 2, 2), (64, [], large, 1, 1), (nil, [16, 32], tall, 2, 1),
        (nil, [8, 16, 32], tall, 2, 1),
      ] as [(Int?, [Int], Tile, Int, Int)] {
        let first = try standard(64, 128, kernel: 1, batch: 64, wavefront: wavefront, subgroups: subgroups)
        #expect(first.tile == most, "\(wavefront ?? 0), \(subgroups)")
        #expect(first.options.contains("SUBGROUP=16") == (subgroups.first == 16))
        let few = try standard(64, 128, kernel: 1, batch: 1, wavefront: wavefront, subgroups: subgroups).tile
        #expect(few == Tile(rows: 64, columns: 64, down: medium), "\(wavefront ?? 0), \(subgroups)")
        let third = try standard(128, 32, kernel: 3, batch: 64, wavefront: wavefront, subgroups: subgroups).tile
        // 128 pixels in four lines of 32, of two images at times: 202 positions with strips of 8.
        let patched = Tile(rows: 128, columns: 32, across: narrow).with(patch: 256, channels: 128)
        #expect(third == patched, "\(wavefront ?? 0), \(subgroups)")
        let fourth = try standard(128, 32, kernel: 1, batch: 64, wavefront: wavefront, subgroups: subgroups).tile
        #expect(fourth == Tile(rows: 128, columns: 32, down: narrow), "\(wavefront ?? 0), \(subgroups)")
      }
    }

    @Test(
      "every tile", arguments: pairs(TiledConvolution.tiles.all, TiledConvolution.tiles.all.indices.map { $0 % 2 + 1 }))
    func tiles(tile: TiledConvolution.Tile, stride: Int) throws {
      var test = ConvolutionCase(
        height: 13, width: 12, inputs: 36, outputs: 40, strides: (stride, stride), affine: true, post: 0)
      try check(test, tile: tile)
      test.inputs = 35
      test.outputs = 131
      test.kernel = (1, 1)
      test.pad = (0, 0, 0, 0)
      test.twice = true
      try check(test, tile: tile)
    }

    @Test("many pixels: several splits and the large tiles", arguments: [(70, 66), (64, 128), (16, 32), (3, 16)])
    func manyPixels(inputs: Int, outputs: Int) throws {
      try check(
        ConvolutionCase(
          height: 33, width: 31, inputs: inputs, outputs: outputs, kernel: (1, 1), pad: (0, 0, 0, 0), affine: true,
          post: 0))
    }

    /// Few pixels, so that tools which interpret kernels get through: every structure that a kernel can have.
    @Test(
      "tiny", .enabled(if: thorough),
      arguments: [
        // More than 16 output pixels, so that the filter gradient uses its tiles a second time.
        ConvolutionCase(batch: 1, height: 6, width: 3, inputs: 3, outputs: 2, pre: 0.2, affine: true, post: 0),
        ConvolutionCase(
          batch: 1, height: 3, width: 4, inputs: 4, outputs: 4, kernel: (1, 1), pad: (0, 0, 0, 0), affine: true,
          post: 0, twice: true),
        ConvolutionCase(batch: 2, height: 3, width: 2, inputs: 16, outputs: 16, strides: (2, 2), post: 0),
        ConvolutionCase(
          batch: 1, height: 5, width: 4, inputs: 5, outputs: 7, kernel: (2, 3), strides: (3, 2), pre: 0, affine: true,
          inputGap: (3, 2), outputGap: (1, 4), wantsInput: false),
      ], TiledConvolution.tiles.all)
    func tiny(test: ConvolutionCase, tile: TiledConvolution.Tile) throws {
      try check(test, tile: tile)
    }

    @Test(
      "tiny, of 16 bits",
      arguments: pairs(
        [DType.float16, .bfloat16], [.init(rows: 32, columns: 32), TiledConvolution.Tile(rows: 16, columns: 16)]))
    func tinySixteenBits(dtype: DType, tile: TiledConvolution.Tile) throws {
      try check(
        ConvolutionCase(
          batch: 1, height: 6, width: 3, inputs: 3, outputs: 2, pre: 0.2, affine: true, post: 0, inputGap: (1, 2),
          outputGap: (2, 1), dtype: dtype), tile: tile)
      try check(
        ConvolutionCase(
          batch: 2, height: 3, width: 2, inputs: 16, outputs: 16, strides: (2, 2), affine: true, dtype: dtype),
        tile: tile)
    }

    /// Those that a kernel leaves of what it stores, over tiles that are not full.
    @Test("tiny, with moments", .enabled(if: thorough), arguments: TiledConvolution.tiles.all)
    func tinyMoments(tile: TiledConvolution.Tile) throws {
      let device = try DeviceTests.device.get()
      func tensor(_ shape: Shape, seed: UInt64, range: ClosedRange<Double> = -1...1) -> Tensor {
        Tensor(ReferenceTensor.random(shape.dimensions, seed: seed, range: range).floats, shape: shape, on: device)
      }
      let x = tensor([1, 7, 5, 5], seed: 1)
      let filter = tensor([3, 3, 5, 6], seed: 2)
      // Far from zero, where sums of squares would lose digits.
      let bias = tensor([6], seed: 3, range: 30...31)
      let y = ConvolutionConfiguration.$forced.withValue(tile.fitting(device.description).everywhere(splits: 1)) {
        ConvolutionAlgorithm.$forced.withValue(.tiled) { x.conv2d(filter: filter, bias: bias, leavingMoments: true) }
      }
      let before = device.counters.launches
      let moments = y.moments()
      #expect(device.counters.launches == before + 1, "moments of what the kernel left")
      let expected = Reference.moments(ReferenceTensor(y.shape.dimensions, try y.floats().map(Double.init)))
      let (mean, variance) = try (moments.mean.floats(), moments.variance.floats())
      for channel in 0..<6 {
        // Results around 30 are rounded by up to 1e-6; their deviations are of the size of 1.
        let (exactMean, exactVariance) = (expected.mean.values[channel], expected.variance.values[channel])
        #expect(abs(Double(mean[channel]) - exactMean) < 2e-6 * exactMean)
        #expect(abs(Double(variance[channel]) - exactVariance) < 4e-6 * exactVariance)
      }
    }
  }
}
