/// An 8-bit RGB picture in memory.
public struct RGBImage: Sendable, Equatable {
  /// Columns.
  public let width: Int
  /// Rows.
  public let height: Int
  /// `height` × `width` × 3 bytes: rows from the top, R G B.
  public private(set) var pixels: [UInt8]

  /// Traps unless `pixels` holds exactly `height` × `width` × 3 bytes.
  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(width > 0 && height > 0, "RGBImage: \(width)×\(height) has no pixels")
    precondition(
      pixels.count == width * height * 3,
      "RGBImage: \(width)×\(height)×3 needs \(width * height * 3) bytes, not \(pixels.count)")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// A picture of one colour.
  public init(width: Int, height: Int, color: (red: UInt8, green: UInt8, blue: UInt8)) {
    self.init(width: width, height: height) { target in
      var i = 0
      while i < target.count {
        target[i] = color.red
        target[i + 1] = color.green
        target[i + 2] = color.blue
        i += 3
      }
    }
  }

  /// `fill` writes every one of the `height` × `width` × 3 bytes.
  init(width: Int, height: Int, fill: (UnsafeMutableBufferPointer<UInt8>) throws -> Void) rethrows {
    let count = width * height * 3
    let pixels = try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      try fill(UnsafeMutableBufferPointer(rebasing: buffer[0..<count]))
      initialized = count
    }
    self.init(width: width, height: height, pixels: pixels)
  }

  /// The part of the picture whose top-left corner is (`x`, `y`). Traps when it reaches beyond the picture.
  func cropped(to part: (x: Int, y: Int, width: Int, height: Int)) -> RGBImage {
    precondition(part.x >= 0 && part.y >= 0 && part.x + part.width <= width && part.y + part.height <= height)
    if part.width == width, part.height == height { return self }
    let row = part.width * 3
    return RGBImage(width: part.width, height: part.height) { target in
      pixels.withUnsafeBufferPointer { source in
        for line in 0..<part.height {
          (target.baseAddress! + line * row)
            .initialize(from: source.baseAddress! + ((part.y + line) * width + part.x) * 3, count: row)
        }
      }
    }
  }

  /// Copies `other` into this picture, its top-left corner at (`x`, `y`). Traps when it does not fit.
  mutating func paste(_ other: RGBImage, x: Int, y: Int) {
    precondition(x >= 0 && y >= 0 && x + other.width <= width && y + other.height <= height)
    let row = other.width * 3
    let stride = width * 3
    pixels.withUnsafeMutableBufferPointer { target in
      other.pixels.withUnsafeBufferPointer { source in
        for line in 0..<other.height {
          (target.baseAddress! + (y + line) * stride + x * 3)
            .update(from: source.baseAddress! + line * row, count: row)
        }
      }
    }
  }
}
