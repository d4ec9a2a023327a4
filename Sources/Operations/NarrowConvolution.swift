import OpenCLRuntime
import TensorCore

/// Convolution to at most four output channels by `convolution_narrow.cl`, for CPUs.
struct NarrowConvolution {
  private let g: ConvolutionGeometry

  init(_ geometry: ConvolutionGeometry) {
    g = geometry
  }

  /// Whether vectors along the summed index pay: few outputs, and a run of at least a vector.
  static func suits(_ g: ConvolutionGeometry) -> Bool {
    g.outputs <= 4 && g.kernelWidth > 1 && g.kernelWidth * g.inputs >= 16
  }

  func forward(_ x: DeferredTensor, filter: Tensor, bias: Tensor?, to y: Tensor) {
    let device = x.device
    let block = 24 / g.outputs
    let tile = block * 3
    let options = self.options + " -D TILE=\(tile) -D BLOCK=\(block)"
    let packed = Tensor(uninitialized: [g.kernelHeight, g.outputs, runVectors * 16], on: device)
    device.launch(
      .convolutionNarrow, "pack_filter_narrow", options: options,
      global: [runVectors * 16, g.outputs, g.kernelHeight], local: device.independent(3),
      filter.vectorArguments + [.buffer(packed.storage.buffer)],
      cost: LaunchCost("pack filter \(filter.shape)", bytes: Double(filter.shape.count) * 8))
    device.launch(
      .convolutionNarrow, "conv_forward_narrow", options: options + x.prologueOptions(),
      global: [(g.outWidth + tile - 1) / tile, g.outHeight, g.batch], local: device.independent(3),
      x.base.arguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments + [
        .buffer(packed.storage.buffer)
      ] + y.arguments + [.int(g.outHeight), .int(g.outWidth), .int(g.padTop), .int(g.padLeft)]
        + (bias ?? packed).vectorArguments + [.int(bias == nil ? 0 : 1)],
      cost: LaunchCost("conv \(g.label)", flops: g.flops, bytes: Double(x.shape.count + y.shape.count) * 4))
  }

  func filterGradient(_ x: DeferredTensor, _ dy: Tensor, to dw: GradientStore.Destination) {
    let device = x.device
    let units = FilterGradientUnits(g, channels: g.inputs, pixels: 128)
    let splits = max(1, min(units.count, device.description.computeUnits * 4))
    let size = g.kernelHeight * g.kernelWidth * g.inputs * g.outputs
    let partials = Tensor(uninitialized: [splits, size], on: device)
    device.launch(
      .convolutionNarrow, "conv_filter_gradient_narrow",
      options: options + " -D TILE=1 -D BLOCK=1 -D RB=\(min(runVectors, 24 / g.outputs)) -D CAPACITY=\(units.capacity)"
        + x.prologueOptions(),
      global: [splits], local: device.independent(1),
      x.base.arguments + [.int(g.height), .int(g.width), .int(g.inputs)] + x.prologueArguments + dy.arguments + [
        .int(g.outHeight), .int(g.outWidth), .int(g.padTop), .int(g.padLeft), .int(g.batch), .int(units.rows),
        .int(units.columns), .int(splits), .buffer(partials.storage.buffer),
      ],
      cost: LaunchCost(
        "conv filter gradient \(g.label)", flops: g.flops, bytes: Double(x.shape.count + dy.shape.count) * 4))
    finishFilterGradient(partials, splits: splits, to: dw)
  }

  /// 16-wide vectors that a run of (kernel column, input channel) takes.
  private var runVectors: Int { (g.kernelWidth * g.inputs + 15) / 16 }

  private var options: String {
    "-D KH=\(g.kernelHeight) -D KW=\(g.kernelWidth) -D SH=\(g.strideHeight) -D SW=\(g.strideWidth) -D LD=\(g.inputs)"
      + " -D NARROW=\(g.outputs) -D VEC=16"
  }
}
