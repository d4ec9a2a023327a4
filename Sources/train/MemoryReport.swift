import ArgumentParser
import CommandSupport
import Fovea

extension RunConfiguration {
  /// What the run takes on the device, which is not opened.
  func memoryPlan(on device: DeviceDescription) throws -> MemoryPlan {
    let classifier = try model.build()
    return try MemoryPlan(on: device, work) { device in
      let trainer = try trainer(of: classifier, on: device)
      guard model.hasResizer else { return MemoryPlan.Run(trainer: trainer) }
      let pictures = SamplePictures.plan(
        count: min(SamplePictures.count, validationImages), model: model, classifier, on: device)
      return MemoryPlan.Run(trainer: trainer, aside: pictures)
    }
  }

  /// Chooses the largest micro-batch whose plan fits the limit, and returns that plan.
  ///
  /// - Parameters:
  ///   - keepsMicroBatch: whether the run's micro-batch is decided: then it must fit.
  ///   - planned: makes the plan of a size.
  mutating func fit(
    _ limit: MemorySize, keepsMicroBatch: Bool, on device: DeviceDescription,
    planned: (RunConfiguration, DeviceDescription) throws -> MemoryPlan = { try $0.memoryPlan(on: $1) }
  ) throws -> MemoryPlan {
    let sizes = keepsMicroBatch ? [imagesAtOnce] : (1...batchSize).reversed().filter { batchSize % $0 == 0 }
    // Not always the smallest: several micro-batches need memory for the sum of their gradients.
    var least: (images: Int, plan: MemoryPlan)?
    for size in sizes {
      microBatch = size < batchSize ? size : nil
      let plan = try planned(self, device)
      if plan.fits(limit.bytes, on: device) { return plan }
      if plan.held < least?.plan.held ?? .max { least = (size, plan) }
    }
    throw ValidationError(
      least.map { images, plan in
        let given = "--memory-limit \(formatBytes(limit.bytes))"
        let images = "\(images) \(images == 1 ? "image" : "images")"
        guard plan.held > limit.bytes else {
          return "\(given): \(images) at once needs a buffer of \(formatBytes(plan.largestBuffer)), and the device "
            + "gives none above \(formatBytes(device.maximumAllocation)); a smaller --input-size or --target-size helps"
        }
        let need = "\(formatBytes(plan.held)) of device memory"
        return keepsMicroBatch
          ? "\(given) is too little: the run takes \(images) at once, which it keeps when it is resumed, and needs \(need)"
          : "\(given) is too little: the least is \(need), with \(images) at once; a smaller --input-size or "
            + "--target-size helps"
      } ?? "")
  }

  /// What was chosen for a limit.
  func memoryLine(_ plan: MemoryPlan, _ limit: MemorySize) -> String {
    "\(formatBytes(plan.held)) of at most \(formatBytes(limit.bytes)): "
      + (microBatch.map {
        "micro-batches of \($0), and BatchNorm's statistics are of \($0) images, not of \(batchSize)"
      } ?? "batches of \(batchSize) as they are")
  }

  private var work: MemoryPlan.Work {
    func batches(_ images: Int) -> [Shape] {
      // Batches are cut one by one, and each leaves a rest of its own.
      stride(from: 0, to: images, by: batchSize).flatMap { start in
        let batch = min(batchSize, images - start)
        return stride(from: 0, to: batch, by: imagesAtOnce).map { start -> Shape in
          [min(imagesAtOnce, batch - start), model.inputHeight, model.inputWidth, 3]
        }
      }
    }
    let step = min(accumulate * batchSize, trainingImages)
    let rest = trainingImages % step
    let wholes = batches(min(batchSize, validationImages)).prefix(1)
    let last = batches(validationImages % batchSize)
    return MemoryPlan.Work(
      step: batches(step), steps: trainingImages / step, lastStep: batches(rest),
      validation: Array(wholes) + last.suffix(1), epochs: epochs)
  }
}

/// What `train --plan` prints.
struct MemoryReport: Encodable {
  var device: String
  var deviceMemory: Int
  var deviceLargestBuffer: Int
  var model: ModelDescription
  var batchSize: Int
  var accumulate: Int
  var microBatch: Int?
  /// Bytes that --memory-limit allows.
  var memoryLimit: Int?
  var plan: MemoryPlan
  /// Photos on the host that the loaders and the training loop hold, at most.
  var photosOnHost: Int

  init(
    _ configuration: RunConfiguration, _ plan: MemoryPlan, limit: MemorySize?, _ device: DeviceDescription,
    photosOnHost: Int
  ) {
    self.device = device.summary
    deviceMemory = device.globalMemory
    deviceLargestBuffer = device.maximumAllocation
    model = configuration.model
    batchSize = configuration.batchSize
    accumulate = configuration.accumulate
    microBatch = configuration.microBatch
    memoryLimit = limit?.bytes
    limitLine = limit.map { configuration.memoryLine(plan, $0) }
    self.plan = plan
    self.photosOnHost = photosOnHost
    batches = configuration.batchText
    usesHostMemory = device.kind == .cpu
    fits = plan.fits(device.globalMemory, on: device)
  }

  private let batches: String
  private let limitLine: String?
  private let usesHostMemory: Bool
  /// Whether the device has as much.
  private let fits: Bool

  private enum CodingKeys: CodingKey {
    case device, deviceMemory, deviceLargestBuffer, model, batchSize, accumulate, microBatch, memoryLimit, plan
    case photosOnHost, fits
  }

  /// A table.
  var text: String {
    func line(_ name: String, _ bytes: Int, _ rest: String = "") -> String {
      name.padded(to: 36) + formatBytes(bytes).aligned(to: 10) + (rest.isEmpty ? "" : "  \(rest)")
    }
    func table(_ title: String, _ peak: MemoryPlan.Peak) -> [String] {
      [line(title, peak.bytes)] + peak.parts.map { line("  " + $0.name, $0.bytes) }
    }
    let lines =
      [
        "Device   \(device)",
        "Model    \(model.model), \(model.inputHeight)×\(model.inputWidth) → \(model.targetHeight)×\(model.targetWidth)",
        "Batch    \(batches)",
      ] + (limitLine.map { ["Memory   \($0)"] } ?? []) + [""] + table("training step, in use at once", plan.training)
      + (plan.replayed > 0 ? [line("later steps, replayed", plan.replayed)] : []) + [""]
      + table("validation step, in use at once", plan.validation) + [
        "", line("held from the device, at most", plan.held, "of \(formatBytes(deviceMemory))"),
        line("largest buffer", plan.largestBuffer, "of \(formatBytes(deviceLargestBuffer))"),
        line(
          "photos on the host, at most", photosOnHost,
          usesHostMemory ? "in the same memory as the device's" : ""),
      ]
      + (fits ? [] : ["", "That is more than the device has: --memory-limit chooses micro-batches that fit."])
    return lines.joined(separator: "\n")
  }
}
