import NeuralNetwork
import TensorCore

/// Weights from a safetensors file, matched to a model's parameters by name: our own and Keras's names and layouts, or
/// those of torchvision's and timm's DenseNets.
///
/// A parameter `densenet121/conv1_conv/kernel` takes the tensor of that name; else `conv1_conv/kernel`, from a file of the
/// backbone alone; else torchvision's `features.conv0.weight`, with OIHW turned into HWIO.
public struct PretrainedWeights: Sendable {
  /// The file.
  public let path: String
  /// The strings that the file holds beside its tensors.
  public var metadata: [String: String] { file.metadata }
  private let file: SafetensorsFile

  /// Opens the file; throws `SafetensorsError` or `FileError`.
  public init(contentsOf path: String) throws {
    self.path = path
    file = try SafetensorsFile(contentsOf: path)
  }

  /// How well a file fits a model.
  public struct Match: Sendable, Equatable, Encodable {
    /// A parameter with the shape it has in the model and in the file.
    public struct Mismatch: Sendable, Equatable, Encodable {
      /// The parameter's name in the model.
      public let name: String
      /// The shape in the model.
      public let model: [Int]
      /// The shape in the file, turned into the model's layout.
      public let file: [Int]
    }

    /// Parameters whose values the file holds.
    public internal(set) var loaded: [String] = []
    /// Parameters that the file does not hold.
    public internal(set) var missing: [String] = []
    /// Parameters that the file holds with another shape.
    public internal(set) var mismatched: [Mismatch] = []
    /// Tensors of the file that mean nothing to the model.
    public internal(set) var unused: [String] = []

    /// Whether every parameter of the model has its values.
    public var isComplete: Bool { missing.isEmpty && mismatched.isEmpty }
  }

  /// The number of classes that the file's last layer tells apart; nil when there is no such layer.
  public var classes: Int? {
    let name = file.names.first { $0 == "classifier.bias" || "/\($0)".hasSuffix("/predictions/bias") }
    return name.flatMap(file.entry)?.shape.first
  }

  /// The model that the file's tensors are of, by their names; nil when they are none of a DenseNet's.
  public var model: String? {
    if let model = file.metadata["model"], ModelDescription.models.contains(model) { return model }
    // Only the third dense block tells the variants apart.
    let variant = DenseNet.Variant.allCases.last { variant in
      let last = variant.blocks[2]
      return file.names.contains {
        $0.hasPrefix("features.denseblock3.denselayer\(last).") || "/\($0)".contains("/conv4_block\(last)_")
      }
    }
    guard let backbone = variant?.rawValue else { return nil }
    let resizer = [("learnable_resizer/", "resizer+"), ("muller_resizer/", "muller+")]
      .first { level, _ in file.names.contains { $0.hasPrefix(level) } }
    return (resizer?.1 ?? "") + backbone
  }

  /// Compares names and shapes; reads no values.
  public func match(with arena: ParameterArena) -> Match { plan(for: arena).match }

  /// Overwrites the parameters that the file holds in the right shape. Others keep their values.
  ///
  /// - Parameter partially: whether parameters may be left over; without it they are an error and nothing is changed.
  /// - Throws: `WeightsError.doNotFit`; `SafetensorsError` when the file cannot be read.
  @discardableResult
  public func load(into arena: ParameterArena, partially: Bool = false) throws -> Match {
    let (match, sources) = plan(for: arena)
    guard partially || match.isComplete, !match.loaded.isEmpty else {
      throw WeightsError.doNotFit(path: path, match)
    }
    // All are read before any is written.
    let values = try sources.map { parameter, source in
      source.layout.arranged(try file.floats(source.name), shape: parameter.shape.dimensions)
    }
    for ((parameter, _), values) in zip(sources, values) { arena.set(parameter, to: values) }
    return match
  }

  private typealias Source = (name: String, layout: Layout)

  private func plan(for arena: ParameterArena) -> (match: Match, sources: [(Parameter, Source)]) {
    var match = Match()
    var sources: [(Parameter, Source)] = []
    var used: Set<String> = []
    for parameter in arena.parameters {
      guard let source = candidates(for: parameter).first(where: { file.entry($0.name) != nil }),
        let entry = file.entry(source.name)
      else {
        match.missing.append(parameter.name)
        continue
      }
      used.insert(source.name)
      let shape = source.layout.shape(of: entry.shape)
      guard shape == parameter.shape.dimensions else {
        match.mismatched.append(.init(name: parameter.name, model: parameter.shape.dimensions, file: shape))
        continue
      }
      match.loaded.append(parameter.name)
      sources.append((parameter, source))
    }
    // PyTorch's counters of batches have no part in any result.
    match.unused = file.names.filter { !used.contains($0) && !$0.hasSuffix("num_batches_tracked") }
    return (match, sources)
  }

  private func candidates(for parameter: Parameter) -> [Source] {
    let levels = parameter.name.split(separator: "/").map(String.init)
    var names: [Source] = [(parameter.name, .same)]
    guard levels.count == 3 else { return names }
    names.append((levels[1...].joined(separator: "/"), .same))
    guard DenseNet.Variant(rawValue: levels[0]) != nil, let layer = TorchvisionNames.layer(levels[1]),
      let (weight, layout) = TorchvisionNames.weight(levels[2], isDense: levels[1] == "predictions")
    else { return names }
    names.append(("\(layer).\(weight)", layout))
    // Files from before PyTorch 0.4 write `norm.1` for `norm1`.
    if let number = layer.last, number.isNumber, layer.contains("denselayer") {
      names.append(("\(layer.dropLast()).\(number).\(weight)", layout))
    }
    return names
  }
}

/// How the numbers of a tensor lie in a file.
private enum Layout {
  /// As in the model.
  case same
  /// OIHW where the model has HWIO.
  case convolution
  /// [outputs, inputs] where the model has [inputs, outputs].
  case dense

  /// The model's shape for the shape in the file.
  func shape(of file: [Int]) -> [Int] {
    switch self {
    case .convolution where file.count == 4: [file[2], file[3], file[1], file[0]]
    case .dense where file.count == 2: [file[1], file[0]]
    default: file
    }
  }

  /// The file's numbers in the model's order; `shape` is the model's.
  func arranged(_ values: [Float], shape: [Int]) -> [Float] {
    if self == .same { return values }
    let (inputs, outputs) = (shape[shape.count - 2], shape[shape.count - 1])
    let window = shape.dropLast(2).reduce(1, *)
    var result = [Float](repeating: 0, count: values.count)
    for output in 0..<outputs {
      for input in 0..<inputs {
        for position in 0..<window {
          result[(position * inputs + input) * outputs + output] = values[(output * inputs + input) * window + position]
        }
      }
    }
    return result
  }
}

/// torchvision's names (timm's are the same) for Keras's layers of a DenseNet.
private enum TorchvisionNames {
  /// `conv2_block1_0_bn` → `features.denseblock1.denselayer1.norm1`; nil for a layer that no DenseNet has.
  static func layer(_ keras: String) -> String? {
    switch keras {
    case "conv1_conv": return "features.conv0"
    case "conv1_bn": return "features.norm0"
    case "bn": return "features.norm5"
    case "predictions": return "classifier"
    default: break
    }
    if let match = keras.wholeMatch(of: /conv(\d)_block(\d+)_(0_bn|1_conv|1_bn|2_conv)/), let block = Int(match.1) {
      let parts = ["0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"]
      return parts[String(match.3)].map { "features.denseblock\(block - 1).denselayer\(match.2).\($0)" }
    }
    if let match = keras.wholeMatch(of: /pool(\d)_(bn|conv)/), let block = Int(match.1) {
      return "features.transition\(block - 1).\(match.2 == "bn" ? "norm" : "conv")"
    }
    return nil
  }

  static func weight(_ keras: String, isDense: Bool) -> (name: String, layout: Layout)? {
    switch keras {
    case "kernel": ("weight", isDense ? .dense : .convolution)
    case "bias", "beta": ("bias", .same)
    case "gamma": ("weight", .same)
    case "moving_mean": ("running_mean", .same)
    case "moving_variance": ("running_var", .same)
    default: nil
    }
  }
}

/// Why weights cannot be taken over.
public enum WeightsError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Parameters of the model are not in the file, or with another shape; or the file has none of them.
  case doNotFit(path: String, PretrainedWeights.Match)

  /// What does not fit, in one line.
  public var description: String {
    switch self {
    case .doNotFit(let path, let match):
      guard !match.loaded.isEmpty else {
        return "\(path) holds none of the model's parameters; it has "
          + Self.some(match.unused, "tensors", otherwise: "no tensors")
      }
      var problems: [String] = []
      if !match.missing.isEmpty { problems.append("it lacks " + Self.some(match.missing, "parameters")) }
      if !match.mismatched.isEmpty {
        let shapes = match.mismatched.map { "\($0.name) \($0.file), in the model \($0.model)" }
        problems.append("another shape have " + Self.some(shapes, "parameters", separator: "; "))
      }
      return "\(path) does not fit the model: \(problems.joined(separator: "; ")). Are --model and its sizes right?"
    }
  }

  private static func some(
    _ names: [String], _ what: String, separator: String = ", ", otherwise: String = ""
  ) -> String {
    guard !names.isEmpty else { return otherwise }
    if names.count <= 3 { return names.joined(separator: separator) }
    return "\(names.count) \(what) (\(names.prefix(2).joined(separator: separator)), …)"
  }
}
