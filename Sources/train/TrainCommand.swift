import ArgumentParser
import CommandSupport
import Fovea

@main
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train an image classifier, with a learnable resizer in front of it, on any OpenCL device.",
    discussion: """
      Without --data it trains on pictures that it draws itself: two classes told apart only by detail that plain \
      shrinking destroys. With --data DIR every sub-directory of DIR is a class; DIR/train and DIR/validation are used \
      where both exist.
      """)

  @Option(help: ArgumentHelp("Folder of photos; without it the built-in synthetic set.", valueName: "dir"))
  var data: String?

  @Option(help: ArgumentHelp("Folder for weights, history and pictures.", valueName: "dir"))
  var output = "runs/latest"

  @OptionGroup(title: "Device") var device: DeviceOptions
  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Warm start") var warmStart: WarmStartOptions

  @Option(help: "Passes over the training images. Default: 5, on the synthetic set 3.")
  var epochs: Int?

  @Option(help: "Images a step. Default: 64, on the synthetic set 16.")
  var batchSize: Int?

  @Option(help: "sgd, momentum, nesterov, adam or adamw. Default: sgd, on the synthetic set adam.")
  var optimizer: OptimizerName?

  @Option(help: "Learning rate. Default: 0.01 for SGD, 0.001 for Adam.")
  var lr: Float?

  @Option(help: "constant, cosine or step (a tenth after each third of the run).")
  var schedule = ScheduleName.constant

  @Option(help: "Steps over which the learning rate rises from nothing.")
  var warmup = 0

  @Option(help: "Weight decay of SGD and AdamW.")
  var weightDecay: Float?

  @Option(help: "Largest global norm of the gradients.")
  var clipNorm: Float?

  @Option(help: "Label smoothing of the cross-entropy.")
  var labelSmoothing: Float = 0.1

  @Option(help: "Momentum of BatchNorm's moving statistics. Default: 0.99, on the synthetic set 0.8.")
  var bnMomentum: Float?

  @Option(help: "Seed of weights, order and synthetic images.")
  var seed: UInt64 = 0

  @Option(help: "Stop after so many steps.")
  var steps: Int?

  @Option(help: "Use so many training images, and of the validation images at most a quarter as many.")
  var limit: Int?

  @Option(help: "Share of the images to validate on where the folder has no train/ and validation/.")
  var validationSplit = 0.2

  @Option(help: "Threads that decode photos. Default: one for each core.")
  var workers: Int?

  @Option(help: "skip or fail: what to do about a photo that cannot be decoded.")
  var onBadImage = BadImagePolicy.skip

  func validate() throws {
    func positive(_ value: Int?, _ name: String) throws {
      if let value, value < 1 { throw ValidationError("\(name) must be at least 1, not \(value)") }
    }
    try positive(epochs, "--epochs")
    try positive(batchSize, "--batch-size")
    try positive(steps, "--steps")
    try positive(limit, "--limit")
    try positive(workers, "--workers")
    if let lr, !(lr > 0 && lr.isFinite) { throw ValidationError("--lr must be positive, not \(lr)") }
    if warmup < 0 { throw ValidationError("--warmup must not be negative") }
    if let clipNorm, !(clipNorm > 0) { throw ValidationError("--clip-norm must be positive, not \(clipNorm)") }
    if let weightDecay, !(weightDecay >= 0) { throw ValidationError("--weight-decay must not be negative") }
    guard (0..<1).contains(labelSmoothing) else {
      throw ValidationError("--label-smoothing must be at least 0 and below 1, not \(labelSmoothing)")
    }
    if let bnMomentum, !(0..<1).contains(bnMomentum) {
      throw ValidationError("--bn-momentum must be at least 0 and below 1, not \(bnMomentum)")
    }
    guard validationSplit > 0, validationSplit < 1 else {
      throw ValidationError("--validation-split must lie between 0 and 1, not \(validationSplit)")
    }
  }

  func run() throws {
    try TrainingRun(self).execute()
  }
}

enum OptimizerName: String, ExpressibleByArgument, CaseIterable {
  case sgd, momentum, nesterov, adam, adamw
}

enum ScheduleName: String, ExpressibleByArgument, CaseIterable {
  case constant, cosine, step
}

extension BadImagePolicy: ExpressibleByArgument {}
