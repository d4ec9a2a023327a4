import NeuralNetwork
import TensorCore

extension Trainer {
  /// What first holds a NaN or an infinity where the loss of `batch` does, in a few words; nil when nothing does.
  ///
  /// A trainable parameter, if there is one: an update made it so, and its gradient came from behind the last of them. Else the
  /// first operation in the order of the forward pass, which is repeated for that. The weights must be those that gave
  /// the loss; the optimizer sees to it.
  func firstNonFinite(in batch: TrainingBatch) throws -> String? {
    // Moving statistics follow the batch before there is a loss, and say nothing.
    let damaged = try arena.parameters.filter { try $0.isTrainable && !$0.tensor.isFinite() }
    if let last = damaged.last {
      let others = damaged.count > 1 ? " and \(damaged.count - 1) parameters before it" : ""
      return "the last update made \(last.name)\(others) so"
    }

    let names = Dictionary(uniqueKeysWithValues: arena.parameters.map { ($0.tensor.storage.id, $0.name) })
    let tape = Tape()
    var result: Result<String?, any Error> = .success(nil)
    var latest: String?
    tape.onRecord = { name, inputs, outputs in
      guard case .success(nil) = result else { return }
      let parameters = inputs.compactMap { names[$0.storage.id] }
      result = Result {
        guard let output = try outputs.first(where: { try !$0.isFinite() }) else { return nil }
        let place =
          parameters.isEmpty ? latest.map { " behind \($0)" } ?? "" : " with \(parameters.joined(separator: ", "))"
        return "the output of \(name)\(place), \(output.shape), is the first to be so"
      }
      latest = parameters.first ?? latest
    }
    Tape.$current.withValue(tape) { _ = withTraining { trainingLoss(of: batch) } }
    return try result.get()
  }
}

extension Tensor {
  /// Whether no value is NaN or infinite; waits for the device.
  fileprivate func isFinite() throws -> Bool {
    guard dtype.isFloatingPoint else { return true }
    return try floats().withUnsafeBufferPointer { values in
      // A plain loop: without optimisation anything generic costs a call for every value.
      var index = 0
      while index < values.count {
        if !values[index].isFinite { return false }
        index += 1
      }
      return true
    }
  }
}
