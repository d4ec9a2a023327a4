import Testing

@testable import Vision

@Suite struct SquashTests {
  /// keras.ops.image.resize over up- and downscaling, odd ratios and one-pixel pictures.
  @Test func equalsKeras() throws {
    let bytes = try Fixtures.bytes("squash.bin")
    var offset = 0
    var cases = 0
    while offset < bytes.count {
      let sizes = (0..<4).map { Int(bytes[offset + 2 * $0]) + Int(bytes[offset + 2 * $0 + 1]) << 8 }
      let source = offset + 8
      let target = source + sizes[0] * sizes[1] * 3
      offset = target + sizes[2] * sizes[3] * 3
      let image = RGBImage(width: sizes[1], height: sizes[0], pixels: Array(bytes[source..<target]))
      let squashed = squash(image, height: sizes[2], width: sizes[3])
      #expect(squashed == Array(bytes[target..<offset]), "\(sizes[0])×\(sizes[1]) to \(sizes[2])×\(sizes[3])")
      cases += 1
    }
    #expect(cases == 10)
  }

  @Test func sameSizeIsCopied() throws {
    let image = try Fixtures.expected("png_rgb.png")
    #expect(squash(image, height: image.height, width: image.width) == image.pixels)
  }

  @Test func halvingIsTheMeanOfFourRoundedHalfToEven() {
    let image = RGBImage(width: 2, height: 2, pixels: [0, 1, 2, 0, 1, 3, 1, 2, 3, 1, 2, 4])
    #expect(squash(image, height: 1, width: 1) == [0, 2, 3])
  }
}
