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
        row.append(picture(PictureValues.stretched(Array(values[range]))).enlarged(by: factor))
        row.append(picture(PictureValues.centred(difference)).enlarged(by: factor))
      }
      return row
    }
    try AtomicFile.write(try ImageCodec.encodePNG(PictureGrid.compose(rows)), to: path)
  }

  /// Values of 0…1 as a picture, clipped.
  private func picture(_ values: [Float]) -> RGBImage {
    RGBImage(width: targetSize.width, height: targetSize.height, values: values)
  }
}
