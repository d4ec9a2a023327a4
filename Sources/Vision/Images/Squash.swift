/// Brings a picture to `height` × `width`, whatever its own shape: bilinear, half-pixel centres, no antialiasing.
///
/// As `keras.ops.image.resize` does it with a uint8 picture: positions and blending in float32, columns first, the result
/// rounded half to even. A picture of that size already is copied.
///
/// - Returns: `height` × `width` × 3 bytes, rows from the top, R G B.
public func squash(_ image: RGBImage, height: Int, width: Int) -> [UInt8] {
  precondition(height > 0 && width > 0, "squash: \(width)×\(height) has no pixels")
  if image.height == height, image.width == width { return image.pixels }
  let columns = BilinearTaps(source: image.width, target: width)
  let rows = BilinearTaps(source: image.height, target: height)
  let rowLength = width * 3
  return [UInt8](unsafeUninitializedCapacity: height * rowLength) { output, initialized in
    image.pixels.withUnsafeBufferPointer { source in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * rowLength) { scratch in
        var upper = BlendedRow(values: scratch.baseAddress!)
        var lower = BlendedRow(values: scratch.baseAddress! + rowLength)
        for y in 0..<height {
          let (first, second) = (rows.first[y], rows.second[y])
          if lower.source == first { swap(&upper, &lower) }
          let sourceRow = { source.baseAddress! + $0 * image.width * 3 }
          upper.load(first, from: sourceRow(first), columns)
          if second == first {
            blend(upper.values, upper.values, 0, into: output.baseAddress! + y * rowLength, count: rowLength)
            continue
          }
          lower.load(second, from: sourceRow(second), columns)
          blend(
            upper.values, lower.values, rows.weight[y], into: output.baseAddress! + y * rowLength, count: rowLength)
        }
      }
    }
    initialized = height * rowLength
  }
}

/// For every target position along one axis the two source positions it lies between, and the second one's weight.
private struct BilinearTaps {
  let first: [Int]
  let second: [Int]
  let weight: [Float]

  init(source: Int, target: Int) {
    let scale = Float(source) / Float(target)
    let positions = (0..<target).map { (Float($0) + 0.5) * scale - 0.5 }
    first = positions.map { max(Int($0.rounded(.down)), 0) }
    second = positions.map { min(Int($0.rounded(.up)), source - 1) }
    weight = positions.map { $0 - $0.rounded(.down) }
  }
}

/// One source row after its columns have been blended, kept for as long as target rows need it.
private struct BlendedRow {
  let values: UnsafeMutablePointer<Float>
  var source: Int?

  init(values: UnsafeMutablePointer<Float>) {
    self.values = values
  }

  // The loops here and in `blend` are plain `while` loops over pointers of concrete types: without optimisation anything
  // generic (ranges, numeric conversions) costs a call for every byte.
  mutating func load(_ row: Int, from pixels: UnsafePointer<UInt8>, _ columns: BilinearTaps) {
    if source == row { return }
    source = row
    let count = columns.first.count
    columns.first.withUnsafeBufferPointer { first in
      columns.second.withUnsafeBufferPointer { second in
        columns.weight.withUnsafeBufferPointer { weights in
          var write = values
          var x = 0
          while x < count {
            let left = pixels + first[x] * 3
            let right = pixels + second[x] * 3
            let weight = weights[x]
            let (l0, l1, l2) = (Float(left[0]), Float(left[1]), Float(left[2]))
            write[0] = l0 + (Float(right[0]) - l0) * weight
            write[1] = l1 + (Float(right[1]) - l1) * weight
            write[2] = l2 + (Float(right[2]) - l2) * weight
            write += 3
            x += 1
          }
        }
      }
    }
  }
}

private func blend(
  _ upper: UnsafeMutablePointer<Float>, _ lower: UnsafeMutablePointer<Float>, _ weight: Float,
  into target: UnsafeMutablePointer<UInt8>, count: Int
) {
  var i = 0
  while i < count {
    let value = upper[i] + (lower[i] - upper[i]) * weight
    // The sum's last bits are the value rounded half to even: without SSE 4.1 `rounded` is a call for each byte.
    target[i] = UInt8(truncatingIfNeeded: (value + 0x1.8p23).bitPattern)
    i &+= 1
  }
}
