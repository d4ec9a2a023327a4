import TensorCore

extension ParameterArena {
  /// Writes all parameters, moving statistics included, under Keras's names and layouts (HWIO and IO).
  public func save(to path: String, metadata: [String: String] = [:]) throws {
    let tensors = try parameters.map { parameter in
      (name: parameter.name, shape: parameter.shape.dimensions, values: try parameter.tensor.floats())
    }
    try SafetensorsWriter.write(tensors, metadata: metadata, to: path)
  }

  /// Reads all parameters from a file that `save` wrote, or one with the same names. Nothing is changed when one is
  /// missing or has another shape.
  public func load(from path: String) throws {
    let file = try SafetensorsFile(contentsOf: path)
    let values = try parameters.map { try file.floats($0.name, shape: $0.shape.dimensions) }
    for (parameter, values) in zip(parameters, values) { set(parameter, to: values) }
  }
}
