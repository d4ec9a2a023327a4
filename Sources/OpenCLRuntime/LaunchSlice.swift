/// A part of a launch, told from the others by its offset.
///
/// Common GPUs take at most 65,535 work-groups in the second and third dimension, and a driver may make groups of one
/// item there.
struct LaunchSlice: Equatable {
  /// Nil when the launch is whole.
  var offset: [Int]?
  var global: [Int]
  /// Nil leaves the work-groups to the driver.
  var local: [Int]?

  static let limit = 65535

  /// The parts of a launch without work-groups of its own; one with them is left whole, as its kernel may depend on them.
  ///
  /// - Parameter groupItems: most work-items of a work-group, for work-groups chosen here; nil leaves them to the driver.
  ///   Drivers have to divide the extents given, of which some are prime: a group may end up with a single item.
  static func slices(_ global: [Int], local: [Int]?, groupItems: Int? = nil) -> [LaunchSlice] {
    guard local == nil else { return [LaunchSlice(offset: nil, global: global, local: local)] }
    var slices = [LaunchSlice(offset: nil, global: global)]
    for dimension in global.indices.dropFirst() where global[dimension] > limit {
      slices = slices.flatMap { slice in
        stride(from: 0, to: global[dimension], by: limit).map { start in
          slice.part(dimension, from: start, count: min(limit, global[dimension] - start))
        }
      }
    }
    guard let groupItems else { return slices }
    return slices.flatMap { $0.grouped(upTo: groupItems) }
  }

  private func part(_ dimension: Int, from start: Int, count: Int) -> LaunchSlice {
    var part = self
    part.offset = offset ?? Array(repeating: 0, count: global.count)
    part.offset?[dimension] += start
    part.global[dimension] = count
    return part
  }

  // MARK: - Work-groups

  /// What the lanes of a warp or wavefront are counted in: 64 is a multiple of all common ones.
  private static let lanes = 64

  /// This part with a work-group: one that divides it where that keeps the lanes busy; else its largest part that good
  /// groups divide, and what is left.
  private func grouped(upTo groupItems: Int) -> [LaunchSlice] {
    let group = Self.bestGroup(global, groupItems)
    var whole = self
    whole.local = group
    if Self.isGood(group) || global.reduce(1, *) <= groupItems { return [whole] }
    // Of the last dimension, the largest multiple of a power of two that fills a group with what divides the others.
    let dimension = global.count - 1
    var others = global
    others[dimension] = 1
    let across = Self.bestGroup(others, groupItems)
    var along = 1
    while along * 2 <= min(groupItems / across.reduce(1, *), global[dimension]) { along *= 2 }
    let count = global[dimension] / along * along
    guard along > group[dimension], count < global[dimension] else { return [whole] }
    var main = part(dimension, from: 0, count: count)
    main.local = across
    main.local?[dimension] = along
    return [main] + part(dimension, from: count, count: global[dimension] - count).grouped(upTo: groupItems)
  }

  /// The work-group of at most so many items, of divisors of the extents, that leaves hardly more lanes idle than any other
  /// and has most neighbours in the first dimensions, where kernels have what is side by side in memory.
  private static func bestGroup(_ global: [Int], _ groupItems: Int) -> [Int] {
    var groups: [[Int]] = [[]]
    for extent in global {
      groups = groups.flatMap { group in
        (1...max(1, min(groupItems / group.reduce(1, *), extent))).filter { extent % $0 == 0 }.map { group + [$0] }
      }
    }
    let most = groups.map { busyLanes($0.reduce(1, *)) }.max() ?? 0
    let good = groups.filter { busyLanes($0.reduce(1, *)) >= 0.85 * most }
    return good.max { $0.lexicographicallyPrecedes($1) } ?? Array(repeating: 1, count: global.count)
  }

  private static func isGood(_ group: [Int]) -> Bool { busyLanes(group.reduce(1, *)) >= 0.75 }

  /// The share of a work-group's lanes that have a work-item, as if it had two times 64 at least: smaller ones are too many
  /// for a compute unit, which holds a limited number.
  private static func busyLanes(_ items: Int) -> Double {
    Double(items) / Double(max((items + lanes - 1) / lanes * lanes, 2 * lanes))
  }
}

extension Device {
  package var isCPU: Bool { description.kind == .cpu }

  /// The work-group of kernels whose work-items do not cooperate: one item on a CPU, where a fixed size also means one
  /// compilation, Fovea's or the driver's choice elsewhere.
  package func independent(_ dimensions: Int) -> [Int]? {
    isCPU ? Array(repeating: 1, count: dimensions) : nil
  }
}
