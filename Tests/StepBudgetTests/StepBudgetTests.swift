import Foundation
import Fovea
import Testing

/// What one training step may cost, by counts that do not depend on the machine's speed: launches, programs,
/// floating-point operations, bytes moved and bytes in use. `budgets.json` holds the limits; a step that costs clearly less than its
/// limit fails too, so that what was gained is written down.
@Suite struct StepBudgetTests {
  /// Counts of one step.
  private struct Cost: Codable {
    var launches: Int
    /// Built since the device was opened; cached binaries count as well.
    var programs: Int
    var megaflops: Double
    var megabytesMoved: Double
    /// Most bytes of buffers in use at once.
    var megabytesInUse: Double
  }

  private struct Budget: Codable {
    var model: String
    /// Nil for float32.
    var precision: Precision?
    var batchSize: Int
    var inputSize: Int
    var targetSize: Int
    var step: Cost

    var name: String { precision.map { "\(model) in \($0.rawValue)" } ?? model }
  }

  private static let budgets: [Budget] = {
    guard let file = Bundle.module.url(forResource: "budgets", withExtension: "json") else {
      fatalError("budgets.json is not with the tests")
    }
    do {
      return try JSONDecoder().decode([Budget].self, from: Data(contentsOf: file))
    } catch {
      fatalError("budgets.json: \(error)")
    }
  }()

  @Test(arguments: budgets.map(\.name)) func trainingStep(model: String) throws {
    let budget = try #require(Self.budgets.first { $0.name == model })
    let cost = try Self.measure(budget)
    func check(_ name: String, _ value: Double, _ limit: Double) {
      #expect(value <= limit, "\(model): \(name) \(value), budget \(limit)")
      #expect(value >= 0.95 * limit, "\(model): \(name) fell to \(value): write that down as the budget, now \(limit)")
    }
    check("launches", Double(cost.launches), Double(budget.step.launches))
    check("programs", Double(cost.programs), Double(budget.step.programs))
    check("megaflops", cost.megaflops, budget.step.megaflops)
    // Filter gradients are split over the cores, and each split has memory of its own: the bytes hold for two cores.
    guard try DeviceSelection.pick("cpu").computeUnits == 2 else { return }
    check("megabytes moved", cost.megabytesMoved, budget.step.megabytesMoved)
    check("megabytes in use", cost.megabytesInUse, budget.step.megabytesInUse)
  }

  /// The second step of the main job on a CPU: the first also makes tables that stay.
  private static func measure(_ budget: Budget) throws -> Cost {
    let device = try Device(DeviceSelection.pick("cpu"))
    var description = ModelDescription()
    description.model = budget.model
    description.precision = budget.precision
    (description.inputHeight, description.inputWidth) = (budget.inputSize, budget.inputSize)
    (description.targetHeight, description.targetWidth) = (budget.targetSize, budget.targetSize)
    let classifier = try description.build()
    let arena = ParameterArena(classifier, on: device)
    let optimizer = Optimizer(
      .sgd(), schedule: .constant(0.01), lossScale: description.lossScale(on: device), arena: arena)
    let trainer = Trainer(arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1) {
      classifier($0).logits
    }
    let shape: Shape = [budget.batchSize, budget.inputSize, budget.inputSize, 3]
    let batch = TrainingBatch(
      pixels: (0..<shape.count).map { UInt8(truncatingIfNeeded: $0 &* 37) }, shape: shape,
      labels: (0..<budget.batchSize).map { Int32($0 % 2) })
    func step() throws {
      var given = false
      _ = try trainer.train(
        next: {
          defer { given = true }
          return given ? nil : [batch]
        }, report: { _, _ in })
      try device.synchronize()
    }
    try step()
    device.pool.resetPeak()
    device.countsCosts = true
    let before = device.counters
    try step()
    let after = device.counters
    return Cost(
      launches: after.launches - before.launches, programs: after.programsBuilt,
      megaflops: (after.flops - before.flops) * 1e-6, megabytesMoved: (after.bytes - before.bytes) * 1e-6,
      megabytesInUse: Double(device.pool.statistics.peak) * 1e-6)
  }
}
