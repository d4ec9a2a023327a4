import OpenCLRuntime
import TensorCore

/// Mean and biased variance of each channel over all pixels of all images, [channels] each.
public struct Moments: Sendable {
  /// Mean of each channel, [channels].
  public let mean: Tensor
  /// Mean squared deviation from `mean` of each channel, [channels].
  public let variance: Tensor

  /// Statistics from elsewhere, such as moving ones.
  public init(mean: Tensor, variance: Tensor) {
    self.mean = mean
    self.variance = variance
  }
}

extension TensorOperand {
  /// Batch statistics over all extents but the innermost. They stay with the storage they describe: a channel's are
  /// computed once, however many normalisations read it, and its gradient is propagated once.
  ///
  /// Gradient: `dx = dmean / M + 2 (x − mean) dvariance / M` for M values a channel.
  public func moments() -> Moments {
    var x = deferred
    if x.prologue.affine != nil || x.prologue.postSlope != nil { x = materialized().deferred }
    let storage = x.base.storage
    // A reshaped tensor's channels are not the storage's: it gets statistics of its own.
    guard x.base.pixelStride == storage.channels else {
      return DeferredTensor(x.base.copied(), x.prologue).moments()
    }
    let tape = Tape.current
    var statistics: ChannelStatistics
    if let known = storage.statistics, known.tapeID == tape?.id, known.preSlope == x.prologue.preSlope {
      statistics = known
    } else {
      statistics = ChannelStatistics(of: storage, tapeID: tape?.id, preSlope: x.prologue.preSlope)
      storage.statistics = statistics
    }
    let range = x.base.channelRange
    for gap in statistics.computed.missing(from: range) {
      for part in x.prologue.preSlope == nil ? storage.partsLeft(in: gap) : [gap] {
        computeMoments(
          of: x.base.channels(part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound),
          preSlope: x.prologue.preSlope, in: statistics)
      }
    }
    statistics.computed.insert(range)
    return Moments(mean: statistics.mean.channelView(range), variance: statistics.variance.channelView(range))
  }
}

extension Storage {
  fileprivate func channelView(_ range: Range<Int>) -> Tensor {
    Tensor(storage: self, shape: [range.count], channels: range)
  }

  /// `range` cut so that what kernels left behind describes whole parts.
  fileprivate func partsLeft(in range: Range<Int>) -> [Range<Int>] {
    let left = partialMoments.map(\.channels).filter {
      range.contains($0.lowerBound) && range.upperBound >= $0.upperBound
    }
    let bounds = Set(left.flatMap { [$0.lowerBound, $0.upperBound] } + [range.lowerBound, range.upperBound]).sorted()
    return zip(bounds, bounds.dropFirst()).map { $0..<$1 }
  }

  /// What a kernel left behind for just these channels, which is then taken.
  fileprivate func takePartialMoments(of range: Range<Int>) -> PartialMoments? {
    partialMoments.firstIndex { $0.channels == range }.map { partialMoments.remove(at: $0) }
  }
}

private func computeMoments(of x: Tensor, preSlope: Float?, in statistics: ChannelStatistics) {
  let device = x.device
  let mean = statistics.mean.channelView(x.channelRange)
  let variance = statistics.variance.channelView(x.channelRange)
  let launch = RowLaunch(
    rows: x.rows, channels: x.channels, device: device, chunkRows: reductionChunk(x.rows, device))
  let options = launch.options + x.storageOptions + (preSlope == nil ? "" : " -D PRE=1")
  let left = preSlope == nil ? x.storage.takePartialMoments(of: x.channelRange) : nil
  let partials = left?.values ?? Tensor(uninitialized: [launch.chunks, 2, x.channels], on: device)
  if left == nil {
    device.launch(
      .normalization, "moments_partial", options: options, global: launch.global, local: device.independent(2),
      x.storedArguments + [
        .int(launch.rows), .int(launch.chunkRows), .int(x.channels), .float(preSlope ?? 1),
        .buffer(partials.storage.buffer),
      ],
      cost: LaunchCost("moments \(x.shape)", bytes: Double(x.byteCount)))
  }
  let chunks = left?.groups ?? launch.chunks
  let finish = FinishingLaunch(channels: x.channels, chunks: chunks, on: device)
  device.launch(
    .normalization, "moments_finish", options: finish.options, global: finish.global, local: finish.local,
    [
      .buffer(partials.storage.buffer), .int(chunks), .int(launch.rows), .int(launch.chunkRows),
      .int(left == nil ? 0 : 1), .int(x.channels),
    ] + mean.vectorArguments + variance.vectorArguments,
    cost: LaunchCost("moments of \(chunks) chunks", bytes: Double(chunks * x.channels * 8)))

  Tape.record("moments", inputs: [x], outputs: [mean, variance]) { store in
    // A result that uses only one of them leaves the other without a gradient.
    let dmean = store.gradient(of: mean) ?? .zeros(mean.shape, on: device)
    let dvariance = store.gradient(of: variance) ?? .zeros(variance.shape, on: device)
    guard let dx = store.destination(for: x) else { return }
    let (launch, global) = RowLaunch.wholeRows(x.rows, channels: x.channels, device: device)
    device.launch(
      .normalization, "moments_gradient",
      options: launch.options + x.storageOptions + (preSlope == nil ? "" : " -D PRE=1"), global: global,
      local: device.independent(2),
      x.storedArguments + [.int(launch.rows), .int(launch.chunkRows), .int(launch.channels), .float(preSlope ?? 1)]
        + mean.vectorArguments + dmean.vectorArguments + dvariance.vectorArguments + dx.tensor.storedArguments
        + [dx.manner],
      cost: LaunchCost("moments gradient \(x.shape)", bytes: Double(x.byteCount) * 3))
  }
}

extension Moments {
  /// The affine step of a batch normalisation, rows centre, scale and shift, [3, channels]:
  /// centre = mean, scale = γ / √(variance + ε), shift = β.
  public func fold(gamma: Tensor, beta: Tensor, epsilon: Float) -> Tensor {
    let channels = mean.shape.count
    precondition(
      gamma.shape == [channels] && beta.shape == [channels],
      "fold: gamma \(gamma.shape) and beta \(beta.shape) for \(channels) channels")
    let device = mean.device
    let affine = Tensor(uninitialized: [3, channels], on: device)
    device.launch(
      .normalization, "fold", options: "-D VEC=1", global: [channels], local: device.independent(1),
      mean.vectorArguments + variance.vectorArguments + gamma.vectorArguments + beta.vectorArguments + [
        .float(epsilon), .int(channels), .buffer(affine.storage.buffer),
      ],
      cost: LaunchCost("fold [\(channels)]"))
    let (mean, variance) = (mean, variance)
    Tape.record("fold", inputs: [mean, variance, gamma, beta], outputs: [affine]) { store in
      guard let daffine = store.gradient(of: affine) else { return }
      let dmean = store.destination(for: mean)
      let dvariance = store.destination(for: variance)
      let dgamma = store.destination(for: gamma)
      let dbeta = store.destination(for: beta)
      var flags = 0
      for (bit, destination) in [dmean, dvariance, dgamma, dbeta].enumerated() {
        guard let destination else { continue }
        flags |= 1 << bit
        if destination.accumulate { flags |= 16 << bit }
      }
      device.launch(
        .normalization, "fold_gradient", options: "-D VEC=1", global: [channels], local: device.independent(1),
        daffine.vectorArguments + variance.vectorArguments + gamma.vectorArguments + [
          .float(epsilon), .int(channels),
        ] + (dmean?.tensor ?? affine).vectorArguments + (dvariance?.tensor ?? affine).vectorArguments
          + (dgamma?.tensor ?? affine).vectorArguments + (dbeta?.tensor ?? affine).vectorArguments + [.int(flags)],
        cost: LaunchCost("fold gradient [\(channels)]"))
    }
    return affine
  }
}

extension Tensor {
  /// `self = momentum · self + (1 − momentum) · batch`, in place: a moving statistic. Not differentiable.
  package func updateMoving(with batch: Tensor, momentum: Float) {
    precondition(shape == batch.shape, "updateMoving: \(shape) with \(batch.shape)")
    device.launch(
      .normalization, "update_moving", options: "-D VEC=1", global: [shape.count], local: device.independent(1),
      vectorArguments + batch.vectorArguments + [.float(momentum)], cost: LaunchCost("moving statistics \(shape)"))
  }
}

extension TensorOperand {
  /// Batch normalisation with the statistics of the batch, `γ (x − mean) / √(variance + ε) + β` per channel, pending
  /// until the next operation reads it (Ioffe & Szegedy 2015).
  ///
  /// - Parameters:
  ///   - gamma: scale of each channel, [channels].
  ///   - beta: shift of each channel, [channels].
  ///   - epsilon: added to the variance before its root is taken.
  public func batchNormalized(gamma: Tensor, beta: Tensor, epsilon: Float) -> DeferredTensor {
    // Steps that neither the moments nor the affine can read through are computed once for both.
    let pending = deferred.prologue
    let x = pending.affine == nil && pending.postSlope == nil ? deferred : materialized().deferred
    return x.normalized(with: x.moments(), gamma: gamma, beta: beta, epsilon: epsilon)
  }

  /// The same with given statistics, as in inference.
  public func normalized(with moments: Moments, gamma: Tensor, beta: Tensor, epsilon: Float) -> DeferredTensor {
    affine(moments.fold(gamma: gamma, beta: beta, epsilon: epsilon))
  }
}
