import OpenCLRuntime
import TensorCore

/// What a max pool takes for pixels beyond the edge.
public enum PoolPadding: Sendable {
  /// Zeros, as after a zero-padding layer.
  case zero
  /// Nothing: such pixels never are the maximum, as with Keras's `same`.
  case ignored
}

/// Windows sliding over images [batch, height, width, channels].
struct PoolGeometry {
  let batch: Int
  let height: Int
  let width: Int
  let channels: Int
  let window: (Int, Int)
  let strides: (Int, Int)
  let rows: WindowExtent
  let columns: WindowExtent

  init(_ name: String, input: Shape, window: (Int, Int), strides: (Int, Int), padding: Padding) {
    precondition(input.rank == 4, "\(name): the input must be [batch, height, width, channels], not \(input)")
    (batch, height, width, channels) = (input[0], input[1], input[2], input[3])
    self.window = window
    self.strides = strides
    rows = WindowExtent(input: height, window: window.0, stride: strides.0, padding: padding, vertical: true)
    columns = WindowExtent(input: width, window: window.1, stride: strides.1, padding: padding, vertical: false)
    precondition(rows.output > 0 && columns.output > 0, "\(name): input \(input) is smaller than the window \(window)")
  }

  var outputShape: Shape { [batch, rows.output, columns.output, channels] }
  var inputArguments: [KernelArgument] { [.int(height), .int(width), .int(channels)] }
  var outputArguments: [KernelArgument] { [.int(rows.output), .int(columns.output)] }
  var windowArguments: [KernelArgument] { [.int(window.0), .int(window.1), .int(strides.0), .int(strides.1)] }
  var padArguments: [KernelArgument] { [.int(rows.before), .int(columns.before)] }
  var label: String { "\(window.0)×\(window.1)/\(strides.0) on \(batch)×\(height)×\(width)×\(channels)" }
}

/// Columns that a work-item of an image kernel handles.
func columnGroup(_ width: Int, _ device: Device) -> Int { device.isCPU ? width : 1 }

extension TensorOperand {
  /// Largest value of each window, read through pending steps. The gradient goes to the first maximum in row-major order.
  ///
  /// - Parameters:
  ///   - window: rows and columns, 256 pixels together at most.
  ///   - strides: rows and columns from one window to the next.
  ///   - padding: how far windows reach beyond the edge.
  ///   - padValue: what they find there.
  /// - Returns: [batch, outHeight, outWidth, channels].
  public func maxPool(
    window: (Int, Int), strides: (Int, Int), padding: Padding = .valid, paddedWith padValue: PoolPadding = .ignored
  ) -> Tensor {
    let x = deferred
    let device = x.device
    let g = PoolGeometry("maxPool", input: x.shape, window: window, strides: strides, padding: padding)
    precondition(window.0 * window.1 <= 256, "maxPool: windows of at most 256 pixels")
    let y = Tensor(uninitialized: g.outputShape, on: device, dtype: x.base.dtype)
    let taps = Tensor(uninitialized: g.outputShape, on: device, dtype: .uint8)
    let vector = RowLaunch.vector(g.channels, device)
    let channelGroups = device.isCPU ? 1 : g.channels / vector
    let group = columnGroup(g.columns.output, device)
    device.launch(
      .pooling, "max_pool", options: "-D VEC=\(vector)" + x.prologueOptions(),
      global: [channelGroups, (g.columns.output + group - 1) / group, g.batch * g.rows.output],
      local: device.independent(3),
      x.base.storedArguments + g.inputArguments + x.prologueArguments + y.storedArguments + [
        .buffer(taps.storage.buffer)
      ]
        + g.outputArguments + g.windowArguments + g.padArguments + [.int(padValue == .zero ? 1 : 0), .int(group)],
      cost: LaunchCost("max pool \(g.label)", bytes: Double(x.base.byteCount + y.byteCount + y.shape.count)))
    Tape.record("maxPool", inputs: x.inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      x.withValueGradient(store) { dx in
        let group = columnGroup(g.width, device)
        device.launch(
          .pooling, "max_pool_gradient", options: "-D VEC=\(vector)" + y.storageOptions,
          global: [channelGroups, (g.width + group - 1) / group, g.batch * g.height],
          local: device.independent(3),
          dy.storedArguments + [.buffer(taps.storage.buffer)] + g.outputArguments + g.inputArguments + g.windowArguments
            + g.padArguments + dx.tensor.storedArguments + [.int(dx.accumulate ? 1 : 0), .int(group)],
          cost: LaunchCost(
            "max pool gradient \(g.label)", bytes: Double(x.base.byteCount + y.byteCount + y.shape.count)))
      }
    }
    return y
  }

  /// Mean of each window that lies inside the image, read through pending steps; an incomplete last row or column is
  /// dropped.
  ///
  /// - Parameters:
  ///   - window: rows and columns.
  ///   - strides: rows and columns from one window to the next.
  /// - Returns: [batch, outHeight, outWidth, channels].
  public func averagePool(window: (Int, Int), strides: (Int, Int)) -> Tensor {
    averagePool(window: window, strides: strides, as: deferred.base.dtype)
  }

  private func averagePool(window: (Int, Int), strides: (Int, Int), as dtype: DType) -> Tensor {
    let x = deferred
    let device = x.device
    let g = PoolGeometry("averagePool", input: x.shape, window: window, strides: strides, padding: .valid)
    let y = Tensor(uninitialized: g.outputShape, on: device, dtype: dtype)
    let vector = RowLaunch.vector(g.channels, device)
    let group = columnGroup(g.columns.output, device)
    device.launch(
      .pooling, "average_pool",
      options: "-D VEC=\(vector)" + x.prologueOptions() + x.base.resultOptions(y),
      global: [g.channels / vector, (g.columns.output + group - 1) / group, g.batch * g.rows.output],
      local: device.independent(3),
      x.base.storedArguments + g.inputArguments + x.prologueArguments + y.storedArguments + g.outputArguments
        + g.windowArguments
        + [.int(group)],
      cost: LaunchCost("average pool \(g.label)", bytes: Double(x.base.byteCount + y.byteCount)))
    Tape.record("averagePool", inputs: x.inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      x.withValueGradient(store) { dx in
        let group = columnGroup(g.width, device)
        device.launch(
          .pooling, "average_pool_gradient",
          options: "-D VEC=\(vector)" + dx.tensor.storageOptions + dx.tensor.resultOptions(y),
          global: [g.channels / vector, (g.width + group - 1) / group, g.batch * g.height],
          local: device.independent(3),
          dy.storedArguments + g.outputArguments + [.int(g.height), .int(g.width)] + g.windowArguments
            + dx.tensor.storedArguments + [.int(dx.accumulate ? 1 : 0), .int(group)],
          cost: LaunchCost("average pool gradient \(g.label)", bytes: Double(x.base.byteCount + y.byteCount)))
      }
    }
    return y
  }

  /// Mean over all pixels of each image: [batch, channels], `float32` whatever the type of the images.
  public func globalAveragePool() -> Tensor {
    let shape = deferred.shape
    precondition(shape.rank == 4, "globalAveragePool: the input must be [batch, height, width, channels], not \(shape)")
    return averagePool(window: (shape[1], shape[2]), strides: (shape[1], shape[2]), as: .float32)
      .reshaped([shape[0], shape[3]])
  }
}

extension DeferredTensor {
  /// Lets `body` write the gradient with respect to the deferred value: straight into the base's gradient when nothing
  /// is pending, else into scratch memory from which it goes through the prologue.
  func withValueGradient(_ store: GradientStore, _ body: (GradientStore.Destination) -> Void) {
    if prologue.isIdentity {
      if let dx = store.destination(for: base) { body(dx) }
    } else {
      let scratch = Tensor(uninitialized: shape, on: device, dtype: base.dtype)
      body(GradientStore.Destination(tensor: scratch, accumulate: false))
      backpropagate(scratch, into: store)
    }
  }
}
