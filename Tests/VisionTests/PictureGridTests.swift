import Testing

@testable import Vision

@Suite struct PictureGridTests {
  private func gray(_ width: Int, _ height: Int, _ level: UInt8) -> RGBImage {
    RGBImage(width: width, height: height, color: (level, level, level))
  }

  private func levels(_ image: RGBImage) -> [[UInt8]] {
    (0..<image.height).map { y in (0..<image.width).map { image.pixels[(y * image.width + $0) * 3] } }
  }

  @Test func cellsAreAlignedAndCentred() {
    let grid = PictureGrid.compose([[gray(3, 1, 1), gray(1, 1, 2)], [gray(1, 1, 3)]], margin: 1, background: 9)
    #expect(
      levels(grid) == [
        [9, 9, 9, 9, 9, 9, 9],
        [9, 1, 1, 1, 9, 2, 9],
        [9, 9, 9, 9, 9, 9, 9],
        [9, 9, 3, 9, 9, 9, 9],
        [9, 9, 9, 9, 9, 9, 9],
      ])
  }

  @Test func enlargingRepeatsPixels() {
    let image = RGBImage(width: 2, height: 1, pixels: [1, 2, 3, 4, 5, 6])
    let expected: [UInt8] = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]
    #expect(image.enlarged(by: 2) == RGBImage(width: 4, height: 2, pixels: expected + expected))
    #expect(PictureGrid.compose([[image]], margin: 0, scale: 2) == image.enlarged(by: 2))
  }
}
