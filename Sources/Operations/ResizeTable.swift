import Foundation

/// How values between pixels are made.
public enum Interpolation: String, Sendable, CaseIterable {
  /// The pixel that holds the position.
  case nearest
  /// The two neighbours on each axis, weighted by how near they are.
  case bilinear
  /// Keys' kernel with a = −0.5 (Keys 1981), four pixels on each axis.
  case bicubic
  /// A sinc under the window of a wider sinc (Lanczos), three pixels to each side.
  case lanczos3
  /// The same with five pixels to each side.
  case lanczos5
}

/// The weights of one axis of a resize: output i is the sum of `weights[i][a] · input[starts[i] + a]`.
///
/// Half-pixel centres: output i looks at position (i + ½) · input / output. Bicubic is Keys' kernel with a = −0.5 (Keys
/// 1981) evaluated exactly; TensorFlow reads it from a table of 1,024 entries and differs by 2–4e-4. With `antialias`, and
/// when shrinking, the kernel is widened by the ratio. Taps outside the image are dropped and the rest scaled to sum to 1.
public struct ResizeTable: Sendable, Equatable {
  /// Pixels along the axis before the resize.
  public let inputSize: Int
  /// For each output, the first input that it reads.
  public let starts: [Int]
  /// For each output, the weights of the inputs from its start on. They sum to 1, except in a transposed table.
  public let weights: [[Double]]

  /// The table from `inputSize` pixels to `outputSize`; sizes that are not positive trap.
  public init(inputSize: Int, outputSize: Int, interpolation: Interpolation, antialias: Bool) {
    precondition(inputSize > 0 && outputSize > 0, "resize: sizes must be positive, not \(inputSize) → \(outputSize)")
    let ratio = Double(inputSize) / Double(outputSize)
    var starts: [Int] = []
    var weights: [[Double]] = []
    for i in 0..<outputSize {
      if interpolation == .nearest {
        // In integers, so that no rounding moves a position that lies on an edge.
        starts.append((2 * i + 1) * inputSize / (2 * outputSize))
        weights.append([1])
        continue
      }
      let widening = antialias ? max(ratio, 1) : 1
      let radius = interpolation.radius * widening
      let centre = (Double(i) + 0.5) * ratio
      let low = max(Int((centre - radius - 0.5).rounded(.up)), 0)
      let high = min(Int((centre + radius - 0.5).rounded(.down)), inputSize - 1)
      var taps = low <= high ? (low...high).map { interpolation.kernel((Double($0) + 0.5 - centre) / widening) } : []
      var first = low
      // Taps of weight zero at the ends cost time and nothing else.
      while taps.count > 1, let value = taps.first, value == 0 {
        taps.removeFirst()
        first += 1
      }
      while taps.count > 1, let value = taps.last, value == 0 { taps.removeLast() }
      let sum = taps.reduce(0, +)
      starts.append(first)
      weights.append(taps.map { $0 / sum })
    }
    self.inputSize = inputSize
    self.starts = starts
    self.weights = weights
  }

  private init(inputSize: Int, starts: [Int], weights: [[Double]]) {
    self.inputSize = inputSize
    self.starts = starts
    self.weights = weights
  }

  /// Pixels along the axis after the resize.
  public var outputSize: Int { starts.count }

  /// Largest number of inputs that an output reads.
  public var taps: Int { weights.map(\.count).max() ?? 1 }

  /// The table of the gradient: for each input the outputs that read it. An input that none reads gets one tap of 0.
  public var transposed: ResizeTable {
    var low = [Int](repeating: Int.max, count: inputSize)
    var high = [Int](repeating: -1, count: inputSize)
    for i in 0..<outputSize {
      for a in weights[i].indices {
        low[starts[i] + a] = min(low[starts[i] + a], i)
        high[starts[i] + a] = max(high[starts[i] + a], i)
      }
    }
    var transposed: [[Double]] = []
    for j in 0..<inputSize {
      if high[j] < 0 { low[j] = 0 }
      transposed.append(
        (low[j]...max(high[j], low[j])).map { i in
          let a = j - starts[i]
          return weights[i].indices.contains(a) ? weights[i][a] : 0
        })
    }
    return ResizeTable(inputSize: outputSize, starts: low, weights: transposed)
  }

  /// A table that filters: output i is the sum of `weights[a] · input[i + a − radius]`, zeros beyond the edge.
  static func filter(_ size: Int, weights: [Double]) -> ResizeTable {
    let radius = weights.count / 2
    return ResizeTable(
      inputSize: size, starts: (0..<size).map { max($0 - radius, 0) },
      weights: (0..<size).map { i in
        Array(weights[max(radius - i, 0)..<min(radius + size - i, weights.count)])
      })
  }

  /// A table that changes nothing.
  static func identity(_ size: Int) -> ResizeTable {
    ResizeTable(inputSize: size, starts: Array(0..<size), weights: Array(repeating: [1], count: size))
  }
}

extension Interpolation {
  /// Half the width of the kernel in pixels.
  fileprivate var radius: Double {
    switch self {
    case .nearest: 0.5
    case .bilinear: 1
    case .bicubic: 2
    case .lanczos3: 3
    case .lanczos5: 5
    }
  }

  fileprivate func kernel(_ x: Double) -> Double {
    let t = abs(x)
    guard t < radius else { return 0 }
    switch self {
    case .nearest:
      return 1
    case .bilinear:
      return 1 - t
    case .bicubic:
      return t <= 1 ? (1.5 * t - 2.5) * t * t + 1 : ((-0.5 * t + 2.5) * t - 4) * t + 2
    case .lanczos3, .lanczos5:
      guard t > 1e-9 else { return 1 }
      let angle = Double.pi * t
      return radius * sin(angle) * sin(angle / radius) / (angle * angle)
    }
  }
}
