import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  /// Tensors of 16 bits: each operation is the reference applied to the rounded inputs, in float32, and rounded once
  /// where it is stored. Limits are float32's own and the unit roundoff of what is stored; see `storageRoundoff`.
  @Suite struct SixteenBitTests {}
}

extension OperationsTests.SixteenBitTests {
  private static let types: [DType] = [.float16, .bfloat16]

  @Test(arguments: types) func operations(dtype: DType) throws {
    for check in storedTensorChecks(.normal, dtype) {
      for comparison in try check.run(device) { #expect(comparison.passed, "\(comparison)") }
    }
  }

  /// Every kernel of every algorithm: wide, Winograd's, narrow, gathering, flattened, tiled.
  @Test(arguments: types, TestDevice.algorithms) func convolutions(dtype: DType, algorithm: ConvolutionAlgorithm) throws
  {
    let checks = [
      ConvolutionCheck(image: (5, 13), inputs: 32, outputs: 48, prologue: .affinePost),
      ConvolutionCheck(image: (4, 7), inputs: 16, outputs: 16, bias: true, prologue: .pre),
      ConvolutionCheck(image: (5, 6), inputs: 7, outputs: 33, bias: true, prologue: .preAffinePost),
      ConvolutionCheck(image: (9, 11), inputs: 33, outputs: 65, kernel: (1, 1), prologue: .affinePost),
      ConvolutionCheck(image: (3, 3), inputs: 64, outputs: 128, kernel: (1, 1)),
      ConvolutionCheck(image: (13, 11), inputs: 3, outputs: 16, kernel: (7, 7), strides: (2, 2), bias: true),
      ConvolutionCheck(image: (6, 9), inputs: 20, outputs: 12, strides: (2, 1), prologue: .affinePost),
      ConvolutionCheck(image: (9, 10), inputs: 16, outputs: 3, kernel: (7, 7), bias: true, prologue: .affine),
    ]
    try ConvolutionAlgorithm.$forced.withValue(algorithm) {
      for var check in checks {
        check.dtype = dtype
        try OperationsTests.expectPasses(check.check())
        // Whole quads of a dense block's channels.
        check.viewMargins = (before: 16, after: 16)
        try OperationsTests.expectPasses(check.check())
      }
    }
  }

  /// A device rounds as the host does, to the nearest and ties to even, with infinities and subnormal numbers.
  @Test(arguments: types) func rounding(dtype: DType) throws {
    var values: [Float] = [
      0, -0, 1, 65504, 65519.996, 65520, -1e6, .infinity, -.infinity, .greatestFiniteMagnitude, 0x1p-14, 0x1p-24,
      0x1p-25, 0x1.8p-25, -0x1.8p-24, 0x1.ffcp-15, 0x1.ffep-15, 1e-30, 0x1.002p0, 0x1.006p0, 0x1.01p0, 0x1.03p0,
      0x1.010002p0, 0x1.002002p0,
    ]
    values += ReferenceTensor.random([1000], seed: 3, range: -70000...70000).floats
    values += ReferenceTensor.random([1000], seed: 4, range: -1e-6...1e-6).floats
    values += ReferenceTensor.random([1000], seed: 5).floats
    let expected = values.map { dtype.rounded($0).bitPattern }
    let onDevice = try Tensor(values, shape: [values.count], on: device).cast(to: dtype).floats()
    #expect(onDevice.map(\.bitPattern) == expected)
    let onHost = try Tensor(values, shape: [values.count], on: device, dtype: dtype).floats()
    #expect(onHost.map(\.bitPattern) == expected)
    let nan = try Tensor([.nan, Float(bitPattern: 0x7f80_0001)], shape: [2], on: device).cast(to: dtype).floats()
    #expect(nan[0].isNaN && nan[1].isNaN)
  }

  /// Every number of the type is its own nearest.
  @Test(arguments: types) func everyNumber(dtype: DType) {
    let all = (UInt16.min...UInt16.max).map { dtype == .float16 ? Float(half: $0) : Float(bfloat: $0) }
    var wrong = 0
    for (value, bits) in zip(all, UInt16.min...UInt16.max) {
      let nearest = dtype == .float16 ? value.half : value.bfloat
      if value.isNaN ? !dtype.rounded(value).isNaN : nearest != bits { wrong += 1 }
    }
    // Halfway between neighbours the even one is taken.
    for index in 0..<(dtype == .float16 ? 0x7BFF : 0x7F7F) {
      let (low, high) = (all[index], all[index + 1])
      let middle = low + (high - low) / 2
      if dtype.rounded(middle) != (index % 2 == 0 ? low : high) { wrong += 1 }
      if dtype.rounded(middle.nextUp) != high || dtype.rounded(middle.nextDown) != low { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  /// A fill that is no multiple of four bytes, and one of zeros in the middle of a storage.
  @Test(arguments: types) func fills(dtype: DType) throws {
    for value in [Float(0), 1.5] {
      let tensor = Tensor([Float](repeating: 7, count: 15), shape: [3, 5], on: device, dtype: dtype)
      tensor.channels(1..<4).fill(value)
      #expect(try tensor.floats() == (0..<3).flatMap { _ in [7, value, value, value, 7] })
      tensor.fill(value)
      #expect(try tensor.floats() == [Float](repeating: value, count: 15))
    }
  }

  /// Mean over all pixels, and what classifies, are float32.
  @Test(arguments: types) func endsInSinglePrecision(dtype: DType) throws {
    let x = ReferenceTensor.random([2, 3, 3, 16], seed: 7).rounded(to: dtype)
    let weights = ReferenceTensor.random([16, 5], seed: 8)
    let logits = x.tensor(on: device, dtype: dtype).relu().globalAveragePool().dense(weights: weights.onDevice)
    #expect(logits.dtype == .float32)
    let expected = Reference.dense(Reference.globalAveragePool(Reference.relu(x)), weights: weights, bias: nil)
    expectClose(
      try logits.floats(), expected, within: tolerance(terms: 16, depth: 2), "logits",
      sourceLocation: #_sourceLocation)
    #expect(x.tensor(on: device, dtype: dtype).sum().dtype == .float32)
  }
}
