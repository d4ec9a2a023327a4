import ArgumentParser
import Foundation
import Fovea
import Testing

@testable import CommandSupport

@Suite struct CommandSupportTests {
  @Test(arguments: [
    ("300", 300, 300), ("20x30", 20, 30), ("20X30", 20, 30), ("1", 1, 1), ("16384x1", 16384, 1),
  ])
  func imageSizes(_ text: String, _ height: Int, _ width: Int) throws {
    let size = try ImageSize(option: text)
    #expect(size.height == height && size.width == width)
  }

  @Test(arguments: ["", "x", "3x", "x3", "0", "-3", "3x4x5", "16385", "3,4", "a"])
  func noImageSizes(_ text: String) {
    let error = #expect(throws: ValidationError.self) { try ImageSize(option: text) }
    #expect(error.map { "\($0)" } == "'\(text)' is no size: give N or HEIGHTxWIDTH, each 1 to 16384")
  }

  @Test(arguments: [
    ("3G", 3 << 30), ("800M", 800 << 20), ("1.5GiB", 3 << 29), ("64k", 64 << 10), ("0.5T", 1 << 39),
  ])
  func memorySizes(_ text: String, _ bytes: Int) throws {
    #expect(try MemorySize(text).bytes == bytes)
  }

  @Test(arguments: [
    "", "G", "3", "3GB", "3 G", "-3G", "+3G", "3g3", ".5G", "5.G", "1.2.3G", "1e3M", "٣G", "nanG", "3Gib ",
  ])
  func noMemorySizes(_ text: String) {
    let error = #expect(throws: ValidationError.self) { try MemorySize(text) }
    #expect(
      error.map { "\($0)" }
        == "'\(text)' is no amount of memory: give a number and K, M, G or T, such as 3G or 800M")
  }

  @Test(arguments: [("0G", "little"), ("0.0001K", "little"), ("9999999999T", "much")])
  func unusableMemorySizes(_ text: String, _ problem: String) {
    let error = #expect(throws: ValidationError.self) { try MemorySize(text) }
    #expect(error.map { "\($0)" } == "'\(text)' is too \(problem) memory")
  }

  @Test func modelOptionsChangeOnlyWhatIsGiven() throws {
    var base = ModelDescription()
    base.model = "resizer+densenet169"
    base.filters = 7
    base.targetWidth = 99
    base.classes = 5
    #expect(try ModelOptions.parse([]).applied(to: base) == base)
    let changed = try ModelOptions.parse(["--resizer", "muller", "--input-size", "64x80", "--blocks", "3"])
      .applied(to: base)
    #expect(changed.model == "muller+densenet169")
    #expect((changed.inputHeight, changed.inputWidth) == (64, 80))
    #expect(changed.blocks == 3 && changed.filters == 7 && changed.targetWidth == 99 && changed.classes == 5)
    #expect(try ModelOptions.parse(["--resizer", "none"]).applied(to: base).model == "densenet169")
    #expect(
      try ModelOptions.parse([]).description(classes: 4, batchNormMomentum: 0.5).model == "resizer+densenet121")
  }

  @Test(arguments: [
    ["--filters", "0"], ["--blocks", "-1"], ["--model", "vgg"], ["--target-size", "31"], ["--interpolation", "cubic"],
    ["--resizer", "other"],
  ])
  func modelOptionsRefuse(_ arguments: [String]) {
    #expect(throws: (any Error).self) { try ModelOptions.parse(arguments) }
  }

  /// Three classes, six photos, figures from a calculation by hand.
  @Test func evaluation() {
    var result = Evaluation(classNames: ["a", "b", "c"], labelSmoothing: 0)
    // Equal logits: probability 1/3 each, and the first class counts as predicted.
    result.add(logits: [0, 0, 0], label: 0)
    result.add(logits: [0, 0, 0], label: 2)
    #expect(abs(result.loss - log(3)) < 1e-12)
    result.add(logits: [0, Float(log(2.0)), 0], label: 1)  // probability 1/2
    result.add(logits: [1000, 0, 0], label: 0)  // no overflow
    #expect(abs(result.loss - (2 * log(3) + log(2)) / 4) < 1e-7)
    #expect(result.images == 4 && result.accuracy == 0.75 && result.top5Accuracy == nil)
    #expect(abs(result.accuracyStandardError - (0.75 * 0.25 / 4).squareRoot()) < 1e-12)
    #expect(result.confusion == [[2, 0, 0], [0, 1, 0], [1, 0, 0]])
    let classes = result.classes
    #expect(classes.map(\.images) == [2, 1, 1])
    #expect(classes.map(\.recall) == [1, 1, 0])
    #expect(classes.map(\.precision) == [2.0 / 3, 1, nil])
    #expect(result.text.contains("accuracy  0.7500 ± 0.2165"))
  }

  @Test func negativeNumbersAreValues() {
    for (given, expected) in [
      (["--epochs", "-1"], ["--epochs=-1"]), (["--lr", "-1e-3", "x"], ["--lr=-1e-3", "x"]),
      (["--scale", "-.5"], ["--scale=-.5"]), (["--a=b", "-1"], ["--a=b", "-1"]), (["-o", "-1"], ["-o", "-1"]),
      (["--json", "--top", "3"], ["--json", "--top", "3"]), (["--json", "-"], ["--json", "-"]),
      (["--seeds", "2", "--", "--lr", "-1"], ["--seeds", "2", "--", "--lr", "-1"]), (["--lr"], ["--lr"]), ([], []),
    ] { #expect(joiningNegativeNumbers(given) == expected) }
  }

  @Test func outputsAreCheckedFirst() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    func problem(_ path: String, orIn made: String? = nil) -> String? {
      do {
        try checkOutput(path, of: "--save", orIn: made)
        return nil
      } catch {
        return "\(error)"
      }
    }
    #expect(problem(folder + "/a") == nil && problem("a") == nil)
    #expect(problem("\(folder)/b/a") == "--save \(folder)/b/a: there is no folder \(folder)/b")
    #expect(problem(folder) == "--save \(folder): that is a folder, not a file")
    // In the folder that the command makes, and nowhere else.
    #expect(problem("\(folder)/b/a", orIn: "\(folder)/b/") == nil && problem("b/a", orIn: "b") == nil)
    #expect(problem("\(folder)/b/c/a", orIn: folder)?.hasSuffix(": there is no folder \(folder)/b/c") == true)
    #expect(FileManager.default.createFile(atPath: folder + "/b", contents: nil))
    #expect(problem("\(folder)/b/a") == "--save \(folder)/b/a: there is no folder \(folder)/b")
  }

  @Test func aRunKeepsItsKernelsOnItsDeviceOnly() throws {
    let device = try DeviceSelection.pick("cpu")
    var tuned = device
    tuned.convolutionTable = ConvolutionTable(date: "yesterday")
    let (plain, chosen) = (KernelChoice(of: device), KernelChoice(of: tuned))
    #expect(!plain.isTuned && chosen.isTuned)
    var used = device
    #expect(plain.use(on: &used) == nil && used.convolutionTable == nil)
    #expect(
      chosen.use(on: &used)
        == "Kernels  those tuned yesterday, as when the run was begun, so that the result stays the same to the "
        + "bit; a new run would use the default ones")
    #expect(used.convolutionTable == tuned.convolutionTable)
    #expect(plain.use(on: &used)?.contains("the default ones, as when") == true && used.convolutionTable == nil)
    // Another device: its own kernels, and no promise.
    var other = device.imitatingGPU(computeUnits: 77, localMemory: 1 << 15, maximumWorkGroupSize: 256)
    #expect(chosen.use(on: &other)?.hasSuffix("the result is no longer the same to the bit") == true)
    #expect(other.convolutionTable == nil)
  }

  /// A line says how products are computed where a precision asks for something that a device may lack.
  @Test func productsAreAnnounced() throws {
    var device = try DeviceSelection.pick("cpu", from: DeviceDescription.all())
    #expect(device.productsLine(.float32) == nil && device.productsLine(.bfloat16) == nil)
    #expect(device.productsLine(.tf32) == "Products in float32: \(device.name) has no tensor cores for tf32")
    device.matrixUnits = MatrixUnits(operands: [.tf32, .bfloat16], problems: [.float16: "it is wrong"])
    device.usesTF32 = true
    #expect(device.productsLine(.tf32) == "Products of tf32 on tensor cores, sums in float32")
    #expect(device.productsLine(.bfloat16) == "Products of bfloat16 on tensor cores, sums in float32")
    #expect(
      device.productsLine(.float16)
        == "Products in float32: the tensor cores of \(device.name) are not used, it is wrong")
    #expect(device.productsLine(.float32) == nil)
    // `describe` asks for what the precision is.
    var lines: [String] = []
    let described = try DeviceOptions.parse(["--device", "cpu"]).describe(for: .tf32) { lines.append($0) }
    #expect(
      described.usesTF32 && described.matrixUnits == nil && lines.contains { $0.hasPrefix("Products in float32") })
  }

  @Test func theVersionIsTheNewestOfTheChangelog() throws {
    let changelog = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../CHANGELOG.md").standardizedFileURL
    let lines = try String(contentsOf: changelog, encoding: .utf8).split(separator: "\n")
    let newest = try #require(lines.first { $0.hasPrefix("## ") })
    #expect(newest.dropFirst(3).split(separator: ",").first.map(String.init) == foveaVersion)
  }

  @Test func evaluationSmoothsLabels() {
    var result = Evaluation(classNames: ["a", "b"], labelSmoothing: 0.2)
    result.add(logits: [Float(log(3.0)), 0], label: 0)
    // 0.9 · −log(3/4) + 0.1 · −log(1/4)
    #expect(abs(result.loss - (-0.9 * log(0.75) - 0.1 * log(0.25))) < 1e-7)
  }

  @Test func probabilitiesSumToOne() {
    let values = softmax([1000, 1000, -1000] as [Float])
    #expect(values == [0.5, 0.5, 0])
    #expect(softmax([Float(log(3.0)), 0][...]).map { ($0 * 1e6).rounded() } == [750_000, 250_000])
  }

  @Test func photoListsKeepTheirOrder() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder + "/b/deep", withIntermediateDirectories: true)
    for name in ["z.jpg", "b/2.jpg", "b/1.jpg", "b/deep/3.jpg", "b/.hidden"] {
      #expect(FileManager.default.createFile(atPath: "\(folder)/\(name)", contents: Data([1])))
    }
    let list = try PhotoList(["\(folder)/z.jpg", "\(folder)/b", "missing.jpg"])
    #expect(
      (0..<list.count).map { list.name(at: $0) } == [
        "\(folder)/z.jpg", "\(folder)/b/1.jpg", "\(folder)/b/2.jpg", "\(folder)/b/deep/3.jpg", "missing.jpg",
      ])
    #expect((0..<list.count).map { list.isNamed(at: $0) } == [true, false, false, false, true])
    #expect(throws: ImageError.unreadable(reason: "No such file or directory")) { try list.image(at: 4) }
  }

  @Test func runsThatAreNone() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    func message() -> String {
      do {
        _ = try RunDescription(folder: folder)
        return "no error"
      } catch {
        return "\(error)"
      }
    }
    #expect(message().hasPrefix("there is no folder \(folder)"))
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    #expect(message().hasPrefix("there is no \(folder)/config.json"))
    for (text, problem) in [
      ("{", "it is not valid JSON"), ("{}", "'model' is missing"),
      (#"{"model": 3}"#, "a value has the wrong type in model"),
    ] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
      #expect(message() == "\(folder)/config.json is not the configuration of a run: \(problem)")
    }
    let configuration = """
      {"model": {"model": "muller+densenet121", "input_height": 64, "input_width": 65, "target_height": 32,
      "target_width": 33, "filters": 8, "blocks": 2, "interpolation": "bicubic", "classes": 3,
      "batch_norm_momentum": 0.9, "frozen": "features"}, "class_names": ["a", "b", "c"], "validation_split": 0.25,
      "seed": 18446744073709551615, "label_smoothing": 0.1, "something_else": true}
      """
    try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
    let run = try RunDescription(folder: folder)
    #expect(run.model.model == "muller+densenet121" && run.model.frozen == .features && run.model.inputWidth == 65)
    #expect(run.classNames == ["a", "b", "c"] && run.data == nil && run.limit == nil && run.seed == .max)
  }
}

@Suite struct OpenCLInstallationTests {
  @Test func driversAndCachesAreFound() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder + "/cache/a", withIntermediateDirectories: true)
    try Data("libone.so\n".utf8).write(to: URL(fileURLWithPath: folder + "/one.icd"))
    try Data("other".utf8).write(to: URL(fileURLWithPath: folder + "/readme.txt"))
    try Data(count: 1000).write(to: URL(fileURLWithPath: folder + "/cache/a/kernel"))
    let installation = OpenCLInstallation(
      environment: ["OCL_ICD_VENDORS": folder, "POCL_CACHE_DIR": folder + "/cache", "HOME": folder])
    #expect(installation.drivers.map(\.library) == ["libone.so"])
    #expect(installation.drivers.map(\.file) == [folder + "/one.icd"])
    #expect(installation.caches.first { $0.driver == "POCL" }?.bytes == 1000)
    #expect(installation.caches.first { $0.driver == "NVIDIA" }?.bytes == nil)
    #expect(installation.advice(hasDevices: false, vendors: []).last?.contains("pocl-opencl-icd") ?? false)
  }
}
