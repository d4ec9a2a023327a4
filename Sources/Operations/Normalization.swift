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
    let (moments, unfinished) = startedMoments()
    unfinished.forEach { $0.finish() }
    return moments
  }

  /// The moments with the parts of them that still have to be added up from chunks.
  fileprivate func startedMoments() -> (Moments, unfinished: [UnfinishedMoments]) {
    var x = deferred
    if x.prologue.affine != nil || x.prologue.postSlope != nil { x = materialized().deferred }
    let storage = x.base.storage
    // A reshaped tensor's channels are not the storage's: it gets statistics of its own.
    guard x.base.pixelStride == storage.channels else {
      return DeferredTensor(x.base.copied(), x.prologue).startedMoments()
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
    var unfinished: [UnfinishedMoments] = []
    for gap in statistics.computed.missing(from: range) {
      for part in x.prologue.preSlope == nil ? storage.partsLeft(in: gap) : [gap] {
        unfinished.append(
          UnfinishedMoments(
            of: x.base.channels(part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound),
            preSlope: x.prologue.preSlope, in: statistics))
      }
    }
    statistics.computed.insert(range)
    return (
      Moments(mean: statistics.mean.channelView(range), variance: statistics.variance.channelView(range)), unfinished
    )
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

/// Moments of some channels, of which chunks of rows are there: computed now, or left behind by who stored the values.
/// What is left is to add them up.
private struct UnfinishedMoments {
  /// The channels of the tensor.
  let x: Tensor
  let preSlope: Float?
  /// Where the moments go.
  let mean, variance: Tensor
  /// [chunks, 2, channels], and behind them the chunks' rows where they are not all of `chunkRows`.
  let partials: Tensor
  let chunks: Int
  let chunkRows: Int
  let hasCounts: Bool

  init(of x: Tensor, preSlope: Float?, in statistics: ChannelStatistics) {
    (self.x, self.preSlope) = (x, preSlope)
    mean = statistics.mean.channelView(x.channelRange)
    variance = statistics.variance.channelView(x.channelRange)
    let device = x.device
    let launch = RowLaunch(
      rows: x.rows, channels: x.channels, device: device, chunkRows: reductionChunk(x.rows, device))
    chunkRows = launch.chunkRows
    if preSlope == nil, let left = x.storage.takePartialMoments(of: x.channelRange) {
      (partials, chunks, hasCounts) = (left.values, left.groups, true)
      return
    }
    (chunks, hasCounts) = (launch.chunks, false)
    partials = Tensor(uninitialized: [launch.chunks, 2, x.channels], on: device)
    device.launch(
      .normalization, "moments_partial",
      options: launch.options + x.storageOptions + (preSlope == nil ? "" : " -D PRE=1"), global: launch.global,
      local: device.independent(2),
      x.storedArguments + [
        .int(launch.rows), .int(launch.chunkRows), .int(x.channels), .float(preSlope ?? 1),
        .buffer(partials.storage.buffer),
      ],
      cost: LaunchCost("moments \(x.shape)", bytes: Double(x.byteCount)))
  }

  /// The chunks as kernels take them.
  var arguments: [KernelArgument] {
    [.buffer(partials.storage.buffer), .int(chunks), .int(x.rows), .int(chunkRows), .int(hasCounts ? 1 : 0)]
  }
  /// What adding them up reads.
  var byteCount: Int { chunks * x.channels * 8 }

  func finish() {
    let launch = FinishingLaunch(channels: x.channels, chunks: chunks, on: x.device)
    x.device.launch(
      .normalization, "moments_finish", options: launch.options, global: launch.global, local: launch.local,
      arguments + [.int(x.channels)] + mean.vectorArguments + variance.vectorArguments,
      cost: LaunchCost("moments of \(chunks) chunks", bytes: Double(byteCount)))
    record()
  }

  /// To be called when they are finished. What it records does not keep the chunks.
  func record() {
    let (x, preSlope, mean, variance, device) = (x, preSlope, mean, variance, x.device)
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
}

extension Moments {
  /// The affine step of a batch normalisation, rows centre, scale and shift, [3, channels]:
  /// centre = mean, scale = γ / √(variance + ε), shift = β.
  public func fold(gamma: Tensor, beta: Tensor, epsilon: Float) -> Tensor {
    let affine = emptyAffine(gamma: gamma, beta: beta)
    let device = mean.device
    let channels = affine.channels
    device.launch(
      .normalization, "fold", options: "-D VEC=1", global: [channels], local: device.independent(1),
      mean.vectorArguments + variance.vectorArguments + gamma.vectorArguments + beta.vectorArguments + [
        .float(epsilon), .int(channels), .buffer(affine.storage.buffer),
      ],
      cost: LaunchCost("fold [\(channels)]"))
    recordFold(to: affine, gamma: gamma, beta: beta, epsilon: epsilon)
    return affine
  }

  /// The same in the launch that finishes `unfinished`, which are moments of some of the channels, and updates `moving`.
  fileprivate func fold(
    finishing unfinished: UnfinishedMoments?, gamma: Tensor, beta: Tensor, epsilon: Float,
    updating moving: MovingMoments?
  ) -> Tensor {
    let affine = emptyAffine(gamma: gamma, beta: beta)
    let channels = affine.channels
    for moving in [moving?.mean, moving?.variance].compactMap(\.self) {
      precondition(moving.shape == [channels], "moving statistics \(moving.shape) for \(channels) channels")
    }
    let first = unfinished.map { $0.mean.elementOffset - mean.elementOffset } ?? 0
    let launch = FinishingLaunch(
      channels: unfinished?.x.channels ?? 0, from: first, of: channels, chunks: unfinished?.chunks ?? 0, on: mean.device
    )
    let chunks = unfinished?.arguments ?? [.buffer(affine.storage.buffer), .int(0), .int(1), .int(1), .int(0)]
    mean.device.launch(
      .normalization, "batch_norm_fold", options: launch.options, global: launch.global, local: launch.local,
      chunks + [.int(first), .int(unfinished?.x.channels ?? 0)] + mean.vectorArguments + variance.vectorArguments
        + gamma.vectorArguments + beta.vectorArguments
        + [.float(epsilon), .int(channels), .buffer(affine.storage.buffer)]
        + (moving?.mean ?? affine).vectorArguments + (moving?.variance ?? affine).vectorArguments
        + [.float(moving?.momentum ?? 1), .int(moving == nil ? 0 : 1)],
      cost: LaunchCost("fold [\(channels)]", bytes: Double(unfinished?.byteCount ?? 0)))
    unfinished?.record()
    recordFold(to: affine, gamma: gamma, beta: beta, epsilon: epsilon)
    return affine
  }

  private func emptyAffine(gamma: Tensor, beta: Tensor) -> Tensor {
    let channels = mean.shape.count
    precondition(
      gamma.shape == [channels] && beta.shape == [channels],
      "fold: gamma \(gamma.shape) and beta \(beta.shape) for \(channels) channels")
    return Tensor(uninitialized: [3, channels], on: mean.device)
  }

  private func recordFold(to affine: Tensor, gamma: Tensor, beta: Tensor, epsilon: Float) {
    let (mean, variance, device, channels) = (mean, variance, mean.device, affine.channels)
    Tape.record("fold", inputs: [mean, variance, gamma, beta], outputs: [affine]) { store in
      let sums = store.takePostponed(AffineGradient.self, for: affine)
      let daffine = sums == nil ? store.gradient(of: affine) : nil
      guard sums != nil || daffine != nil else { return }
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
      let given = variance.vectorArguments + gamma.vectorArguments + [.float(epsilon)]
      let targets =
        [dmean, dvariance, dgamma, dbeta].flatMap { ($0?.tensor ?? affine).vectorArguments } + [.int(flags)]
      if let sums {
        let launch = sums.launch
        device.launch(
          .normalization, "batch_norm_fold_gradient", options: launch.options, global: launch.global,
          local: launch.local, sums.arguments + given + targets,
          cost: LaunchCost("fold gradient [\(channels)]", bytes: Double(sums.byteCount)))
      } else if let daffine {
        device.launch(
          .normalization, "fold_gradient", options: "-D VEC=1", global: [channels], local: device.independent(1),
          daffine.vectorArguments + given + [.int(channels)] + targets,
          cost: LaunchCost("fold gradient [\(channels)]"))
      }
    }
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

/// The moving statistics that a batch normalisation updates.
package struct MovingMoments {
  let mean, variance: Tensor
  let momentum: Float

  /// - Parameters:
  ///   - mean: [channels].
  ///   - variance: [channels].
  ///   - momentum: the share of the old value that stays.
  package init(mean: Tensor, variance: Tensor, momentum: Float) {
    (self.mean, self.variance, self.momentum) = (mean, variance, momentum)
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
    batchNormalized(gamma: gamma, beta: beta, epsilon: epsilon, updating: nil)
  }

  /// The same, and `moving = momentum · moving + (1 − momentum) · batch` for mean and variance. All that is done for each
  /// channel is one launch: a GPU waits longer between small launches than it computes in them.
  package func batchNormalized(
    gamma: Tensor, beta: Tensor, epsilon: Float, updating moving: MovingMoments?
  ) -> DeferredTensor {
    // Steps that neither the moments nor the affine can read through are computed once for both.
    let pending = deferred.prologue
    let x = pending.affine == nil && pending.postSlope == nil ? deferred : materialized().deferred
    let (moments, unfinished) = x.startedMoments()
    // Mostly there is one: the newest slab of a stack. The kernel takes no more.
    unfinished.dropLast().forEach { $0.finish() }
    return x.affine(
      moments.fold(finishing: unfinished.last, gamma: gamma, beta: beta, epsilon: epsilon, updating: moving))
  }

  /// The same with given statistics, as in inference.
  public func normalized(with moments: Moments, gamma: Tensor, beta: Tensor, epsilon: Float) -> DeferredTensor {
    affine(moments.fold(gamma: gamma, beta: beta, epsilon: epsilon))
  }
}
