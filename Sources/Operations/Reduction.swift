import OpenCLRuntime
import TensorCore

extension Tensor {
  /// Sum of all values, a tensor of shape [].
  public func sum() -> Tensor { summed(factor: 1, name: "sum") }

  /// Mean of all values, a tensor of shape [].
  public func mean() -> Tensor { summed(factor: 1 / Float(shape.count), name: "mean") }

  /// Sum over all extents but the innermost: [channels].
  public func sumOverRows() -> Tensor {
    let y = Tensor(uninitialized: [channels], on: device)
    addRowSums(of: self, factor: 1, to: y, accumulate: false)
    Tape.record("sumOverRows", inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      broadcast(dy, single: false, factor: 1, to: dx)
    }
    return y
  }

  private func summed(factor: Float, name: String) -> Tensor {
    let y = Tensor(uninitialized: [], on: device)
    addSum(.values, factor: factor, to: y)
    Tape.record(name, inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      broadcast(dy, single: true, factor: factor, to: dx)
    }
    return y
  }

  /// Mean of the squared differences to `target`, of the same type, over all values, a tensor of shape []. No gradient flows to `target`.
  public func meanSquaredError(to target: Tensor) -> Tensor {
    precondition(
      shape == target.shape && dtype == target.dtype,
      "meanSquaredError: \(dtype) \(shape) against \(target.dtype) \(target.shape)")
    let y = Tensor(uninitialized: [], on: device)
    let factor = 1 / Float(shape.count)
    addSum(.squaredError(target), factor: factor, to: y)
    Tape.record("meanSquaredError", inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      let (launch, strides) = RowLaunch.elementwise([self, target, dx.tensor])
      device.launch(
        .elementwise, "difference", options: launch.options + storageOptions, global: launch.global,
        local: device.independent(2),
        storedVectorArguments + [.int(strides[0])] + target.storedVectorArguments + [
          .int(strides[1]), .int(launch.rows), .int(launch.chunkRows), .float(2 * factor),
        ] + dy.vectorArguments + dx.tensor.storedVectorArguments + [.int(strides[2]), .int(dx.accumulate ? 1 : 0)],
        cost: LaunchCost("squared error gradient \(shape)", bytes: Double(byteCount) * 3))
    }
    return y
  }

  package enum Summand {
    case values, squares
    case squaredError(Tensor)
  }

  /// y (+)= factor · sum over all values, in two stages.
  package func addSum(_ summand: Summand, factor: Float, to y: Tensor, accumulate: Bool = false) {
    var tensors = [self]
    var options = storageOptions
    switch summand {
    case .values: break
    case .squares: options += " -D SQUARES"
    case .squaredError(let target):
      options += " -D SQUARED_ERROR"
      tensors.append(target)
    }
    let (cut, strides) = RowLaunch.elementwise(tensors)
    let launch = RowLaunch(
      rows: cut.rows, channels: cut.channels, device: device, chunkRows: reductionChunk(cut.rows, device))
    let partials = Tensor(uninitialized: [launch.chunks, launch.channels], on: device)
    let columns = Tensor(uninitialized: [launch.channels], on: device)
    var arguments =
      storedVectorArguments + [.int(strides[0]), .int(launch.rows), .int(launch.chunkRows), .int(launch.channels)]
    if tensors.count > 1 { arguments += tensors[1].storedVectorArguments + [.int(strides[1])] }
    device.launch(
      .reduction, "sum_rows_partial", options: launch.options + options, global: launch.global,
      local: device.independent(2), arguments + [.buffer(partials.storage.buffer)],
      cost: LaunchCost("sum \(shape)", bytes: Double(byteCount * tensors.count)))
    finishRowSums(partials, count: launch.chunks, factor: 1, to: columns, accumulate: false)
    device.launch(
      .reduction, "sum_values", options: "-D VEC=1", global: [1], local: [1],
      columns.vectorArguments + [.int(launch.channels), .float(factor)] + y.vectorArguments + [
        .int(accumulate ? 1 : 0)
      ],
      cost: LaunchCost("sum of \(launch.channels)"))
  }
}

/// y[c] (+)= factor · sum over the rows of x, in two stages with a fixed order.
func addRowSums(of x: Tensor, factor: Float, to y: Tensor, accumulate: Bool) {
  let launch = RowLaunch(
    rows: x.rows, channels: x.channels, device: x.device, chunkRows: reductionChunk(x.rows, x.device))
  let partials = Tensor(uninitialized: [launch.chunks, x.channels], on: x.device)
  x.device.launch(
    .reduction, "sum_rows_partial", options: launch.options + x.storageOptions, global: launch.global,
    local: x.device.independent(2),
    x.storedArguments + [
      .int(launch.rows), .int(launch.chunkRows), .int(launch.channels), .buffer(partials.storage.buffer),
    ],
    cost: LaunchCost("sum over rows \(x.shape)", bytes: Double(x.byteCount)))
  finishRowSums(partials, count: launch.chunks, factor: factor, to: y, accumulate: accumulate)
}

/// y[c] (+)= factor · sum of `count` rows of partials [count, channels].
func finishRowSums(_ partials: Tensor, count: Int, factor: Float, to y: Tensor, accumulate: Bool) {
  let channels = partials.shape.count / max(count, 1)
  let launch = FinishingLaunch(channels: channels, chunks: count, on: partials.device)
  partials.device.launch(
    .reduction, "sum_rows_finish", options: launch.options, global: launch.global, local: launch.local,
    [.buffer(partials.storage.buffer), .int(count), .int(channels), .float(factor)] + y.vectorArguments
      + [.int(accumulate ? 1 : 0)],
    cost: LaunchCost("sum of \(count) parts of \(channels)", bytes: Double(count * channels * 4)))
}

private func broadcast(_ x: Tensor, single: Bool, factor: Float, to y: GradientStore.Destination) {
  let device = x.device
  let launch = RowLaunch(rows: y.tensor.rows, channels: y.tensor.channels, device: device)
  device.launch(
    .elementwise, "broadcast_rows", options: launch.options + y.tensor.storageOptions, global: launch.global,
    local: device.independent(2),
    x.vectorArguments + [.int(single ? 1 : 0), .float(factor), .int(launch.rows), .int(launch.chunkRows)]
      + y.tensor.storedArguments + [.int(y.accumulate ? 1 : 0)],
    cost: LaunchCost("broadcast \(y.tensor.shape)", bytes: Double(y.tensor.byteCount)))
}
