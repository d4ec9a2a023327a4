import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// Gradients of several parameters in one arena that come as parts, as those of filters do on GPUs.
package struct PartialSumCheck {
  /// A gradient's parts.
  package struct Segment: Sendable, CustomStringConvertible {
    package let splits: Int
    package let values: Int

    package init(_ splits: Int, _ values: Int) {
      (self.splits, self.values) = (splits, values)
    }

    package var description: String { "\(splits) × \(values)" }
  }

  package let segments: [Segment]
  /// How many contributions each gradient has.
  package let contributions: Int
  /// Each parameter's place in the arena begins at a multiple of it.
  package let alignment: Int

  package init(_ segments: [Segment], contributions: Int = 1, alignment: Int = 16) {
    self.segments = segments
    self.contributions = contributions
    self.alignment = alignment
  }

  package var name: String {
    "sums of \(segments.map(\.description).joined(separator: ", "))"
      + (contributions > 1 ? ", \(contributions) times" : "")
  }

  /// The parts of each gradient, [splits, values], by contribution.
  package var parts: [[ReferenceTensor]] {
    (0..<contributions).map { contribution in
      segments.enumerated().map { index, segment in
        .random([segment.splits, segment.values], seed: UInt64(1000 * contribution + index), range: -0.5...1)
      }
    }
  }

  /// What a device computes, in the order of the segments.
  package struct Result {
    package let gradients: [Tensor]
    /// All of the gradients' memory, [values].
    package let arena: GuardedMemory
    /// Where in it each gradient begins.
    package let offsets: [Int]
  }

  package func result(on device: Device) -> Result {
    var size = 0
    let offsets = segments.map { segment in
      defer { size += (segment.values + alignment - 1) / alignment * alignment }
      return size
    }
    let arena = GuardedMemory([size], on: device)
    let parameters = zip(segments, offsets).map { segment, offset in
      let parameter = Tensor(uninitialized: [segment.values], on: device)
      parameter.storage.requiresGradient = true
      parameter.storage.gradientHome = Storage(
        buffer: arena.storage.buffer, baseOffset: arena.storage.baseOffset + offset, rows: 1, channels: segment.values)
      return parameter
    }
    let (_, gradients) = valueWithGradients {
      // The tape is walked from its end.
      let terms = parts.flatMap { parts in zip(parameters, parts).map { $0.used(gradient: $1.tensor(on: device)) } }
      return terms.dropFirst().reduce(terms[0]) { $0 + $1 }
    }
    return Result(gradients: parameters.compactMap { gradients[$0] }, arena: arena, offsets: offsets)
  }

  package func run(on device: Device) throws -> [Comparison] {
    let result = result(on: device)
    let all = parts
    return try segments.enumerated().map { index, segment in
      let sums = all.map { Reference.channelSum($0[index]) }
      return try Comparison(
        "\(name), segment \(index)", result.gradients[index], sums.dropFirst().reduce(sums[0], Reference.add),
        within: tolerance(terms: segment.splits * contributions))
    } + [Comparison("\(name), memory beside them", holds: try result.arena.neighboursAreUntouched())]
  }
}

extension Tensor {
  /// An operation whose result is 0, and whose gradient with respect to self has these parts, [splits, values].
  package func used(gradient parts: Tensor) -> Tensor {
    let y = Tensor(uninitialized: [], on: device)
    y.fill(0)
    Tape.record("used", inputs: [self], outputs: [y]) { store in
      guard store.gradient(of: y) != nil, let destination = store.destination(for: self) else { return }
      let sums = PartialSums(splits: parts.shape[0], values: parts.channels, of: destination)
      sums.buffer.copy(
        from: parts.storage.buffer, sourceOffset: 4 * parts.elementOffset, offset: 4 * sums.offset,
        count: parts.byteCount)
      sums.finish()
    }
    return y
  }
}

/// One part and many, shared by work-items and not, of complete quads and not; and each gradient in two contributions.
var partialSumChecks: [KernelCheck] {
  let segments: [PartialSumCheck.Segment] = [
    .init(1, 5), .init(2, 64), .init(3, 1030), .init(31, 7), .init(32, 4), .init(33, 132), .init(120, 36), .init(40, 9),
  ]
  return [PartialSumCheck(segments), PartialSumCheck(segments, contributions: 2)].map { check in
    KernelCheck("sums of splits", check.name) { device in
      // On a CPU as well, where somebody wants to see its tiled kernels checked.
      try PartialSumPool.$forcedCapacity.withValue(max(PartialSumPool.capacity(on: device), 1 << 20)) {
        try check.run(on: device)
      }
    }
  }
}
