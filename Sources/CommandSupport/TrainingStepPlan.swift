import Fovea
import KernelVerification

extension StepPlan {
  /// What a training step of `model` launches on such a device, by planning alone.
  package init(trainingStepOf model: ModelDescription, batchSize: Int, on description: DeviceDescription) throws {
    let classifier = try model.build()
    try self.init(on: description) { device in
      let arena = ParameterArena(classifier, on: device)
      let optimizer = Optimizer(
        .sgd(), schedule: .constant(0.01), lossScale: model.lossScale(on: device), arena: arena)
      let trainer = Trainer(arena: arena, optimizer: optimizer, classes: model.classes, labelSmoothing: 0.1) {
        classifier($0).logits
      }
      try trainer.planTrainingStep([[batchSize, model.inputHeight, model.inputWidth, 3]])
    }
  }
}
