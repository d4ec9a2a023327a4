import Foundation
import NeuralNetwork

/// Random changes to training pictures, so that a net sees the same one differently in every epoch. What happens to a
/// picture depends on the seed, the epoch and the picture alone, and a batch's mixing on its number: a resumed run sees
/// what it would have seen.
public struct Augmentation: Sendable, Equatable {
  /// Mirrors every second picture left to right.
  public var flip = false
  /// Cuts out a part whose area is this share of the picture's or more, as torchvision's `RandomResizedCrop`: at most 1
  /// and above 0; the aspect lies between 3:4 and 4:3. Nil cuts nothing.
  public var crop: Float?
  /// Multiplies brightness, contrast and saturation by up to 1 ± this, as torchvision's `ColorJitter`, in random order.
  public var jitter: Float = 0
  /// α of mixup (Zhang et al. 2018), at most 1: pictures of a batch are mixed in pairs, with the same share
  /// λ ~ Beta(α, α) for all, as in the paper's code. 0 mixes nothing.
  public var mixup: Float = 0

  /// No changes.
  public init() {}

  /// Whether single pictures are changed.
  var changesPictures: Bool { flip || crop != nil || jitter > 0 }

  /// The picture as `height` × `width` × 3 bytes, changed as `random` says.
  func pixels(of image: RGBImage, height: Int, width: Int, _ random: inout RandomNumbers) -> [UInt8] {
    var part = image
    if let crop { part = image.cropped(to: Self.rectangle(in: image, minimumArea: crop, &random)) }
    return changed(squash(part, height: height, width: width), width: width, &random)
  }

  /// What follows the cut: `pixels`, rows of `width`, mirrored and with other colours as `random` says.
  func changed(_ pixels: [UInt8], width: Int, _ random: inout RandomNumbers) -> [UInt8] {
    var pixels = pixels
    if flip, random.below(2) == 1 { Self.mirror(&pixels, width: width) }
    if jitter > 0 { Self.jitterColors(&pixels, by: jitter, &random) }
    return pixels
  }

  /// Torchvision's choice: ten tries, then the largest middle part of an allowed aspect.
  static func rectangle(
    in image: RGBImage, minimumArea: Float, _ random: inout RandomNumbers
  ) -> (x: Int, y: Int, width: Int, height: Int) {
    let (width, height) = (Double(image.width), Double(image.height))
    let aspects = 3.0 / 4...4.0 / 3
    for _ in 0..<10 {
      let area = width * height * Double(random.uniform(minimumArea...1))
      let logarithm = random.uniform(Float(log(aspects.lowerBound))...Float(log(aspects.upperBound)))
      let aspect = exp(Double(logarithm))
      let w = Int((area * aspect).squareRoot().rounded(.toNearestOrEven))
      let h = Int((area / aspect).squareRoot().rounded(.toNearestOrEven))
      guard w > 0, h > 0, w <= image.width, h <= image.height else { continue }
      return (random.below(image.width - w + 1), random.below(image.height - h + 1), w, h)
    }
    let aspect = min(max(width / height, aspects.lowerBound), aspects.upperBound)
    let w = min(image.width, max(Int((height * aspect).rounded(.toNearestOrEven)), 1))
    let h = min(image.height, max(Int((width / aspect).rounded(.toNearestOrEven)), 1))
    return ((image.width - w) / 2, (image.height - h) / 2, w, h)
  }

  // As in `squash`, plain loops over pointers, for builds without optimisation.

  static func mirror(_ pixels: inout [UInt8], width: Int) {
    pixels.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      let rows = buffer.count / (width * 3)
      var y = 0
      while y < rows {
        var left = base + y * width * 3
        var right = left + (width - 1) * 3
        while left < right {
          var channel = 0
          while channel < 3 {
            let value = left[channel]
            left[channel] = right[channel]
            right[channel] = value
            channel += 1
          }
          left += 3
          right -= 3
        }
        y += 1
      }
    }
  }

  private static func jitterColors(_ pixels: inout [UInt8], by strength: Float, _ random: inout RandomNumbers) {
    for change in random.permutation(3) {
      let factor = random.uniform(max(1 - strength, 0)...1 + strength)
      switch change {
      case 0: blend(&pixels, factor, with: .value(0))
      case 1: blend(&pixels, factor, with: .value(meanGrey(pixels)))
      default: blend(&pixels, factor, with: .grey)
      }
    }
  }

  /// What a picture is blended with.
  enum BlendTarget {
    /// The same number everywhere: 0 for brightness, the mean grey for contrast.
    case value(Float)
    /// Each pixel's own grey, for saturation.
    case grey
  }

  /// factor · picture + (1 − factor) · target, clipped and rounded.
  static func blend(_ pixels: inout [UInt8], _ factor: Float, with target: BlendTarget) {
    pixels.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      let rest = 1 - factor
      var pixel = base
      let end = base + buffer.count
      while pixel < end {
        let (r, g, b) = (Float(pixel[0]), Float(pixel[1]), Float(pixel[2]))
        let other: Float =
          switch target {
          case .value(let value): rest * value
          case .grey: rest * grey(r, g, b)
          }
        pixel[0] = byte(factor * r + other)
        pixel[1] = byte(factor * g + other)
        pixel[2] = byte(factor * b + other)
        pixel += 3
      }
    }
  }

  static func meanGrey(_ pixels: [UInt8]) -> Float {
    pixels.withUnsafeBufferPointer { buffer in
      var sum = 0.0
      var i = 0
      while i < buffer.count {
        sum += Double(grey(Float(buffer[i]), Float(buffer[i + 1]), Float(buffer[i + 2])))
        i += 3
      }
      return Float(sum / Double(buffer.count / 3))
    }
  }

  /// ITU-R BT.601, with torchvision's digits.
  private static func grey(_ r: Float, _ g: Float, _ b: Float) -> Float { 0.2989 * r + 0.587 * g + 0.114 * b }

  fileprivate static func byte(_ value: Float) -> UInt8 { UInt8(min(max(value, 0), 255).rounded(.toNearestOrEven)) }
}

/// An epoch's random changes.
struct EpochAugmentation {
  let rule: Augmentation
  private let seed: UInt64
  private let epoch: Int
  /// The number in the epoch of the first batch that is asked for.
  private let firstBatch: Int

  init(_ rule: Augmentation, seed: UInt64, epoch: Int, firstBatch: Int) {
    self.rule = rule
    self.seed = seed
    self.epoch = epoch
    self.firstBatch = firstBatch
  }

  func pixels(of index: Int, in dataset: any ImageDataset, height: Int, width: Int) throws -> [UInt8] {
    guard rule.changesPictures else { return try dataset.pixels(at: index, height: height, width: width) }
    var random = RandomNumbers(seed, streams.augmentation, UInt64(epoch), UInt64(index))
    // Without a cut the squashed picture will do, which may lie in a cache.
    if rule.crop == nil {
      return rule.changed(try dataset.pixels(at: index, height: height, width: width), width: width, &random)
    }
    return rule.pixels(of: try dataset.image(at: index), height: height, width: width, &random)
  }

  /// How the batch with that number, counted from the first that was asked for, is mixed; nil when it is not.
  func mixing(batch: Int, count: Int) -> Mixing? {
    guard rule.mixup > 0 else { return nil }
    var random = RandomNumbers(seed, streams.mixup, UInt64(epoch), UInt64(firstBatch + batch))
    return Mixing(count: count, alpha: rule.mixup, &random)
  }
}

/// How the pictures of a batch are mixed: picture i becomes `share` · i + (1 − `share`) · `partners`[i].
struct Mixing {
  let share: Float
  let partners: [Int]

  init(count: Int, alpha: Float, _ random: inout RandomNumbers) {
    share = Float(Self.beta(Double(alpha), &random))
    partners = random.permutation(count)
  }

  /// A number of the distribution Beta(α, α), by Jöhnk's method (1964), which suits α ≤ 1.
  static func beta(_ alpha: Double, _ random: inout RandomNumbers) -> Double {
    while true {
      let x = pow(Double(random.uniform()), 1 / alpha)
      let y = pow(Double(random.uniform()), 1 / alpha)
      if x + y > 0, x + y <= 1 { return x / (x + y) }
    }
  }

  /// Mixes pictures of `size` bytes that lie one after another.
  func mixed(_ pixels: [UInt8], size: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: pixels.count) { target, count in
      pixels.withUnsafeBufferPointer { source in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        for (index, partner) in partners.enumerated() {
          let (a, b, y) = (from + index * size, from + partner * size, to + index * size)
          var i = 0
          while i < size {
            y[i] = Augmentation.byte(share * Float(a[i]) + (1 - share) * Float(b[i]))
            i += 1
          }
        }
      }
      count = pixels.count
    }
  }
}
