import NeuralNetwork
import OpenCLRuntime
import Operations
import Testing
import TensorCore

@testable import Vision

@Suite struct ModelTests {
  // Keras's counts, moving statistics included.
  @Test func parameterCounts() throws {
    var description = ModelDescription()
    let full = try description.build()
    #expect(full.parameterCount == 7_051_717)
    #expect(LearnableResizer().parameterCount == 12_163)
    description.model = "densenet121"
    let backbone = try description.build()
    #expect(backbone.parameterCount == 7_039_554)
    #expect(backbone.trainableParameterCount == 6_955_906)
  }

  @Test func parameterNamesAreKerass() throws {
    let names = Set(try ModelDescription().build().namedParameters().map(\.name))
    for name in [
      "learnable_resizer/conv2d/kernel", "learnable_resizer/conv2d_5/bias",
      "learnable_resizer/batch_normalization_3/moving_variance", "densenet121/conv1_conv/kernel",
      "densenet121/conv2_block1_1_conv/kernel", "densenet121/conv5_block16_1_bn/gamma", "densenet121/pool4_bn/beta",
      "densenet121/bn/moving_mean", "densenet121/predictions/kernel",
    ] {
      #expect(names.contains(name), "\(name)")
    }
    #expect(names.count == 631)
  }

  @Test func unknownModelsAreRefused() {
    var description = ModelDescription()
    description.model = "vgg16"
    #expect(throws: ModelError.unknownModel("vgg16")) { try description.build() }
    description.model = "densenet121"
    description.targetHeight = 31
    #expect(throws: ModelError.targetTooSmall(31, 150)) { try description.build() }
  }

  /// A damaged config.json must not become a trap.
  @Test func numbersThatMakeNoModelAreRefused() {
    func expect(_ error: ModelError, _ change: (inout ModelDescription) -> Void) {
      var description = ModelDescription()
      change(&description)
      #expect(throws: error) { try description.build() }
    }
    expect(.numberTooSmall("filters", -3, least: 1)) { $0.filters = -3 }
    expect(.numberTooSmall("blocks", -1, least: 0)) { $0.blocks = -1 }
    expect(.numberTooSmall("classes", 0, least: 1)) { $0.classes = 0 }
    expect(.numberTooSmall("input width", 0, least: 1)) { $0.inputWidth = 0 }
    expect(.momentumOutOfRange(1)) { $0.batchNormMomentum = 1 }
  }

  @Test(arguments: DenseNet.Variant.allCases) func largerDenseNets(_ variant: DenseNet.Variant) {
    // keras.applications with 1,000 classes.
    let expected = [DenseNet.Variant.densenet121: 8_062_504, .densenet169: 14_307_880, .densenet201: 20_242_984]
    #expect(DenseNet(variant, classes: 1000).parameterCount == expected[variant])
  }
}
