import ArgumentParser
import Fovea

/// The model, as every command asks for it.
public struct ModelOptions: ParsableArguments {
  /// The model by name.
  @Option(
    help: "resizer+densenet121, or densenet121 for the baseline: a plain resize in front; likewise 169 and 201.")
  public var model = "resizer+densenet121"

  /// Size that photos are squashed to.
  @Option(help: ArgumentHelp("Size that photos are squashed to, N or HEIGHTxWIDTH.", valueName: "size"))
  public var inputSize = ImageSize(300)

  /// Size that the backbone sees.
  @Option(help: ArgumentHelp("Size that the backbone sees, N or HEIGHTxWIDTH.", valueName: "size"))
  public var targetSize = ImageSize(150)

  /// Filters of the learnable resizer.
  @Option(help: ArgumentHelp("Filters of the learnable resizer.", valueName: "n"))
  public var filters = 16

  /// Residual blocks of the learnable resizer.
  @Option(help: ArgumentHelp("Residual blocks of the learnable resizer.", valueName: "r"))
  public var blocks = 1

  /// How resizes inside the model interpolate.
  @Option(help: "Resize inside the model: nearest, bilinear, bicubic, lanczos3 or lanczos5.")
  public var interpolation = "bilinear"

  /// The defaults.
  public init() {}

  /// Checks what single options cannot.
  public func validate() throws {
    guard (1...1024).contains(filters) else { throw ValidationError("--filters must be 1 to 1024, not \(filters)") }
    guard (0...64).contains(blocks) else { throw ValidationError("--blocks must be 0 to 64, not \(blocks)") }
    do {
      _ = try description(classes: 2, batchNormMomentum: 0.99).build()
    } catch let error as ModelError {
      throw ValidationError("\(error)")
    }
  }

  /// The model that was asked for.
  public func description(classes: Int, batchNormMomentum: Float) -> ModelDescription {
    var description = ModelDescription()
    description.model = model
    (description.inputHeight, description.inputWidth) = (inputSize.height, inputSize.width)
    (description.targetHeight, description.targetWidth) = (targetSize.height, targetSize.width)
    description.filters = filters
    description.blocks = blocks
    description.interpolation = interpolation
    description.classes = classes
    description.batchNormMomentum = batchNormMomentum
    return description
  }
}

/// Height and width from a text such as `300` or `300x200`.
public struct ImageSize: ExpressibleByArgument, Equatable, Sendable {
  /// Rows.
  public let height: Int
  /// Columns.
  public let width: Int

  /// A square.
  public init(_ side: Int) {
    height = side
    width = side
  }

  /// Reads `N` or `HEIGHTxWIDTH`; nil for anything else.
  public init?(argument: String) {
    let sides = argument.lowercased().split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard sides.count == 1 || sides.count == 2, let height = sides[0], let width = sides[sides.count - 1],
      (1...16384).contains(height), (1...16384).contains(width)
    else { return nil }
    self.height = height
    self.width = width
  }

  /// The size as it is typed.
  public var defaultValueDescription: String { height == width ? "\(height)" : "\(height)x\(width)" }
}
