import Fovea
import NeuralNetwork

/// `resized.png`: six validation photos, each as the model sees it before and after training.
///
/// Columns: input | bilinear | learned before | difference before | learned after | difference after. A learned picture
/// whose values leave 0…1 is shown stretched to its own range, a difference (learned − bilinear) around middle grey with
/// its largest values at black and white, so that what is there can be seen.
struct SamplePictures {
  private let inputs: [RGBImage]
  private let photos: Tensor
  private let targetSize: (height: Int, width: Int)
  private let plain: [Float]
  private var learned: [[Float]] = []

  /// Takes the first `count` photos of the set that can be decoded.
  init?(from dataset: any ImageDataset, count: Int = 6, model: ModelDescription, on device: Device) throws {
    var pixels: [[UInt8]] = []
    for index in 0..<dataset.count where pixels.count < count {
      if let image = try? dataset.pixels(at: index, height: model.inputHeight, width: model.inputWidth) {
        pixels.append(image)
      }
    }
    guard !pixels.isEmpty else { return nil }
    inputs = pixels.map { RGBImage(width: model.inputWidth, height: model.inputHeight, pixels: $0) }
    photos = Tensor(
      Array(pixels.joined()), shape: [pixels.count, model.inputHeight, model.inputWidth, 3], on: device)
    targetSize = (model.targetHeight, model.targetWidth)
    plain = try photos.scaled(by: 1 / 255).resized(height: targetSize.height, width: targetSize.width).floats()
  }

  /// Adds what the model makes of the photos now.
  mutating func capture(_ classifier: ImageClassifier) throws {
    learned.append(try classifier.resizer(photos.scaled(by: 1 / 255)).floats())
  }

  func write(to path: String) throws {
    let size = targetSize.height * targetSize.width * 3
    // Small pictures are enlarged to about the input's size.
    let factor = max(inputs[0].height / targetSize.height, 1)
    let rows = inputs.indices.map { index in
      let range = index * size..<(index + 1) * size
      let bilinear = Array(plain[range])
      var row = [inputs[index], picture(bilinear).enlarged(by: factor)]
      for values in learned {
        let difference = zip(values[range], bilinear).map(-)
        row.append(picture(stretched(Array(values[range]))).enlarged(by: factor))
        row.append(picture(centred(difference)).enlarged(by: factor))
      }
      return row
    }
    try AtomicFile.write(try ImageCodec.encodePNG(PictureGrid.compose(rows)), to: path)
  }

  /// Values moved to 0…1 by their 1st and 99th percentile, unless they lie there already.
  private func stretched(_ values: [Float]) -> [Float] {
    let sorted = values.sorted()
    let low = sorted[sorted.count / 100]
    let high = sorted[sorted.count - 1 - sorted.count / 100]
    guard low < 0 || high > 1, high > low else { return values }
    return values.map { ($0 - low) / (high - low) }
  }

  /// Values around ½, scaled by the 99th percentile of their size.
  private func centred(_ values: [Float]) -> [Float] {
    let sizes = values.map(abs).sorted()
    let scale = max(sizes[sizes.count - 1 - sizes.count / 100], 1e-6)
    return values.map { 0.5 + 0.5 * $0 / scale }
  }

  /// Values of 0…1 as bytes, clipped.
  private func picture(_ values: [Float]) -> RGBImage {
    RGBImage(
      width: targetSize.width, height: targetSize.height,
      pixels: values.map { UInt8(min(max(($0 * 255).rounded(), 0), 255)) })
  }
}
