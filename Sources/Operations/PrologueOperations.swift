import OpenCLRuntime
import TensorCore

// Activations and affine steps are prologues; this file computes one when a kernel cannot read through it, and its
// gradient.

extension TensorOperand {
  /// Rectified linear unit, max(x, 0), pending until the next operation reads it.
  public func relu() -> DeferredTensor { leakyReLU(slope: 0) }

  /// `x > 0 ? x : slope · x`, pending until the next operation reads it.
  public func leakyReLU(slope: Float = 0.2) -> DeferredTensor {
    let operand = deferred
    var prologue = operand.prologue
    if prologue.affine == nil, prologue.preSlope == nil, prologue.postSlope == nil {
      prologue.preSlope = slope
    } else if prologue.affine != nil, prologue.postSlope == nil {
      prologue.postSlope = slope
    } else {
      return operand.materialized().leakyReLU(slope: slope)
    }
    return DeferredTensor(operand.base, prologue)
  }

  /// `(x − centre) · scale + shift` per channel, pending until the next operation reads it.
  ///
  /// - Parameter affine: rows centre, scale and shift, [3, channels].
  public func affine(_ affine: Tensor) -> DeferredTensor {
    let operand = deferred
    guard operand.prologue.affine == nil, operand.prologue.postSlope == nil else {
      return operand.materialized().affine(affine)
    }
    return DeferredTensor(operand.base, Prologue(preSlope: operand.prologue.preSlope, affine: affine.contiguous()))
  }

  /// The values with all pending steps computed; a tensor without any is returned as it is.
  public func materialized() -> Tensor {
    deferred.prologue.isIdentity ? deferred.base : deferred.written(to: nil)
  }

  /// The values as `dtype`, a type of floating-point numbers, pending steps computed; the tensor itself where nothing is
  /// to be done. The gradient goes back in the type of the tensor.
  ///
  /// With `float16` or `bfloat16` the operations that follow keep their results, and gradients, in that type and compute
  /// in `float32`; weights stay `float32`.
  public func cast(to dtype: DType) -> Tensor {
    precondition(
      dtype.isFloatingPoint && deferred.base.dtype.isFloatingPoint, "cast: from \(deferred.base.dtype) to \(dtype)")
    if deferred.base.dtype == dtype { return materialized() }
    return deferred.written(to: Tensor(uninitialized: deferred.shape, on: deferred.device, dtype: dtype))
  }

  /// A copy of the values, pending steps computed, in `target`, whose type may be another, or in new memory.
  public func copied(into target: Tensor? = nil) -> Tensor {
    deferred.written(to: target)
  }
}

extension Tensor {
  /// The tensor itself, or a copy where its rows have gaps: for kernels that take no stride.
  func contiguous() -> Tensor { isContiguous ? self : copied() }

  /// The tensor itself, or a copy where it is a view of some channels: to be reshaped.
  func whole() -> Tensor { coversStorage ? self : copied() }
}

extension DeferredTensor {
  func written(to target: Tensor?) -> Tensor {
    let y = target ?? Tensor(uninitialized: shape, on: device, dtype: base.dtype)
    precondition(y.shape == shape, "copied: target \(y.shape) for \(shape)")
    y.willBeOverwritten()
    apply(to: y, accumulate: false)
    Tape.record("copy", inputs: inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      backpropagate(dy, into: store)
    }
    return y
  }

  /// y (+)= prologue(base).
  func apply(to y: Tensor, accumulate: Bool) {
    let launch: RowLaunch
    let global: [Int]
    let strides: [Int]
    if prologue.affine == nil {
      (launch, strides) = RowLaunch.elementwise([base, y])
      global = launch.global
    } else {
      (launch, global) = RowLaunch.wholeRows(base.rows, channels: channels, device: device)
      strides = [base.pixelStride, y.pixelStride]
    }
    device.launch(
      .normalization, "prologue_apply", options: launch.options + prologueOptions() + base.resultOptions(y),
      global: global, local: device.independent(2),
      [
        .buffer(base.storage.buffer), .int(base.elementOffset), .int(strides[0]), .int(launch.rows),
        .int(launch.chunkRows), .int(launch.channels),
      ] + prologueArguments + [
        .buffer(y.storage.buffer), .int(y.elementOffset), .int(strides[1]), y.manner(accumulate: accumulate),
      ],
      cost: LaunchCost("prologue apply \(shape)", bytes: Double(base.byteCount + y.byteCount * (accumulate ? 2 : 1))))
  }

  /// Adds to the gradients of base and affine what follows from `g`, the gradient with respect to the deferred value.
  func backpropagate(_ g: Tensor, into store: GradientStore) {
    let dx = store.destination(for: base)
    let daffine = prologue.affine.flatMap { store.destination(for: $0) }
    guard dx != nil || daffine != nil else { return }
    backpropagate(g, dx: dx, daffine: daffine)
  }

  /// The same for those who have asked for the places already; each may be asked for only once.
  func backpropagate(_ g: Tensor, dx: GradientStore.Destination?, daffine: GradientStore.Destination?) {
    let affine = prologue.affine
    let launch = RowLaunch(
      rows: base.rows, channels: channels, device: device,
      chunkRows: affine == nil ? nil : reductionChunk(base.rows, device))
    let sums =
      affine == nil
      ? base : Tensor(uninitialized: [launch.chunks, 2, channels], on: device)
    let target = dx?.tensor ?? base
    device.launch(
      .normalization, "prologue_gradient",
      options: launch.options + prologueOptions() + base.resultOptions(g) + prologueOptions(prefix: "E"),
      global: launch.global,
      local: device.independent(2),
      base.storedArguments + [.int(launch.rows), .int(launch.chunkRows), .int(channels)] + prologueArguments
        + g.storedArguments
        + target.storedArguments + [
          .int(dx == nil ? 0 : 1), dx?.manner ?? .int(0), .buffer(sums.storage.buffer),
        ],
      cost: LaunchCost("prologue gradient \(shape)", bytes: Double(base.byteCount * 2 + g.byteCount)))
    if let affine, let daffine {
      finishAffineGradient(sums: sums, chunks: launch.chunks, affine: affine, destination: daffine)
    }
  }
}

/// The gradient of an affine's rows from per-chunk sums [chunks, 2, channels].
func finishAffineGradient(sums: Tensor, chunks: Int, affine: Tensor, destination: GradientStore.Destination) {
  destination.write(
    AffineGradient(
      sums: sums, chunks: chunks, affine: affine, target: destination.tensor, accumulate: destination.accumulate))
}

/// The gradient of an affine's rows as sums that have to be added up.
struct AffineGradient: PostponedContribution {
  /// [chunks, 2, channels].
  let sums: Tensor
  let chunks: Int
  let affine: Tensor
  /// Where it goes, [3, channels].
  let target: Tensor
  let accumulate: Bool

  var launch: FinishingLaunch { FinishingLaunch(channels: affine.channels, chunks: chunks, on: affine.device) }
  /// The sums and the affine as kernels take them.
  var arguments: [KernelArgument] {
    [.buffer(sums.storage.buffer), .int(chunks), .int(affine.channels)] + affine.vectorArguments
  }
  /// What adding them up reads.
  var byteCount: Int { chunks * affine.channels * 8 }

  func write() {
    let launch = launch
    affine.device.launch(
      .normalization, "affine_gradient", options: launch.options, global: launch.global, local: launch.local,
      arguments + target.vectorArguments + [.int(accumulate ? 1 : 0)],
      cost: LaunchCost("affine gradient [\(chunks), 2, \(affine.channels)]", bytes: Double(byteCount)))
  }
}

/// Rows a chunk for reductions over rows: small enough for the cache and for many work-items, large enough that the
/// second stage is short.
func reductionChunk(_ rows: Int, _ device: Device) -> Int {
  device.isCPU ? min(max(rows / 64, 64), 512) : min(max(rows / 512, 16), 256)
}
