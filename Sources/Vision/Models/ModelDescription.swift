import NeuralNetwork
import OpenCLRuntime
import Operations

/// Everything that decides which model is built; written to a run's `config.json`.
public struct ModelDescription: Sendable, Equatable, Codable {
  /// `resizer+densenet121`, `muller+densenet121` or `densenet121` (the baseline: a plain resize in front), and the larger
  /// DenseNets alike.
  public var model = "resizer+densenet121"
  /// Height that photos are squashed to.
  public var inputHeight = 300
  /// Width that photos are squashed to.
  public var inputWidth = 300
  /// Height that the backbone sees.
  public var targetHeight = 150
  /// Width that the backbone sees.
  public var targetWidth = 150
  /// Filters of the learnable resizer.
  public var filters = 16
  /// Residual blocks of the learnable resizer.
  public var blocks = 1
  /// How resizes inside the model interpolate; see ``Interpolation``.
  public var interpolation = "bilinear"
  /// Number of classes.
  public var classes = 2
  /// Momentum of the moving statistics; see ``BatchNorm``.
  public var batchNormMomentum: Float = 0.99
  /// The part that training leaves as it is; nil for none.
  public var frozen: Part?
  /// How the values between the layers are kept; nil for `float32`.
  public var precision: Precision?

  /// The parts of a model that can be frozen.
  public enum Part: String, Sendable, Codable, CaseIterable {
    /// The resizer in front.
    case resizer
    /// The whole classifier behind it.
    case backbone
    /// The backbone without its last layer, the classes.
    case features
  }

  /// The published model.
  public init() {}

  /// The names that `model` may have.
  public static let models = DenseNet.Variant.allCases.flatMap {
    ["resizer+\($0.rawValue)", "muller+\($0.rawValue)", $0.rawValue]
  }

  /// Builds the model. Throws `ModelError` for a name or size that makes none.
  public func build() throws -> ImageClassifier {
    guard Self.models.contains(model),
      let backbone = DenseNet.Variant(rawValue: backboneName)
    else { throw ModelError.unknownModel(model) }
    guard let interpolation = Interpolation(rawValue: interpolation) else {
      throw ModelError.unknownInterpolation(interpolation)
    }
    let least: [(name: String, value: Int, least: Int)] = [
      ("input height", inputHeight, 1), ("input width", inputWidth, 1), ("filters", filters, 1), ("blocks", blocks, 0),
      ("classes", classes, 1),
    ]
    if let wrong = least.first(where: { $0.value < $0.least }) {
      throw ModelError.numberTooSmall(wrong.name, wrong.value, least: wrong.least)
    }
    guard (0..<1).contains(batchNormMomentum) else { throw ModelError.momentumOutOfRange(batchNormMomentum) }
    // The stem and the three transitions halve five times; the last block needs a pixel.
    guard targetHeight >= 32, targetWidth >= 32 else { throw ModelError.targetTooSmall(targetHeight, targetWidth) }
    if frozen == .resizer, !hasResizer { throw ModelError.noResizerToFreeze(model) }
    return ImageClassifier(
      resizer: front(interpolation),
      backbone: DenseNet(
        backbone, classes: classes, batchNormMomentum: batchNormMomentum,
        isTrainable: frozen != .backbone && frozen != .features, isHeadTrainable: frozen != .backbone,
        precision: precision ?? .float32))
  }

  /// What training keeps the gradients of values in 16 bits within their range with; nil where nothing is needed.
  public func lossScale(on device: Device) -> LossScale? {
    precision?.needsLossScale ?? false ? LossScale(on: device) : nil
  }

  private func front(_ interpolation: Interpolation) -> any ImageResizer {
    if model.hasPrefix("resizer+") {
      var options = LearnableResizer.Options()
      options.targetSize = (targetHeight, targetWidth)
      options.filters = filters
      options.blocks = blocks
      options.interpolation = interpolation
      options.batchNormMomentum = batchNormMomentum
      options.isTrainable = frozen != .resizer
      options.precision = precision ?? .float32
      return LearnableResizer(options)
    }
    if model.hasPrefix("muller+") {
      var options = MullerResizer.Options()
      options.targetSize = (targetHeight, targetWidth)
      options.interpolation = interpolation
      options.isTrainable = frozen != .resizer
      return MullerResizer(options)
    }
    return PlainResizer(height: targetHeight, width: targetWidth, interpolation)
  }

  /// Whether a resizer with weights comes first; otherwise a plain resize does.
  public var hasResizer: Bool { model.contains("+") }

  /// The backbone's name, such as `densenet121`.
  public var backboneName: String { String(model.split(separator: "+").last ?? "") }
}

/// Why a model cannot be built.
public enum ModelError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No model has that name.
  case unknownModel(String)
  /// No interpolation has that name.
  case unknownInterpolation(String)
  /// Height and width that the backbone cannot halve often enough.
  case targetTooSmall(Int, Int)
  /// A number by its name, its value and the least that it may be.
  case numberTooSmall(String, Int, least: Int)
  /// A momentum outside 0 ..< 1.
  case momentumOutOfRange(Float)
  /// That model has no resizer with weights.
  case noResizerToFreeze(String)

  /// Why it cannot be built and what would do, in one line.
  public var description: String {
    switch self {
    case .unknownModel(let name):
      "unknown model '\(name)'; known are \(ModelDescription.models.joined(separator: ", "))"
    case .unknownInterpolation(let name):
      "unknown interpolation '\(name)'; known are \(Interpolation.allCases.map(\.rawValue).joined(separator: ", "))"
    case .targetTooSmall(let height, let width):
      "the target size \(height)×\(width) is too small: a DenseNet halves it five times, so 32×32 is the least"
    case .numberTooSmall(let name, let value, let least):
      "the model's \(name) must be at least \(least), not \(value)"
    case .momentumOutOfRange(let value):
      "the model's BatchNorm momentum must be at least 0 and below 1, not \(value)"
    case .noResizerToFreeze(let name):
      "the model \(name) has no resizer that could be frozen"
    }
  }
}
