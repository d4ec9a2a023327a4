/// The first frame of a GIF file.
///
/// As in Pillow, what the frame does not cover has its transparent colour, or colour 0; a frame that reaches beyond the
/// screen enlarges it; and a transparent pixel shows the colour of its palette entry.
struct GIFDecoder {
  private let file: ByteReader

  init(_ file: ByteReader) {
    self.file = file
  }

  private struct Frame {
    var x = 0
    var y = 0
    var width = 0
    var height = 0
    var interlaced = false
    var palette: ByteReader?
    var transparent: Int?
    var data = 0  // offset of the LZW code size
  }

  /// - Throws: `ImageError`.
  func decode() throws -> RGBImage {
    let frame = try findFirstFrame()
    let width = max(try number(6, 2), frame.x + frame.width)
    let height = max(try number(8, 2), frame.y + frame.height)
    try ImageCodec.checkSize(.gif, width: width, height: height)
    var data = LZW(file, at: frame.data)
    let indices = try data.decode(count: frame.width * frame.height)
    let colors = (0..<256).map { color(of: $0, in: frame) }
    let background = colors[frame.transparent ?? 0]
    var image = RGBImage(width: width, height: height, color: background)
    image.paste(paint(indices, frame, colors), x: frame.x, y: frame.y)
    return image
  }

  private func findFirstFrame() throws -> Frame {
    let screenFlags = try number(10, 1)
    var offset = 13
    let globalPalette = try palette(flags: screenFlags, at: &offset)
    var transparent: Int?
    while true {
      switch try number(offset, 1) {
      case 0x21:  // an extension: kind, then blocks
        if try number(offset + 1, 1) == 0xF9, try number(offset + 2, 1) >= 4 {
          transparent = try number(offset + 3, 1) & 1 == 1 ? try number(offset + 6, 1) : nil
        }
        offset += 2
        while case let length = try number(offset, 1), length > 0 { offset += 1 + length }
        offset += 1
      case 0x2C:
        var frame = Frame()
        frame.x = try number(offset + 1, 2)
        frame.y = try number(offset + 3, 2)
        frame.width = try number(offset + 5, 2)
        frame.height = try number(offset + 7, 2)
        let flags = try number(offset + 9, 1)
        offset += 10
        frame.interlaced = flags & 0x40 != 0
        frame.palette = try palette(flags: flags, at: &offset) ?? globalPalette
        frame.transparent = transparent
        frame.data = offset
        guard frame.width > 0, frame.height > 0 else { throw damaged("its first frame is empty") }
        return frame
      case 0x3B: throw damaged("no frame")
      case let kind: throw damaged("unknown block \(kind)")
      }
    }
  }

  private func palette(flags: Int, at offset: inout Int) throws -> ByteReader? {
    guard flags & 0x80 != 0 else { return nil }
    let start = offset
    offset += 3 << ((flags & 7) + 1)
    guard offset <= file.count else { throw damaged("file is truncated") }
    return file.slice(start..<offset)
  }

  /// Grey where there is no palette, black beyond its end.
  private func color(of index: Int, in frame: Frame) -> (red: UInt8, green: UInt8, blue: UInt8) {
    guard let palette = frame.palette else { return (UInt8(index), UInt8(index), UInt8(index)) }
    guard index * 3 + 2 < palette.count else { return (0, 0, 0) }
    return (palette.bytes[index * 3], palette.bytes[index * 3 + 1], palette.bytes[index * 3 + 2])
  }

  private func paint(
    _ indices: [UInt8], _ frame: Frame, _ colors: [(red: UInt8, green: UInt8, blue: UInt8)]
  ) -> RGBImage {
    // Interlaced rows come in four passes: every 8th from 0, every 8th from 4, every 4th from 2, every 2nd from 1.
    let passes = frame.interlaced ? [(0, 8), (4, 8), (2, 4), (1, 2)] : [(0, 1)]
    return RGBImage(width: frame.width, height: frame.height) { target in
      var read = 0
      for (first, step) in passes {
        for y in stride(from: first, to: frame.height, by: step) {
          var write = y * frame.width * 3
          for _ in 0..<frame.width {
            let color = colors[Int(indices[read])]
            target[write] = color.red
            target[write + 1] = color.green
            target[write + 2] = color.blue
            read += 1
            write += 3
          }
        }
      }
    }
  }

  private func number(_ offset: Int, _ size: Int) throws -> Int {
    guard let value = file.integer(at: offset, size: size) else { throw damaged("file is truncated") }
    return value
  }

  private func damaged(_ reason: String) -> ImageError { .damaged(format: .gif, reason: reason) }
}

/// GIF's variable-width LZW.
struct LZW {
  private let file: ByteReader
  private var position: Int
  private var blockLeft = 0
  private var bits = 0
  private var bitCount = 0

  init(_ file: ByteReader, at offset: Int) {
    self.file = file
    position = offset
  }

  /// Exactly `count` palette indices; more are ignored, fewer are an error.
  mutating func decode(count: Int) throws -> [UInt8] {
    guard let codeSize = file.byte(at: position), (1...11).contains(codeSize) else { throw damaged("bad code size") }
    position += 1
    let clear = 1 << codeSize
    let end = clear + 1
    // A code stands for the string of its prefix code and one more byte.
    var prefix = [Int](repeating: -1, count: 4096)
    var last = (0..<4096).map { UInt8(truncatingIfNeeded: $0) }
    var first = last
    var length = [Int](repeating: 1, count: 4096)
    var width = codeSize + 1
    var next = end + 1
    var previous: Int?
    var output = [UInt8](repeating: 0, count: count)
    var written = 0
    while written < count {
      guard let code = nextCode(width: width) else { throw damaged("file is truncated") }
      if code == clear {
        width = codeSize + 1
        next = end + 1
        previous = nil
        continue
      }
      if code == end { throw damaged("picture data end early") }
      if let previous {
        guard code <= next else { throw damaged("bad code") }
        if next < 4096 {
          // Defined before it is written out, for `code` may be this very entry.
          prefix[next] = previous
          first[next] = first[previous]
          last[next] = code == next ? first[previous] : first[code]
          length[next] = length[previous] + 1
          next += 1
          if next == 1 << width, width < 12 { width += 1 }
        }
      } else if code > end {
        throw damaged("bad code")
      }
      written += length[code]
      var write = written - 1
      var walk = code
      while walk >= 0 {
        if write < count { output[write] = last[walk] }
        write -= 1
        walk = prefix[walk]
      }
      previous = code
    }
    return output
  }

  private mutating func nextCode(width: Int) -> Int? {
    while bitCount < width {
      if blockLeft == 0 {
        guard let length = file.byte(at: position), length > 0 else { return nil }
        blockLeft = length
        position += 1
      }
      guard let byte = file.byte(at: position) else { return nil }
      bits |= byte << bitCount
      bitCount += 8
      position += 1
      blockLeft -= 1
    }
    let code = bits & (1 << width - 1)
    bits >>= width
    bitCount -= width
    return code
  }

  private func damaged(_ reason: String) -> ImageError { .damaged(format: .gif, reason: reason) }
}
