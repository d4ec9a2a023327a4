import OpenCLRuntime
import TensorCore

extension MemoryLabel {
  /// Weights and statistics.
  package static let parameters = MemoryLabel("parameters")
  /// Their gradients, and where a step has several batches the sum.
  package static let parameterGradients = MemoryLabel("their gradients")
  /// Momentum and the like.
  package static let optimizer = MemoryLabel("optimizer")
  /// Moving averages of weights.
  package static let averages = MemoryLabel("averaged weights")
}

/// The memory of a model's parameters: all trainable ones in one block, their gradients in a second, statistics in a
/// third. One launch updates them all, and one block is reduced, saved or copied.
///
/// Gradients of these parameters are written to the gradient block by every backward pass: they hold until the next one.
public final class ParameterArena: @unchecked Sendable {
  /// The device that holds the parameters.
  public let device: Device
  /// In the order of the model's properties.
  public let parameters: [Parameter]
  /// [elements], trainable parameters one after another, each at a multiple of 16 elements.
  public let weights: Tensor
  /// The gradients, laid out like `weights`.
  public let gradients: Tensor
  /// [elements], statistics and frozen parameters.
  public let statistics: Tensor

  /// Gives all parameters of `model` memory on `device` and starts them from `seed`. A parameter's values depend on the
  /// seed and its name only, so that two models that share a part start it alike.
  public init(_ model: some Module, on device: Device, seed: UInt64 = 0) {
    self.device = device
    let named = model.namedParameters()
    parameters = named.map(\.parameter)
    for (name, parameter) in named { parameter.name = name }
    let repeated = Dictionary(grouping: named, by: \.name).first { $0.value.count > 1 }
    precondition(repeated == nil, "ParameterArena: two parameters are called \(repeated?.key ?? "")")

    let trainable = parameters.filter(\.isTrainable)
    let fixed = parameters.filter { !$0.isTrainable }
    func block(_ parameters: [Parameter], _ label: MemoryLabel) -> Tensor {
      device.labellingMemory(label) { .zeros([max(Self.size(of: parameters), 16)], on: device) }
    }
    weights = block(trainable, .parameters)
    gradients = block(trainable, .parameterGradients)
    statistics = block(fixed, .parameters)
    Self.place(trainable, in: weights, gradients: gradients, seed: seed)
    Self.place(fixed, in: statistics, gradients: nil, seed: seed)
  }

  /// Sets gradients that the backward pass did not reach to zero, so that `gradients` as a whole may be used.
  public func completeGradients(_ store: GradientStore) {
    for parameter in parameters where parameter.isTrainable && store.gradient(of: parameter.tensor) == nil {
      guard let home = parameter.tensor.storage.gradientHome else { continue }
      Tensor(storage: home, shape: parameter.shape).fill(0)
    }
  }

  /// The parameter with that path, or nil when there is none.
  public func parameter(named name: String) -> Parameter? {
    parameters.first { $0.name == name }
  }

  /// Overwrites one parameter's values, row-major.
  public func set(_ parameter: Parameter, to values: [Float]) {
    precondition(
      values.count == parameter.shape.count, "set: \(values.count) values for \(parameter.name) \(parameter.shape)")
    values.withUnsafeBytes {
      parameter.tensor.storage.buffer.write($0, at: parameter.tensor.elementOffset * 4)
    }
  }

  /// Each parameter's place is rounded up, so that vector loads of one never reach into the next.
  private static func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }

  private static func size(of parameters: [Parameter]) -> Int {
    parameters.reduce(0) { $0 + padded($1.shape.count) }
  }

  private static func place(_ parameters: [Parameter], in arena: Tensor, gradients: Tensor?, seed: UInt64) {
    var values = [Float](repeating: 0, count: arena.shape.count)
    var offset = 0
    for parameter in parameters {
      let (rows, channels) = (parameter.shape.rows, parameter.shape.channels)
      let storage = Storage(buffer: arena.storage.buffer, baseOffset: offset, rows: rows, channels: channels)
      if let gradients {
        storage.requiresGradient = true
        storage.gradientHome = Storage(
          buffer: gradients.storage.buffer, baseOffset: offset, rows: rows, channels: channels)
      }
      parameter.place(in: storage)
      defer { offset += padded(parameter.shape.count) }
      // A planning device holds no values, and drawing millions takes longer than the plan.
      if arena.device.isPlanning { continue }
      var random = RandomNumbers(seed: seed, name: parameter.name)
      let initial = parameter.initializer.values(shape: parameter.shape, using: &random)
      values.replaceSubrange(offset..<offset + initial.count, with: initial)
    }
    values.withUnsafeBytes { arena.storage.buffer.write($0) }
  }
}
