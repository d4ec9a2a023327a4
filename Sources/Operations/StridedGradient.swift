import OpenCLRuntime
import TensorCore

/// The data gradient of a strided convolution with few input channels as one convolution of dy without a stride.
///
/// Pixel h = s·i + r of a gradient is the sum over taps k ≡ r + pad (mod s) of dy at i + (r + pad − k) / s: for each phase
/// r a window over dy. All phases' windows lie in one of a few taps more, and their channels side by side fill columns of
/// a tile which a phase's alone would leave empty: of 3 → 64 channels, 7×7 with stride 2, 12 columns under 4×4 taps. That
/// is the sub-pixel convolution of Shi et al. 2016 (arXiv 1609.05158), backwards.
struct StridedGradient {
  /// From dy to the phases, [batch, ⌈height / stride⌉, ⌈width / stride⌉, phases · inputs].
  let product: ConvolutionGeometry
  private let geometry: ConvolutionGeometry
  private let rows: PhaseWindow
  private let columns: PhaseWindow

  /// Nil where a phase at a time is no more work.
  init?(_ g: ConvolutionGeometry) {
    let phases = g.strideHeight * g.strideWidth
    let rows = PhaseWindow(
      extent: g.height, out: g.outHeight, kernel: g.kernelHeight, stride: g.strideHeight, pad: g.padTop)
    let columns = PhaseWindow(
      extent: g.width, out: g.outWidth, kernel: g.kernelWidth, stride: g.strideWidth, pad: g.padLeft)
    guard phases > 1, phases * g.inputs <= 16, let rows, let columns,
      2 * g.taps >= rows.taps * columns.taps * phases
    else { return nil }
    geometry = g
    self.rows = rows
    self.columns = columns
    product = ConvolutionGeometry(
      input: [g.batch, g.outHeight, g.outWidth, g.outputs],
      filter: [rows.taps, columns.taps, g.outputs, phases * g.inputs], strides: (1, 1),
      padding: .explicit(top: rows.before, bottom: rows.after, left: columns.before, right: columns.after))
  }

  /// The filter of the product, from that of the convolution.
  func filter(_ filter: Tensor) -> Tensor {
    let g = geometry
    let shape: Shape = [rows.taps, columns.taps, g.outputs, product.outputs]
    let result = Tensor(uninitialized: shape, on: filter.device)
    filter.device.launch(
      .convolutionPhases, "phase_filter", options: "-D VEC=1", global: [(shape.count + 63) / 64 * 64],
      local: filter.device.independent(1),
      filter.vectorArguments + [
        .int(g.kernelHeight), .int(g.kernelWidth), .int(g.inputs), .int(g.outputs), .int(g.strideHeight),
        .int(g.strideWidth), .int(rows.first), .int(columns.first), .int(rows.taps), .int(columns.taps),
        .buffer(result.storage.buffer),
      ],
      cost: LaunchCost("filter by phases \(g.label)", bytes: Double(filter.byteCount + result.byteCount)))
    return result
  }

  /// dx (+)= the phases, pixel by pixel.
  func spread(_ phases: Tensor, to dx: GradientStore.Destination) {
    let g = geometry
    let pixels = g.batch * g.height * g.width
    dx.tensor.device.launch(
      .convolutionPhases, "phase_pixels", options: "-D VEC=1" + dx.tensor.storageOptions,
      global: [(pixels + 63) / 64 * 64], local: dx.tensor.device.independent(1),
      [.buffer(phases.storage.buffer), .int(product.outHeight), .int(product.outWidth)] + dx.tensor.storedArguments + [
        .int(dx.accumulate ? 1 : 0), .int(pixels), .int(g.height), .int(g.width), .int(g.inputs),
        .int(g.strideHeight), .int(g.strideWidth),
      ],
      cost: LaunchCost(
        "pixels of phases \(g.label)",
        bytes: Double(phases.byteCount + dx.tensor.byteCount * (dx.accumulate ? 2 : 1))))
  }
}

/// The windows of all phases along one axis.
private struct PhaseWindow {
  let taps: Int
  /// Zeros before and after dy.
  let before: Int
  let after: Int
  /// The tap of the convolution that is the first one for the first phase; each further one is a stride before it, and
  /// those of the next phase one behind.
  let first: Int

  /// Nil where the windows do not begin and end at or beyond the edges of dy.
  init?(extent: Int, out: Int, kernel: Int, stride: Int, pad: Int) {
    // From the last tap of the first phase to the first one of the last.
    let least = -((kernel - 1 - pad) / stride)
    let most = (stride - 1 + pad) / stride
    taps = most - least + 1
    before = -least
    after = (extent + stride - 1) / stride - out + taps - 1 - before
    first = pad - stride * least
    guard pad < kernel, after >= 0 else { return nil }
  }
}
