/// Numbers made fit to be seen as pictures.
public enum PictureValues {
  /// Values moved to 0…1 by their 1st and 99th percentile, unless they lie there already.
  public static func stretched(_ values: [Float]) -> [Float] {
    let sorted = values.sorted()
    let low = sorted[sorted.count / 100]
    let high = sorted[sorted.count - 1 - sorted.count / 100]
    guard low < 0 || high > 1, high > low else { return values }
    return values.map { ($0 - low) / (high - low) }
  }

  /// Values around ½, scaled by the 99th percentile of their size.
  public static func centred(_ values: [Float]) -> [Float] {
    let sizes = values.map(abs).sorted()
    let scale = max(sizes[sizes.count - 1 - sizes.count / 100], 1e-6)
    return values.map { 0.5 + 0.5 * $0 / scale }
  }
}

extension RGBImage {
  /// A picture from `height` × `width` × 3 values of 0…1, clipped and rounded.
  public init(width: Int, height: Int, values: [Float]) {
    self.init(
      width: width, height: height, pixels: values.map { UInt8(min(max(($0 * 255).rounded(), 0), 255)) })
  }
}
