import Fovea
import NeuralNetwork

/// The memory that training takes on a device, by planning alone: nothing runs, the device is not opened and no memory is
/// taken. The same code asks a planning device for the same buffers in the same order as the run asks the real one, whose
/// pool counts alike, so that the figures are exact.
package struct MemoryPlan: Encodable, Sendable {
  /// Bytes in use at the moment when most are.
  package struct Peak: Encodable, Sendable {
    /// Bytes for one purpose, rounded up as the pool does.
    package struct Part: Encodable, Sendable {
      package let name: String
      package let bytes: Int
    }

    /// What is in use then, which adds up to `bytes`.
    package let parts: [Part]
    package let bytes: Int

    fileprivate init(of device: Device) {
      bytes = device.pool.statistics.peak
      let noted = device.pool.ledger?.peak ?? [:]
      parts = noted.filter { $0.value > 0 }.map { Part(name: $0.key.name, bytes: $0.value) }
        .sorted { ($0.bytes, $1.name) > ($1.bytes, $0.name) }
    }
  }

  /// What a run computes with which shapes, [count, height, width, channels].
  package struct Work: Sendable {
    /// The batches of a whole training step.
    let step: [Shape]
    /// Whole steps in an epoch.
    let steps: Int
    /// The batches of the epoch's last step where that is smaller, else none.
    let lastStep: [Shape]
    /// Batches of the validation: a whole one, and the last where that is smaller.
    let validation: [Shape]
    let epochs: Int

    package init(step: [Shape], steps: Int, lastStep: [Shape], validation: [Shape], epochs: Int) {
      (self.step, self.steps, self.lastStep, self.validation, self.epochs) = (step, steps, lastStep, validation, epochs)
    }
  }

  /// What a run has on its device.
  package struct Run {
    /// What trains and validates.
    package let trainer: Trainer
    /// What is computed besides, before training and after each epoch; keeps what it needs alive.
    package let aside: () -> Void

    package init(trainer: Trainer, aside: @escaping () -> Void = {}) {
      self.trainer = trainer
      self.aside = aside
    }
  }

  /// The first training step, which asks for each buffer as it needs it.
  package let training: Peak
  /// The most bytes in use in the steps after it, which are replayed in memory that was planned for them as a whole.
  package let replayed: Int
  /// A step of the validation.
  package let validation: Peak
  /// The most bytes in use at any moment of a run.
  package let inUse: Int
  /// The most bytes held from the driver or the system at any moment: what is in use, and what lies free between it or
  /// is kept for the next requests. A device with memory of its own gives that back when the driver has no more.
  package let held: Int
  /// The largest single buffer.
  package let largestBuffer: Int

  /// - Parameter make: builds what the run has on the device it is given.
  package init(on description: DeviceDescription, _ work: Work, _ make: (Device) throws -> Run) throws {
    let device = Device(planning: description)
    let run = try make(device)
    let trainer = run.trainer
    var most = 0
    func measured(_ body: () throws -> Void) rethrows -> Peak {
      most = max(most, device.pool.statistics.peak)
      device.pool.resetPeak()
      try body()
      // What was noted of the launches is not needed.
      _ = device.takePlan()
      return Peak(of: device)
    }
    run.aside()
    var first: Peak?
    var (replayed, validation) = (0, Peak(of: device))
    // A step is captured in its first three calls, and tables are made that stay: from then on all epochs are alike.
    for _ in 0..<min(work.epochs, 4) {
      for _ in 0..<min(work.steps, 4) {
        let step = try measured { try trainer.planTrainingStep(work.step) }
        if first == nil { first = step } else { replayed = max(replayed, step.bytes) }
      }
      if !work.lastStep.isEmpty {
        replayed = max(replayed, try measured { try trainer.planTrainingStep(work.lastStep) }.bytes)
      }
      try trainer.withResultingWeights {
        trainer.releaseCapturedMemory()
        validation = measured { trainer.planEvaluation(work.validation) }
        try trainer.planReestimatedEvaluation(work.validation, from: Array(work.step.prefix(2)))
      }
      trainer.withResultingWeights(run.aside)
    }
    guard let first else { preconditionFailure("MemoryPlan: a run without a step") }
    (training, self.replayed, self.validation) = (first, replayed, validation)
    inUse = max(most, device.pool.statistics.peak)
    held = device.pool.statistics.reservedPeak
    largestBuffer = device.pool.ledger?.largest ?? 0
  }

  /// Whether it can be had from a device within `limit` bytes.
  package func fits(_ limit: Int, on device: DeviceDescription) -> Bool {
    held <= limit && largestBuffer <= device.maximumAllocation
  }
}
