import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import NeuralNetwork

struct Predict: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Classify photos: files, folders, or a list on standard input.",
    discussion: """
        fovea predict photo.jpg                     with the latest run
        fovea predict --run runs/pets --csv photos/
        find . -name '*.jpg' | fovea predict --json -

      Photos that cannot be decoded are named on standard error; when one of them was named itself, the exit status is 1.
      """)

  @Argument(help: "Photos, folders of photos, or - for a list on standard input.", completion: .file())
  var photos: [String]

  @OptionGroup(title: "Trained model") var model: TrainedModelOptions
  @OptionGroup(title: "Device") var device: DeviceOptions
  @OptionGroup var loading: LoadingOptions

  @Flag(help: "How to print: a table, CSV, or JSON lines.")
  var format = OutputFormat.table

  @Option(help: "Classes in a line of the table, most probable first.")
  var top = 3

  @Option(
    help: ArgumentHelp(
      "Also write photos (as the model sees them), resized, logits and probabilities to a safetensors file.",
      valueName: "file"), completion: .file(extensions: ["safetensors"]))
  var save: String?

  enum OutputFormat: String, EnumerableFlag {
    case table, csv, json
  }

  private struct Row: Encodable {
    var photo: String
    var `class`: String
    var probability: Double
    var probabilities: [String: Double]
  }

  func validate() throws {
    if photos.isEmpty {
      throw ValidationError("no photos: name files or folders, or - for a list on standard input")
    }
    if top < 1 { throw ValidationError("--top must be at least 1, not \(top)") }
    if let save {
      guard save.hasSuffix(".safetensors") else {
        throw ValidationError("--save writes safetensors: the file must end in .safetensors, not '\(save)'")
      }
      try checkOutput(save, of: "--save")
    }
  }

  func run() throws {
    let list = try PhotoList(photos)
    guard list.count > 0 else { throw ValidationError("no photos \(PhotoList.place(photos))") }
    let model = try model.load(on: device)
    let loader = loading.loader(for: list, model.description)
    var saved = SavedTensors()
    if format == .csv { say((["photo", "class"] + model.classNames).map(csvField).joined(separator: ",")) }
    let width = min((0..<list.count).reduce(0) { max($0, list.name(at: $1).count) }, 60)

    let stream = loader.epoch(0)
    var reported = 0
    do {
      while let batch = try stream.next() {
        reported = report(loader.skipped, from: reported, in: list)
        let (resized, logits) = model(batch)
        let values = try logits.floats()
        let classes = model.description.classes
        for (row, index) in batch.indices.enumerated() {
          let probabilities = softmax(values[row * classes..<(row + 1) * classes])
          say(try line(list.name(at: index), probabilities, model.classNames, width: width))
          saved.probabilities += probabilities.map { Float($0) }
        }
        if save != nil { try saved.add(batch, resized: resized.floats(), logits: values) }
      }
    } catch DatasetError.noReadableImage {
      // Each has been named, or is below.
    }
    _ = report(loader.skipped, from: reported, in: list)
    if let save, saved.count > 0 { try saved.write(to: save, model.description) }
    if loader.skipped.contains(where: { list.isNamed(at: $0.index) }) || loader.skipped.count == list.count {
      throw ExitCode.failure
    }
  }

  /// Names the photos that were skipped since, and gives how many there are now.
  private func report(_ skipped: [SkippedFile], from first: Int, in list: PhotoList) -> Int {
    for file in skipped.dropFirst(first) { note("\(file.path): \(file.reason)") }
    return skipped.count
  }

  private func line(_ photo: String, _ probabilities: [Double], _ names: [String], width: Int) throws -> String {
    let order = probabilities.indices.sorted { (probabilities[$0], $1) > (probabilities[$1], $0) }
    switch format {
    case .table:
      let classes = order.prefix(top).map { String(format: "%@ %5.1f %%", names[$0], probabilities[$0] * 100) }
      return photo.padded(to: width) + "  " + classes.joined(separator: "   ")
    case .csv:
      return ([csvField(photo), csvField(names[order[0]])] + probabilities.map { "\(Float($0))" })
        .joined(separator: ",")
    case .json:
      return try jsonText(
        Row(
          photo: photo, class: names[order[0]], probability: probabilities[order[0]],
          probabilities: Dictionary(zip(names, probabilities), uniquingKeysWith: { first, _ in first })),
        onOneLine: true)
    }
  }
}

/// What went through the model, for a comparison with other programs.
private struct SavedTensors {
  var count = 0
  var photos: [Float] = []
  var resized: [Float] = []
  var logits: [Float] = []
  var probabilities: [Float] = []

  mutating func add(_ batch: ImageBatch, resized: [Float], logits: [Float]) {
    count += batch.count
    photos += batch.pixels.map { Float($0) }
    self.resized += resized
    self.logits += logits
  }

  func write(to path: String, _ model: ModelDescription) throws {
    try SafetensorsWriter.write(
      [
        ("photos", [count, model.inputHeight, model.inputWidth, 3], photos),
        ("resized", [count, model.targetHeight, model.targetWidth, 3], resized),
        ("logits", [count, model.classes], logits), ("probabilities", [count, model.classes], probabilities),
      ], to: path)
  }
}
