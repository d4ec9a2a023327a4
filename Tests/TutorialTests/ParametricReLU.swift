import Fovea
import Testing

/// How the kernels below take a tensor: rows of channels, somewhere in a buffer.
private let macros = """
  #define TENSOR(name) global float *name, int name##Offset, int name##Stride
  #define VECTOR(name) global float *name, int name##Offset
  #define AT(name, row, channel) name[name##Offset + (long)(row) * name##Stride + (channel)]
  """

extension KernelSource {
  static let prelu = KernelSource(
    name: "prelu",
    text: """
      \(macros)
      // One work-item for each value.
      kernel void prelu(TENSOR(x), VECTOR(slope), TENSOR(y)) {
        const int c = get_global_id(0);
        const int row = get_global_id(1);
        const float v = AT(x, row, c);
        AT(y, row, c) = v > 0 ? v : slope[slopeOffset + c] * v;
      }
      """)
}

extension KernelSource {
  static let preluGradient = KernelSource(
    name: "prelu gradient",
    text: """
      \(macros)
      // dx (+)= dy · (x > 0 ? 1 : slope)
      kernel void prelu_dx(TENSOR(x), VECTOR(slope), TENSOR(dy), TENSOR(dx), int accumulate) {
        const int c = get_global_id(0);
        const int row = get_global_id(1);
        const float g = AT(dy, row, c) * (AT(x, row, c) > 0 ? 1 : slope[slopeOffset + c]);
        AT(dx, row, c) = accumulate ? AT(dx, row, c) + g : g;
      }

      // dslope (+)= the sum of dy · x over the rows where x ≤ 0. One work-item for each channel, in the rows' order.
      kernel void prelu_dslope(TENSOR(x), TENSOR(dy), VECTOR(dslope), int accumulate, int rows) {
        const int c = get_global_id(0);
        float sum = accumulate ? dslope[dslopeOffset + c] : 0;
        for (int row = 0; row < rows; row++) {
          const float v = AT(x, row, c);
          if (v <= 0) sum += AT(dy, row, c) * v;
        }
        dslope[dslopeOffset + c] = sum;
      }
      """)
}

extension TensorOperand {
  /// `x > 0 ? x : slope · x`, with a slope for each channel (He et al. 2015).
  ///
  /// - Parameter slope: [channels].
  func prelu(slope: Tensor) -> Tensor {
    let x = materialized()
    precondition(slope.shape == [x.channels], "prelu: slopes \(slope.shape) for \(x.channels) channels")
    let y = Tensor(uninitialized: x.shape, on: x.device)
    x.device.launch(
      .prelu, "prelu", global: [x.channels, x.rows], x.arguments + slope.vectorArguments + y.arguments)
    Tape.record("prelu", inputs: [x, slope], outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      if let dx = store.destination(for: x) {
        x.device.launch(
          .preluGradient, "prelu_dx", global: [x.channels, x.rows],
          x.arguments + slope.vectorArguments + dy.arguments + dx.tensor.arguments + [.int(dx.accumulate ? 1 : 0)])
      }
      if let dslope = store.destination(for: slope) {
        x.device.launch(
          .preluGradient, "prelu_dslope", global: [x.channels],
          x.arguments + dy.arguments + dslope.tensor.vectorArguments
            + [.int(dslope.accumulate ? 1 : 0), .int(x.rows)])
      }
    }
    return y
  }
}

/// A rectifier that learns how much of the negative side to let through, channel by channel.
struct ParametricReLU: Module {
  let slope: Parameter

  init(channels: Int) {
    slope = Parameter([channels], .constant(0.25))
  }

  func callAsFunction(_ x: some TensorOperand) -> Tensor { x.prelu(slope: slope.tensor) }
}

/// The gradient of `f` at `x` by central differences, (f(x + h) − f(x − h)) / 2h for one value of `x` after the other.
func numericalGradient(at x: [Float], step h: Float, of f: ([Float]) throws -> Float) rethrows -> [Float] {
  try x.indices.map { index in
    var (above, below) = (x, x)
    above[index] += h
    below[index] -= h
    return (try f(above) - f(below)) / (2 * h)
  }
}

@Test func gradientsOfPReLU() throws {
  let device = try Device.open()
  let weights = Tensor([1, 2, -1, 0.5, 3, -2], shape: [3, 2], on: device)
  // The operation is used twice, so that its second gradient is added to the first.
  func loss(_ x: Tensor, _ slope: Tensor) -> Tensor {
    (weights * x.prelu(slope: slope) + x.prelu(slope: slope)).sum()
  }

  let (values, slopes): ([Float], [Float]) = ([-2, -1, 1, 2, -3, 3], [0.25, -0.5])
  let x = Tensor(values, shape: [3, 2], on: device)
  let slope = Tensor(slopes, shape: [2], on: device)
  let (_, gradients) = valueWithGradients(at: [x, slope]) { loss(x, slope) }

  let dx = try numericalGradient(at: values, step: 0.125) { moved in
    try loss(Tensor(moved, shape: [3, 2], on: device), slope).item()
  }
  let dslope = try numericalGradient(at: slopes, step: 0.125) { moved in
    try loss(x, Tensor(moved, shape: [2], on: device)).item()
  }
  #expect(try gradients[x]?.floats() == dx)
  #expect(try gradients[slope]?.floats() == dslope)
}
