import OpenCLRuntime
import TensorCore

/// A filter gradient in parts that are still to be added up, float32 [splits, values]: on GPUs, where possible, beside those
/// of other layers in a `PartialSumPool`, else in memory of their own.
package struct PartialSums {
  private let splits: Int
  private let values: Int
  private let destination: GradientStore.Destination
  /// Nil on CPUs.
  private let pool: PartialSumPool?
  /// Whether they wait in the pool for those of other layers.
  private let waits: Bool
  private let memory: Tensor
  /// Element of `buffer` at which they begin, a multiple of 32.
  package let offset: Int
  /// Where they go.
  package var buffer: Buffer { memory.storage.buffer }

  /// Memory for `splits` parts, one after another, of the `values` values of a gradient.
  package init(splits: Int, values: Int, of destination: GradientStore.Destination) {
    self.splits = splits
    self.values = values
    self.destination = destination
    let device = destination.tensor.device
    let count = splits * values
    let capacity = PartialSumPool.capacity(on: device)
    let common = count <= capacity ? destination.gathered { PartialSumPool(capacity: capacity) } : nil
    waits = common != nil
    pool = common ?? (capacity > 0 ? PartialSumPool(capacity: count) : nil)
    (memory, offset) =
      pool?.reserve(count, for: destination.tensor) ?? (Tensor(uninitialized: [count], on: device), 0)
  }

  /// Buffer and offset, by which a kernel finds where to write them.
  var arguments: [KernelArgument] { [.buffer(buffer), .int(offset)] }

  /// Of all parts.
  var byteCount: Int { 4 * splits * values }

  /// Once they are written: gradient (+)= their sum in a fixed order, now or together with others.
  package func finish() {
    guard let pool else {
      return finishRowSums(
        memory, count: splits, factor: 1, to: destination.tensor, accumulate: destination.accumulate)
    }
    pool.add(
      .init(
        first: offset, splits: splits, values: values, destination: destination.tensor,
        accumulate: destination.accumulate))
    if !waits { pool.finish() }
  }
}

/// The partial sums of several filter gradients in one buffer, which one launch adds up: a GPU takes longer to start a
/// launch for each than to compute it, and the sums of one layer alone are too few to keep it busy. The bits do not
/// depend on what else is in the pool.
package final class PartialSumPool: GatheredContributions {
  /// A gradient that is still to be added up.
  struct Segment {
    /// Element of the pool at which its parts begin.
    let first: Int
    let splits: Int
    let values: Int
    let destination: Tensor
    let accumulate: Bool
  }

  /// Elements of a pool, in place of what suits the device, for tests; 0 for no pool.
  @TaskLocal package static var forcedCapacity: Int?

  /// Elements of a pool. On a GPU half a MiB for each compute unit, up to 64 MiB: room for the parts of four layers with the
  /// largest tiles at least, two work-groups for each compute unit with 64 KiB each. None on CPUs, where a launch costs little, and the
  /// parts are in the caches as long as nothing comes between: there `sum_rows_finish` adds them up.
  package static func capacity(on device: Device) -> Int {
    forcedCapacity
      ?? (device.isCPU ? 0 : min(device.description.computeUnits << 17, TiledConvolution.mostPartialValues))
  }

  private let capacity: Int
  private var memory: Tensor?
  private var used = 0
  private var segments: [Segment] = []

  init(capacity: Int) {
    self.capacity = capacity
  }

  /// Room for `count` elements, which is free until `finish`. Adds up what waits where there is not enough, or where the
  /// result belongs to another buffer.
  func reserve(_ count: Int, for destination: Tensor) -> (memory: Tensor, offset: Int) {
    precondition(count <= capacity, "PartialSumPool: \(count) elements in \(capacity)")
    let isOther = segments.contains { $0.destination.storage.buffer !== destination.storage.buffer }
    if used + count > capacity || isOther { finish() }
    let memory = self.memory ?? Tensor(uninitialized: [capacity], on: destination.device)
    self.memory = memory
    defer { used += (count + 31) / 32 * 32 }
    return (memory, used)
  }

  func add(_ segment: Segment) {
    segments.append(segment)
  }

  package func contains(_ gradient: Storage) -> Bool {
    segments.contains { $0.destination.storage === gradient }
  }

  /// destination (+)= the sum of its parts, for all that wait. The memory is given back.
  package func finish() {
    defer { (memory, used, segments) = (nil, 0, []) }
    guard let memory, let first = segments.first else { return }
    let device = memory.device
    let table = SegmentTable(segments, on: device)
    let bytes = segments.map { 4 * $0.values * ($0.splits + ($0.accumulate ? 2 : 1)) }.reduce(0, +)
    device.launch(
      .reduction, "sum_segments", options: "-D VEC=4 -D SEGMENT_ITEMS=\(table.items)",
      global: [table.groups * table.items], local: [table.items],
      [.buffer(memory.storage.buffer), .buffer(table.buffer), .buffer(first.destination.storage.buffer)],
      cost: LaunchCost("conv filter gradient sums of \(segments.count) layers", bytes: Double(bytes)))
  }
}

/// What each work-group of `sum_segments` does; see there.
private struct SegmentTable {
  /// Work-items of a work-group.
  let items: Int
  let groups: Int
  /// On the device, which keeps it for as long as it is there: the same layers wait at each step.
  let buffer: Buffer

  init(_ segments: [PartialSumPool.Segment], on device: Device) {
    let items = [256, 128, 64, 32, 16, 8, 4, 2].first { $0 <= device.description.maximumWorkGroupSize } ?? 1
    let parts = segments.map { Part($0, items: items) }
    self.items = items
    groups = parts.map(\.groups).reduce(0, +)
    let key = "segments by \(items) " + parts.map(\.key).joined(separator: ";")
    buffer = device.constant(key, parts.flatMap(\.entries))
  }

  /// The work-groups of a segment.
  private struct Part {
    private let segment: PartialSumPool.Segment
    /// Work-items of a column, a power of two.
    private let share: Int
    /// Values of a column of work-items.
    private let width: Int
    /// Values of a work-group.
    private let extent: Int

    init(_ segment: PartialSumPool.Segment, items: Int) {
      self.segment = segment
      // At least eight splits each: then there are work-items enough to keep memory busy, whatever the shape of a layer,
      // and a work-group still reads 128 bytes of a split together.
      share = [32, 16, 8, 4, 2].first { $0 <= items && 8 * $0 <= segment.splits } ?? 1
      width = segment.values % 4 == 0 && segment.destination.elementOffset % 4 == 0 ? 4 : 1
      extent = items / share * width
    }

    var groups: Int { (segment.values + extent - 1) / extent }

    var key: String {
      let to = segment.destination.elementOffset
      return "\(segment.first) \(segment.splits) \(segment.values) \(to) \(segment.accumulate)"
    }

    /// Eight numbers for each work-group.
    var entries: [Int32] {
      stride(from: 0, to: segment.values, by: extent).flatMap { value in
        [
          segment.first + value, segment.destination.elementOffset + value, segment.splits, segment.values,
          min(extent, segment.values - value), width, share.trailingZeroBitCount, segment.accumulate ? 1 : 0,
        ].map(Int32.init)
      }
    }
  }
}
