import Operations
import TensorCore

/// Sums the gradients of several backward passes, so that one update sees more images than fit the memory at once.
public final class GradientAccumulator {
  private let arena: ParameterArena
  private let sum: Tensor

  /// An accumulator of the gradients of all trainable parameters of `arena`.
  public init(_ arena: ParameterArena) {
    self.arena = arena
    sum = arena.device.labellingMemory(.parameterGradients) {
      Tensor(uninitialized: arena.gradients.shape, on: arena.device)
    }
  }

  /// Leaves the sum of the gradients of `count` backward passes in the arena.
  ///
  /// - Parameter pass: does the backward pass of that index over the arena's model.
  public func sum(over count: Int, _ pass: (Int) -> GradientStore) {
    for index in 0..<count {
      arena.completeGradients(pass(index))
      if index > 0 { sum.scale(1, to: arena.gradients, accumulate: true) }
      // The next pass overwrites the arena's gradients.
      if index < count - 1 { sum.storage.buffer.copy(from: arena.gradients.storage.buffer, count: sum.shape.count * 4) }
    }
  }
}
