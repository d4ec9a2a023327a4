import Fovea

extension KernelSource {
  static let swish = KernelSource(
    name: "swish",
    text: """
      // One work-item for each value. Rows may lie further apart than they are long: a tensor can be some channels of
      // a larger one.
      kernel void swish(global const float *x, int xOffset, int xStride, global float *y, int yOffset, int yStride) {
        const int c = get_global_id(0);
        const long row = get_global_id(1);
        const float v = x[xOffset + row * xStride + c];
        y[yOffset + row * yStride + c] = v / (1.0f + exp(-v));
      }

      // dx (+)= dy * swish'(x)
      kernel void swish_gradient(global const float *x, int xOffset, int xStride, global const float *dy, int dyOffset,
                                 int dyStride, global float *dx, int dxOffset, int dxStride, int accumulate) {
        const int c = get_global_id(0);
        const long row = get_global_id(1);
        const float v = x[xOffset + row * xStride + c];
        const float s = 1.0f / (1.0f + exp(-v));
        const float g = dy[dyOffset + row * dyStride + c] * s * (1.0f + v * (1.0f - s));
        global float *target = dx + dxOffset + row * dxStride + c;
        *target = accumulate ? *target + g : g;
      }
      """)
}

extension TensorOperand {
  /// x · sigmoid(x) (Ramachandran et al. 2017).
  func swish() -> Tensor {
    // This kernel cannot read through pending steps, so they are computed first.
    let x = materialized()
    let y = Tensor(uninitialized: x.shape, on: x.device)
    x.device.launch(
      .swish, "swish", global: [x.channels, x.rows], x.arguments + y.arguments,
      cost: LaunchCost("swish \(x.shape)", bytes: Double(x.shape.count) * 8))
    Tape.record("swish", inputs: [x], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: x) else { return }
      x.device.launch(
        .swish, "swish_gradient", global: [x.channels, x.rows],
        x.arguments + dy.arguments + dx.tensor.arguments + [.int(dx.accumulate ? 1 : 0)],
        cost: LaunchCost("swish gradient \(x.shape)", bytes: Double(x.shape.count) * 12))
    }
    return y
  }
}
