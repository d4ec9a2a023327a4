import NeuralNetwork
import Operations
import TensorCore
import Testing

@testable import Training

/// Losses that are sums of others: weighted and mixed ones.
@Suite(.serialized) struct LossTests {
  /// Without BatchNorm an image's gradient does not depend on the others of its batch.
  private struct Classifier: Module {
    let conv = Conv2D(inputs: 3, filters: 4, kernelSize: 3)
    let head = Dense(inputs: 4, units: 3)

    func callAsFunction(_ photos: Tensor) -> Tensor {
      head(conv(photos.scaled(by: 1 / 255)).relu().globalAveragePool())
    }
  }

  /// The loss of one step on `batch`, and by how much a learning rate of 1 moves the weights.
  private func step(_ batch: TrainingBatch, classWeights: [Float]? = nil) throws -> (loss: Double, update: [Double]) {
    let device = try Shared.device.get()
    let classifier = Classifier()
    let arena = ParameterArena(classifier, on: device, seed: 3)
    let before = try arena.weights.floats()
    let trainer = Trainer(
      arena: arena, optimizer: Optimizer(.sgd(), schedule: .constant(1), arena: arena), classes: 3,
      labelSmoothing: 0.1, classWeights: classWeights
    ) { classifier($0) }
    var steps = [[batch]]
    let scores = try trainer.train(next: { steps.popLast() }, report: { _, _ in })
    return (scores.loss, zip(try arena.weights.floats(), before).map { Double($0 - $1) })
  }

  /// The sum of single images' steps times their factors.
  private func sum(_ parts: [(factor: Double, batch: TrainingBatch)]) throws -> (loss: Double, update: [Double]) {
    var total: (loss: Double, update: [Double])?
    for (factor, batch) in parts {
      let (loss, update) = try step(batch)
      total = (
        (total?.loss ?? 0) + factor * loss,
        zip(update, total?.update ?? Array(repeating: 0, count: update.count)).map { factor * $0 + $1 }
      )
    }
    return try #require(total)
  }

  /// A weight of about 1 is rounded to 6e-8 before and after an update, and a sum of 36 · 4 terms rounds some times more.
  private func expectEqual(_ a: (loss: Double, update: [Double]), _ b: (loss: Double, update: [Double])) {
    #expect(abs(a.loss - b.loss) < 1e-6 * abs(b.loss))
    #expect(zip(a.update, b.update).allSatisfy { abs($0 - $1) < 1e-6 })
    #expect(b.update.contains { abs($0) > 1e-3 })
  }

  @Test func classWeightsMultiplyTheLosses() throws {
    let source = NoiseSource(classes: 3)
    let weights: [Float] = [0.5, 1, 3]
    let weighted = try step(source.batch(epoch: 0, 0..<4), classWeights: weights)
    let parts = (0..<4).map { (Double(weights[$0 % 3]) / 4, source.batch(epoch: 0, $0..<$0 + 1)) }
    try expectEqual(weighted, sum(parts))
    // Weights of 1 are no weights.
    try expectEqual(
      step(source.batch(epoch: 0, 0..<4), classWeights: [1, 1, 1]), step(source.batch(epoch: 0, 0..<4)))
  }

  @Test(arguments: [nil, [0.5, 1, 3]] as [[Float]?])
  func mixedTargetsMixTheLosses(_ classWeights: [Float]?) throws {
    let source = NoiseSource(classes: 3)
    let share = 0.3
    let partners: [Int32] = [2, 1, 0, 2]
    let batch = source.batch(epoch: 0, 0..<4)
    let mixed = TrainingBatch(
      pixels: batch.pixels, shape: batch.shape, labels: batch.labels, partners: partners, share: Float(share))
    let parts = (0..<4).flatMap { index in
      let photo = source.batch(epoch: 0, index..<index + 1)
      return [(share, photo.labels[0]), (1 - share, partners[index])].map { factor, label in
        let weight = Double(classWeights?[Int(label)] ?? 1)
        return (factor * weight / 4, TrainingBatch(pixels: photo.pixels, shape: photo.shape, labels: [label]))
      }
    }
    try expectEqual(step(mixed, classWeights: classWeights), sum(parts))
  }

  @Test func validationIsNotWeighted() throws {
    let device = try Shared.device.get()
    let classifier = Classifier()
    let arena = ParameterArena(classifier, on: device, seed: 3)
    let scores = try [nil, [1, 2, 3]].map { (weights: [Float]?) in
      let trainer = Trainer(
        arena: arena, optimizer: Optimizer(.sgd(), schedule: .constant(1), arena: arena), classes: 3,
        labelSmoothing: 0.1, classWeights: weights
      ) { classifier($0) }
      let stream = NoiseSource(classes: 3).epoch(0, startingAt: 0)
      return try trainer.evaluate(next: { try stream.next() })
    }
    #expect(scores[0] == scores[1])
  }
}
