import NeuralNetwork
import Testing

@testable import Vision

@Suite struct ImageCodecTests {
  @Test(arguments: [
    "png_rgb.png", "png_grey.png", "png_bit.png", "png_palette.png", "png_palette_transparent.png", "png_alpha.png",
    "png_grey_alpha.png", "png_16bit.png", "png_interlaced.png", "png_orientation6.png", "bmp_24.bmp", "bmp_8.bmp",
    "bmp_1.bmp", "bmp_32.bmp", "bmp_565.bmp", "bmp_rle8.bmp", "gif_color.gif", "gif_interlaced.gif", "gif_grey.gif",
    "gif_noise.gif", "gif_animated.gif", "webp_lossless.webp", "webp_alpha.webp", "webp_animated.webp",
    "webp_orientation6.webp",
  ])
  func losslessFormatsEqualPillow(_ name: String) throws {
    let image = try ImageCodec.decode(Fixtures.bytes(name))
    let expected = try Fixtures.expected(name)
    #expect(image.width == expected.width && image.height == expected.height)
    #expect(image == expected)
  }

  /// Two builds of a lossy decoder may round differently by a level or two.
  @Test(
    arguments: [
      "jpeg_color.jpg", "jpeg_444.jpg", "jpeg_grey.jpg", "jpeg_cmyk.jpg", "jpeg_progressive.jpg", "webp_lossy.webp",
      "extraneous.jpg", "no_end_marker.jpg",
    ] + (1...8).map { "jpeg_orientation\($0).jpg" })
  func lossyFormatsEqualPillowNearly(_ name: String) throws {
    let image = try ImageCodec.decode(Fixtures.bytes(name))
    let expected = try Fixtures.expected(name)
    #expect(image.width == expected.width && image.height == expected.height)
    #expect(largestDifference(image.pixels, expected.pixels) <= 2)
  }

  @Test func aCutFileIsDamaged() throws {
    #expect(throws: ImageError.self) { try ImageCodec.decode(Fixtures.bytes("truncated.jpg")) }
    for name in [
      "jpeg_color.jpg", "jpeg_progressive.jpg", "png_rgb.png", "png_interlaced.png", "bmp_24.bmp", "bmp_rle8.bmp",
      "bmp_8.bmp", "gif_color.gif", "gif_noise.gif", "webp_lossy.webp", "webp_lossless.webp", "webp_animated.webp",
    ] {
      let whole = try Fixtures.bytes(name)
      // A file may end in padding or in what is not needed for the picture, but not in its first part.
      for count in stride(from: 1, through: whole.count * 3 / 4, by: max(1, whole.count / 150)) {
        do {
          _ = try ImageCodec.decode(Array(whole[..<count]))
          Issue.record("\(name) cut to \(count) of \(whole.count) bytes was accepted")
        } catch let error as ImageError {
          #expect(!error.description.contains("\n"))
        }
      }
    }
  }

  /// Flipped bytes must never crash; whether they are noticed depends on the format.
  @Test func alteredFilesNeverCrash() throws {
    var random = RandomNumbers(seed: 3)
    for name in [
      "jpeg_color.jpg", "jpeg_progressive.jpg", "jpeg_orientation6.jpg", "png_palette.png", "png_orientation6.png",
      "bmp_8.bmp", "bmp_rle8.bmp", "bmp_565.bmp", "gif_noise.gif", "gif_animated.gif", "webp_lossy.webp",
      "webp_animated.webp", "webp_orientation6.webp",
    ] {
      let whole = try Fixtures.bytes(name)
      for _ in 0..<200 {
        var bytes = whole
        for _ in 0..<3 {
          // Mostly in the header, which decides how everything after it is read.
          let range = random.below(2) == 0 ? min(64, bytes.count) : bytes.count
          bytes[random.below(range)] = UInt8(random.below(256))
        }
        _ = try? ImageCodec.decode(bytes)
      }
    }
  }

  @Test func errorsAreClear() {
    #expect(throws: ImageError.empty) { try ImageCodec.decode([]) }
    #expect(throws: ImageError.unknownFormat) { try ImageCodec.decode(Array("plain text, not a picture".utf8)) }
    #expect(throws: ImageError.unreadable(reason: "No such file or directory")) {
      try ImageCodec.decode(contentsOfFile: "/nonexistent/x.jpg")
    }
    #expect(throws: ImageError.unreadable(reason: "not a regular file")) {
      try ImageCodec.decode(contentsOfFile: "/tmp")
    }
    #expect(throws: ImageError.empty) { try ImageCodec.decode(contentsOfFile: Fixtures.path("zero.jpg")) }
  }

  @Test func hostileSizesAreRefused() throws {
    var jpeg = try Fixtures.bytes("jpeg_color.jpg")
    let frame = try #require((0..<jpeg.count).first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC0 })
    jpeg.replaceSubrange(frame + 5..<frame + 9, with: [0xEA, 0x60, 0xEA, 0x60])
    #expect(throws: ImageError.tooLarge(format: .jpeg, width: 60_000, height: 60_000)) { try ImageCodec.decode(jpeg) }

    var bmp = try Fixtures.bytes("bmp_24.bmp")
    bmp.replaceSubrange(18..<26, with: [0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0])
    #expect(throws: ImageError.tooLarge(format: .bmp, width: 60_000, height: 60_000)) { try ImageCodec.decode(bmp) }

    var gif = try Fixtures.bytes("gif_color.gif")
    gif.replaceSubrange(6..<10, with: [0x60, 0xEA, 0x60, 0xEA])
    #expect(throws: ImageError.tooLarge(format: .gif, width: 60_000, height: 60_000)) { try ImageCodec.decode(gif) }

    let png = pngHeader(width: 60_000, height: 60_000)
    #expect(throws: ImageError.tooLarge(format: .png, width: 60_000, height: 60_000)) { try ImageCodec.decode(png) }
  }

  @Test func encodersAndDecodersAgree() throws {
    let image = try Fixtures.expected("png_rgb.png")
    #expect(try ImageCodec.decode(ImageCodec.encodePNG(image)) == image)
    let jpeg = try ImageCodec.decode(ImageCodec.encodeJPEG(image, quality: 100))
    #expect(jpeg.width == image.width && jpeg.height == image.height)
    let error = zip(jpeg.pixels, image.pixels).map { abs(Double($0) - Double($1)) }.reduce(0, +)
    #expect(error / Double(image.pixels.count) < 4)
  }

  /// Signature, header and an IDAT to stop at, with their checksums.
  private func pngHeader(width: UInt32, height: UInt32) -> [UInt8] {
    func bigEndian(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
    func chunk(_ kind: String, _ body: [UInt8]) -> [UInt8] {
      let checked = Array(kind.utf8) + body
      var sum: UInt32 = 0xFFFF_FFFF
      for byte in checked {
        sum ^= UInt32(byte)
        for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0xEDB8_8320 : sum >> 1 }
      }
      return bigEndian(UInt32(body.count)) + checked + bigEndian(~sum)
    }
    return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
      + chunk("IHDR", bigEndian(width) + bigEndian(height) + [8, 2, 0, 0, 0]) + chunk("IDAT", [])
  }
}
