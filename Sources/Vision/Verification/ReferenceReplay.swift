import Foundation
import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore

/// How one tensor of a reference file came out.
public struct TensorComparison: Sendable, Encodable {
  /// The tensor's name in the file.
  public let name: String
  /// ‖ours − expected‖ / ‖expected‖ over all elements.
  public let relativeL2: Double
  /// Largest absolute difference.
  public let maximumAbsolute: Double
  /// The largest relative error that passes; nil where nothing can be demanded.
  public let limit: Double?
  /// ‖ours − expected‖ over the norm that `limit` is meant for, which is larger than the tensor's own for gradients that
  /// cancel.
  public let judged: Double

  enum CodingKeys: String, CodingKey {
    case name
    case relativeL2 = "relative_l2"
    case maximumAbsolute = "max_abs"
  }

  /// Whether the error is within the limit; without a limit, whether it is a number.
  public var passed: Bool { limit.map { judged <= $0 } ?? !relativeL2.isNaN }
}

/// The outcome of replaying a reference file.
public struct VerificationReport: Sendable, Encodable {
  /// The device that replayed the file.
  public let device: String
  /// All tensors of the file, in its order.
  public let tensors: [TensorComparison]
  /// The largest relative error, as judged, among the tensors that have a limit.
  public let worst: Double
  /// Median relative error of the gradients, and the largest that passes.
  public let gradientMedian: Double?
  /// The largest median that passes.
  public let gradientMedianLimit: Double
  /// Whether every tensor and the median passed.
  public let passed: Bool

  enum CodingKeys: String, CodingKey { case device, tensors, worst, passed }
}

/// Replays a reference file on a device and compares everything that it expects.
///
/// Limits follow from TensorFlow's own float32 against float64 on such files (`Scripts/verify_all` prints both): in the
/// median of the gradients 3.0e-6 for the resizer, 3.7e-6 end to end on smooth files, 4.7e-3 to 1.6e-2 at initialisation;
/// we allow twice that, and for single tensors what four times TensorFlow's worst tensor is. Gradients are judged against
/// at least a thousandth of the median gradient norm, because some cancel to nothing. Where a sign flip at a ReLU kink can
/// change everything after it (later steps) only NaN fails.
public func replay(_ reference: ReferenceFile, on device: Device) throws -> VerificationReport {
  try Replay(reference, device).run()
}

private final class Replay {
  private let reference: ReferenceFile
  private let device: Device
  private let limits: Limits
  private var comparisons: [TensorComparison] = []
  private var checked: Set<String> = []

  private let classifier: ImageClassifier?
  private let resizer: LearnableResizer?
  private let arena: ParameterArena

  init(_ reference: ReferenceFile, _ device: Device) throws {
    self.reference = reference
    self.device = device
    limits = reference.model == .resizer ? .resizer : try reference.isSmooth() ? .smooth : .initial
    var options = LearnableResizer.Options()
    options.targetSize = reference.targetSize
    options.filters = reference.filters
    options.blocks = reference.blocks
    options.interpolation = reference.interpolation
    switch reference.model {
    case .resizer:
      let resizer = LearnableResizer(options)
      self.resizer = resizer
      classifier = nil
      arena = ParameterArena(RootedModule(resizer), on: device)
    case .resizerDenseNet121, .denseNet121:
      let front: any ImageResizer =
        reference.model == .denseNet121
        ? PlainResizer(height: reference.targetSize.height, width: reference.targetSize.width, reference.interpolation)
        : LearnableResizer(options)
      let classifier = ImageClassifier(resizer: front, backbone: DenseNet(classes: reference.classes))
      self.classifier = classifier
      resizer = nil
      arena = ParameterArena(classifier, on: device)
    }
    for parameter in arena.parameters {
      arena.set(parameter, to: try reference.floats("weights/\(parameter.name)", shape: parameter.shape))
    }
  }

  func run() throws -> VerificationReport {
    try compareInference()
    let optimizer = Optimizer(.sgd(), schedule: .constant(reference.learningRate), arena: arena)
    var losses: [Float] = []
    for step in 1...reference.steps {
      let photos = try batch("input", step)
      let (outputs, gradients) = try trainingStep(photos, step)
      if step == 1 { try compareFirstStep(photos, outputs, gradients) }
      optimizer.update(gradients)
      losses.append(try outputs.loss.item())
      for parameter in arena.parameters {
        try compare(
          "expected/after_step_\(step)/\(parameter.name)", parameter.tensor, limit: step == 1 ? limits.afterStep : nil)
      }
    }
    try compareLosses(losses)
    if let unknown = reference.expectedNames.first(where: { !checked.contains($0) }) {
      throw ReferenceError.unknownTensor(path: reference.path, name: unknown)
    }
    return report()
  }

  private struct Outputs {
    var loss: Tensor
    var resized: Tensor
    var logits: Tensor?
  }

  private func forward(_ photos: Tensor) -> (resized: Tensor, logits: Tensor?) {
    if let classifier {
      let (resized, logits) = classifier(photos)
      return (resized, logits)
    }
    guard let resizer else { preconditionFailure("a replay has one of two models") }
    return (resizer(photos.scaled(by: 1 / 255)), nil)
  }

  private func trainingStep(_ photos: Tensor, _ step: Int) throws -> (Outputs, GradientStore) {
    let target = try reference.model == .resizer ? batch("target", step) : labels(step, count: photos.shape[0])
    var outputs: Outputs?
    let watched = reference.contains("expected/input_gradient") && step == 1 ? [photos] : []
    let (_, gradients) = withTraining {
      valueWithGradients(at: watched) {
        let (resized, logits) = forward(photos)
        let loss =
          logits?.softmaxCrossEntropy(targets: target, labelSmoothing: reference.labelSmoothing).loss
          ?? resized.meanSquaredError(to: target)
        outputs = Outputs(loss: loss, resized: resized, logits: logits)
        return loss
      }
    }
    guard let outputs else { preconditionFailure("the body of valueWithGradients always runs") }
    return (outputs, gradients)
  }

  // MARK: - Inputs

  /// The batch of step k, or the only one.
  private func key(_ kind: String, _ step: Int) -> String {
    reference.contains("\(kind)/\(step)") ? "\(kind)/\(step)" : "\(kind)/1"
  }

  private func batch(_ kind: String, _ step: Int) throws -> Tensor {
    let name = key(kind, step)
    let size = kind == "input" ? reference.inputSize : reference.targetSize
    let batch = try reference.shape(name).first ?? 0
    let shape: Shape = [max(batch, 1), size.height, size.width, 3]
    return Tensor(try reference.floats(name, shape: shape), shape: shape, on: device)
  }

  private func labels(_ step: Int, count: Int) throws -> Tensor {
    let shape: Shape = [count, reference.classes]
    return Tensor(try reference.floats(key("labels", step), shape: shape), shape: shape, on: device)
  }

  // MARK: - Comparisons

  private func compareInference() throws {
    guard
      reference.contains("expected/probabilities_inference") || reference.contains("expected/resized_inference")
    else { return }
    let (resized, logits) = forward(try batch("input", 1))
    try compare("expected/resized_inference", resized, limit: limits.forward)
    if let logits { try compare("expected/probabilities_inference", logits.softmax(), limit: limits.inference) }
  }

  private func compareFirstStep(_ photos: Tensor, _ outputs: Outputs, _ gradients: GradientStore) throws {
    try compare("expected/resized", outputs.resized, limit: limits.forward)
    if let logits = outputs.logits { try compare("expected/probabilities", logits.softmax(), limit: limits.forward) }
    let trainable = arena.parameters.filter(\.isTrainable)
    let names = trainable.map { "expected/gradient/\($0.name)" }
    let norms = try zip(names, trainable).compactMap { name, parameter in
      reference.contains(name) ? norm(try reference.floats(name, shape: parameter.shape)) : nil
    }
    let floor = norms.isEmpty ? 0 : 1e-3 * median(norms)
    for (name, parameter) in zip(names, trainable) where reference.contains(name) {
      guard let gradient = gradients[parameter.tensor] else {
        throw ReferenceError.unknownTensor(path: reference.path, name: name)
      }
      try compare(name, gradient, limit: limits.gradient, normFloor: floor)
    }
    if reference.contains("expected/input_gradient"), let gradient = gradients[photos] {
      try compare("expected/input_gradient", gradient, limit: limits.gradient)
    }
  }

  private func compareLosses(_ losses: [Float]) throws {
    let name = "expected/loss"
    guard reference.contains(name) else { return }
    let expected = try reference.floats(name, shape: [losses.count])
    let first = abs(Double(losses[0]) - Double(expected[0])) / max(abs(Double(expected[0])), 1e-30)
    append(name, ours: losses, expected: expected, limit: limits.firstLoss, judged: first)
  }

  private func compare(_ name: String, _ tensor: Tensor, limit: Double?, normFloor: Double = 0) throws {
    guard reference.contains(name) else { return }
    let expected = try reference.floats(name, shape: tensor.shape)
    // An absolute error of a millionth is nothing, even where the values themselves are near 0 (moving means).
    let floor = max(normFloor, limit.map { 1e-6 / $0 * Double(expected.count).squareRoot() } ?? 0)
    append(name, ours: try tensor.floats(), expected: expected, limit: limit, normFloor: floor)
  }

  private func append(
    _ name: String, ours: [Float], expected: [Float], limit: Double?, judged: Double? = nil, normFloor: Double = 0
  ) {
    var squares = 0.0
    var largest = 0.0
    for (a, b) in zip(ours, expected) {
      let difference = Double(a) - Double(b)
      squares += difference * difference
      if !(abs(difference) <= largest) { largest = abs(difference) }
    }
    let size = norm(expected)
    let relative = size > 0 ? squares.squareRoot() / size : squares.squareRoot()
    comparisons.append(
      TensorComparison(
        name: name, relativeL2: relative, maximumAbsolute: largest, limit: limit,
        judged: judged ?? squares.squareRoot() / max(size, normFloor, 1e-300)))
    checked.insert(name)
  }

  private func report() -> VerificationReport {
    let gradients = comparisons.filter { $0.name.hasPrefix("expected/gradient/") }.map(\.judged)
    let middle = gradients.isEmpty ? nil : median(gradients)
    let medianPassed = middle.map { $0 <= limits.gradientMedian } ?? true
    return VerificationReport(
      device: device.description.summary, tensors: comparisons,
      worst: comparisons.filter { $0.limit != nil }.map(\.judged).max() ?? 0, gradientMedian: middle,
      gradientMedianLimit: limits.gradientMedian, passed: medianPassed && comparisons.allSatisfy(\.passed))
  }
}

/// The largest errors that pass; see `replay`.
private struct Limits {
  var forward: Double
  var inference: Double
  var firstLoss: Double
  var gradientMedian: Double
  var gradient: Double
  var afterStep: Double

  static let resizer = Limits(
    forward: 1.2e-5, inference: 1.2e-5, firstLoss: 1.2e-5, gradientMedian: 1.2e-5, gradient: 1.2e-4, afterStep: 2e-4)
  static let smooth = Limits(
    forward: 2.4e-5, inference: 1e-4, firstLoss: 2e-5, gradientMedian: 5e-4, gradient: 5e-2, afterStep: 2e-2)
  static let initial = Limits(
    forward: 1e-4, inference: 1e-3, firstLoss: 1e-4, gradientMedian: 3.2e-2, gradient: 0.3, afterStep: 0.3)
}

/// Gives a single layer's parameters the path that they have inside a model.
private struct RootedModule: Module {
  let name: String? = ""
  let resizer: LearnableResizer

  init(_ resizer: LearnableResizer) {
    self.resizer = resizer
  }
}

private func norm(_ values: [Float]) -> Double {
  values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
}
