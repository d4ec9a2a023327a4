import OpenCLRuntime
import Synchronization
import TensorCore

extension TensorOperand {
  /// Images resized to `height` × `width`, read through pending steps. Any ratio, up or down; see `ResizeTable` for the
  /// weights. The gradient is gathered with the transposed tables, so it needs no atomics.
  ///
  /// - Parameters:
  ///   - height: rows of the images that come out.
  ///   - width: their columns.
  ///   - interpolation: how values between pixels are made.
  ///   - antialias: whether the kernel is widened by the ratio when shrinking.
  /// - Returns: [batch, height, width, channels].
  public func resized(
    height: Int, width: Int, interpolation: Interpolation = .bilinear, antialias: Bool = false
  ) -> Tensor {
    let x = deferred
    precondition(x.shape.rank == 4, "resize: the input must be [batch, height, width, channels], not \(x.shape)")
    let rows = AxisTables.make(x.shape[1], height, interpolation, antialias, on: x.device)
    let columns = AxisTables.make(x.shape[2], width, interpolation, antialias, on: x.device)
    let y = Tensor(uninitialized: [x.shape[0], height, width, x.channels], on: x.device, dtype: x.base.dtype)
    resample(x, rows: rows.forward, columns: columns.forward, to: .init(tensor: y, accumulate: false), "resize")
    Tape.record("resize", inputs: x.inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      x.resizeGradient(dy, rows: rows.backward, columns: columns.backward, store)
    }
    return y
  }
}

extension DeferredTensor {
  /// Adds to the gradients of base and affine: the transposed resize of dy, and through the prologue in the same kernel.
  func resizeGradient(_ dy: Tensor, rows: AxisTable, columns: AxisTable, _ store: GradientStore) {
    let label = "resize gradient"
    guard !prologue.isIdentity else {
      if let dx = store.destination(for: base) { resample(dy.deferred, rows: rows, columns: columns, to: dx, label) }
      return
    }
    let daffine = prologue.affine.flatMap { store.destination(for: $0) }
    let dx = store.destination(for: base)
    guard dx != nil || daffine != nil else { return }
    let sums = resample(
      dy.deferred, rows: rows, columns: columns,
      to: dx ?? .init(tensor: Tensor(uninitialized: shape, on: device, dtype: base.dtype), accumulate: false),
      epilogue: self, label)
    if let affine = prologue.affine, let daffine, let sums {
      finishAffineGradient(sums: sums, chunks: sums.shape[0], affine: affine, destination: daffine)
    }
  }
}

/// y (+)= the resize of prologue(x) by the two tables. Kernels of many taps go one axis after the other, with `float32`
/// between them.
@discardableResult
func resample(
  _ x: DeferredTensor, rows: AxisTable, columns: AxisTable, to y: GradientStore.Destination,
  epilogue: DeferredTensor? = nil, _ label: String
) -> Tensor? {
  guard rows.taps > 4, columns.taps > 4 else {
    return launch(x, rows: rows, columns: columns, to: y, epilogue: epilogue, label)
  }
  let between = Tensor(uninitialized: [x.shape[0], x.shape[1], columns.outputSize, x.channels], on: x.device)
  launch(
    x, rows: AxisTable.identity(x.shape[1], on: x.device), columns: columns,
    to: .init(tensor: between, accumulate: false), label)
  return launch(
    between.deferred, rows: rows, columns: AxisTable.identity(columns.outputSize, on: x.device), to: y,
    epilogue: epilogue, label)
}

/// One launch; with an epilogue that has an affine, returns its sums [work-items, 2, channels].
@discardableResult
private func launch(
  _ x: DeferredTensor, rows: AxisTable, columns: AxisTable, to y: GradientStore.Destination,
  epilogue: DeferredTensor? = nil, _ label: String
) -> Tensor? {
  let device = x.device
  let vector = RowLaunch.vector(x.channels, device)
  let group = columnGroup(columns.outputSize, device)
  let groups = (columns.outputSize + group - 1) / group
  let gradient = Epilogue(of: epilogue, items: x.shape[0] * rows.outputSize * groups, standIn: y.tensor)
  device.launch(
    .resize, "resize",
    options: "-D VEC=\(vector)" + x.prologueOptions() + x.base.resultOptions(y.tensor) + gradient.options,
    global: [x.channels / vector, groups, x.shape[0] * rows.outputSize], local: device.independent(3),
    x.base.storedArguments + [.int(x.shape[1]), .int(x.shape[2]), .int(x.channels)] + x.prologueArguments
      + rows.arguments
      + columns.arguments + y.tensor.storedArguments + [
        .int(rows.outputSize), .int(columns.outputSize), y.manner, .int(group),
      ] + gradient.arguments,
    cost: LaunchCost(
      "\(label) \(x.shape) → \(rows.outputSize)×\(columns.outputSize)",
      bytes: Double(x.base.byteCount + y.tensor.byteCount * (epilogue == nil ? 1 : 2))))
  return gradient.sums
}

/// A resize table on a device, which keeps it for as long as it is there.
struct AxisTable {
  /// Start and count of each output, interleaved; int32.
  private let spans: Buffer
  /// [outputs, taps], float32 of weights computed in float64.
  private let weights: Buffer
  let outputSize: Int
  let taps: Int

  init(_ values: Values, _ key: String, on device: Device) {
    spans = device.constant("spans of \(key)", values.spans)
    weights = device.constant("weights of \(key)", values.weights)
    outputSize = values.outputSize
    taps = values.taps
  }

  static func identity(_ size: Int, on device: Device) -> AxisTable {
    let key = "identity \(size)"
    return AxisTable(device.cached(key) { Values(.identity(size)) }, key, on: device)
  }

  var arguments: [KernelArgument] { [.buffer(spans), .buffer(weights), .int(taps)] }

  /// What is copied to the device.
  struct Values: Sendable {
    let spans: [Int32]
    let weights: [Float]
    let outputSize: Int
    let taps: Int

    init(_ table: ResizeTable) {
      let taps = table.taps
      self.taps = taps
      outputSize = table.outputSize
      spans = zip(table.starts, table.weights).flatMap { [Int32($0), Int32($1.count)] }
      weights = table.weights.flatMap { row in row.map { Float($0) } + Array(repeating: 0, count: taps - row.count) }
    }
  }
}

/// The tables of an axis: of the resize and of its gradient.
struct AxisTables {
  let forward: AxisTable
  let backward: AxisTable

  static func make(
    _ input: Int, _ output: Int, _ interpolation: Interpolation, _ antialias: Bool, on device: Device
  ) -> AxisTables {
    let key = "resize \(input) \(output) \(interpolation) \(antialias)"
    let values = device.cached(key) {
      let table = ResizeTable(
        inputSize: input, outputSize: output, interpolation: interpolation, antialias: antialias)
      return (forward: AxisTable.Values(table), backward: AxisTable.Values(table.transposed))
    }
    return AxisTables(
      forward: AxisTable(values.forward, key, on: device),
      backward: AxisTable(values.backward, "the gradient of \(key)", on: device))
  }
}
