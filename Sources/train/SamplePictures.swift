import Fovea
import NeuralNetwork

extension MemoryLabel {
  /// Photos for `resized.png`.
  static let pictures = MemoryLabel("sample pictures")
}

/// A few validation photos, each as the model sees it before and after training.
///
/// Columns: input | bilinear | learned before | difference before | learned after | difference after. A learned picture
/// whose values leave 0…1 is shown stretched to its own range, a difference (learned − bilinear) around middle grey with
/// its largest values at black and white, so that what is there can be seen.
final class SamplePictures {
  private let inputs: [RGBImage]
  private let photos: Tensor
  private let targetSize: (height: Int, width: Int)
  private let plain: [Float]
  private let before: [Float]
  private var after: [Float]

  /// Photos that are shown, where the set has as many.
  static let count = 6

  /// Takes the first `count` photos of the set that can be decoded, and what the untrained `classifier` makes of them;
  /// nil when there are none.
  init?(
    from dataset: any ImageDataset, count: Int = SamplePictures.count, model: ModelDescription,
    before classifier: ImageClassifier,
    on device: Device
  ) throws {
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
    before = try classifier.resizer(photos.scaled(by: 1 / 255)).floats()
    after = before
  }

  /// What takes memory on the device, for a planning one: photos that stay, and the work on them that is returned.
  static func plan(
    count: Int, model: ModelDescription, _ classifier: ImageClassifier, on device: Device
  ) -> () -> Void {
    let photos = device.labellingMemory(.pictures) {
      Tensor(uninitialized: [count, model.inputHeight, model.inputWidth, 3], on: device, dtype: .uint8)
    }
    return {
      _ = photos.scaled(by: 1 / 255).resized(height: model.targetHeight, width: model.targetWidth)
      _ = classifier.resizer(photos.scaled(by: 1 / 255))
    }
  }

  /// What the columns show.
  static let captions = [
    "input", "bilinear", "learned, before training", "its difference", "learned, now", "its difference now",
  ]

  /// Takes what the model makes of the photos now.
  func capture(_ classifier: ImageClassifier) throws {
    after = try classifier.resizer(photos.scaled(by: 1 / 255)).floats()
  }

  /// A row for each photo, a picture for each caption; the learned ones in the target's size.
  var rows: [[RGBImage]] {
    let size = targetSize.height * targetSize.width * 3
    return inputs.indices.map { index in
      let range = index * size..<(index + 1) * size
      let bilinear = Array(plain[range])
      return [inputs[index], picture(bilinear)]
        + [before, after].flatMap { learned in
          let values = Array(learned[range])
          let difference = zip(values, bilinear).map(-)
          return [picture(PictureValues.stretched(values)), picture(PictureValues.centred(difference))]
        }
    }
  }

  /// All pictures in one.
  func grid() -> RGBImage {
    // Small pictures are enlarged to about the input's size.
    let factor = max(inputs[0].height / targetSize.height, 1)
    return PictureGrid.compose(rows.map { [$0[0]] + $0.dropFirst().map { $0.enlarged(by: factor) } })
  }

  /// Values of 0…1 as a picture, clipped.
  private func picture(_ values: [Float]) -> RGBImage {
    RGBImage(width: targetSize.width, height: targetSize.height, values: values)
  }
}
