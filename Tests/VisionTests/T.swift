import Testing
@testable import Vision
@Test func t() throws {
  let image = RGBImage(width: 500, height: 374, pixels: (0..<500*374*3).map { UInt8(truncatingIfNeeded: $0 &* 2654435761 >> 7) })
  let c = ContinuousClock()
  for _ in 0..<3 { print(c.measure { for _ in 0..<10 { _ = squash(image, height: 300, width: 300) } } / 10) }
}
