import OpenCLRuntime
import TensorCore

extension MemoryLabel {
  /// Photos and targets.
  package static let input = MemoryLabel("photos and targets")
  /// What the model's operations keep for the backward pass, and what the forward pass works with.
  package static let activations = MemoryLabel("activations")
}

extension Trainer {
  // Enqueue what a run does, with batches of these shapes [count, height, width, channels] and without values. The
  // trainer's device must be a planning one.

  /// A training step on some batches.
  package func planTrainingStep(_ shapes: [Shape]) throws {
    precondition(device.isPlanning, "planTrainingStep: the device would run it")
    _ = try trainingStep(shapes.map(TrainingBatch.init(planning:)))
  }

  /// A validation.
  package func planEvaluation(_ shapes: [Shape]) {
    precondition(device.isPlanning, "planEvaluation: the device would run it")
    for shape in shapes { _ = evaluationStep(TrainingBatch(planning: shape)) }
  }

  /// A validation with statistics estimated from batches.
  package func planReestimatedEvaluation(_ shapes: [Shape], from batches: [Shape]) throws {
    precondition(device.isPlanning, "planReestimatedEvaluation: the device would run it")
    var rest = batches[...]
    try withReestimatedStatistics(from: { rest.popFirst().map(TrainingBatch.init(planning:)) }) {
      planEvaluation(shapes)
    }
  }
}
