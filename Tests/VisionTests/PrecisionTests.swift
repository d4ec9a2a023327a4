import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing
import Vision

/// Whole models in 16 bits beside float32, from the same weights on the same images.
@Suite(.serialized) struct PrecisionTests {
  private struct Step {
    var loss: Float
    var logits: [Float]
    var gradients: [Float]
    var resizedType: DType
  }

  private static func step(_ model: String, _ precision: Precision?) throws -> Step {
    let device = try Device.open("cpu")
    var description = ModelDescription()
    description.model = model
    description.precision = precision
    (description.inputHeight, description.inputWidth, description.targetHeight, description.targetWidth) =
      (64, 64, 48, 48)
    let classifier = try description.build()
    let arena = ParameterArena(classifier, on: device, seed: 5)
    let shape: Shape = [8, 64, 64, 3]
    var random = RandomNumbers(seed: 1)
    let photos = Tensor(
      (0..<shape.count).map { _ in UInt8(truncatingIfNeeded: random.next()) }, shape: shape, on: device)
    let targets = Tensor((0..<16).map { $0 % 3 == 0 ? 1 : 0 }, shape: [8, 2], on: device)
    // The gradients here are far within float16's range when multiplied by 256, and some of them are not without.
    let scale: Float = 256
    var outputs: (resized: Tensor, logits: Tensor)?
    let (loss, gradients) = withTraining {
      valueWithGradients(seed: Tensor([scale], shape: [], on: device)) {
        let result = classifier(photos)
        outputs = result
        return result.logits.softmaxCrossEntropy(targets: targets).loss
      }
    }
    arena.completeGradients(gradients)
    let (resized, logits) = try #require(outputs)
    #expect(logits.dtype == .float32)
    return Step(
      loss: try loss.item(), logits: try logits.floats(), gradients: try arena.gradients.floats().map { $0 / scale },
      resizedType: resized.dtype)
  }

  private static func relativeDistance(_ a: [Float], _ b: [Float]) -> Double {
    var (difference, norm) = (0.0, 0.0)
    for (a, b) in zip(a, b) {
      difference += Double(a - b) * Double(a - b)
      norm += Double(b) * Double(b)
    }
    return (difference / norm).squareRoot()
  }

  private static func cosine(_ a: [Float], _ b: [Float]) -> Double {
    var (product, first, second) = (0.0, 0.0, 0.0)
    for (a, b) in zip(a, b) {
      product += Double(a) * Double(b)
      first += Double(a) * Double(a)
      second += Double(b) * Double(b)
    }
    return product / (first * second).squareRoot()
  }

  /// About 120 layers, each of which rounds what it stores by at most u: errors add up as √120 u in the logits, and of
  /// the gradients, which go through as many again and have signs of rectifiers that a rounding can turn, √240 u. BatchNorm
  /// divides by deviations that over 8 images of few pixels make errors grow: a factor of 4.
  @Test(arguments: ["resizer+densenet121", "muller+densenet121"], [Precision.float16, .bfloat16])
  func followsSinglePrecision(model: String, precision: Precision) throws {
    let (plain, short) = (try Self.step(model, nil), try Self.step(model, precision))
    let roundoff = precision == .float16 ? 0x1p-11 : 0x1p-8
    let limit = 4 * 120.0.squareRoot() * roundoff
    let logits = Self.relativeDistance(short.logits, plain.logits)
    let gradients = Self.relativeDistance(short.gradients, plain.gradients)
    print(
      "PRECISION", model, precision, logits, limit, gradients, Self.cosine(short.gradients, plain.gradients),
      short.loss, plain.loss)
    #expect(logits <= limit)
    #expect(abs(Double(short.loss - plain.loss)) <= limit * Double(plain.loss))
    #expect(gradients <= 2 * limit)
    #expect(short.resizedType == .float32)
    // And they are not the same: the values were really rounded.
    #expect(short.logits != plain.logits)
  }
}
