import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

/// One convolution with everything that a kernel's structure depends on, and its results by device and by reference.
struct ConvolutionCase: Sendable, CustomStringConvertible {
  var batch = 2
  var height = 5
  var width = 6
  var inputs = 7
  var outputs = 7
  var kernel = (3, 3)
  var strides = (1, 1)
  /// Rows and columns of zeros on the upper, lower, left and right side.
  var pad = (1, 1, 1, 1)
  var pre: Float?
  var affine = false
  var post: Float?
  var bias = true
  /// Channels of the storage before and behind the input's and the output's; they must come out as they were.
  var inputGap = (0, 0)
  var outputGap = (0, 0)
  /// Whether x and the filter are used twice, so that their gradients are added up.
  var twice = false
  /// Whether the gradient of x is asked for; that of the affine always is.
  var wantsInput = true
  /// Where not nil, images, filter and the gradient of the result are values that matrix units take as they are.
  var roundedTo: MatrixOperand?
  /// What images and results are stored as; images and the gradient of the result are values of this type.
  var dtype = DType.float32

  var description: String {
    var parts = ["\(batch)×\(height)×\(width) \(inputs)→\(outputs)"]
    parts.append("\(kernel.0)×\(kernel.1)/\(strides.0),\(strides.1) pad \(pad.0),\(pad.1),\(pad.2),\(pad.3)")
    if pre != nil { parts.append("pre") }
    if affine { parts.append("affine") }
    if post != nil { parts.append("post") }
    if inputGap != (0, 0) { parts.append("input slab \(inputGap)") }
    if outputGap != (0, 0) { parts.append("output slab \(outputGap)") }
    if twice { parts.append("twice") }
    if !wantsInput { parts.append("without dx") }
    if dtype != .float32 { parts.append("\(dtype)") }
    return parts.joined(separator: " ")
  }

  var geometry: ConvolutionGeometry {
    ConvolutionGeometry(
      input: [batch, height, width, inputs], filter: [kernel.0, kernel.1, inputs, outputs], strides: strides,
      padding: .explicit(top: pad.0, bottom: pad.1, left: pad.2, right: pad.3))
  }

  /// Result and gradients, by name.
  typealias Results = [String: [Float]]

  private var x: ReferenceTensor { stored(.random([batch, height, width, inputs], seed: 1)) }
  private var filter: ReferenceTensor { rounded(.random([kernel.0, kernel.1, inputs, outputs], seed: 2)) }
  private func rounded(_ values: ReferenceTensor) -> ReferenceTensor {
    roundedTo.map { operand in values.map { Double(operand.rounded(Float($0))) } } ?? values
  }
  private func stored(_ values: ReferenceTensor) -> ReferenceTensor {
    dtype == .float32 ? rounded(values) : rounded(values).map { Double(dtype.rounded(Float($0))) }
  }
  private var biasValues: ReferenceTensor { .random([outputs], seed: 3) }
  private var centre: ReferenceTensor { .random([inputs], seed: 4, range: -0.5...0.5) }
  private var scale: ReferenceTensor { .random([inputs], seed: 5, range: 0.5...1.5) }
  private var shift: ReferenceTensor { .random([inputs], seed: 6, range: 0.2...0.8) }
  private var strideSize: Size2D { Size2D(strides.0, strides.1) }
  private var padding: ReferenceOperations.Padding {
    .init(top: pad.0, bottom: pad.1, left: pad.2, right: pad.3)
  }

  /// What must come out, in double precision, and the values that an error is measured against: those without signs
  /// where signed terms may cancel, as in an affine's gradient, which sums over all pixels.
  struct Expected {
    var values: ReferenceTensor
    var magnitudes: ReferenceTensor
  }

  func reference() -> [String: Expected] {
    let (c, s, t) = affine ? (centre, scale, shift) : (nil, nil, nil)
    let read = Reference.prologue(
      x, pre: pre.map(Double.init) ?? 1, centre: c, scale: s, shift: t, post: post.map(Double.init) ?? 1)
    let y = Reference.conv2d(
      read, filter: filter, bias: bias ? biasValues : nil, strides: strideSize, padding: padding)
    var dy = stored(.random(y.shape, seed: 7))
    if twice { dy = Reference.add(dy, stored(.random(y.shape, seed: 8))) }
    let gradient = Reference.conv2dGradient(
      read, filter: filter, gradient: dy, strides: strideSize, padding: padding)
    func through(_ gradient: ReferenceTensor) -> (dx: ReferenceTensor, affine: ReferenceTensor) {
      let result = Reference.prologueGradient(
        x, pre: pre.map(Double.init) ?? 1, centre: c, scale: s, shift: t, post: post.map(Double.init) ?? 1,
        gradient: gradient)
      return (result.x, ReferenceTensor([3, inputs], result.centre.values + result.scale.values + result.shift.values))
    }
    let (dx, daffine) = through(gradient.x)
    var results = ["y": y, "dw": gradient.filter].mapValues { Expected(values: $0, magnitudes: $0) }
    if bias {
      results["db"] = Expected(values: gradient.bias, magnitudes: Reference.channelSum(dy.map(abs)))
    }
    if wantsInput { results["dx"] = Expected(values: dx, magnitudes: dx) }
    if affine { results["daffine"] = Expected(values: daffine, magnitudes: through(gradient.x.map(abs)).affine) }
    return results
  }

  /// By the kernels that are chosen or forced now.
  func run(on device: Device) throws -> Results {
    let base = slab(x.floats, shape: [batch, height, width, inputs], gap: inputGap, on: device)
    let filter = Tensor(self.filter.floats, shape: Shape(self.filter.shape), on: device)
    let bias = self.bias ? Tensor(biasValues.floats, shape: [outputs], on: device) : nil
    let affine =
      self.affine ? Tensor(centre.floats + scale.floats + shift.floats, shape: [3, inputs], on: device) : nil
    let input = DeferredTensor(base, Prologue(preSlope: pre, affine: affine, postSlope: post))
    let geometry = ConvolutionGeometry(
      input: base.shape, filter: filter.shape, strides: strides,
      padding: .explicit(top: pad.0, bottom: pad.1, left: pad.2, right: pad.3))
    let untouched: Float = 12288  // of every type
    let emptied = [Float](repeating: untouched, count: geometry.outputShape.count)
    var ys: [Tensor] = []
    let watched = [filter] + (wantsInput ? [base] : []) + [bias, affine].compactMap(\.self)
    let (_, gradients) = valueWithGradients(at: watched) {
      var losses: [Tensor] = []
      for seed in twice ? [7, 8] : [7] {
        let target = slab(emptied, shape: geometry.outputShape, gap: outputGap, filledWith: untouched, on: device)
        let y = input.conv2d(
          filter: filter, bias: bias, strides: strides,
          padding: .explicit(top: pad.0, bottom: pad.1, left: pad.2, right: pad.3), into: target)
        ys.append(y)
        let weights = stored(.random(y.shape.dimensions, seed: UInt64(seed)))
        losses.append((y * Tensor(weights.floats, shape: y.shape, on: device, dtype: dtype)).sum())
      }
      return losses.count == 1 ? losses[0] : losses[0] + losses[1]
    }
    var results: Results = ["y": try ys[0].floats()]
    results["guard"] = try guardValues(of: ys[0]).filter { $0 != untouched }
    results["dw"] = try gradients[filter]?.floats()
    if let bias { results["db"] = try gradients[bias]?.floats() }
    if wantsInput { results["dx"] = try gradients[base]?.floats() }
    if let affine { results["daffine"] = try gradients[affine]?.floats() }
    return results
  }

  private func slab(
    _ values: [Float], shape: Shape, gap: (Int, Int), filledWith filler: Float = .nan, on device: Device
  ) -> Tensor {
    let total = gap.0 + shape.channels + gap.1
    var all = [Float](repeating: filler, count: shape.rows * total)
    for row in 0..<shape.rows {
      for channel in 0..<shape.channels {
        all[row * total + gap.0 + channel] = values[row * shape.channels + channel]
      }
    }
    let whole = Tensor(all, shape: shape.withChannels(total), on: device, dtype: dtype)
    return gap == (0, 0) ? whole : whole.channels(gap.0..<gap.0 + shape.channels)
  }

  /// What lies around a slab.
  private func guardValues(of tensor: Tensor) throws -> [Float] {
    let whole = Tensor(storage: tensor.storage, shape: tensor.shape.withChannels(tensor.storage.channels))
    let values = try whole.floats()
    return values.enumerated().filter { index, _ in
      let channel = index % tensor.storage.channels
      return channel < tensor.channelOffset || channel >= tensor.channelOffset + tensor.channels
    }.map(\.element)
  }
}

extension ConvolutionCase {
  /// Results of the tiled kernels with these configurations; two runs have the same bits.
  func tiled(by configurations: [ConvolutionPass: ConvolutionConfiguration], on device: Device) throws -> Results {
    func run() throws -> Results {
      try ConvolutionConfiguration.$forced.withValue(configurations) {
        try ConvolutionAlgorithm.$forced.withValue(.tiled) { try self.run(on: device) }
      }
    }
    let results = try run()
    #expect(try run() == results, "\(self): two runs differ")
    return results
  }

  /// Relative L2 errors of all results against the reference, by name; none may be missing or of another size.
  func errors(of results: Results) throws -> [String: Double] {
    func norm(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    var errors: [String: Double] = [:]
    for (name, expected) in reference() {
      let values = try #require(results[name], "\(self): no \(name)").map(Double.init)
      #expect(values.count == expected.values.values.count, "\(self): \(name)")
      errors[name] = norm(zip(values, expected.values.values).map { $0 - $1 }) / norm(expected.magnitudes.values)
    }
    return errors
  }
}
