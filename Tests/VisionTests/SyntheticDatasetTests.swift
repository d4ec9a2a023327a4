import Testing

@testable import Vision

@Suite struct SyntheticDatasetTests {
  @Test(arguments: [8, 50, 300])
  func halvingErasesTheClassExactly(size: Int) {
    let dataset = SyntheticDataset(count: 12, seed: 5, size: size)
    for index in 0..<dataset.count {
      let horizontal = dataset.image(at: index, label: 0)
      let vertical = dataset.image(at: index, label: 1)
      if size >= 50 { #expect(differingShare(horizontal, vertical) > 0.005) }
      #expect(squareSums(horizontal) == squareSums(vertical))
      let half = size / 2
      #expect(squash(horizontal, height: half, width: half) == squash(vertical, height: half, width: half))
    }
  }

  /// In the stripes neighbours differ across them and not along them, which is all that tells the classes apart.
  @Test func fineDetailTellsTheClass() {
    let dataset = SyntheticDataset(count: 60, seed: 9)
    for index in 0..<dataset.count {
      let image = dataset.image(at: index, label: dataset.label(at: index))
      var along = (x: 0, y: 0)
      for y in 0..<299 {
        for x in 0..<299 {
          let here = (y * 300 + x) * 3
          along.x += abs(Int(image.pixels[here + 3]) - Int(image.pixels[here]))
          along.y += abs(Int(image.pixels[here + 900]) - Int(image.pixels[here]))
        }
      }
      #expect((along.x > along.y ? 1 : 0) == dataset.label(at: index), "picture \(index): \(along)")
    }
  }

  @Test func dependsOnSeedAndIndexAlone() {
    let dataset = SyntheticDataset(count: 10, seed: 1, size: 40)
    let longer = SyntheticDataset(count: 20, seed: 1, size: 40)
    let other = SyntheticDataset(count: 10, seed: 2, size: 40)
    func pixels(_ set: SyntheticDataset, _ index: Int) -> [UInt8] {
      squash(set.image(at: index), height: 40, width: 40)
    }
    for index in 0..<10 {
      #expect(pixels(dataset, index) == pixels(longer, index))
      #expect(pixels(dataset, index) != pixels(other, index))
    }
    let split = SyntheticDataset.split(training: 10, validation: 10, seed: 1, size: 40)
    let validation = try? split.validation.pixels(at: 3, height: 40, width: 40)
    #expect(validation == pixels(longer, 13))
    #expect((0..<10).map(dataset.label).reduce(0, +) == 5)
  }

  /// `SyntheticDataset` traps rather than clips; this looks for a picture that would.
  @Test func manyPicturesStayInRange() {
    let dataset = SyntheticDataset(count: 300, seed: 77, size: 60)
    for index in 0..<dataset.count { _ = dataset.image(at: index) }
  }

  private func squareSums(_ image: RGBImage) -> [Int] {
    var sums = [Int](repeating: 0, count: image.pixels.count / 4)
    for y in 0..<image.height {
      for x in 0..<image.width {
        for c in 0..<3 {
          sums[(y / 2 * (image.width / 2) + x / 2) * 3 + c] += Int(image.pixels[(y * image.width + x) * 3 + c])
        }
      }
    }
    return sums
  }

  private func differingShare(_ a: RGBImage, _ b: RGBImage) -> Double {
    Double(zip(a.pixels, b.pixels).count { $0 != $1 }) / Double(a.pixels.count)
  }
}
