/// A part of a launch, told from the others by its offset.
///
/// Common GPUs take at most 65,535 work-groups in the second and third dimension, and a driver may make groups of one
/// item there.
struct LaunchSlice: Equatable {
  /// Nil when the launch is whole.
  var offset: [Int]?
  var global: [Int]

  static let limit = 65535

  /// The parts of a launch whose work-groups the driver chooses; any other is left whole, as its kernel may depend on
  /// its work-groups.
  static func slices(_ global: [Int], local: [Int]?) -> [LaunchSlice] {
    guard local == nil, global.dropFirst().contains(where: { $0 > limit }) else {
      return [LaunchSlice(offset: nil, global: global)]
    }
    var slices = [LaunchSlice(offset: Array(repeating: 0, count: global.count), global: global)]
    for dimension in 1..<global.count {
      slices = slices.flatMap { slice in
        stride(from: 0, to: global[dimension], by: limit).map { start in
          var part = slice
          part.offset?[dimension] = start
          part.global[dimension] = min(limit, global[dimension] - start)
          return part
        }
      }
    }
    return slices
  }
}
