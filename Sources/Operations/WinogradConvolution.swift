import OpenCLRuntime
import TensorCore

/// 3×3 convolution of stride 1 by `convolution_winograd.cl`, for CPUs; see there for the scheme.
struct WinogradConvolution {
  private let g: ConvolutionGeometry

  init(_ geometry: ConvolutionGeometry) {
    g = geometry
  }

  /// Whether the kernels can compute it: whole vectors of channels, and a transformed input that stays small.
  static func suits(_ g: ConvolutionGeometry) -> Bool {
    g.kernelHeight == 3 && g.kernelWidth == 3 && g.strideHeight == 1 && g.strideWidth == 1
      && g.inputs % 16 == 0 && g.outputs % 16 == 0 && g.inputs <= 512 && g.outputs <= 512
  }

  func forward(
    _ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor, leavingMoments: Bool, tiles: Int, vectors: Int
  ) -> PartialMoments? {
    let packed = pack(filter, transposed: false, vectors: vectors)
    let moments = MomentsTarget(of: leavingMoments ? y : nil, groups: groups(tiles: tiles), standIn: packed)
    launch(
      x, packed: packed, bias: bias, y: y, accumulate: false, moments: moments, tiles: tiles, vectors: vectors,
      label: "conv \(g.label)")
    return moments.left
  }

  /// dx (+)= the data gradient, as a convolution of dy with the mirrored filter, through the gradient of `epilogue`'s
  /// pending steps. Returns the sums [groups, 2, channels] of their affine's gradient.
  func inputGradient(
    _ dy: Tensor, filter: Tensor, to dx: Tensor, accumulate: Bool, epilogue: DeferredTensor?, tiles: Int, vectors: Int
  ) -> Tensor? {
    let pass = WinogradConvolution(g.inputGradientGeometry)
    return pass.launch(
      dy.deferred, packed: pass.pack(filter, transposed: true, vectors: vectors), bias: nil, y: dx,
      accumulate: accumulate, epilogue: epilogue, tiles: tiles, vectors: vectors,
      label: "conv input gradient \(g.label)")
  }

  /// dw (+)= the filter gradient.
  ///
  /// - Parameter channels: input channels of a work-item.
  func filterGradient(
    _ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination, rows: Int, vectors: Int, channels: Int,
    tiles: Int, splitsPerUnit: Int
  ) {
    let device = x.device
    let groups = (tileCount + tiles - 1) / tiles
    let channelBlocks = (g.inputs + channels - 1) / channels
    let splits = max(1, min(groups, device.description.computeUnits * splitsPerUnit / channelBlocks))
    let partials = Tensor(uninitialized: [splits, 16, g.inputs, g.outputs], on: device)
    device.launch(
      .convolutionWinogradFilterGradient, "winograd_filter_gradient",
      options: options(channels: Self.filterChannels, tiles: tiles, vectors: vectors) + " -D KB=\(rows)"
        + x.prologueOptions(),
      global: [splits, channelBlocks], local: device.independent(2),
      x.base.storedArguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments
        + dy.storedArguments + [
          .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
          .int(channels), .int(splits), .buffer(partials.storage.buffer),
        ],
      cost: LaunchCost(
        "conv filter gradient \(g.label)", flops: g.flops,
        bytes: Double(x.base.byteCount + dy.byteCount + partials.byteCount)))
    let filters = g.inputs * g.outputs
    device.launch(
      .convolutionFilters, "winograd_finish_filter_gradient", options: "-D VEC=16", global: [filters / 16],
      local: device.independent(1),
      [.buffer(partials.storage.buffer), .int(splits), .int(filters)] + dw.tensor.vectorArguments + [
        .int(dw.accumulate ? 1 : 0)
      ],
      cost: LaunchCost("conv filter gradient sums", bytes: Double(partials.shape.count) * 4))
  }

  // MARK: - One pass of `winograd_forward`

  @discardableResult
  private func launch(
    _ x: DeferredTensor, packed: Tensor, bias: Tensor?, y: Tensor, accumulate: Bool, epilogue: DeferredTensor? = nil,
    moments: MomentsTarget? = nil, tiles: Int, vectors: Int, label: String
  ) -> Tensor? {
    let device = x.device
    let groups = groups(tiles: tiles)
    let gradient = Epilogue(of: epilogue, items: groups, standIn: packed)
    let arguments =
      x.base.storedArguments + [.int(g.height), .int(g.width)] + x.prologueArguments + [.buffer(packed.storage.buffer)]
      + y.storedArguments + [
        .int(g.batch), .int(g.outHeight), .int(g.outWidth), .int(g.outputs), .int(g.padTop), .int(g.padLeft),
        .int(accumulate ? 1 : 0), .int(y.isWorthStreaming && !accumulate ? 1 : 0),
      ] + (bias ?? packed).vectorArguments + [.int(bias == nil ? 0 : 1)]
      + (epilogue == nil
        ? (moments ?? MomentsTarget(of: nil, groups: 0, standIn: packed)).arguments : gradient.arguments)
    device.launch(
      .convolutionWinograd, "winograd_forward",
      options: options(channels: g.inputs, tiles: tiles, vectors: vectors) + x.prologueOptions() + gradient.options,
      global: [groups], local: device.independent(1), arguments,
      cost: LaunchCost(
        label, flops: g.flops,
        bytes: Double(x.base.byteCount + y.byteCount * ((accumulate ? 2 : 1) + (epilogue == nil ? 0 : 1))))
    )
    return gradient.sums
  }

  private func pack(_ filter: Tensor, transposed: Bool, vectors: Int) -> Tensor {
    let packed = Tensor(uninitialized: [16, g.inputs, g.outputs], on: filter.device)
    filter.device.launch(
      .convolutionFilters, "winograd_pack_filter", options: "-D VEC=16",
      global: [g.inputs / 16, g.outputs / 16], local: filter.device.independent(2),
      filter.vectorArguments + [
        .int(filter.shape[2]), .int(filter.shape[3]), .int(transposed ? 1 : 0), .int(16 * vectors),
        .buffer(packed.storage.buffer),
      ],
      cost: LaunchCost("pack filter \(filter.shape)", bytes: Double(filter.shape.count + packed.shape.count) * 4))
    return packed
  }

  /// Work-items of a pass with so many tiles each.
  private func groups(tiles: Int) -> Int { (tileCount + tiles - 1) / tiles }

  private var tileCount: Int { g.batch * ((g.outHeight + 1) / 2) * ((g.outWidth + 1) / 2) }

  /// Input channels that the filter gradient transforms at a time.
  static let filterChannels = 16

  /// Floats of the transformed input and output, by the strides of `winograd.cl`.
  static func transformedFloats(channels: Int, tiles: Int, vectors: Int) -> Int {
    func oddLines(_ floats: Int) -> Int { (floats / 16 | 1) * 16 }
    return 16 * (oddLines(tiles * oddLines(channels)) + oddLines(tiles * 16 * vectors))
  }

  private func options(channels: Int, tiles: Int, vectors: Int) -> String {
    "-D VEC=16 -D NV=\(vectors) -D CHANNELS=\(channels) -D TILES=\(tiles)"
  }
}
