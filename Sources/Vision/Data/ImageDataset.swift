import NeuralNetwork

/// Pictures with a class each, read one at a time and in any order.
///
/// `image(at:)` is called from several threads at once.
public protocol ImageDataset: Sendable {
  /// In the order of the labels.
  var classNames: [String] { get }
  /// Pictures.
  var count: Int { get }
  /// Index into `classNames`.
  func label(at index: Int) -> Int
  /// Unique within the data set; a file's path below the data set's folder.
  func name(at index: Int) -> String
  /// The picture in its own size.
  ///
  /// - Throws: `ImageError`; the loader counts any error as a bad picture.
  func image(at index: Int) throws -> RGBImage
  /// The picture squashed to `height` × `width` × 3 bytes, rows from the top, R G B; by default what ``squash(_:height:width:)``
  /// makes of `image(at:)`.
  ///
  /// - Throws: what `image(at:)` throws.
  func pixels(at index: Int, height: Int, width: Int) throws -> [UInt8]
  /// A text that two pictures have in common only when they are the same: an ``ImageCache`` tells by it what it holds. By
  /// default the name, which does for pictures that never change.
  func identity(at index: Int) -> String
}

extension ImageDataset {
  /// The picture, squashed.
  public func pixels(at index: Int, height: Int, width: Int) throws -> [UInt8] {
    squash(try image(at: index), height: height, width: width)
  }

  /// The name.
  public func identity(at index: Int) -> String { name(at: index) }

  /// A number that changes when pictures are added, removed, renamed or moved to another class: the order in which they
  /// are drawn then changes too.
  public var fingerprint: UInt64 {
    (0..<count).reduce(0) { state, index in
      var random = RandomNumbers(seed: state, name: "\(label(at: index))/\(name(at: index))")
      return random.next()
    }
  }

  /// At most `limit` pictures, drawn at random from `seed` so that classes stay mixed; the whole set when it is no
  /// larger.
  public func limited(to limit: Int, seed: UInt64) -> any ImageDataset {
    precondition(limit > 0, "limited: \(limit) pictures")
    if limit >= count { return self }
    var random = RandomNumbers(seed, streams.limit)
    return SubsetDataset(self, indices: random.permutation(count)[..<limit].sorted())
  }
}

/// Some pictures of another data set.
public struct SubsetDataset: ImageDataset {
  private let base: any ImageDataset
  private let indices: [Int]

  /// `indices` are positions in `base`.
  public init(_ base: any ImageDataset, indices: [Int]) {
    self.base = base
    self.indices = indices
  }

  /// In the order of the labels, as the whole set has them.
  public var classNames: [String] { base.classNames }
  /// Pictures chosen.
  public var count: Int { indices.count }
  /// Index into `classNames`.
  public func label(at index: Int) -> Int { base.label(at: indices[index]) }
  /// The name in the whole set.
  public func name(at index: Int) -> String { base.name(at: indices[index]) }
  /// As the whole set gives them.
  public func image(at index: Int) throws -> RGBImage { try base.image(at: indices[index]) }
  /// As the whole set gives them.
  public func pixels(at index: Int, height: Int, width: Int) throws -> [UInt8] {
    try base.pixels(at: indices[index], height: height, width: width)
  }
  /// As in the whole set.
  public func identity(at index: Int) -> String { base.identity(at: indices[index]) }
}

/// One seed serves several draws; each has a stream of its own, so that none repeats another's numbers.
let streams = (
  order: 1 as UInt64, split: 2 as UInt64, limit: 3 as UInt64, synthetic: 4 as UInt64, augmentation: 5 as UInt64,
  mixup: 6 as UInt64
)
