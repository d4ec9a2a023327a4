import ArgumentParser
import CommandSupport
import Foundation
import Fovea

@main
struct TrainCommand: ParsableCommand {
  static func main() { runWithOneLineErrors() }

  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train an image classifier, with a learnable resizer in front of it, on any OpenCL device.",
    discussion: """
      Without --data it trains on pictures that it draws itself: two classes told apart only by detail that plain \
      shrinking destroys. With --data DIR every sub-directory of DIR is a class; DIR/train and DIR/validation are used \
      where both exist.
      """,
    version: "train (fovea) \(foveaVersion)")

  @Option(
    help: ArgumentHelp("Folder of photos; without it the built-in synthetic set.", valueName: "dir"),
    completion: .directory)
  var data: String?

  @Option(help: ArgumentHelp("Folder for weights, history and pictures.", valueName: "dir"), completion: .directory)
  var output = "runs/latest"

  @Option(
    help: ArgumentHelp(
      "Go on with the run in this folder from its newest checkpoint, with the options it was started with.",
      discussion: """
        Given again may be --epochs (to train longer, unless the schedule depends on it), --data (when the images have \
        moved), --early-stopping, --profile, --memory-limit (as far as the micro-batches fit it), --device, --workers, --cache, --on-bad-image, --checkpoint-every and --keep. On the same device the result is the \
        same, to the bit, as if the run had never been stopped.
        """, valueName: "dir"), completion: .directory)
  var resume: String?

  @Option(
    help: ArgumentHelp(
      "Steps between checkpoints, besides the one after each epoch and the one that SIGINT (Ctrl-C) and SIGTERM make.",
      valueName: "steps"))
  var checkpointEvery: Int?

  @Option(help: ArgumentHelp("Checkpoints to keep.", valueName: "n"))
  var keep = 2

  @Flag(help: "Start over in a folder that holds a stopped run, whose checkpoints are lost.")
  var overwrite = false

  @Flag(help: "Print the memory that the run would take beside what the device has, and end: nothing runs.")
  var plan = false

  @Flag(help: "With --plan: print JSON.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Write a trace of the first steps for ui.perfetto.dev: what the decoding threads and the device's queue did.",
      valueName: "file"), completion: .file(extensions: ["json"]))
  var profile: String?

  @Option(help: ArgumentHelp("Steps that --profile traces.", valueName: "n"))
  var profileSteps = 5

  @Flag(help: "Add histograms of all weights and gradients to the TensorBoard files after each epoch.")
  var histograms = false

  @OptionGroup(title: "Device") var device: DeviceOptions
  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Warm start") var warmStart: WarmStartOptions

  @Option(help: "Passes over the training images. Default: 5, on the synthetic set 3.")
  var epochs: Int?

  @Option(help: "Images a step. Default: 64, on the synthetic set 16.")
  var batchSize: Int?

  @Option(
    help: ArgumentHelp(
      "Batches a step: one update with the gradient of the mean loss over all their images.",
      discussion: """
        The result is that of one batch of their size, up to rounding, but for BatchNorm: each batch is normalised by \
        itself, and the moving statistics follow each.
        """, valueName: "n"))
  var accumulate = 1

  @Option(
    help: ArgumentHelp(
      "Use at most so much device memory, such as 3G or 800M: each batch in micro-batches that fit.",
      discussion: """
        The largest divisor of the batch size that fits, by the same calculation as --plan. The result is that of the \
        whole batch, up to rounding, but for BatchNorm, as with --accumulate. Photos being loaded are not counted.
        """, valueName: "size"), transform: MemorySize.init)
  var memoryLimit: MemorySize?

  @Option(help: "Update rule; momentum and nesterov are SGD with 0.9. Default: sgd, on the synthetic set adam.")
  var optimizer: OptimizerName?

  @Option(help: "Learning rate. Default: 0.01 for SGD, 0.001 for Adam.")
  var lr: Float?

  @Option(
    help: """
      Learning rate over the run: step is a tenth after each third, plateau lowers it when validation gets no better.
      """)
  var schedule = ScheduleName.constant

  @Option(
    help: "With --schedule plateau: epochs without a lower validation loss before the rate is lowered. Default: 10.")
  var plateauPatience: Int?

  @Option(help: "With --schedule plateau: what the rate is multiplied by. Default: 0.1.")
  var plateauFactor: Float?

  @Option(
    help: ArgumentHelp(
      "Stop after so many epochs without a lower validation loss, the lower of the two.",
      valueName: "epochs"))
  var earlyStopping: Int?

  @Option(help: "Steps over which the learning rate rises from nothing.")
  var warmup = 0

  @Option(help: "Weight decay of SGD and AdamW. Default: 0, for adamw 0.004.")
  var weightDecay: Float?

  @Option(help: "Largest global norm of the gradients. Default: none.")
  var clipNorm: Float?

  @Option(
    help: ArgumentHelp(
      "Validate and save an exponential moving average of weights and moving statistics with this decay, such as 0.999.",
      valueName: "decay"))
  var ema: Float?

  @Option(help: "Label smoothing of the cross-entropy.")
  var labelSmoothing: Float = 0.1

  @Option(
    help: ArgumentHelp(
      "Factors above 0 for the training losses of the classes, in the order of their names; or balanced.",
      valueName: "w,w,…"))
  var classWeights: ClassWeights?

  @Flag(help: "Mirror every second training photo left to right, at random.")
  var flip = false

  @Option(
    help: ArgumentHelp(
      "Train on a random part of each photo, of at least this share of its area, such as 0.35.", valueName: "area"))
  var crop: Float?

  @Option(
    help: ArgumentHelp(
      "Multiply brightness, contrast and saturation of training photos by up to 1 ± this, at random.",
      valueName: "strength"))
  var jitter: Float = 0

  @Option(
    help: ArgumentHelp(
      "Mix training photos in pairs, the share drawn from Beta(α, α), and their targets alike; α such as 0.2.",
      valueName: "α"))
  var mixup: Float = 0

  @Option(help: "Momentum of BatchNorm's moving statistics. Default: 0.99, on the synthetic set 0.8.")
  var bnMomentum: Float?

  @Option(help: "Seed of weights, order and synthetic images, a whole number from 0.")
  var seed: UInt64 = 0

  @Option(help: "Stop after so many steps.")
  var steps: Int?

  @Option(help: "Use so many training images, and of the validation images at most a quarter as many.")
  var limit: Int?

  @Option(help: "Share of the images to validate on where the folder has no train/ and validation/.")
  var validationSplit = 0.2

  @Option(help: "Threads that decode photos. Default: one for each core.")
  var workers: Int?

  @OptionGroup var cache: CacheOptions

  @Option(help: "What to do about a photo that cannot be decoded.")
  var onBadImage = BadImagePolicy.skip

  func validate() throws {
    func positive(_ value: Int?, _ name: String) throws {
      if let value, value < 1 { throw ValidationError("\(name) must be at least 1, not \(value)") }
    }
    try positive(epochs, "--epochs")
    try positive(batchSize, "--batch-size")
    try positive(accumulate, "--accumulate")
    try positive(steps, "--steps")
    if let profile { try checkOutput(profile, of: "--profile", orIn: resume ?? output) }
    try positive(profileSteps, "--profile-steps")
    try positive(limit, "--limit")
    try positive(workers, "--workers")
    try positive(earlyStopping, "--early-stopping")
    try positive(plateauPatience, "--plateau-patience")
    if let plateauFactor, !(plateauFactor > 0 && plateauFactor < 1) {
      throw ValidationError("--plateau-factor must lie between 0 and 1, not \(plateauFactor)")
    }
    // What would be left out in silence.
    for (value, name) in [(plateauPatience.map(Float.init), "patience"), (plateauFactor, "factor")]
    where value != nil && schedule != .plateau {
      throw ValidationError("--plateau-\(name) is for --schedule plateau; the schedule is \(schedule)")
    }
    try positive(checkpointEvery, "--checkpoint-every")
    try positive(keep, "--keep")
    if json, !plan { throw ValidationError("--json is for --plan: a run writes its figures to history.json") }
    if resume != nil, overwrite { throw ValidationError("--resume and --overwrite exclude each other") }
    if let lr, !(lr > 0 && lr.isFinite) { throw ValidationError("--lr must be positive, not \(lr)") }
    if warmup < 0 { throw ValidationError("--warmup must be at least 0, not \(warmup)") }
    if let clipNorm, !(clipNorm > 0) { throw ValidationError("--clip-norm must be positive, not \(clipNorm)") }
    if let weightDecay, !(weightDecay >= 0) {
      throw ValidationError("--weight-decay must be at least 0, not \(weightDecay)")
    }
    if let weightDecay, weightDecay > 0, (optimizer ?? .standard(isSynthetic: data == nil)) == .adam {
      throw ValidationError("--weight-decay is for SGD and AdamW, and the optimizer is adam: give --optimizer adamw")
    }
    if let ema, !(0..<1).contains(ema) { throw ValidationError("--ema must be at least 0 and below 1, not \(ema)") }
    guard (0..<1).contains(labelSmoothing) else {
      throw ValidationError("--label-smoothing must be at least 0 and below 1, not \(labelSmoothing)")
    }
    if let crop, !(crop > 0 && crop <= 1) { throw ValidationError("--crop must be above 0 and at most 1, not \(crop)") }
    if crop != nil, cache.isOn {
      throw ValidationError(
        "--crop cuts from photos in their own size, which --cache does not keep: leave one of them out")
    }
    guard (0...1).contains(jitter) else { throw ValidationError("--jitter must be 0 to 1, not \(jitter)") }
    guard mixup == 0 || (0.01...1).contains(mixup) else {
      throw ValidationError("--mixup must be 0.01 to 1, or 0 for none, not \(mixup)")
    }
    if let bnMomentum, !(0..<1).contains(bnMomentum) {
      throw ValidationError("--bn-momentum must be at least 0 and below 1, not \(bnMomentum)")
    }
    guard validationSplit > 0, validationSplit < 1 else {
      throw ValidationError("--validation-split must lie between 0 and 1, not \(validationSplit)")
    }
  }

  func run() throws {
    let arguments = Array(CommandLine.arguments.dropFirst())
    if let resume {
      let run = try ResumedRun(folder: resume, given: arguments)
      try plan ? run.printPlan() : run.execute()
    } else {
      let run = try TrainingRun(self, arguments: arguments)
      try plan ? run.printPlan() : run.execute()
    }
  }
}

enum OptimizerName: String, ExpressibleByArgument, CaseIterable {
  case sgd, momentum, nesterov, adam, adamw

  /// The one that trains where none is asked for.
  static func standard(isSynthetic: Bool) -> OptimizerName { isSynthetic ? .adam : .sgd }
}

enum ScheduleName: String, ExpressibleByArgument, CaseIterable {
  case constant, cosine, step, plateau

  /// Whether the rates depend on how long the run is.
  var dependsOnLength: Bool { self == .cosine || self == .step }
}

extension BadImagePolicy: ExpressibleByArgument {}
