import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Vision

extension DeviceModelTests {
  private struct Case {
    var description = ModelDescription()
    let photos: Tensor
    let targets: Tensor

    init(on device: Device, frozen: ModelDescription.Part?) {
      (description.targetHeight, description.targetWidth) = (32, 36)
      description.filters = 4
      description.frozen = frozen
      var random = RandomNumbers(seed: 4)
      let pixels = (0..<2 * 40 * 50 * 3).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      photos = Tensor(pixels, shape: [2, 40, 50, 3], on: device)
      targets = Tensor([1, 0, 0, 1], shape: [2, 2], on: device)
    }

    func gradients(_ classifier: ImageClassifier) -> GradientStore {
      valueWithGradients { classifier(photos).logits.softmaxCrossEntropy(targets: targets).loss }.gradients
    }
  }

  /// A step of training changes everything but the frozen part, its moving statistics included.
  @Test(arguments: ModelDescription.Part.allCases) func frozenPartStays(_ part: ModelDescription.Part) throws {
    let device = try Self.device.get()
    let example = Case(on: device, frozen: part)
    let classifier = try example.description.build()
    let arena = ParameterArena(classifier, on: device, seed: 2)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.1), arena: arena)
    let before = try arena.parameters.map { try $0.tensor.floats() }
    let gradients = withTraining { example.gradients(classifier) }
    optimizer.update(gradients)
    for (parameter, old) in zip(arena.parameters, before) {
      let isHead = parameter.name.contains("/predictions/")
      let isBackbone = parameter.name.hasPrefix("densenet121/")
      let isFrozen =
        switch part {
        case .resizer: !isBackbone
        case .backbone: isBackbone
        case .features: isBackbone && !isHead
        }
      #expect((try parameter.tensor.floats() == old) == isFrozen, "\(parameter.name)")
      if isFrozen { #expect(gradients[parameter.tensor] == nil, "\(parameter.name)") }
    }
  }

  /// What is frozen makes no difference to the gradients of the rest: with moving statistics everywhere both models
  /// compute the same, so the bits are the same.
  @Test func frozenPartPassesGradientsOn() throws {
    let device = try Self.device.get()
    var results: [[String: [Float]]] = []
    for frozen in [nil, ModelDescription.Part.backbone, .resizer] {
      let example = Case(on: device, frozen: frozen)
      let classifier = try example.description.build()
      let arena = ParameterArena(classifier, on: device, seed: 2)
      let gradients = example.gradients(classifier)
      var values: [String: [Float]] = [:]
      for parameter in arena.parameters where parameter.isTrainable {
        values[parameter.name] = try #require(gradients[parameter.tensor]).floats()
      }
      results.append(values)
    }
    #expect(!results[1].isEmpty && results[1].allSatisfy { $0.key.hasPrefix("learnable_resizer/") })
    #expect(!results[2].isEmpty && results[2].allSatisfy { $0.key.hasPrefix("densenet121/") })
    for partial in results[1...] {
      for (name, values) in partial { #expect(values == results[0][name], "\(name)") }
    }
  }

  /// In training a frozen backbone computes what it computes in inference.
  @Test func frozenBatchNormsUseMovingStatistics() throws {
    let device = try Self.device.get()
    let example = Case(on: device, frozen: .backbone)
    let classifier = try example.description.build()
    _ = ParameterArena(classifier, on: device, seed: 2)
    let (resized, logits) = withTraining { classifier(example.photos) }
    #expect(try logits.floats() == classifier.backbone(resized).floats())
  }
}
