import Foundation
import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

@testable import Vision

/// Tests that run whole models; one at a time, because one thread builds a device's work.
@Suite(.serialized) struct DeviceModelTests {
  static let device = Result { try Device(DeviceSelection.pick("cpu")) }

  static let references: [String] = {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Fixtures/reference").standardizedFileURL.path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(".safetensors") }.sorted().map { folder + "/" + $0 }
  }()

  @Test func referenceFilesAreThere() {
    #expect(Self.references.count >= 7)
  }

  /// Keras in float64 against the device: resizers of several sizes, ratios, filters, blocks and methods.
  @Test(arguments: references) func kerasReference(_ path: String) throws {
    let report = try replay(ReferenceFile(contentsOf: path), on: Self.device.get())
    let failed = report.tensors.filter { !$0.passed }.map { "\($0.name): \($0.relativeL2)" }
    #expect(report.passed, "\(failed)")
    // Twice TensorFlow's own median error on the resizer.
    let median = try #require(report.gradientMedian)
    #expect(median <= 6e-6)
  }

  /// Channel stacks, shared statistics and prologues against concatenation, one BatchNorm at a time and copies, over the
  /// whole model: every gradient. The two differ only in the order of sums; with BN shifts near 3 few ReLU inputs are
  /// near 0, where a sign flip would change a gradient by more than rounding.
  @Test func fusedEqualsPlain() throws {
    let fused = try MomentsTarget.$isUsed.withValue(false) { try gradients(usesChannelStack: true) }
    let plain = try gradients(usesChannelStack: false)
    #expect(abs(fused.loss - plain.loss) <= 1e-5 * abs(plain.loss))
    let distance = try fused.distance(from: plain)
    #expect(distance.median < 2e-5)
    #expect(distance.largest < 2e-2)
  }

  /// Moments left by the convolutions against those of what they stored. Here the values differ by roundings before all
  /// layers, to which gradients react as to photos that differ by roundings: by about 4e-4, as the last BatchNorms see
  /// four pixels a channel.
  @Test func momentsLeftBehindEqualThoseRead() throws {
    let left = try gradients(usesChannelStack: true)
    let (read, moved) = try MomentsTarget.$isUsed.withValue(false) {
      (try gradients(usesChannelStack: true), try gradients(usesChannelStack: true, movedByUlps: 1))
    }
    #expect(left.launches <= read.launches - 60, "almost every layer has one launch less")
    // Statistics may be off by 2e-6 (`PartialMomentsTests`) before each of 120 layers, independently of each other.
    #expect(abs(left.loss - read.loss) <= 2 * 2e-6 * Float(120).squareRoot() * read.loss)
    #expect(try left.distance(from: read).median < 4 * moved.distance(from: read).median)
  }

  /// Loss and gradients of a small flagship at one batch.
  private struct Gradients {
    let loss: Float
    let values: [String: [Float]]
    let launches: Int

    /// Median and largest over the parameters of the relative L2 difference.
    func distance(from other: Gradients) throws -> (median: Double, largest: Double) {
      let norms = other.values.mapValues { $0.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot() }
      let middle = norms.values.sorted()[norms.count / 2]
      var errors: [Double] = []
      for (name, expected) in other.values {
        let given = try #require(values[name])
        let difference = zip(given, expected).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }.squareRoot()
        errors.append(difference / max(norms[name] ?? 0, middle * 1e-3))
      }
      errors.sort()
      return (errors[errors.count / 2], errors.last ?? 0)
    }
  }

  /// - Parameter movedByUlps: how far each photo value is moved, up or down.
  private func gradients(usesChannelStack: Bool, movedByUlps: Float = 0) throws -> Gradients {
    let device = try Self.device.get()
    var options = LearnableResizer.Options()
    options.targetSize = (40, 36)
    options.filters = 5
    var numbers = RandomNumbers(seed: 5)
    var signs = RandomNumbers(seed: 6)
    let pixels = (0..<4 * 57 * 61 * 3).map { _ in
      let value = numbers.uniform() * 255
      return value + value.ulp * movedByUlps * (signs.uniform() < 0.5 ? 1 : -1)
    }
    let classifier = ImageClassifier(
      resizer: LearnableResizer(options), backbone: DenseNet(usesChannelStack: usesChannelStack))
    let arena = ParameterArena(classifier, on: device, seed: 3)
    for parameter in arena.parameters where parameter.name.hasPrefix("densenet") && parameter.name.hasSuffix("beta") {
      arena.set(parameter, to: Array(repeating: 3, count: parameter.shape.count))
    }
    let photos = Tensor(pixels, shape: [4, 57, 61, 3], on: device)
    let targets = Tensor([1, 0, 0, 1, 1, 0, 0, 1], shape: [4, 2], on: device)
    let before = device.counters.launches
    let (loss, gradients) = withTraining {
      valueWithGradients { classifier(photos).logits.softmaxCrossEntropy(targets: targets, labelSmoothing: 0.1).loss }
    }
    let launches = device.counters.launches - before
    var values: [String: [Float]] = [:]
    for parameter in arena.parameters where parameter.isTrainable {
      values[parameter.name] = try #require(gradients[parameter.tensor]).floats()
    }
    return try Gradients(loss: loss.item(), values: values, launches: launches)
  }

  /// Two runs from one seed end with the same bits.
  @Test func runsAreReproducible() throws {
    let device = try Self.device.get()
    var outcomes: [[Float]] = []
    for _ in 0..<2 {
      var description = ModelDescription()
      (description.targetHeight, description.targetWidth) = (32, 32)
      description.filters = 4
      let classifier = try description.build()
      let arena = ParameterArena(classifier, on: device, seed: 7)
      let optimizer = Optimizer(.adam(), schedule: .constant(1e-3), arena: arena)
      var numbers = RandomNumbers(seed: 1)
      for _ in 0..<2 {
        let pixels = (0..<2 * 48 * 48 * 3).map { _ in UInt8(truncatingIfNeeded: numbers.next()) }
        let photos = Tensor(pixels, shape: [2, 48, 48, 3], on: device)
        let targets = Tensor([1, 0, 0, 1], shape: [2, 2], on: device)
        let (_, gradients) = withTraining {
          valueWithGradients { classifier(photos).logits.softmaxCrossEntropy(targets: targets).loss }
        }
        optimizer.update(gradients)
      }
      outcomes.append(try arena.weights.floats() + arena.statistics.floats())
    }
    #expect(outcomes[0] == outcomes[1])
    #expect(!outcomes[0].contains { !$0.isFinite })
  }
}
