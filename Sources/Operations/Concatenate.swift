import TensorCore

/// Tensors joined along the channels by copying. A `ChannelStack` gives the same values without the copies; this is the
/// plain form that it is tested against, and the one for tensors that exist already. Pending steps are computed on the
/// way; shapes that differ before the channels trap. The result has the type of the first.
public func concatenate(_ parts: [any TensorOperand]) -> Tensor {
  precondition(!parts.isEmpty, "concatenate: nothing to join")
  let operands = parts.map(\.deferred)
  let rows = operands[0].shape.dimensions.dropLast()
  precondition(
    operands.allSatisfy { $0.shape.dimensions.dropLast() == rows },
    "concatenate: shapes \(operands.map(\.shape)) differ before the channels")
  var stack = ChannelStack(
    shape: operands[0].shape.withChannels(operands.reduce(0) { $0 + $1.channels }), on: operands[0].device,
    dtype: operands[0].base.dtype)
  for operand in operands {
    _ = operand.copied(into: stack.appendSlab(channels: operand.channels))
  }
  return stack.prefix
}
