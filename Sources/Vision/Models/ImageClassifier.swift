import NeuralNetwork
import Operations
import TensorCore

/// A backbone behind a resizer: photos in, logits out. Values enter as 0…255 and are multiplied by 1/255.
public struct ImageClassifier: Module {
  public let name: String? = ""
  public let resizer: ImageResizer
  public let backbone: DenseNet

  public init(resizer: ImageResizer, backbone: DenseNet) {
    self.resizer = resizer
    self.backbone = backbone
  }

  /// Photos [batch, height, width, 3], bytes or floats of 0…255, to the resized images (0…1) and logits [batch, classes].
  public func callAsFunction(_ photos: Tensor) -> (resized: Tensor, logits: Tensor) {
    let resized = resizer(photos.scaled(by: 1 / 255))
    return (resized, backbone(resized))
  }
}

/// What brings photos to the size that the backbone sees.
public enum ImageResizer: Module {
  case learnable(LearnableResizer)
  /// A plain resize without weights: the baseline.
  case plain(height: Int, width: Int, Interpolation)

  public var name: String? { "" }

  public var targetSize: (height: Int, width: Int) {
    switch self {
    case .learnable(let resizer): resizer.options.targetSize
    case .plain(let height, let width, _): (height, width)
    }
  }

  /// [batch, height, width, 3] to [batch, targetHeight, targetWidth, 3].
  public func callAsFunction(_ images: Tensor) -> Tensor {
    switch self {
    case .learnable(let resizer): resizer(images)
    case .plain(let height, let width, let interpolation):
      images.resized(height: height, width: width, interpolation: interpolation)
    }
  }
}
