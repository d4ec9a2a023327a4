import Foundation
import NeuralNetwork

/// Pictures that show what a learned resizer is for: two classes that halving the picture makes the same.
///
/// On a smooth coloured background lie one to three discs of fine stripes, two pixels from crest to crest, four, or two
/// and broken along slanted bands: horizontal stripes in one class, vertical ones in the other. The stripes fill the
/// picture's 2×2 squares so that each square sums to nothing. The mean of every square, which is what a bilinear resize
/// to half the size computes, is therefore the background's, exactly and in both classes. A checkered disc, in some
/// pictures of both classes, keeps "something fine is there" from meaning anything.
///
/// A picture depends on (`seed`, its index) alone; nothing is stored, and no value is clipped.
public struct SyntheticDataset: ImageDataset {
  /// The stripes' directions.
  public let classNames = ["horizontal", "vertical"]
  /// Pictures.
  public let count: Int
  /// Sides of the pictures as generated.
  public let size: Int
  private let seed: UInt64
  private let firstIndex: Int

  /// `firstIndex` moves on to pictures that another data set of the same seed does not hold. `size` is even, 8 at least.
  public init(count: Int, seed: UInt64, size: Int = 300, firstIndex: Int = 0) {
    precondition(count > 0, "SyntheticDataset: \(count) pictures")
    precondition(size >= 8 && size % 2 == 0, "SyntheticDataset: size \(size) is not even or below 8")
    self.count = count
    self.seed = seed
    self.size = size
    self.firstIndex = firstIndex
  }

  /// Two sets without a picture in common.
  public static func split(training: Int, validation: Int, seed: UInt64, size: Int = 300) -> DatasetSplit {
    DatasetSplit(
      training: SyntheticDataset(count: training, seed: seed, size: size),
      validation: SyntheticDataset(count: validation, seed: seed, size: size, firstIndex: training))
  }

  /// The classes take turns.
  public func label(at index: Int) -> Int { (firstIndex + index) % 2 }
  /// From the seed and the place in its sequence.
  public func name(at index: Int) -> String { "synthetic/\(seed)/\(firstIndex + index)" }

  /// The name and the size.
  public func identity(at index: Int) -> String { "\(name(at: index)) \(size)" }

  /// The picture.
  public func image(at index: Int) -> RGBImage { image(at: index, label: label(at: index)) }

  /// The picture at `index` as it would be in class `label`: everything but the stripes' direction depends on `index`
  /// only.
  func image(at index: Int, label: Int) -> RGBImage {
    var random = RandomNumbers(seed, streams.synthetic, UInt64(firstIndex + index))
    let background = SmoothBackground(size: size, &random)
    let discs = FineDisc.scatter(over: size / 2, &random)
    return RGBImage(width: size, height: size) { target in
      background.paint(target.baseAddress!)
      for disc in discs { disc.add(to: target.baseAddress!, size: size, vertical: label == 1) }
    }
  }
}

/// Grey 128 and four soft shapes, each the product of a curve along y, a curve along x and a colour. Stays within
/// 128 ± 68: twice 8 + 10 and twice 6 + 10.
private struct SmoothBackground {
  private static let shapes = 4
  private let size: Int
  private var alongX: [Float] = []  // shapes × size
  private var alongY: [Float] = []
  private var color: [Float] = []  // shapes × 3

  init(size: Int, _ random: inout RandomNumbers) {
    self.size = size
    for shape in 0..<SmoothBackground.shapes {
      let wave = shape < 2
      alongX += wave ? SmoothBackground.wave(size, &random) : SmoothBackground.hill(size, &random)
      alongY += wave ? SmoothBackground.wave(size, &random) : SmoothBackground.hill(size, &random)
      let brightness = random.uniform(wave ? 2...8 : 2...6) * (random.below(2) == 0 ? 1 : -1)
      for _ in 0..<3 { color.append(brightness + random.uniform(-10...10)) }
    }
  }

  private static func wave(_ size: Int, _ random: inout RandomNumbers) -> [Float] {
    let cycles = random.uniform(0.3...1.8)
    let phase = random.uniform(0...1)
    return (0..<size).map { cos(2 * .pi * (cycles * Float($0) / Float(size) + phase)) }
  }

  private static func hill(_ size: Int, _ random: inout RandomNumbers) -> [Float] {
    let centre = random.uniform(0...1)
    let width = random.uniform(0.12...0.35)
    return (0..<size).map {
      let distance = (Float($0) / Float(size) - centre) / width
      return exp(-0.5 * distance * distance)
    }
  }

  // As in `squash`, plain loops over pointers, for builds without optimisation.
  func paint(_ target: UnsafeMutablePointer<UInt8>) {
    alongX.withUnsafeBufferPointer { table in
      let x0 = table.baseAddress!
      let (x1, x2, x3) = (x0 + size, x0 + 2 * size, x0 + 3 * size)
      var write = target
      for y in 0..<size {
        let height = (0..<4).map { alongY[$0 * size + y] }
        let row = (0..<12).map { height[$0 / 3] * color[$0] }
        let (r0, r1, r2, r3) = (row[0], row[3], row[6], row[9])
        let (g0, g1, g2, g3) = (row[1], row[4], row[7], row[10])
        let (b0, b1, b2, b3) = (row[2], row[5], row[8], row[11])
        var x = 0
        while x < size {
          let (v0, v1, v2, v3) = (x0[x], x1[x], x2[x], x3[x])
          write[0] = UInt8(128.5 + r0 * v0 + r1 * v1 + r2 * v2 + r3 * v3)
          write[1] = UInt8(128.5 + g0 * v0 + g1 * v1 + g2 * v2 + g3 * v3)
          write[2] = UInt8(128.5 + b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3)
          write += 3
          x += 1
        }
      }
    }
  }
}

/// A disc of detail, measured in 2×2 squares. What it adds to a square always sums to zero.
private struct FineDisc {
  private enum Texture: Int {
    case stripes, wideStripes, brokenStripes
    case checker  // the same in both classes
  }

  private let texture: Texture
  private let x: Float
  private let y: Float
  private let radius: Float
  private let band: Int
  private let amplitude: [Int]  // per channel, at most 58: with the background's 68 inside 0…255

  /// One to three striped discs and at most one checkered, none overlapping, for amplitudes would add up.
  static func scatter(over squares: Int, _ random: inout RandomNumbers) -> [FineDisc] {
    var discs: [FineDisc] = []
    let striped = 1 + random.below(3)
    let checkered = random.below(2)
    for number in 0..<striped + checkered {
      let texture = number < striped ? Texture(rawValue: random.below(3))! : .checker
      for _ in 0..<8 {
        let disc = FineDisc(texture, squares, &random)
        guard discs.allSatisfy({ !$0.touches(disc) }) else { continue }
        discs.append(disc)
        break
      }
    }
    return discs
  }

  private init(_ texture: Texture, _ squares: Int, _ random: inout RandomNumbers) {
    self.texture = texture
    radius = random.uniform(0.13...0.27) * Float(squares)
    x = random.uniform(radius...Float(squares) - radius)
    y = random.uniform(radius...Float(squares) - radius)
    band = 3 + random.below(4)
    let polarity = random.below(2) == 0 ? 1 : -1
    amplitude = (0..<3).map { _ in polarity * (42 + random.below(17)) }
  }

  private func touches(_ other: FineDisc) -> Bool {
    let reach = radius + other.radius + 1
    return (x - other.x) * (x - other.x) + (y - other.y) * (y - other.y) < reach * reach
  }

  func add(to pixels: UnsafeMutablePointer<UInt8>, size: Int, vertical: Bool) {
    let squares = size / 2
    let softness = min(3, radius / 2)  // squares over which the edge fades
    for row in max(0, Int(y - radius))..<min(squares, Int(y + radius) + 1) {
      for column in max(0, Int(x - radius))..<min(squares, Int(x + radius) + 1) {
        let (dx, dy) = (Float(column) + 0.5 - x, Float(row) + 0.5 - y)
        let strength = min(1, (radius - (dx * dx + dy * dy).squareRoot()) / softness)
        if strength <= 0 { continue }
        let sign = sign(row: row, column: column, vertical: vertical)
        let topLeft = pixels + (row * 2 * size + column * 2) * 3
        let bottomLeft = topLeft + size * 3
        var channel = 0
        while channel < 3 {
          let add = sign * Int(Float(amplitude[channel]) * strength)
          shift(topLeft + channel, add)
          shift(topLeft + channel + 3, texture == .checker || vertical ? -add : add)
          shift(bottomLeft + channel, texture == .checker || !vertical ? -add : add)
          shift(bottomLeft + channel + 3, texture == .checker ? add : -add)
          channel += 1
        }
      }
    }
  }

  /// Turning a whole square's pattern over makes other textures of the same stripes.
  private func sign(row: Int, column: Int, vertical: Bool) -> Int {
    switch texture {
    case .stripes, .checker: 1
    case .wideStripes: (vertical ? column : row) % 2 == 0 ? 1 : -1
    case .brokenStripes: (row + column) / band % 2 == 0 ? 1 : -1
    }
  }

  private func shift(_ value: UnsafeMutablePointer<UInt8>, _ amount: Int) {
    value.pointee = UInt8(Int(value.pointee) + amount)  // traps rather than clips
  }
}
