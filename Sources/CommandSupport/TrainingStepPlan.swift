import Fovea
import KernelVerification

extension StepPlan {
  /// What a training step of `model` launches on such a device, by planning alone.
  package init(trainingStepOf model: ModelDescription, batchSize: Int, on description: DeviceDescription) throws {
    let classifier = try model.build()
    try self.init(on: description) { device in
      let arena = ParameterArena(classifier, on: device)
      let optimizer = Optimizer(.sgd(), schedule: .constant(0.01), arena: arena)
      let photos = Tensor(
        uninitialized: [batchSize, model.inputHeight, model.inputWidth, 3], on: device, dtype: .uint8)
      let targets = Tensor(uninitialized: [batchSize, model.classes], on: device)
      let (loss, gradients) = withTraining {
        valueWithGradients {
          classifier(photos).logits.softmaxCrossEntropy(targets: targets, labelSmoothing: 0.1).loss
        }
      }
      optimizer.update(gradients, loss: loss)
    }
  }
}
