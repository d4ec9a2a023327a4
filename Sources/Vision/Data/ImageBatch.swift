/// Pictures and labels for one step.
public struct ImageBatch: Sendable {
  /// `count` × height × width × 3 bytes, rows from the top, R G B.
  public let pixels: [UInt8]
  /// `count` indices into the data set's class names.
  public let labels: [Int32]
  /// `count` positions in the data set.
  public let indices: [Int]
  /// With mixup, the classes of the pictures that were mixed in; nil without.
  public let partners: [Int32]?
  /// With mixup, the share of the pictures of `labels`; those of `partners` have the rest.
  public let share: Float

  /// Pictures.
  public var count: Int { indices.count }
}
