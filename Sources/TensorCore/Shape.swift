/// The extents of a tensor, outermost first. Images are NHWC: batch, height, width, channels.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
  /// The extents, outermost first; none for a scalar.
  public let dimensions: [Int]

  /// A shape of those extents; a negative one traps.
  public init(_ dimensions: [Int]) {
    precondition(dimensions.allSatisfy { $0 >= 0 }, "Shape: negative extent in \(dimensions)")
    self.dimensions = dimensions
  }

  /// `[2, 3]` as a shape.
  public init(arrayLiteral elements: Int...) {
    self.init(elements)
  }

  /// Number of extents; 0 for a scalar.
  public var rank: Int { dimensions.count }

  /// Number of elements; 1 for a scalar.
  public var count: Int { dimensions.reduce(1, *) }

  /// The innermost extent; 1 for a scalar.
  public var channels: Int { dimensions.last ?? 1 }

  /// Product of all extents but the innermost.
  public var rows: Int { dimensions.dropLast().reduce(1, *) }

  /// The extent at `index`, counted from the outermost.
  public subscript(index: Int) -> Int { dimensions[index] }

  /// The same extents with another innermost one.
  public func withChannels(_ channels: Int) -> Shape {
    Shape(dimensions.dropLast() + [channels])
  }

  /// The extents as a list, such as `[64, 300, 300, 3]`.
  public var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}

/// The type of a tensor's elements on the device.
public enum DType: String, Sendable, Hashable, Codable {
  /// Single precision: values, weights and gradients.
  case float32
  /// 16 bits of which 11 are the fraction's: values between layers and their gradients. Nothing beyond 65504.
  case float16
  /// The upper half of a `float32`, 8 bits of fraction: the same, of the same range as `float32`.
  case bfloat16
  /// Bytes, such as pixels.
  case uint8
  /// 32-bit integers, such as labels and tables.
  case int32

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .uint8: 1
    case .float16, .bfloat16: 2
    case .float32, .int32: 4
    }
  }

  /// Whether it is one of the two types of 16 bits, which hold values between layers and nothing else.
  public var isSixteenBit: Bool { byteCount == 2 }

  /// Whether values of the type are floating-point numbers.
  public var isFloatingPoint: Bool { self == .float32 || isSixteenBit }
}
