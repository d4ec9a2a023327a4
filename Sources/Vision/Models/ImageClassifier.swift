import NeuralNetwork
import Operations
import TensorCore

/// A backbone behind a resizer: photos in, logits out. Values enter as 0…255 and are multiplied by 1/255.
public struct ImageClassifier: Module {
  /// Adds no level to parameter names.
  public let name: String? = ""
  /// What brings photos to the size of the backbone.
  public let resizer: any ImageResizer
  /// What classifies the resized images.
  public let backbone: DenseNet

  /// A classifier of the two parts.
  public init(resizer: any ImageResizer, backbone: DenseNet) {
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

/// What brings photos to the size that the backbone sees: ``LearnableResizer``, ``MullerResizer``, ``PlainResizer`` or a
/// module of your own, which an ``ImageClassifier`` trains, saves and exports as it does these.
public protocol ImageResizer: Module {
  /// Size of the images that come out.
  var targetSize: (height: Int, width: Int) { get }

  /// How the plain resize, or the one inside, interpolates.
  var interpolation: Interpolation { get }

  /// [batch, height, width, 3] with values of 0…1 to [batch, targetSize.height, targetSize.width, 3].
  func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor

  /// Writes down, for summaries and ONNX files, the operations that lead from images to images of `self.targetSize`.
  func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value
}

extension ImageResizer {
  /// [batch, height, width, 3] to [batch, targetHeight, targetWidth, 3].
  public func callAsFunction(_ images: Tensor) -> Tensor { self(images, targetSize: targetSize) }
}

/// A plain resize without weights: the baseline.
public struct PlainResizer: ImageResizer {
  /// Adds no level to parameter names.
  public let name: String? = ""
  /// Size of the images that come out.
  public let targetSize: (height: Int, width: Int)
  /// How it interpolates.
  public let interpolation: Interpolation

  /// A resize to `height` × `width`.
  public init(height: Int, width: Int, _ interpolation: Interpolation = .bilinear) {
    targetSize = (height, width)
    self.interpolation = interpolation
  }

  /// [batch, height, width, channels] to [batch, targetSize.height, targetSize.width, channels].
  public func callAsFunction(_ images: Tensor, targetSize: (height: Int, width: Int)) -> Tensor {
    images.resized(height: targetSize.height, width: targetSize.width, interpolation: interpolation)
  }

  /// The one operation.
  public func describe(in graph: inout ModelGraph, _ images: ModelGraph.Value) -> ModelGraph.Value {
    graph.resize(images, to: targetSize, interpolation, antialias: false, name: "resize")
  }
}
