/// Pictures side by side in one, as for a report.
public enum PictureGrid {
  /// Lays `rows` out in a grid. A column is as wide as its widest picture and a row as high as its highest; smaller
  /// pictures are centred. Rows may differ in length.
  ///
  /// - Parameters:
  ///   - margin: pixels around and between the pictures.
  ///   - background: grey level of the margin.
  ///   - scale: every picture's pixel becomes a square with this side.
  public static func compose(
    _ rows: [[RGBImage]], margin: Int = 4, background: UInt8 = 255, scale: Int = 1
  ) -> RGBImage {
    let columns = rows.map(\.count).max() ?? 0
    precondition(columns > 0, "PictureGrid: no pictures")
    precondition(margin >= 0 && scale >= 1, "PictureGrid: margin \(margin), scale \(scale)")
    let cells = scale == 1 ? rows : rows.map { $0.map { $0.enlarged(by: scale) } }
    let widths = (0..<columns).map { column in cells.compactMap { $0.count > column ? $0[column].width : nil }.max()! }
    let heights = cells.map { $0.map(\.height).max() ?? 0 }
    var grid = RGBImage(
      width: widths.reduce(margin) { $0 + $1 + margin }, height: heights.reduce(margin) { $0 + $1 + margin },
      color: (background, background, background))
    var y = margin
    for (row, height) in zip(cells, heights) {
      var x = margin
      for (picture, width) in zip(row, widths) {
        grid.paste(picture, x: x + (width - picture.width) / 2, y: y + (height - picture.height) / 2)
        x += width + margin
      }
      y += height + margin
    }
    return grid
  }
}

extension RGBImage {
  /// Every pixel becomes a square of `factor` × `factor`, without blending.
  public func enlarged(by factor: Int) -> RGBImage {
    precondition(factor >= 1, "enlarged: factor \(factor)")
    let stride = width * factor * 3
    return RGBImage(width: width * factor, height: height * factor) { target in
      pixels.withUnsafeBufferPointer { source in
        for y in 0..<height {
          let first = target.baseAddress! + y * factor * stride
          var write = first
          var read = source.baseAddress! + y * width * 3
          for _ in 0..<width {
            for _ in 0..<factor {
              write.update(from: read, count: 3)
              write += 3
            }
            read += 3
          }
          for copy in 1..<factor { (first + copy * stride).update(from: first, count: stride) }
        }
      }
    }
  }
}
