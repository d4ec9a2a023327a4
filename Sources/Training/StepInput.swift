import OpenCLRuntime
import TensorCore

/// A batch as the host prepares it for the device.
struct HostInput {
  /// Bytes of `shape`.
  var pixels: [UInt8]
  /// [count, height, width, channels].
  var shape: Shape
  /// [count, classes], row-major.
  var targets: [Float]
  /// What is still to be applied to the targets.
  var labelSmoothing: Float

  var count: Int { shape[0] }

  /// Two inputs of one form lead to the same launches.
  var form: StepForm.Input { StepForm.Input(shape: shape, labelSmoothing: labelSmoothing) }

  /// Copies it to the device.
  func enqueued(on device: Device) -> StepInput {
    device.labellingMemory(.input) {
      StepInput(
        photos: TrainingBatch.photos(pixels, shape: shape, on: device),
        targets: Tensor(enqueueing: targets, shape: [count, targets.count / count], on: device),
        labelSmoothing: labelSmoothing)
    }
  }
}

/// A batch on the device.
struct StepInput {
  /// Bytes of [count, height, width, channels].
  var photos: Tensor
  /// [count, classes].
  var targets: Tensor
  var labelSmoothing: Float

  var count: Int { photos.shape[0] }

  func overwrite(with host: HostInput) {
    if photos.device.isPlanning { return }
    photos.overwrite(enqueueing: host.pixels)
    targets.overwrite(enqueueing: host.targets)
  }
}

/// What decides which kernels a step launches.
struct StepForm: Equatable {
  struct Input: Equatable {
    var shape: Shape
    var labelSmoothing: Float
  }

  var inputs: [Input]
}

/// The training step of one form, captured, with the tensors that its batches are copied to.
final class CapturedTrainingStep {
  let form: StepForm
  private let inputs: [StepInput]
  private let step: CapturedStep<StepResults>

  /// - Parameter update: launches the step.
  init(_ hosts: [HostInput], on device: Device, update: @escaping ([StepInput]) -> StepResults) {
    form = StepForm(inputs: hosts.map(\.form))
    let inputs = hosts.map { $0.enqueued(on: device) }
    self.inputs = inputs
    step = CapturedStep(on: device) { update(inputs) }
  }

  func callAsFunction(_ hosts: [HostInput]) throws -> StepResults {
    for (input, host) in zip(inputs, hosts) { input.overwrite(with: host) }
    return try step()
  }

  func releaseMemory() { step.releaseMemory() }

  var plannedMemory: (byteCount: Int, least: Int)? { step.plannedMemory }
}

/// What a training step leaves on the device.
struct StepResults {
  /// The mean loss over the images, of shape [].
  var loss: Tensor
  /// Images classified correctly, of shape [].
  var correct: Tensor
}
