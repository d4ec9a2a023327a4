import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import NeuralNetwork

struct Resize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Resize photos with the resizer that a run has learned: any photo, to any size.",
    discussion: """
        fovea resize photo.jpg --output small.png             by the run's ratio
        fovea resize photos/ --output small/ --scale 0.5
        fovea resize photo.jpg --output both.png --size 200x300 --compare

      The photo keeps its own size and shape until the resizer sees it; it isn't squashed first, as in training.
      """)

  @Argument(help: "Photos, folders of photos, or - for a list on standard input.", completion: .file())
  var photos: [String]

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("A .png or .jpg file for one photo, else a folder.", valueName: "path"), completion: .file())
  var output: String

  @Option(
    help: ArgumentHelp("Size of the result, HEIGHTxWIDTH, or N for a square.", valueName: "size"),
    transform: ImageSize.init(option:))
  var size: ImageSize?

  @Option(help: ArgumentHelp("Length of the result's longer side, in the photo's own shape.", valueName: "n"))
  var longSide: Int?

  @Option(help: "Sides of the result over the photo's. Default: as in the run, such as 0.5 for 300 → 150.")
  var scale: Double?

  @Flag(
    help: """
      Cut off what leaves 0…1. Otherwise a picture that does is spread, between its 1st and 99th percentile, over black \
      and white: a resizer serves its classifier, not the eye.
      """)
  var clip = false

  @Flag(help: "Write three pictures side by side: plain resize, learned resize, their difference around grey.")
  var compare = false

  @OptionGroup(title: "Trained model") var model: TrainedModelOptions
  @OptionGroup(title: "Device") var device: DeviceOptions

  @Flag(help: "Print JSON lines.")
  var json = false

  private struct Row: Encodable {
    var photo: String
    var output: String
    var height: Int
    var width: Int
    var resizedHeight: Int
    var resizedWidth: Int
    /// Share of the values that left 0…1.
    var outOfRange: Double
  }

  func validate() throws {
    if photos.isEmpty { throw ValidationError("no photos") }
    guard [size != nil, longSide != nil, scale != nil].count(where: { $0 }) <= 1 else {
      throw ValidationError("--size, --long-side and --scale exclude each other")
    }
    if let scale, !(scale > 0 && scale <= 64) {
      throw ValidationError("--scale must be above 0 and at most 64, not \(scale)")
    }
    if let longSide, !(1...16384).contains(longSide) {
      throw ValidationError("--long-side must be 1 to 16384, not \(longSide)")
    }
  }

  func run() throws {
    let list = try PhotoList(photos)
    let targets = try outputs(for: list)
    let model = try model.load(on: device)
    guard model.description.hasResizer else {
      throw ValidationError(
        "\(model.description.model) has no learned resizer: name a run of resizer+\(model.description.model)")
    }
    var failed = false
    for index in 0..<list.count {
      let photo: RGBImage
      do {
        photo = try list.image(at: index)
      } catch {
        note("\(list.name(at: index)): \(error)")
        failed = failed || list.isNamed(at: index) || list.count == 1
        continue
      }
      try resize(photo, name: list.name(at: index), to: targets[index], with: model)
    }
    if failed { throw ExitCode.failure }
  }

  private func resize(_ photo: RGBImage, name: String, to path: String, with model: TrainedModel) throws {
    let target = targetSize(of: photo, model.description)
    let images = Tensor(photo.pixels, shape: [1, photo.height, photo.width, 3], on: model.arena.device)
      .scaled(by: 1 / 255)
    let learned = try model.classifier.resizer(images, targetSize: target).floats()
    let plain =
      try compare
      ? images.resized(
        height: target.height, width: target.width, interpolation: model.classifier.resizer.interpolation
      ).floats() : []
    func picture(_ values: [Float]) -> RGBImage {
      RGBImage(width: target.width, height: target.height, values: values)
    }
    var result = picture(clip ? learned : PictureValues.stretched(learned))
    if compare {
      let difference = picture(PictureValues.centred(zip(learned, plain).map(-)))
      result = PictureGrid.compose([[picture(plain), result, difference]])
    }
    let isJPEG = ["jpg", "jpeg"].contains((path as NSString).pathExtension.lowercased())
    try AtomicFile.write(
      isJPEG ? ImageCodec.encodeJPEG(result, quality: 95) : ImageCodec.encodePNG(result), to: path)
    let outside = Double(learned.count { $0 < 0 || $0 > 1 }) / Double(learned.count)
    let row = Row(
      photo: name, output: path, height: photo.height, width: photo.width, resizedHeight: target.height,
      resizedWidth: target.width, outOfRange: outside)
    if json { return say(try jsonText(row, onOneLine: true)) }
    say(
      "\(name)  \(photo.height)×\(photo.width) → \(target.height)×\(target.width)  \(path)"
        + (outside >= 0.005
          ? String(format: "; %.0f %% of the values lay beyond black or white: ", outside * 100)
            + (clip ? "cut off" : "spread out") : ""))
  }

  private func targetSize(of photo: RGBImage, _ model: ModelDescription) -> (height: Int, width: Int) {
    if let size { return (size.height, size.width) }
    let longer = Double(max(photo.height, photo.width))
    let factors =
      if let factor = longSide.map({ Double($0) / longer }) ?? scale {
        (factor, factor)
      } else {
        (
          Double(model.targetHeight) / Double(model.inputHeight), Double(model.targetWidth) / Double(model.inputWidth)
        )
      }
    return (
      max(Int((Double(photo.height) * factors.0).rounded()), 1),
      max(Int((Double(photo.width) * factors.1).rounded()), 1)
    )
  }

  /// Where each photo's result goes.
  private func outputs(for list: PhotoList) throws -> [String] {
    guard list.count > 0 else { throw ValidationError("no photos \(PhotoList.place(photos))") }
    let ending = (output as NSString).pathExtension.lowercased()
    // Not a folder of such a name, which nobody means.
    if ["gif", "webp", "bmp", "tif", "tiff", "heic", "avif"].contains(ending), !FolderDataset.isFolder(output) {
      throw ValidationError("--output \(output): pictures are written as .png or .jpg")
    }
    if ["png", "jpg", "jpeg"].contains(ending), !FolderDataset.isFolder(output) {
      guard list.count == 1 else {
        throw ValidationError("--output \(output) is one file for \(list.count) photos: name a folder")
      }
      try checkOutput(output, of: "--output")
      return [output]
    }
    let folder = try openOutputFolder(output)
    let paths = (0..<list.count).map { index in
      let name = (list.name(at: index) as NSString).lastPathComponent
      return folder.path(of: (name as NSString).deletingPathExtension + ".png")
    }
    var seen: Set<String> = []
    if let path = paths.first(where: { !seen.insert($0).inserted }) {
      throw ValidationError("two of the photos would be written to \(path): resize them apart")
    }
    return paths
  }
}
