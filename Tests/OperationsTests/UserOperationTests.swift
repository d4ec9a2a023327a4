import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

// An operation as a user writes one: kernels in a string, a launch, a gradient. Public API only.

extension KernelSource {
  fileprivate static let softsign = KernelSource(
    name: "softsign",
    text: """
      // y = x / (1 + |x|), one work-item a value.
      kernel void softsign(global const float *x, int xOffset, int xStride, int channels, global float *y) {
        const int c = get_global_id(0), row = get_global_id(1);
        const float v = x[xOffset + row * xStride + c];
        y[row * channels + c] = v / (1.0f + fabs(v));
      }

      // dx (+)= dy / (1 + |x|)^2.
      kernel void softsign_gradient(global const float *x, int xOffset, int xStride, global const float *dy,
                                    int dyOffset, int dyStride, global float *dx, int dxOffset, int dxStride,
                                    int accumulate) {
        const int c = get_global_id(0), row = get_global_id(1);
        const float s = 1.0f + fabs(x[xOffset + row * xStride + c]);
        global float *target = dx + dxOffset + row * dxStride + c;
        const float g = dy[dyOffset + row * dyStride + c] / (s * s);
        *target = accumulate ? *target + g : g;
      }
      """)
}

extension Tensor {
  fileprivate func softsign() -> Tensor {
    let y = Tensor(uninitialized: shape, on: device)
    device.launch(
      .softsign, "softsign", global: [channels, rows],
      [
        .buffer(storage.buffer), .int(elementOffset), .int(pixelStride), .int(channels), .buffer(y.storage.buffer),
      ], cost: LaunchCost("softsign \(shape)"))
    Tape.record("softsign", inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      device.launch(
        .softsign, "softsign_gradient", global: [channels, rows],
        [self, dy, dx.tensor].flatMap { tensor -> [KernelArgument] in
          [.buffer(tensor.storage.buffer), .int(tensor.elementOffset), .int(tensor.pixelStride)]
        } + [.int(dx.accumulate ? 1 : 0)])
    }
    return y
  }
}

extension OperationsTests {
  @Suite struct UserOperationTests {
    @Test func valueAndGradient() throws {
      for shape in [[1], [3, 7], [2, 3, 3, 16]] {
        let x = ReferenceTensor.random(shape, seed: 231, range: -3...3)
        let dy = ReferenceTensor.random(shape, seed: 232)
        try OperationsTests.check(
          "softsign \(shape)", inputs: [.viewable(x)], seed: dy,
          expected: Expectation(
            value: x.map { $0 / (1 + abs($0)) }, terms: 1,
            gradients: [(x.zip(dy) { $1 / ((1 + abs($0)) * (1 + abs($0))) }, 1)])
        ) { $0[0].softsign() }
      }
    }

    @Test func betweenTheLibrarysOperations() throws {
      let x = ReferenceTensor.random([3, 7], seed: 233)
      let weights = ReferenceTensor.random([7, 4], seed: 234)
      let hidden = Reference.dense(x, weights: weights)
      let dhidden = hidden.map { 1 / ((1 + abs($0)) * (1 + abs($0))) }
      let gradient = Reference.denseGradient(x, weights: weights, gradient: dhidden)
      try OperationsTests.check(
        "sum of softsign of dense", inputs: [.viewable(x), .whole(weights)], seed: ReferenceTensor(scalar: 1),
        expected: Expectation(
          value: Reference.sum(hidden.map { $0 / (1 + abs($0)) }), terms: 28,
          gradients: [(gradient.x, 28), (gradient.weights, 28)], depth: 2)
      ) { $0[0].dense(weights: $0[1]).softsign().sum() }
    }
  }
}
