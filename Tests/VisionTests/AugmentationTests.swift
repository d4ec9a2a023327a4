import Foundation
import NeuralNetwork
import Testing

@testable import Vision

/// Pictures of noise, each another size.
private struct NoiseDataset: ImageDataset {
  let classNames = ["even", "odd"]
  let count: Int

  func label(at index: Int) -> Int { index % 2 }
  func name(at index: Int) -> String { "\(index)" }

  func image(at index: Int) -> RGBImage {
    var random = RandomNumbers(seed: 9, name: name(at: index))
    let (width, height) = (20 + index % 7, 30 - index % 5)
    return RGBImage(
      width: width, height: height, pixels: (0..<width * height * 3).map { _ in UInt8(random.next() % 256) })
  }
}

@Suite struct AugmentationTests {
  private func loader(
    _ change: (inout Augmentation) -> Void, count: Int = 22, workers: Int = 3, seed: UInt64 = 4
  ) -> BatchLoader {
    var augmentation = Augmentation()
    change(&augmentation)
    return BatchLoader(
      NoiseDataset(count: count), batchSize: 4, height: 12, width: 10, seed: seed, augmentation: augmentation,
      workers: workers)
  }

  private func batches(_ loader: BatchLoader, epoch: Int, startingAt start: Int = 0) throws -> [ImageBatch] {
    let stream = loader.epoch(epoch, startingAt: start)
    var batches: [ImageBatch] = []
    while let batch = try stream.next() { batches.append(batch) }
    return batches
  }

  private static func everything(_ augmentation: inout Augmentation) {
    augmentation.flip = true
    augmentation.crop = 0.4
    augmentation.jitter = 0.3
    augmentation.mixup = 0.4
  }

  /// What `ImageBatch` holds, for comparison.
  private func contents(_ batches: [ImageBatch]) -> [String] {
    batches.map { "\($0.pixels) \($0.labels) \($0.indices) \($0.partners ?? []) \($0.share)" }
  }

  @Test func dependsOnSeedAndEpochOnly() throws {
    let all = contents(try batches(loader(Self.everything, workers: 1), epoch: 2))
    #expect(contents(try batches(loader(Self.everything, workers: 5), epoch: 2)) == all)
    #expect(all.count == 6)
    for start in 0...6 {
      #expect(contents(try batches(loader(Self.everything), epoch: 2, startingAt: start)) == Array(all[start...]))
    }
    let again = loader(Self.everything)
    _ = try batches(again, epoch: 0)
    #expect(contents(try batches(again, epoch: 2)) == all)
    #expect(contents(try batches(again, epoch: 3)) != all)
    #expect(contents(try batches(loader(Self.everything, seed: 5), epoch: 2)) != all)
  }

  @Test func withoutChangesPicturesAreSquashed() throws {
    let dataset = NoiseDataset(count: 22)
    for batch in try batches(loader { _ in }, epoch: 1) {
      #expect(batch.partners == nil && batch.share == 1)
      #expect(batch.pixels == batch.indices.flatMap { squash(dataset.image(at: $0), height: 12, width: 10) })
    }
  }

  @Test func everySecondPictureIsMirrored() throws {
    let dataset = NoiseDataset(count: 200)
    var mirrored = 0
    for batch in try batches(loader({ $0.flip = true }, count: 200), epoch: 0) {
      for (slot, index) in batch.indices.enumerated() {
        let plain = squash(dataset.image(at: index), height: 12, width: 10)
        var reversed: [UInt8] = []
        for row in 0..<12 {
          for column in (0..<10).reversed() { reversed += plain[(row * 10 + column) * 3..<(row * 10 + column) * 3 + 3] }
        }
        let pixels = Array(batch.pixels[slot * 360..<slot * 360 + 360])
        #expect(pixels == plain || pixels == reversed)
        mirrored += pixels == reversed ? 1 : 0
      }
    }
    // 100 ± 5 standard deviations of √50.
    #expect((65...135).contains(mirrored))
  }

  @Test(arguments: [1, 2, 5]) func mirroringTwiceIsNothing(width: Int) {
    let pixels = (0..<width * 9).map { UInt8($0) }
    var mirrored = pixels
    Augmentation.mirror(&mirrored, width: width)
    #expect(Array(mirrored.prefix(3)) == Array(pixels[(width - 1) * 3..<width * 3]))
    Augmentation.mirror(&mirrored, width: width)
    #expect(mirrored == pixels)
  }

  /// Shares of the area and aspects, up to the rounding of sides to whole pixels.
  @Test(arguments: [(300, 200), (64, 64), (31, 90)]) func partsAreAsAskedFor(width: Int, height: Int) {
    let image = RGBImage(width: width, height: height, color: (0, 0, 0))
    var random = RandomNumbers(seed: 1)
    var areas: [Double] = []
    for _ in 0..<2000 {
      let part = Augmentation.rectangle(in: image, minimumArea: 0.25, &random)
      #expect(part.x >= 0 && part.y >= 0 && part.x + part.width <= width && part.y + part.height <= height)
      let aspect = Double(part.width) / Double(part.height)
      let rounding = 1 + 1 / Double(part.width) + 1 / Double(part.height)
      #expect(aspect < 4.0 / 3 * rounding && aspect > 3.0 / 4 / rounding)
      areas.append(Double(part.width * part.height) / Double(width * height) * rounding)
    }
    #expect(areas.min()! >= 0.25)
    #expect(areas.min()! < 0.3)
  }

  @Test func longPicturesAreCutInTheMiddle() {
    var random = RandomNumbers(seed: 1)
    // No part of 95 % of the area has an allowed aspect.
    let wide = Augmentation.rectangle(
      in: RGBImage(width: 300, height: 30, color: (0, 0, 0)), minimumArea: 0.95, &random)
    #expect(wide == (130, 0, 40, 30))
    let tall = Augmentation.rectangle(
      in: RGBImage(width: 30, height: 300, color: (0, 0, 0)), minimumArea: 0.95, &random)
    #expect(tall == (0, 130, 30, 40))
    let dot = Augmentation.rectangle(in: RGBImage(width: 1, height: 1, color: (0, 0, 0)), minimumArea: 0.5, &random)
    #expect(dot == (0, 0, 1, 1))
  }

  @Test func croppingCopiesThePart() {
    let image = RGBImage(width: 4, height: 3, pixels: (0..<36).map { UInt8($0) })
    let part = image.cropped(to: (x: 1, y: 1, width: 2, height: 2))
    #expect(part == RGBImage(width: 2, height: 2, pixels: [15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32]))
    #expect(image.cropped(to: (x: 0, y: 0, width: 4, height: 3)) == image)
  }

  /// Torchvision's formulas in double precision; a value just between two bytes may round either way.
  @Test(arguments: [0, 0.4, 1, 1.7] as [Float]) func coloursFollowTheReference(factor: Float) {
    let pixels = NoiseDataset(count: 1).image(at: 0).pixels
    let triples = stride(from: 0, to: pixels.count, by: 3).map { pixels[$0..<$0 + 3].map(Double.init) }
    let greys = triples.map { 0.2989 * $0[0] + 0.587 * $0[1] + 0.114 * $0[2] }
    let mean = greys.reduce(0, +) / Double(greys.count)
    let references: [(Augmentation.BlendTarget, (Int) -> Double)] = [
      (.value(0), { _ in 0 }), (.value(Augmentation.meanGrey(pixels)), { _ in mean }), (.grey, { greys[$0] }),
    ]
    for (target, other) in references {
      var blended = pixels
      Augmentation.blend(&blended, factor, with: target)
      for (index, triple) in triples.enumerated() {
        for channel in 0..<3 {
          let exact = Double(factor) * triple[channel] + (1 - Double(factor)) * other(index)
          let clipped = min(max(exact, 0), 255)
          #expect(abs(Double(blended[index * 3 + channel]) - clipped) < 0.5 + 1e-4)
        }
      }
    }
  }

  @Test func jitterChangesEveryPictureDifferently() throws {
    let plain = try batches(loader { _ in }, epoch: 0)
    let jittered = try batches(loader { $0.jitter = 0.4 }, epoch: 0)
    for (a, b) in zip(plain, jittered) {
      #expect(a.indices == b.indices)
      for slot in a.indices.indices {
        #expect(a.pixels[slot * 360..<slot * 360 + 360] != b.pixels[slot * 360..<slot * 360 + 360])
      }
    }
  }

  @Test func mixupMixesPicturesAndNamesTheirClasses() throws {
    let plain = try batches(loader { _ in }, epoch: 0)
    let mixed = try batches(loader { $0.mixup = 0.8 }, epoch: 0)
    #expect(Set(mixed.map(\.share)).count == 6)
    for (number, (a, b)) in zip(plain, mixed).enumerated() {
      var random = RandomNumbers(4, streams.mixup, 0, UInt64(number))
      let mixing = Mixing(count: a.count, alpha: 0.8, &random)
      #expect(mixing.partners.sorted() == Array(0..<a.count))
      #expect(b.share == mixing.share && b.labels == a.labels)
      #expect(b.partners == mixing.partners.map { a.labels[$0] })
      let share = Double(b.share)
      for (slot, partner) in mixing.partners.enumerated() {
        for i in 0..<360 {
          let exact = share * Double(a.pixels[slot * 360 + i]) + (1 - share) * Double(a.pixels[partner * 360 + i])
          #expect(abs(Double(b.pixels[slot * 360 + i]) - exact) < 0.5 + 1e-4)
        }
      }
    }
  }

  /// Mean ½ and variance 1 / (4 (2α + 1)), each within five standard errors of 20,000 draws: the deviation of a draw and
  /// of its squared distance are at most ½ and ¼.
  @Test(arguments: [0.05, 0.2, 1]) func sharesAreBetaDistributed(alpha: Double) {
    var random = RandomNumbers(seed: 3)
    let draws = (0..<20_000).map { _ in Mixing.beta(alpha, &random) }
    let mean = draws.reduce(0, +) / 20_000
    let variance = draws.reduce(0) { $0 + ($1 - 0.5) * ($1 - 0.5) } / 20_000
    let error = 5 / 20_000.0.squareRoot()
    #expect(draws.allSatisfy { (0...1).contains($0) })
    #expect(abs(mean - 0.5) < error / 2 && abs(variance - 1 / (4 * (2 * alpha + 1))) < error / 4)
  }
}
