import NeuralNetwork
import Operations
import TensorCore

/// A training run of another framework, written down: inputs, weights, and what must come out. See
/// `Scripts/keras_reference.py` for the layout.
public struct ReferenceFile: Sendable {
  /// Which model the file describes.
  public enum Model: String, Sendable {
    /// The whole classifier.
    case resizerDenseNet121 = "resizer+densenet121"
    /// The backbone by itself.
    case denseNet121 = "densenet121"
    /// The resizer by itself.
    case resizer
  }

  /// Where the file lies.
  public let path: String
  /// The model that ran.
  public let model: Model
  /// Size of the photos.
  public let inputSize: (height: Int, width: Int)
  /// Size that the resizer makes of them.
  public let targetSize: (height: Int, width: Int)
  /// Filters of the learnable resizer.
  public let filters: Int
  /// Residual blocks of the learnable resizer.
  public let blocks: Int
  /// How resizes inside the model interpolate.
  public let interpolation: Interpolation
  /// Number of classes.
  public let classes: Int
  /// Label smoothing of the loss.
  public let labelSmoothing: Float
  /// Learning rate of the steps.
  public let learningRate: Float
  /// Training steps that the file records.
  public let steps: Int
  private let file: SafetensorsFile

  /// Opens the file and checks what it says about itself.
  public init(contentsOf path: String) throws {
    self.path = path
    file = try SafetensorsFile(contentsOf: path)
    let metadata = file.metadata
    func text(_ key: String) throws -> String {
      guard let value = metadata[key] else { throw ReferenceError.missingMetadata(path: path, key: key) }
      return value
    }
    func parsed<T>(_ key: String, _ parse: (String) -> T?) throws -> T {
      let value = try text(key)
      guard let result = parse(value) else {
        throw ReferenceError.badMetadata(path: path, key: key, value: value)
      }
      return result
    }
    func positive(_ text: String) -> Int? { Int(text).flatMap { $0 > 0 && $0 < 1 << 20 ? $0 : nil } }
    func size(_ text: String) -> (height: Int, width: Int)? {
      let parts = text.split(separator: "x").compactMap { positive(String($0)) }
      return parts.count == 2 ? (parts[0], parts[1]) : nil
    }
    model = try parsed("model", Model.init)
    inputSize = try parsed("input_size", size)
    targetSize = try parsed("target_size", size)
    learningRate = try parsed("learning_rate") { Float($0) }
    steps = try parsed("steps", positive)
    let hasResizer = model != .denseNet121
    filters = hasResizer ? try parsed("filters", positive) : 16
    blocks = hasResizer ? try parsed("blocks") { Int($0).flatMap { $0 >= 0 && $0 < 1 << 16 ? $0 : nil } } : 1
    interpolation = try parsed("interpolation") { Interpolation(rawValue: $0) }
    classes = model == .resizer ? 2 : try parsed("classes", positive)
    labelSmoothing = model == .resizer ? 0 : try parsed("label_smoothing") { Float($0) }
  }

  /// Whether ReLU inputs stay away from 0: every DenseNet BN beta is near 3. Only then can gradients be compared tightly.
  public func isSmooth() throws -> Bool {
    for name in file.names where name.hasPrefix("weights/densenet") && name.hasSuffix("/beta") {
      if try file.floats(name).contains(where: { $0 < 2 }) { return false }
    }
    return true
  }

  /// The names below `expected/`.
  public var expectedNames: [String] { file.names.filter { $0.hasPrefix("expected/") } }

  /// The values of one tensor of the file, which must have that shape.
  public func floats(_ name: String, shape: Shape) throws -> [Float] {
    guard let entry = file.entry(name) else { throw ReferenceError.missingTensor(path: path, name: name) }
    guard entry.shape == shape.dimensions else {
      throw ReferenceError.wrongShape(path: path, name: name, found: entry.shape, expected: shape.dimensions)
    }
    return try file.floats(name)
  }

  /// The shape of a tensor of the file.
  public func shape(_ name: String) throws -> [Int] {
    guard let entry = file.entry(name) else { throw ReferenceError.missingTensor(path: path, name: name) }
    return entry.shape
  }

  /// Whether the file has a tensor of that name.
  public func contains(_ name: String) -> Bool { file.entry(name) != nil }
}

/// What is wrong with a reference file.
public enum ReferenceError: Error, Sendable, CustomStringConvertible {
  /// The metadata lack a key.
  case missingMetadata(path: String, key: String)
  /// A value in the metadata makes no sense.
  case badMetadata(path: String, key: String, value: String)
  /// A tensor that the comparison needs is not there.
  case missingTensor(path: String, name: String)
  /// A tensor has another shape than the model's.
  case wrongShape(path: String, name: String, found: [Int], expected: [Int])
  /// A tensor belongs to nothing in the model.
  case unknownTensor(path: String, name: String)

  /// What is wrong with which file, in one line.
  public var description: String {
    switch self {
    case .missingMetadata(let path, let key):
      "\(path): not a reference file: its metadata have no '\(key)'"
    case .badMetadata(let path, let key, let value):
      "\(path): the metadata's '\(key)' has the value '\(value)', which makes no sense"
    case .missingTensor(let path, let name):
      "\(path): the tensor '\(name)' is missing"
    case .wrongShape(let path, let name, let found, let expected):
      "\(path): the tensor '\(name)' has shape \(found), the model needs \(expected)"
    case .unknownTensor(let path, let name):
      "\(path): the tensor '\(name)' means nothing to this model"
    }
  }
}
