/// The extents of a tensor, outermost first. Images are NHWC: batch, height, width, channels.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
  public let dimensions: [Int]

  public init(_ dimensions: [Int]) {
    precondition(dimensions.allSatisfy { $0 >= 0 }, "Shape: negative extent in \(dimensions)")
    self.dimensions = dimensions
  }

  public init(arrayLiteral elements: Int...) {
    self.init(elements)
  }

  public var rank: Int { dimensions.count }

  /// Number of elements; 1 for a scalar.
  public var count: Int { dimensions.reduce(1, *) }

  /// The innermost extent; 1 for a scalar.
  public var channels: Int { dimensions.last ?? 1 }

  /// Product of all extents but the innermost.
  public var rows: Int { dimensions.dropLast().reduce(1, *) }

  public subscript(index: Int) -> Int { dimensions[index] }

  /// The same extents with another innermost one.
  public func withChannels(_ channels: Int) -> Shape {
    Shape(dimensions.dropLast() + [channels])
  }

  public var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}

/// The type of a tensor's elements on the device.
public enum DType: Sendable, Hashable {
  case float32, uint8, int32

  /// Bytes of one element.
  public var byteCount: Int { self == .uint8 ? 1 : 4 }
}
