/// How a stored picture has to be turned to stand upright: the orientation of EXIF, named by what a viewer must do.
enum ImageOrientation: Int {
  case none = 1
  case flipHorizontally
  case rotateHalf
  case flipVertically
  case transpose
  case rotateClockwise
  case transverse
  case rotateCounterclockwise

  /// `none` also when there is no EXIF or it makes no sense: a picture is not refused for its metadata.
  init(readingEXIFOf file: ByteReader, format: ImageFormat) {
    let block =
      switch format {
      case .jpeg: EXIFBlock.inJPEG(file)
      case .png: EXIFBlock.inPNG(file)
      case .webp: EXIFBlock.inWebP(file)
      case .bmp, .gif: nil as ByteReader?
      }
    self = block.flatMap(EXIFBlock.orientation).flatMap(ImageOrientation.init(rawValue:)) ?? .none
  }

  func upright(_ image: RGBImage) -> RGBImage {
    if self == .none { return image }
    let (width, height) = (image.width, image.height)
    // Target pixel (x, y) is read at byte origin + x·dx + y·dy of the stored picture.
    let right = 3
    let down = 3 * width
    let lastColumn = (width - 1) * right
    let lastRow = (height - 1) * down
    let (origin, dx, dy) =
      switch self {
      case .none: (0, right, down)
      case .flipHorizontally: (lastColumn, -right, down)
      case .rotateHalf: (lastColumn + lastRow, -right, -down)
      case .flipVertically: (lastRow, right, -down)
      case .transpose: (0, down, right)
      case .rotateClockwise: (lastRow, -down, right)
      case .transverse: (lastColumn + lastRow, -down, -right)
      case .rotateCounterclockwise: (lastColumn, down, -right)
      }
    let turned = rawValue >= ImageOrientation.transpose.rawValue
    return RGBImage(width: turned ? height : width, height: turned ? width : height) { target in
      image.pixels.withUnsafeBufferPointer { source in
        let (targetWidth, targetHeight) = turned ? (height, width) : (width, height)
        var write = target.baseAddress!
        var y = 0
        while y < targetHeight {
          var read = source.baseAddress! + origin + y * dy
          var x = 0
          while x < targetWidth {
            write[0] = read[0]
            write[1] = read[1]
            write[2] = read[2]
            write += 3
            x += 1
            if x < targetWidth { read += dx }
          }
          y += 1
        }
      }
    }
  }
}

/// Where the file formats keep their EXIF, a small TIFF file, and the one entry of it that matters here.
enum EXIFBlock {
  static func inJPEG(_ file: ByteReader) -> ByteReader? {
    var offset = 2
    // Segments are FF, kind, length (which counts itself) up to the start of the picture data.
    while let marker = file.byte(at: offset), marker == 0xFF, let kind = file.byte(at: offset + 1) {
      if kind == 0xFF {
        offset += 1
        continue
      }
      if kind == 0xDA || kind == 0xD9 { return nil }
      guard let length = file.integer(at: offset + 2, size: 2, bigEndian: true), length >= 2 else { return nil }
      let end = offset + 2 + length
      if kind == 0xE1, end <= file.count, length >= 8, file.holds(exifPrefix, at: offset + 4) {
        return file.slice(offset + 10..<end)
      }
      offset = end
    }
    return nil
  }

  static func inPNG(_ file: ByteReader) -> ByteReader? {
    var offset = 8
    while let length = file.integer(at: offset, size: 4, bigEndian: true) {
      let start = offset + 8
      guard start + length <= file.count else { return nil }
      if file.holds("eXIf", at: offset + 4) { return file.slice(start..<start + length) }
      offset = start + length + 4
    }
    return nil
  }

  static func inWebP(_ file: ByteReader) -> ByteReader? {
    var offset = 12
    while let length = file.integer(at: offset + 4, size: 4) {
      var start = offset + 8
      let end = start + length
      guard end <= file.count else { return nil }
      if file.holds("EXIF", at: offset) {
        if file.holds(exifPrefix, at: start) { start += 6 }  // some writers keep JPEG's prefix
        return start <= end ? file.slice(start..<end) : nil
      }
      offset = end + length % 2
    }
    return nil
  }

  static func orientation(_ tiff: ByteReader) -> Int? {
    let bigEndian = tiff.holds("MM", at: 0)
    guard bigEndian || tiff.holds("II", at: 0),
      let directory = tiff.integer(at: 4, size: 4, bigEndian: bigEndian),
      let entries = tiff.integer(at: directory, size: 2, bigEndian: bigEndian)
    else { return nil }
    for entry in 0..<entries {
      let offset = directory + 2 + 12 * entry
      guard let tag = tiff.integer(at: offset, size: 2, bigEndian: bigEndian) else { return nil }
      if tag == 0x0112 { return tiff.integer(at: offset + 8, size: 2, bigEndian: bigEndian) }
    }
    return nil
  }

  private static let exifPrefix: [UInt8] = Array("Exif\0\0".utf8)
}
