/// Windows and OS/2 bitmaps: 1, 2, 4 and 8 bits with a palette (plain or run-length coded), 16, 24 and 32 bits.
struct BMPDecoder {
  private let file: ByteReader

  init(_ file: ByteReader) {
    self.file = file
  }

  private struct Header {
    var width = 0
    var height = 0
    var topDown = false
    var bits = 0
    var compression = Compression.none
    var palette: ByteReader?
    var paletteStep = 4
    var masks: [Int] = []  // red, green, blue
    var data = 0  // offset of the first stored row
  }

  private enum Compression: Int {
    case none, runLength8, runLength4, masks
  }

  /// - Throws: `ImageError`.
  func decode() throws -> RGBImage {
    let header = try readHeader()
    try ImageCodec.checkSize(.bmp, width: header.width, height: header.height)
    switch header.compression {
    case .none where header.bits <= 8: return paint(try unpackIndices(header), header)
    case .runLength4, .runLength8: return paint(try expandRuns(header), header)
    default: return try unpackColors(header)
    }
  }

  private func readHeader() throws -> Header {
    var header = Header()
    header.data = try number(10, 4)
    let size = try number(14, 4)
    if size == 12 {
      header.width = try number(18, 2)
      header.height = try number(20, 2)
      header.bits = try number(24, 2)
      header.paletteStep = 3
    } else {
      guard size >= 40, let width = file.signed32(at: 18), let height = file.signed32(at: 22) else {
        throw damaged("bad header")
      }
      header.width = width
      header.height = abs(height)
      header.topDown = height < 0
      header.bits = try number(28, 2)
      var code = try number(30, 4)
      if code == 6 { code = 3 }  // the same with a mask for alpha
      guard let compression = Compression(rawValue: code) else {
        throw ImageError.unsupported(format: .bmp, reason: "compression \(code)")
      }
      header.compression = compression
    }
    var palette = 14 + size
    switch (header.bits, header.compression) {
    case (1, .none), (2, .none), (4, .none), (8, .none), (24, .none), (8, .runLength8), (4, .runLength4): break
    case (16, .none): header.masks = [0x7C00, 0x03E0, 0x001F]
    case (32, .none): header.masks = [0xFF0000, 0xFF00, 0xFF]
    case (16, .masks), (32, .masks):
      // Later headers include the masks, the 40-byte one is followed by them: the same place.
      header.masks = try (0..<3).map { try number(54 + 4 * $0, 4) }
      palette = max(palette, 66)
    default: throw ImageError.unsupported(format: .bmp, reason: "\(header.bits) bits per pixel")
    }
    if header.bits <= 8 {
      let most = 1 << header.bits
      let used = size == 12 ? 0 : try number(46, 4)
      let entries = used == 0 ? most : min(used, most)
      let end = palette + entries * header.paletteStep
      guard end <= file.count else { throw damaged("file is truncated") }
      header.palette = file.slice(palette..<end)
    }
    return header
  }

  /// Rows from the top, one index per pixel.
  private func unpackIndices(_ header: Header) throws -> [UInt8] {
    let stride = try rowStride(header)
    var indices = [UInt8](repeating: 0, count: header.width * header.height)
    let perByte = 8 / header.bits
    let mask = UInt8((1 << header.bits) - 1)
    for y in 0..<header.height {
      let row = header.data + stride * (header.topDown ? y : header.height - 1 - y)
      for x in 0..<header.width {
        let shift = UInt8(8 - header.bits * (x % perByte + 1))
        indices[y * header.width + x] = file.bytes[row + x / perByte] >> shift & mask
      }
    }
    return indices
  }

  private func expandRuns(_ header: Header) throws -> [UInt8] {
    let (width, height) = (header.width, header.height)
    let nibbles = header.compression == .runLength4
    var indices = [UInt8](repeating: 0, count: width * height)
    var offset = header.data
    var (x, y) = (0, 0)  // y from the first stored row
    func put(_ index: Int) {
      if x < width, y < height {
        indices[(header.topDown ? y : height - 1 - y) * width + x] = UInt8(index)
      }
      x += 1
    }
    while y < height {
      let (count, value) = (try number(offset, 1), try number(offset + 1, 1))
      offset += 2
      if count > 0 {
        for i in 0..<count { put(nibbles ? (i % 2 == 0 ? value >> 4 : value & 15) : value) }
        continue
      }
      switch value {
      case 0: (x, y) = (0, y + 1)
      case 1: return indices
      case 2:
        x += try number(offset, 1)
        y += try number(offset + 1, 1)
        offset += 2
      default:
        for i in 0..<value {
          let byte = try number(offset + (nibbles ? i / 2 : i), 1)
          put(nibbles ? (i % 2 == 0 ? byte >> 4 : byte & 15) : byte)
        }
        let bytes = nibbles ? (value + 1) / 2 : value
        offset += bytes + bytes % 2
      }
    }
    return indices
  }

  private func paint(_ indices: [UInt8], _ header: Header) -> RGBImage {
    let colors = (0..<256).map { index -> (UInt8, UInt8, UInt8) in
      let entry = index * header.paletteStep
      guard let palette = header.palette, entry + 2 < palette.count else { return (0, 0, 0) }
      return (palette.bytes[entry + 2], palette.bytes[entry + 1], palette.bytes[entry])
    }
    return RGBImage(width: header.width, height: header.height) { target in
      for (i, index) in indices.enumerated() {
        (target[3 * i], target[3 * i + 1], target[3 * i + 2]) = colors[Int(index)]
      }
    }
  }

  private func unpackColors(_ header: Header) throws -> RGBImage {
    let stride = try rowStride(header)
    let step = header.bits / 8
    let channels = header.masks.map(MaskedChannel.init)
    let reader = file
    return RGBImage(width: header.width, height: header.height) { target in
      var write = 0
      for y in 0..<header.height {
        var read = header.data + stride * (header.topDown ? y : header.height - 1 - y)
        for _ in 0..<header.width {
          if step == 3 {
            target[write] = reader.bytes[read + 2]
            target[write + 1] = reader.bytes[read + 1]
            target[write + 2] = reader.bytes[read]
          } else {
            let pixel = reader.integer(at: read, size: step) ?? 0
            for c in 0..<3 { target[write + c] = channels[c].value(of: pixel) }
          }
          write += 3
          read += step
        }
      }
    }
  }

  /// Bytes from one row to the next; all rows are inside the file.
  private func rowStride(_ header: Header) throws -> Int {
    let stride = (header.width * header.bits + 31) / 32 * 4
    let lastRow = (header.width * header.bits + 7) / 8  // its padding may be missing
    guard header.data + stride * (header.height - 1) + lastRow <= file.count else { throw damaged("file is truncated") }
    return stride
  }

  private func number(_ offset: Int, _ size: Int) throws -> Int {
    guard let value = file.integer(at: offset, size: size) else { throw damaged("file is truncated") }
    return value
  }

  private func damaged(_ reason: String) -> ImageError { .damaged(format: .bmp, reason: reason) }
}

/// One colour's bits inside a 16- or 32-bit pixel, widened to 0…255.
private struct MaskedChannel {
  let mask: Int
  let shift: Int
  let highest: Int

  init(mask: Int) {
    self.mask = mask
    shift = mask == 0 ? 0 : mask.trailingZeroBitCount
    highest = mask >> shift
  }

  func value(of pixel: Int) -> UInt8 {
    highest == 0 ? 0 : UInt8((pixel & mask) >> shift * 255 / highest)
  }
}
