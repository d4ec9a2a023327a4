import TensorCore

extension Optimizer {
  /// Writes what a run needs to go on besides the weights: the step, the moments that the rule keeps, laid out like the
  /// arena's weights, and the loss scale.
  public func save(to path: String) throws {
    let tensors = try namedState.map { name, tensor in
      (name: name, shape: tensor.shape.dimensions, values: try tensor.floats())
    }
    try SafetensorsWriter.write(tensors, metadata: ["step": "\(step)"], to: path)
  }

  /// Goes on where the optimizer that wrote `path` was. Nothing is changed when the file is of another rule or model.
  public func load(from path: String) throws {
    let file = try SafetensorsFile(contentsOf: path)
    guard let step = file.metadata["step"].flatMap({ Int($0) }) else {
      throw SafetensorsError(path: path, reason: .missingMetadata("step"))
    }
    let values = try namedState.map { try file.floats($0, shape: $1.shape.dimensions) }
    for ((_, tensor), values) in zip(namedState, values) {
      values.withUnsafeBytes { tensor.storage.buffer.write($0) }
    }
    resume(at: step)
  }

  private var namedState: [(name: String, tensor: Tensor)] {
    zip(rule.stateNames, state).map { ($0, $1) } + (lossScale.map { [("loss_scale", $0.values)] } ?? [])
  }
}

extension OptimizerRule {
  /// What the tensors of an optimizer's state are called in files.
  var stateNames: [String] {
    switch self {
    case .sgd(let momentum, _, _): momentum == 0 ? [] : ["velocity"]
    case .adam, .adamW: ["first_moment", "second_moment"]
    }
  }
}
