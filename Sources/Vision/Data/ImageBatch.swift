/// Pictures and labels for one step.
public struct ImageBatch: Sendable {
  /// `count` × height × width × 3 bytes, rows from the top, R G B.
  public let pixels: [UInt8]
  /// `count` indices into the data set's class names.
  public let labels: [Int32]
  /// `count` positions in the data set.
  public let indices: [Int]

  /// Pictures.
  public var count: Int { indices.count }
}
