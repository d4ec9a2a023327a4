import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Vision

/// The flagship's training step, captured: the same bits as launched anew, and a memory plan close to the least there is.
@Suite struct CapturedModelTests {
  /// A CPU's buffers are cut from host memory, a GPU's are parts of one block.
  @Test(arguments: [DeviceKind.cpu, .gpu]) func capturedEqualsEager(kind: DeviceKind) throws {
    var description = try DeviceSelection.pick(nil)
    if kind == .gpu {
      description = description.imitatingGPU(computeUnits: 8, localMemory: 48 << 10, maximumWorkGroupSize: 256)
    }
    let device = try Device(description)
    func outcome(captured: Bool) throws -> [Float] {
      var model = ModelDescription()
      (model.targetHeight, model.targetWidth) = (32, 32)
      model.filters = 4
      let classifier = try model.build()
      let arena = ParameterArena(classifier, on: device, seed: 7)
      let optimizer = Optimizer(.adam(), schedule: .constant(1e-3), clipNorm: 1, arena: arena)
      let photos = Tensor(uninitialized: [2, 48, 48, 3], on: device, dtype: .uint8)
      let targets = Tensor([1, 0, 0, 1], shape: [2, 2], on: device)
      func launched() -> Tensor {
        let (loss, gradients) = withTraining {
          valueWithGradients { classifier(photos).logits.softmaxCrossEntropy(targets: targets).loss }
        }
        arena.completeGradients(gradients)
        optimizer.applyUpdate(loss: loss)
        return loss
      }
      let step = CapturedStep(on: device, launched)
      var numbers = RandomNumbers(seed: 1)
      var losses: [Float] = []
      for _ in 0..<5 {
        photos.overwrite(enqueueing: (0..<2 * 48 * 48 * 3).map { _ in UInt8(truncatingIfNeeded: numbers.next()) })
        optimizer.beginStep()
        losses.append(try (captured ? step() : launched()).item())
      }
      if captured {
        let planned = try #require(step.plannedMemory)
        #expect(step.isCaptured && Double(planned.byteCount) <= 1.1 * Double(planned.least))
      }
      return try losses + arena.weights.floats() + arena.statistics.floats()
    }
    let eager = try outcome(captured: false)
    #expect(try outcome(captured: true) == eager)
    #expect(!eager.contains { !$0.isFinite })
  }
}
