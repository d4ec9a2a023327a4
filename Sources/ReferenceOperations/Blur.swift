extension Reference {
  /// Images [batch, height, width, channels], every channel filtered along rows and columns; zeros beyond the edge.
  public static func blur(_ x: ReferenceTensor, weights: [Double]) -> ReferenceTensor {
    var y = ReferenceTensor(x.shape)
    forEachTap(x.shape, weights) { output, input, weight in y.values[output] += weight * x.values[input] }
    return y
  }

  /// Each input takes from the outputs that read it.
  public static func blurGradient(weights: [Double], gradient: ReferenceTensor) -> ReferenceTensor {
    var dx = ReferenceTensor(gradient.shape)
    forEachTap(gradient.shape, weights) { output, input, weight in
      dx.values[input] += weight * gradient.values[output]
    }
    return dx
  }

  private static func forEachTap(_ shape: [Int], _ weights: [Double], _ body: (Int, Int, Double) -> Void) {
    let (height, width, channels, radius) = (shape[1], shape[2], shape[3], weights.count / 2)
    func index(_ n: Int, _ y: Int, _ x: Int, _ c: Int) -> Int { ((n * height + y) * width + x) * channels + c }
    for n in 0..<shape[0] {
      for y in 0..<height {
        for x in 0..<width {
          for (a, rowWeight) in weights.enumerated() where (0..<height).contains(y + a - radius) {
            for (b, columnWeight) in weights.enumerated() where (0..<width).contains(x + b - radius) {
              for c in 0..<channels {
                body(index(n, y, x, c), index(n, y + a - radius, x + b - radius, c), rowWeight * columnWeight)
              }
            }
          }
        }
      }
    }
  }
}
