import Operations
import TensorCore

/// Exponential moving average of a model's weights and moving statistics (Polyak & Juditsky 1992; timm's model EMA):
/// `average = decay · average + (1 − decay) · value` after each update, from the values at the start on.
public final class WeightAverage {
  /// Share of the old average that an update keeps.
  public let decay: Float
  private let arena: ParameterArena
  /// Pairs of what the model uses and its average.
  private let pairs: [(live: Tensor, average: Tensor)]

  /// An average that begins with the present values of `arena`.
  public init(of arena: ParameterArena, decay: Float) {
    precondition(decay >= 0 && decay < 1, "WeightAverage: a decay of \(decay)")
    self.decay = decay
    self.arena = arena
    pairs = arena.device.labellingMemory(.averages) {
      [arena.weights, arena.statistics].map { ($0, $0.duplicate()) }
    }
  }

  /// Follows the weights after an update.
  public func update() {
    for (live, average) in pairs { average.updateMoving(with: live, momentum: decay) }
  }

  /// Runs `body` with the averages in the place of the model's own values, which are put back afterwards.
  public func withAverages<Result>(_ body: () throws -> Result) rethrows -> Result {
    swap()
    defer { swap() }
    return try body()
  }

  /// Writes the averages as ``ParameterArena/save(to:metadata:)`` does the values themselves.
  public func save(to path: String) throws {
    try withAverages { try arena.save(to: path) }
  }

  /// Goes on with averages from a file that `save` wrote.
  public func load(from path: String) throws {
    try withAverages { try arena.load(from: path) }
  }

  private func swap() {
    for (live, average) in pairs {
      let values = live.duplicate()
      live.overwrite(with: average)
      average.overwrite(with: values)
    }
  }
}

extension Tensor {
  fileprivate func duplicate() -> Tensor {
    let copy = Tensor(uninitialized: shape, on: device)
    copy.overwrite(with: self)
    return copy
  }

  fileprivate func overwrite(with other: Tensor) {
    storage.buffer.copy(from: other.storage.buffer, count: shape.count * 4)
  }
}
