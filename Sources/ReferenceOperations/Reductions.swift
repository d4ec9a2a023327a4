extension ReferenceTensor {
  /// Calls `body` with every element's number and channel.
  func forEachChannel(_ body: (_ index: Int, _ channel: Int) -> Void) {
    let channels = channels
    for index in 0..<count { body(index, index % channels) }
  }
}

extension Reference {
  /// The sum over all dimensions but the last: [..., channels] → [channels].
  public static func channelSum(_ x: ReferenceTensor) -> ReferenceTensor {
    var y = ReferenceTensor([x.channels])
    x.forEachChannel { index, channel in y.values[channel] += x.values[index] }
    return y
  }

  /// The sum over `axes`, which disappear from the shape; over everything when nil.
  public static func sum(_ x: ReferenceTensor, axes: [Int]? = nil) -> ReferenceTensor {
    let (shape, targets) = reduction(of: x.shape, axes)
    var y = ReferenceTensor(shape)
    for (index, target) in targets.enumerated() { y.values[target] += x.values[index] }
    return y
  }

  /// Every element takes the gradient of the sum it went into.
  public static func sumGradient(
    inputShape: [Int], gradient: ReferenceTensor, axes: [Int]? = nil
  ) -> ReferenceTensor {
    ReferenceTensor(inputShape, reduction(of: inputShape, axes).targets.map { gradient.values[$0] })
  }

  /// The mean over `axes`, which disappear from the shape; over everything when nil.
  public static func mean(_ x: ReferenceTensor, axes: [Int]? = nil) -> ReferenceTensor {
    let y = sum(x, axes: axes)
    return scale(y, by: Double(y.count) / Double(x.count))
  }

  /// The gradient of the sum over the number of elements in it.
  public static func meanGradient(
    inputShape: [Int], gradient: ReferenceTensor, axes: [Int]? = nil
  ) -> ReferenceTensor {
    let dx = sumGradient(inputShape: inputShape, gradient: gradient, axes: axes)
    return scale(dx, by: Double(gradient.count) / Double(dx.count))
  }

  /// The shape without `axes`, and for every element of `shape` the element of the result it goes into.
  private static func reduction(of shape: [Int], _ axes: [Int]?) -> (shape: [Int], targets: [Int]) {
    let axes = axes ?? Array(shape.indices)
    let kept = shape.indices.filter { !axes.contains($0) }
    let targets = (0..<shape.reduce(1, *)).map { index in
      var (rest, target, stride) = (index, 0, 1)
      for axis in shape.indices.reversed() {
        if kept.contains(axis) {
          target += rest % shape[axis] * stride
          stride *= shape[axis]
        }
        rest /= shape[axis]
      }
      return target
    }
    return (kept.map { shape[$0] }, targets)
  }
}
