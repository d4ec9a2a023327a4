import TensorCore

/// A named array that a module owns: a weight that training changes, or a statistic that it keeps.
///
/// A parameter has no memory until a `ParameterArena` gives it some.
public final class Parameter: @unchecked Sendable {
  /// The extents of the array.
  public let shape: Shape
  /// What the values start from.
  public let initializer: Initializer
  /// Whether gradients flow to it: not to statistics, nor to weights made so.
  public let isTrainable: Bool
  /// Path from the model's root, such as `learnable_resizer/conv2d/kernel`; set by the arena.
  public internal(set) var name = ""

  private var memory: Tensor?

  /// The last level of the name; nil for the name of the property that holds the parameter.
  let label: String?

  /// A parameter without memory yet.
  ///
  /// - Parameter name: the last level of its path; nil for the name of the property that holds it.
  public init(_ shape: Shape, _ initializer: Initializer, isTrainable: Bool = true, name: String? = nil) {
    label = name
    self.shape = shape
    self.initializer = initializer
    self.isTrainable = isTrainable
  }

  /// The values on the device. Traps before the arena has been made.
  public var tensor: Tensor {
    guard let memory else {
      preconditionFailure("a parameter of shape \(shape) has no memory: make a ParameterArena of the model first")
    }
    return memory
  }

  func place(in storage: Storage) {
    memory = Tensor(storage: storage, shape: shape)
  }
}
