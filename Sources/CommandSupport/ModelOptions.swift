import ArgumentParser
import Fovea

/// The model, as every command asks for it. What is not given is that of the published model, or of the run whose model
/// it is.
public struct ModelOptions: ParsableArguments {
  /// The model by name.
  @Option(
    help: """
      resizer+densenet121, muller+densenet121, or densenet121 for the baseline: a plain resize in front; likewise 169 \
      and 201. Default: resizer+densenet121.
      """, completion: .list(ModelDescription.models))
  public var model: String?

  /// The resizer in front of the backbone.
  @Option(help: "The resizer in front of the backbone, in short for --model.")
  public var resizer: ResizerName?

  /// Size that photos are squashed to.
  @Option(
    help: ArgumentHelp(
      "Size that photos are squashed to, N or HEIGHTxWIDTH, up to 16384. Default: 300.", valueName: "size"),
    transform: ImageSize.init(option:))
  public var inputSize: ImageSize?

  /// Size that the backbone sees.
  @Option(
    help: ArgumentHelp("Size that the backbone sees, N or HEIGHTxWIDTH, from 32. Default: 150.", valueName: "size"),
    transform: ImageSize.init(option:))
  public var targetSize: ImageSize?

  /// Filters of the learnable resizer.
  @Option(help: ArgumentHelp("Filters of the learnable resizer. Default: 16.", valueName: "n"))
  public var filters: Int?

  /// Residual blocks of the learnable resizer.
  @Option(help: ArgumentHelp("Residual blocks of the learnable resizer. Default: 1.", valueName: "r"))
  public var blocks: Int?

  /// How resizes inside the model interpolate.
  @Option(
    help: "Resize inside the model: nearest, bilinear, bicubic, lanczos3 or lanczos5. Default: bilinear.",
    completion: .list(Interpolation.allCases.map(\.rawValue)))
  public var interpolation: String?

  /// How the values between the layers are kept.
  @Option(
    help: ArgumentHelp(
      "How values between layers are kept: float32, float16 or bfloat16; or tf32, float32 of which convolutions "
        + "multiply fewer bits. Default: float32.",
      discussion: """
        Sums, statistics and weights are float32 with all of them. Tensor cores, where a device has some, multiply values \
        rounded to tf32, float16 or bfloat16; elsewhere products are float32 too, and with tf32 a line says so. float16 \
        trains with a loss scale that adapts itself.
        """, valueName: "precision"), completion: .list(Precision.allCases.map(\.rawValue)),
    transform: Precision.init(option:))
  public var precision: Precision?

  /// Nothing given.
  public init() {}

  /// Checks what single options cannot.
  public func validate() throws {
    if let filters, !(1...1024).contains(filters) {
      throw ValidationError("--filters must be 1 to 1024, not \(filters)")
    }
    if let blocks, !(0...64).contains(blocks) { throw ValidationError("--blocks must be 0 to 64, not \(blocks)") }
    do {
      _ = try description(classes: 2, batchNormMomentum: 0.99).build()
    } catch let error as ModelError {
      throw ValidationError("\(error)")
    }
  }

  /// The published model with what was asked for.
  public func description(classes: Int, batchNormMomentum: Float) -> ModelDescription {
    var description = ModelDescription()
    description.classes = classes
    description.batchNormMomentum = batchNormMomentum
    return applied(to: description)
  }

  /// A model with what was asked for in the place of what it had.
  public func applied(to base: ModelDescription) -> ModelDescription {
    var description = base
    if let model { description.model = model }
    if let resizer: ResizerName {
      let backbone = description.backboneName
      description.model = resizer == ResizerName.none ? backbone : "\(resizer.rawValue)+\(backbone)"
    }
    if let inputSize { (description.inputHeight, description.inputWidth) = (inputSize.height, inputSize.width) }
    if let targetSize { (description.targetHeight, description.targetWidth) = (targetSize.height, targetSize.width) }
    if let filters { description.filters = filters }
    if let blocks { description.blocks = blocks }
    if let interpolation { description.interpolation = interpolation }
    // The published model's is not written down.
    if let precision { description.precision = precision == .float32 ? nil : precision }
    return description
  }
}

extension Precision {
  /// Reads a name as it is typed; a `ValidationError` for others.
  @Sendable init(option name: String) throws {
    guard let precision = Precision(rawValue: name) else {
      let names = Precision.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--precision must be one of \(names), not \(name)")
    }
    self = precision
  }
}

/// The resizers by name.
public enum ResizerName: String, ExpressibleByArgument, CaseIterable, Sendable {
  /// Talebi & Milanfar's; see `LearnableResizer`.
  case resizer
  /// See `MullerResizer`.
  case muller
  /// A plain resize.
  case none
}

/// Height and width from a text such as `300` or `300x200`.
public struct ImageSize: Equatable, Sendable, CustomStringConvertible {
  /// Rows.
  public let height: Int
  /// Columns.
  public let width: Int

  /// A square.
  public init(_ side: Int) {
    height = side
    width = side
  }

  /// Reads `N` or `HEIGHTxWIDTH`.
  ///
  /// - Throws: `ValidationError` for anything else.
  public init(option text: String) throws {
    let sides = text.lowercased().split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard sides.count == 1 || sides.count == 2, let height = sides[0], let width = sides[sides.count - 1],
      (1...16384).contains(height), (1...16384).contains(width)
    else {
      throw ValidationError("'\(text)' is no size: give N or HEIGHTxWIDTH, each 1 to 16384")
    }
    self.height = height
    self.width = width
  }

  /// The size as it is typed.
  public var description: String { height == width ? "\(height)" : "\(height)x\(width)" }
}
