import OpenCLRuntime
import Operations
import TensorCore

/// What a computation launches on a device, noted without running it.
package struct StepPlan: Sendable {
  package let launches: [PlannedLaunch]
  /// The convolutions it asks for, each structure once, in their order.
  package let convolutions: [ConvolutionCall]
  /// How often it asks for each.
  package let convolutionCounts: [ConvolutionCall: Int]

  package var programs: Set<PlannedProgram> { Set(launches.map(\.program)) }

  /// One launch for each compilation that a driver may make of its own, in the order of the launches.
  package var compilations: [PlannedLaunch] {
    struct Key: Hashable {
      var program: PlannedProgram
      var local: [Int]?
      var isLarge: Bool
    }
    var seen: Set<Key> = []
    return launches.filter {
      seen.insert(Key(program: $0.program, local: $0.local, isLarge: $0.isLarge)).inserted
    }
  }

  /// - Parameters:
  ///   - description: the device, which is not touched.
  ///   - body: builds work on the device it is given; it must not read values.
  package init(on description: DeviceDescription, of body: (Device) throws -> Void) throws {
    let device = Device(planning: description)
    let observer = ConvolutionCall.Observer()
    try ConvolutionCall.$observer.withValue(observer) { try body(device) }
    launches = device.takePlan()
    var counts: [ConvolutionCall: Int] = [:]
    convolutions = observer.calls.filter { call in
      counts[call, default: 0] += 1
      return counts[call] == 1
    }
    convolutionCounts = counts
  }
}

extension ConvolutionCall {
  /// The same convolution as a check on small images; nil for pending steps that no check has.
  func reduced(batch: Int, image: (Int, Int)) -> ConvolutionCheck? {
    let g = geometry
    let structure: PrologueStructure? =
      switch (preSlope != nil, hasAffine, postSlope != nil) {
      case (false, false, false): PrologueStructure.none
      case (true, false, false): .pre
      case (false, true, false): .affine
      case (false, true, true): .affinePost
      case (true, true, false): .preAffine
      case (true, true, true): .preAffinePost
      case (_, false, true): nil
      }
    guard let structure else { return nil }
    func after(_ input: Int, _ window: Int, _ stride: Int, _ before: Int, _ output: Int) -> Int {
      max((output - 1) * stride + window - input - before, 0)
    }
    var check = ConvolutionCheck(
      batch: batch, image: image, inputs: g.inputs, outputs: g.outputs, kernel: (g.kernelHeight, g.kernelWidth),
      strides: (g.strideHeight, g.strideWidth),
      padding: .explicit(
        top: g.padTop, bottom: after(g.height, g.kernelHeight, g.strideHeight, g.padTop, g.outHeight), left: g.padLeft,
        right: after(g.width, g.kernelWidth, g.strideWidth, g.padLeft, g.outWidth)),
      bias: hasBias, prologue: structure)
    check.dtype = dtype
    check.wantsInputGradient = wantsInputGradient
    check.leavesMoments = leavesMoments
    // Views that lie as a dense block's do: kernels read whole quads of them.
    check.viewMargins = (before: 16, after: 16)
    return check
  }

  /// How its passes are computed on such a device, with the splits that they get at this size.
  func configurations(on description: DeviceDescription) -> [ConvolutionPass: ConvolutionConfiguration] {
    let algorithm = ConvolutionAlgorithm.choose(for: description)
    return Dictionary(
      uniqueKeysWithValues: ConvolutionPass.allCases.map {
        (
          $0,
          description.configuration(of: $0, geometry, dtype, algorithm).withSplits(
            of: $0, geometry, on: description)
        )
      })
  }

  /// The programs of all its passes when it runs as it is.
  func programs(on description: DeviceDescription) throws -> Set<PlannedProgram> {
    let whole = reduced(batch: geometry.batch, image: (geometry.height, geometry.width))
    return try whole?.programs(on: description) ?? []
  }
}

extension ConvolutionCheck {
  /// The programs of its passes.
  func programs(on description: DeviceDescription) throws -> Set<PlannedProgram> {
    try StepPlan(on: description) { device in
      let x = Tensor(uninitialized: [batch, image.0, image.1, inputs], on: device, dtype: dtype)
      let filter = Tensor(uninitialized: [kernel.0, kernel.1, inputs, outputs], on: device)
      // A home as parameters have it, and the run of the check gives it.
      filter.storage.gradientHome = Storage(
        device: device, rows: filter.storage.rows, channels: filter.storage.channels)
      let bias = self.bias ? Tensor(uninitialized: [outputs], on: device) : nil
      let affine = prologue.hasAffine ? Tensor(uninitialized: [3, inputs], on: device) : nil
      let operand = prologue.apply(to: x, affine: affine)
      let watched =
        [filter] + [bias].compactMap(\.self) + (wantsInputGradient ? [x] + [affine].compactMap(\.self) : [])
      _ = valueWithGradients(at: watched) {
        operand.conv2d(filter: filter, bias: bias, strides: strides, padding: padding, leavingMoments: leavesMoments)
      }
    }.programs
  }
}
