import NeuralNetwork
import Operations
import TensorCore

/// A backbone behind a resizer: photos in, logits out. Values enter as 0…255 and are multiplied by 1/255.
public struct ImageClassifier: Module {
  /// Adds no level to parameter names.
  public let name: String? = ""
  /// What brings photos to the size of the backbone.
  public let resizer: ImageResizer
  /// What classifies the resized images.
  public let backbone: DenseNet

  /// A classifier of the two parts.
  public init(resizer: ImageResizer, backbone: DenseNet) {
    self.resizer = resizer
    self.backbone = backbone
  }

  /// Photos [batch, height, width, 3], bytes or floats of 0…255, to the resized images (0…1) and logits [batch, classes].
  public func callAsFunction(_ photos: Tensor) -> (resized: Tensor, logits: Tensor) {
    let resized = resizer(photos.scaled(by: 1 / 255))
    return (resized, backbone(resized))
  }

  /// The operations that photos of 0…255 and this size go through, up to the probabilities.
  public func graph(height: Int, width: Int) -> ModelGraph {
    var graph = ModelGraph()
    let photos = graph.input(height: height, width: width, name: "photos")
    let resized = resizer.describe(in: &graph, graph.scale(photos, by: 1 / 255, name: "rescaling"))
    let logits = backbone.describe(in: &graph, resized)
    _ = graph.add(.softmax, [logits], shape: logits.shape, name: "softmax")
    return graph
  }

  /// The resizer alone: photos of 0…255 and this size to images of 0…1.
  public func resizerGraph(height: Int, width: Int) -> ModelGraph {
    var graph = ModelGraph()
    let photos = graph.input(height: height, width: width, name: "photos")
    _ = resizer.describe(in: &graph, graph.scale(photos, by: 1 / 255, name: "rescaling"))
    return graph
  }

  /// The backbone alone: images of 0…1 and the target size to probabilities.
  public func backboneGraph() -> ModelGraph {
    var graph = ModelGraph()
    let images = graph.input(height: resizer.targetSize.height, width: resizer.targetSize.width, name: "resized")
    let logits = backbone.describe(in: &graph, images)
    _ = graph.add(.softmax, [logits], shape: logits.shape, name: "softmax")
    return graph
  }
}

/// What brings photos to the size that the backbone sees.
public enum ImageResizer: Module {
  case learnable(LearnableResizer)
  case muller(MullerResizer)
  /// A plain resize without weights: the baseline.
  case plain(height: Int, width: Int, Interpolation)

  /// Adds no level to parameter names.
  public var name: String? { "" }

  /// Size of the images that come out.
  public var targetSize: (height: Int, width: Int) {
    switch self {
    case .learnable(let resizer): resizer.options.targetSize
    case .muller(let resizer): resizer.options.targetSize
    case .plain(let height, let width, _): (height, width)
    }
  }

  /// How the plain resize, or the one inside, interpolates.
  public var interpolation: Interpolation {
    switch self {
    case .learnable(let resizer): resizer.options.interpolation
    case .muller(let resizer): resizer.options.interpolation
    case .plain(_, _, let interpolation): interpolation
    }
  }

  /// [batch, height, width, 3] to [batch, targetHeight, targetWidth, 3].
  public func callAsFunction(_ images: Tensor) -> Tensor { self(images, targetSize: targetSize) }

  /// [batch, height, width, 3] to [batch, targetSize.height, targetSize.width, 3].
  public func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor {
    switch self {
    case .learnable(let resizer): resizer(images, targetSize: targetSize)
    case .muller(let resizer): resizer(images, targetSize: targetSize)
    case .plain(_, _, let interpolation):
      images.resized(height: targetSize.height, width: targetSize.width, interpolation: interpolation)
    }
  }
  /// Writes the same down.
  func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
    switch self {
    case .learnable(let resizer): resizer.describe(in: &graph, images)
    case .muller(let resizer): resizer.describe(in: &graph, images)
    case .plain(let height, let width, let interpolation):
      graph.resize(images, to: (height, width), interpolation, antialias: false, name: "resize")
    }
  }
}
