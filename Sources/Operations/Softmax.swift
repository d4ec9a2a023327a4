import OpenCLRuntime
import TensorCore

extension Tensor {
  /// Softmax over the innermost extent, `exp(xᵢ − max x) / Σ exp(xⱼ − max x)`, of the same shape, `float32`.
  public func softmax() -> Tensor {
    guard dtype == .float32 else { return cast(to: .float32).softmax() }
    let y = Tensor(uninitialized: shape, on: device)
    device.launch(
      .softmax, "softmax", global: [rows], local: device.independent(1), arguments + [.int(channels)] + y.arguments,
      cost: LaunchCost("softmax \(shape)"))
    Tape.record("softmax", inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      device.launch(
        .softmax, "softmax_gradient", global: [rows], local: device.independent(1),
        y.arguments + dy.arguments + [.int(channels)] + dx.tensor.arguments + [.int(dx.accumulate ? 1 : 0)],
        cost: LaunchCost("softmax gradient \(shape)"))
    }
    return y
  }

  /// Categorical cross-entropy of logits [batch, classes] against target distributions of that shape, meant over the
  /// batch: `−Σ t log softmax(x)` with `t = target · (1 − smoothing) + smoothing / classes` (Szegedy et al. 2016).
  ///
  /// - Returns: the loss, shape [], and the number of rows whose largest logit is the largest target, shape [].
  public func softmaxCrossEntropy(targets: Tensor, labelSmoothing: Float = 0) -> (loss: Tensor, correct: Tensor) {
    precondition(
      shape.rank == 2 && targets.shape == shape && targets.isContiguous,
      "softmaxCrossEntropy: logits \(shape) against targets \(targets.shape)")
    guard dtype == .float32 else {
      return cast(to: .float32).softmaxCrossEntropy(targets: targets, labelSmoothing: labelSmoothing)
    }
    let losses = Tensor(uninitialized: [rows, 1], on: device)
    let hits = Tensor(uninitialized: [rows, 1], on: device)
    let loss = Tensor(uninitialized: [], on: device)
    let correct = Tensor(uninitialized: [], on: device)
    device.launch(
      .softmax, "cross_entropy", global: [rows], local: device.independent(1),
      arguments + targets.vectorArguments + [
        .int(channels), .float(labelSmoothing), .buffer(losses.storage.buffer), .buffer(hits.storage.buffer),
      ],
      cost: LaunchCost("cross-entropy \(shape)"))
    for (values, factor, result) in [(losses, 1 / Float(rows), loss), (hits, 1, correct)] {
      device.launch(
        .reduction, "sum_values", options: "-D VEC=1", global: [1], local: [1],
        values.vectorArguments + [.int(rows), .float(factor)] + result.vectorArguments + [.int(0)],
        cost: LaunchCost("sum of \(rows)"))
    }
    Tape.record("softmaxCrossEntropy", inputs: [self], outputs: [loss]) { store in
      guard let dloss = store.gradient(of: loss), let dx = store.destination(for: self) else { return }
      device.launch(
        .softmax, "cross_entropy_gradient", global: [rows], local: device.independent(1),
        arguments + targets.vectorArguments + [.int(channels), .float(labelSmoothing), .int(rows)]
          + dloss.vectorArguments + dx.tensor.arguments + [.int(dx.accumulate ? 1 : 0)],
        cost: LaunchCost("cross-entropy gradient \(shape)"))
    }
    return (loss, correct)
  }
}
