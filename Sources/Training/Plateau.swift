/// Ends a run that no longer gets better, as Keras's `EarlyStopping` does: when the validation loss, the lower of the
/// two, has not fallen below its lowest value for `patience` epochs.
///
/// A function of the history alone, so that a resumed run needs no state of it.
public struct EarlyStopping: Sendable, Equatable {
  /// Epochs without a new lowest loss after which the run ends.
  public var patience: Int

  /// Ends a run after `patience` epochs without a new lowest loss.
  public init(patience: Int) {
    precondition(patience > 0, "EarlyStopping: a patience of \(patience)")
    self.patience = patience
  }

  /// Whether a run with that history ends.
  public func ends(_ history: TrainingHistory) -> Bool {
    var lowest = Double.infinity
    var waited = 0
    for loss in history.epochs.map(\.bestValLoss) {
      waited += 1
      if loss < lowest { (lowest, waited) = (loss, 0) }
    }
    return waited >= patience
  }
}

/// Lowers the learning rate when the validation loss, the lower of the two, no longer falls, as Keras's
/// `ReduceLROnPlateau` does.
///
/// A function of the history alone, like ``EarlyStopping``.
public struct ReduceOnPlateau: Sendable, Equatable {
  /// What the rate is multiplied by.
  public var factor: Float
  /// Epochs without progress after which it is.
  public var patience: Int
  /// What a loss must fall by to count as progress.
  public var minimumDelta = 1e-4

  /// Multiplies the rate by `factor` for every `patience` epochs without progress.
  public init(factor: Float = 0.1, patience: Int = 10) {
    precondition(factor > 0 && factor < 1 && patience > 0, "ReduceOnPlateau: factor \(factor), patience \(patience)")
    self.factor = factor
    self.patience = patience
  }

  /// What the learning rate is multiplied by after that history.
  public func rateFactor(after history: TrainingHistory) -> Float {
    var rateFactor: Float = 1
    var lowest = Double.infinity
    var waited = 0
    for loss in history.epochs.map(\.bestValLoss) {
      if loss < lowest - minimumDelta {
        (lowest, waited) = (loss, 0)
      } else {
        waited += 1
        if waited >= patience { (rateFactor, waited) = (rateFactor * factor, 0) }
      }
    }
    return rateFactor
  }
}
