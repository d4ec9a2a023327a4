import OpenCLRuntime
import TensorCore

extension TensorOperand {
  /// Sum of two tensors of one shape, each read through its pending steps, in the type of the first. Other shapes trap.
  public func adding(_ other: some TensorOperand) -> Tensor {
    let a = deferred
    let b = other.deferred
    precondition(a.shape == b.shape, "add: \(a.shape) + \(b.shape)")
    let y = Tensor(uninitialized: a.shape, on: a.device, dtype: a.base.dtype)
    a.apply(to: y, accumulate: false)
    b.apply(to: y, accumulate: true)
    Tape.record("add", inputs: a.inputs + b.inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      a.backpropagate(dy, into: store)
      b.backpropagate(dy, into: store)
    }
    return y
  }

  /// All values times a constant. Labels trap.
  ///
  /// - Parameter dtype: the type of the result; nil for the tensor's own, which for bytes is `float32`.
  public func scaled(by factor: Float, as dtype: DType? = nil) -> Tensor {
    let x = materialized()
    precondition(x.dtype != .int32, "scaled: not for labels")
    let y = Tensor(
      uninitialized: x.shape, on: x.device, dtype: dtype ?? (x.dtype == .uint8 ? .float32 : x.dtype))
    x.scale(factor, to: y, accumulate: false)
    Tape.record("scale", inputs: [x], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: x) else { return }
      dy.scale(factor, to: dx.tensor, accumulate: dx.accumulate)
    }
    return y
  }

  /// Hyperbolic tangent of every element.
  public func tanh() -> Tensor {
    let x = materialized()
    let y = Tensor(uninitialized: x.shape, on: x.device, dtype: x.dtype)
    let (launch, strides) = RowLaunch.elementwise([x, y])
    x.device.launch(
      .elementwise, "tanh_values", options: launch.options + x.storageOptions, global: launch.global,
      local: x.device.independent(2),
      x.storedVectorArguments + [.int(strides[0]), .int(launch.rows), .int(launch.chunkRows)]
        + y.storedVectorArguments + [.int(strides[1])],
      cost: LaunchCost("tanh \(x.shape)", bytes: Double(x.byteCount) * 2))
    Tape.record("tanh", inputs: [x], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: x) else { return }
      let (launch, strides) = RowLaunch.elementwise([y, dy, dx.tensor])
      x.device.launch(
        .elementwise, "tanh_gradient", options: launch.options + x.storageOptions, global: launch.global,
        local: x.device.independent(2),
        y.storedVectorArguments + [.int(strides[0])] + dy.storedVectorArguments + [
          .int(strides[1]), .int(launch.rows), .int(launch.chunkRows),
        ] + dx.tensor.storedVectorArguments + [.int(strides[2]), .int(dx.accumulate ? 1 : 0)],
        cost: LaunchCost("tanh gradient \(x.shape)", bytes: Double(x.byteCount) * 3))
    }
    return y
  }

  /// Product of two tensors of one shape and type, element by element. Others trap.
  public func multiplied(by other: some TensorOperand) -> Tensor {
    let a = materialized()
    let b = other.materialized()
    precondition(
      a.shape == b.shape && a.dtype == b.dtype, "multiply: \(a.dtype) \(a.shape) × \(b.dtype) \(b.shape)")
    let y = Tensor(uninitialized: a.shape, on: a.device, dtype: a.dtype)
    multiply(a, b, to: y, accumulate: false)
    Tape.record("multiply", inputs: [a, b], outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      if let da = store.destination(for: a) { multiply(dy, b, to: da.tensor, accumulate: da.accumulate) }
      if let db = store.destination(for: b) { multiply(dy, a, to: db.tensor, accumulate: db.accumulate) }
    }
    return y
  }
}

extension Tensor {
  /// Sum of two tensors of one shape; other shapes trap. See ``TensorOperand/adding(_:)``.
  public static func + (a: Tensor, b: Tensor) -> Tensor { a.adding(b) }
  /// Difference of two tensors of one shape; other shapes trap.
  public static func - (a: Tensor, b: Tensor) -> Tensor { a.adding(b.scaled(by: -1)) }
  /// Product of two tensors of one shape, element by element; other shapes trap. See
  /// ``TensorOperand/multiplied(by:)``.
  public static func * (a: Tensor, b: Tensor) -> Tensor { a.multiplied(by: b) }
  /// All values times a constant. See ``TensorOperand/scaled(by:as:)``.
  public static func * (a: Float, b: Tensor) -> Tensor { b.scaled(by: a) }

  /// y (+)= factor · x. Bytes become floating-point numbers.
  package func scale(_ factor: Float, to y: Tensor, accumulate: Bool) {
    let cost = LaunchCost("scale \(shape)", bytes: Double(byteCount + y.byteCount))
    if dtype == .uint8 {
      precondition(isContiguous && y.isContiguous && !accumulate, "scale: bytes must be contiguous")
      let launch = RowLaunch(rows: rows, channels: channels, device: device)
      device.launch(
        .elementwise, "scale_bytes", options: resultOptions(y), global: [1, launch.chunks],
        local: device.independent(2),
        vectorArguments + [
          .float(factor), .int(rows), .int(launch.chunkRows), .int(channels), .buffer(y.storage.buffer),
        ], cost: cost)
      return
    }
    let (launch, strides) = RowLaunch.elementwise([self, y])
    device.launch(
      .elementwise, "scale", options: launch.options + storageOptions + resultOptions(y), global: launch.global,
      local: device.independent(2),
      storedVectorArguments + [.int(strides[0]), .int(launch.rows), .int(launch.chunkRows), .float(factor)]
        + storedVectorArguments + [.int(0)] + y.storedVectorArguments
        + [.int(strides[1]), y.manner(accumulate: accumulate)],
      cost: cost)
  }
}

private func multiply(_ a: Tensor, _ b: Tensor, to y: Tensor, accumulate: Bool) {
  let (launch, strides) = RowLaunch.elementwise([a, b, y])
  a.device.launch(
    .elementwise, "multiply", options: launch.options + a.storageOptions, global: launch.global,
    local: a.device.independent(2),
    a.storedVectorArguments + [.int(strides[0])] + b.storedVectorArguments + [
      .int(strides[1]), .int(launch.rows), .int(launch.chunkRows),
    ] + y.storedVectorArguments + [.int(strides[2]), .int(accumulate ? 1 : 0)],
    cost: LaunchCost("multiply \(a.shape)", bytes: Double(a.byteCount) * 3))
}
