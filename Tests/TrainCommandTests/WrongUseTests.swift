import CommandSupport
import Foundation
import Fovea
import NeuralNetwork
import Testing

@testable import train

/// What a wrong command line is answered: one line that says what is wrong, and 64.
@Suite struct TrainWrongUseTests {
  /// `FILE` is a text file, `NOWHERE` a path where there is nothing, `CLASS` a folder of photos without classes, `STEM` holds
  /// the first weights of a DenseNet and `OTHER` none.
  @Test(arguments: [
    ("--epochs -1", "--epochs must be at least 1, not -1"), ("--epochs 0", "--epochs must be at least 1, not 0"),
    ("--epochs x", "The value 'x' is invalid for '--epochs <epochs>'"), ("--epochs", "Missing value for '--epochs"),
    ("--batch-size 0", "--batch-size must be at least 1, not 0"), ("--lr -1", "--lr must be positive, not -1.0"),
    ("--batch-size 9 --limit 8", "--batch-size 9 is larger than the 8 training images"),
    ("--warmup -1", "--warmup must be at least 0, not -1"),
    ("--weight-decay -1", "--weight-decay must be at least 0, not -1.0"),
    ("--weight-decay 0.1", "--weight-decay is for SGD and AdamW, and the optimizer is adam"),
    ("--plateau-patience 3", "--plateau-patience is for --schedule plateau; the schedule is constant"),
    ("--plateau-factor 0.5 --schedule cosine", "--plateau-factor is for --schedule plateau; the schedule is cosine"),
    ("--seed -1", "The value '-1' is invalid for '--seed <seed>'"),
    ("--label-smoothing 1", "--label-smoothing must be at least 0 and below 1, not 1.0"),
    ("--bn-momentum 1", "--bn-momentum must be at least 0 and below 1, not 1.0"),
    ("--ema 1", "--ema must be at least 0 and below 1, not 1.0"), ("--clip-norm 0", "--clip-norm must be positive"),
    ("--crop 2", "--crop must be above 0 and at most 1, not 2.0"), ("--jitter 2", "--jitter must be 0 to 1, not 2.0"),
    ("--crop 0.5 --cache memory", "--crop cuts from photos in their own size, which --cache does not keep"),
    ("--mixup 2", "--mixup must be 0.01 to 1, or 0 for none"), ("--optimizer lion", "The value 'lion' is invalid for"),
    ("--plateau-factor 1", "--plateau-factor must lie between 0 and 1, not 1.0"),
    ("--validation-split 0", "--validation-split must lie between 0 and 1, not 0.0"),
    ("--class-weights 1,2,3", "--class-weights has 3 weights for 2 classes (horizontal, vertical)"),
    ("--class-weights 0,1", "The value '0,1' is invalid for '--class-weights"),
    ("--model vgg", "unknown model 'vgg'; known are"), ("--filters 0", "--filters must be 1 to 1024, not 0"),
    ("--freeze resizer --resizer none", "the model densenet121 has no resizer that could be frozen"),
    ("--freeze backbone --resizer none", "--freeze backbone leaves nothing to train: the model densenet121 has no"),
    (
      "--freeze resizer", "--freeze resizer would keep learnable_resizer/conv2d/kernel at random values: give --weights"
    ),
    (
      "--freeze features", "--freeze features would keep densenet121/conv1_conv/kernel at random values: give --weights"
    ),
    (
      "--freeze features --weights STEM",
      "--freeze features would keep densenet121/conv1_bn/gamma at random values: STEM does not hold it"
    ),
    ("--weights OTHER", "OTHER holds none of the model's parameters; it has other/kernel"),
    ("--resume a --overwrite", "--resume and --overwrite exclude each other"),
    ("--resume NOWHERE", "NOWHERE has no checkpoint to go on from"), ("--device abacus", "no OpenCL device matches"),
    ("--weights NOWHERE", "cannot read NOWHERE: No such file"), ("--weights FILE", "FILE is not a safetensors file"),
    ("--data NOWHERE", "there is no folder NOWHERE"), ("--data FILE", "FILE is a file; a data set is a folder"),
    ("--data=", "Missing value for '--data <dir>'"), ("--data CLASS", "CLASS has no sub-folders"),
    ("--profile NOWHERE/a.json", "--profile NOWHERE/a.json: there is no folder NOWHERE"),
    ("--cache FILE", "FILE exists and is no cache of photos"),
    ("--cache FILE/a", "--cache FILE/a: there is no folder FILE"),
    ("--cache NOWHERE/a", "--cache NOWHERE/a: there is no folder NOWHERE"),
    ("--cache=", "Missing value for '--cache"),
    ("--output FILE", "--output: cannot create FILE: it exists and is not a folder"),
    ("--output FILE/a", "--output: cannot create FILE: it exists and is not a folder"),
    ("photos", "Unexpected argument"),
    ("--output=", "Missing value for '--output <dir>'"), ("--epoch 3", "Unknown option '--epoch'"),
  ])
  func aLineAnd64(_ arguments: String, _ line: String) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder + "/class", withIntermediateDirectories: true)
    try Data("Just some text.\n".utf8).write(to: URL(fileURLWithPath: folder + "/notes.txt"))
    let stem = [Float](repeating: 0, count: 7 * 7 * 3 * 64)
    try SafetensorsWriter.write([("conv1_conv/kernel", [7, 7, 3, 64], stem)], to: folder + "/stem.safetensors")
    try SafetensorsWriter.write([("other/kernel", [1], [0])], to: folder + "/other.safetensors")
    let files = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    func filled(_ text: String) -> String {
      [
        ("FILE", "/notes.txt"), ("NOWHERE", "/nowhere"), ("CLASS", "/class"), ("STEM", "/stem.safetensors"),
        ("OTHER", "/other.safetensors"),
      ]
      .reduce(text) { $0.replacingOccurrences(of: $1.0, with: folder + $1.1) }
    }
    let words = ["--device", "cpu", "--output", folder + "/out", "--limit", "480"]
    let failure = TrainCommand.failure(of: words + filled(arguments).split(separator: " ").map(String.init))
    let text = failure?.text ?? "it trained"
    #expect(failure?.status == 64 && text.hasPrefix(filled(line)) && !text.contains { $0.isNewline }, "\(text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == files)
  }

  /// Weights of another number of classes may keep the features, and not the last layer, which starts at random.
  @Test func frozenLastLayerOfOtherClasses() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID()).safetensors").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var model = ModelDescription()
    model.model = "densenet121"
    model.classes = 3
    let arena = ParameterArena(try model.build(), on: Device(planning: try DeviceSelection.pick("cpu")))
    try SafetensorsWriter.write(
      arena.parameters.map { ($0.name, $0.shape.dimensions) }, to: path
    ) { [Float](repeating: 0, count: arena.parameters[$0].shape.count) }
    func start(freezing part: String) throws {
      let arguments = ["--device", "cpu", "--limit", "8", "--batch-size", "8", "--weights", path, "--freeze", part]
      let command = try #require(try TrainCommand.parseAsRoot(arguments) as? TrainCommand)
      _ = try TrainingRun(command, arguments: arguments)
    }
    try start(freezing: "features")
    #expect {
      try start(freezing: "backbone")
    } throws: { error in
      "\(error)"
        == "--freeze backbone would keep densenet121/predictions/kernel at random values: \(path) does not hold it; "
        + "--freeze features trains the last layer"
    }
  }
}
