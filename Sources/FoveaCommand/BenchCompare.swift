import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification

struct BenchCompare: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Time the step beside Keras and PyTorch, in turns, and print the ratios.",
    discussion: """
      Every run is a process of its own, so that first steps and memory count in full. Keras and PyTorch run the same \
      model through the repository's Scripts/keras_reference.py and Scripts/torch_reference.py, with the Python \
      interpreters given.
      """)

  @OptionGroup var options: BenchOptions

  @Flag(help: "Time the forward pass in inference instead.")
  var inference = false

  @Option(help: ArgumentHelp("Python that has tensorflow and keras.", valueName: "python"), completion: .file())
  var keras: String?

  @Option(help: ArgumentHelp("Python that has torch.", valueName: "python"), completion: .file())
  var torch: String?

  @Option(parsing: .upToNextOption, help: "PyTorch's modes: eager, channels-last, compile.")
  var torchModes = ["channels-last"]

  @Option(help: "Times that each takes its turn.")
  var rounds = 3

  @Option(help: ArgumentHelp("Folder of the Python scripts.", valueName: "dir"), completion: .directory)
  var scripts = "Scripts"

  func validate() throws {
    guard keras != nil || torch != nil else {
      throw ValidationError("name a --keras or a --torch Python to compare with")
    }
    guard ["resizer+densenet121", "densenet121"].contains(model.model), model.interpolation == "bilinear" else {
      throw ValidationError("the scripts know resizer+densenet121 and densenet121 with bilinear interpolation")
    }
    guard (1...100).contains(rounds) else { throw ValidationError("--rounds must be 1 to 100, not \(rounds)") }
    for mode in torchModes where !["eager", "channels-last", "compile"].contains(mode) {
      throw ValidationError("--torch-modes knows eager, channels-last and compile, not '\(mode)'")
    }
  }

  /// One framework's turns.
  private struct Row: Encodable {
    var name: String
    /// Median step of each turn.
    var seconds: [Double] = []
    var firstSeconds: [Double] = []
    var processMemoryPeakBytes: Int = 0
    var medianSeconds = 0.0
    var imagesPerSecond = 0.0
    /// Its median step over Fovea's.
    var ratio = 0.0
  }

  func run() throws {
    var entries: [(row: Row, executable: String, arguments: [String])] = [
      (Row(name: "Fovea"), try ownExecutable(), ["bench", "step"] + ownArguments)
    ]
    if let keras {
      entries.append((Row(name: "Keras"), keras, try script("keras_reference.py") + scriptArguments(keras: true)))
    }
    if let torch {
      for mode in torchModes {
        entries.append(
          (
            Row(name: "PyTorch \(mode)"), torch,
            try script("torch_reference.py") + ["--mode", mode, "--device", "cpu"] + scriptArguments(keras: false)
          ))
      }
    }
    for round in 1...rounds {
      for index in entries.indices {
        let entry = entries[index]
        FileHandle.standardError.write(Data("round \(round) of \(rounds): \(entry.row.name)\n".utf8))
        let result = try Self.result(of: entry.executable, entry.arguments)
        entries[index].row.seconds.append(result.medianSeconds)
        entries[index].row.firstSeconds.append(result.first)
        entries[index].row.processMemoryPeakBytes = max(entry.row.processMemoryPeakBytes, result.memory)
      }
    }
    let ours = median(entries[0].row.seconds)
    let rows = entries.map { entry in
      var row = entry.row
      row.medianSeconds = median(row.seconds)
      row.imagesPerSecond = Double(options.batchSize) / row.medianSeconds
      row.ratio = row.medianSeconds / ours
      return row
    }
    if options.json { return print(try jsonText(rows)) }
    print(
      "\(model.model), \(inference ? "inference" : "training"), batch \(options.batchSize), \(rounds) turns each"
    )
    print("                        step, s  images/s  first, s  process     ratio  each turn")
    for row in rows {
      let name = row.name.padding(toLength: 22, withPad: " ", startingAt: 0)
      let memory = formatBytes(row.processMemoryPeakBytes).padding(toLength: 9, withPad: " ", startingAt: 0)
      let times = String(
        format: "%8.3f  %8.1f  %8.1f", row.medianSeconds, row.imagesPerSecond, median(row.firstSeconds))
      let turns = row.seconds.map { String(format: "%.2f", $0) }.joined(separator: " ")
      print("\(name) \(times)  \(memory) \(String(format: "%6.2f", row.ratio))  \(turns)")
    }
  }

  private var model: ModelDescription { options.description }

  private var modelArguments: [String] {
    [
      "--model", model.model, "--input-size", "\(model.inputHeight)x\(model.inputWidth)", "--target-size",
      "\(model.targetHeight)x\(model.targetWidth)", "--filters", "\(model.filters)", "--blocks", "\(model.blocks)",
      "--steps", "\(options.steps)", "--json",
    ]
  }

  private var ownArguments: [String] {
    modelArguments + ["--batch-size", "\(options.batchSize)"] + (inference ? ["--inference"] : [])
      + (options.device.device.map { ["--device", $0] } ?? [])
  }

  private func scriptArguments(keras: Bool) -> [String] {
    let task = keras ? [inference ? "--time-inference" : "--time"] : ["--time"] + (inference ? ["--inference"] : [])
    return task + modelArguments + ["--batch", "\(options.batchSize)"]
  }

  private func ownExecutable() throws -> String {
    guard let path = Bundle.main.executablePath else {
      throw ValidationError("cannot find this program's own file")
    }
    return path
  }

  private func script(_ name: String) throws -> [String] {
    let path = scripts + "/" + name
    guard FileManager.default.fileExists(atPath: path) else {
      throw ValidationError("no file \(path): name the repository's folder of scripts with --scripts")
    }
    return [path]
  }

  private struct Result: Decodable {
    var medianSeconds: Double
    var secondsToFirstStep: Double?
    var firstSeconds: Double?
    var processMemoryPeakBytes: Int?
    var peakRssBytes: Int?
    var peakBytes: Int?

    var first: Double { secondsToFirstStep ?? firstSeconds ?? .nan }
    var memory: Int { processMemoryPeakBytes ?? peakRssBytes ?? peakBytes ?? 0 }
  }

  /// What a run printed as its JSON; its own messages go to standard error.
  private static func result(of executable: String, _ arguments: [String]) throws -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [executable] + arguments
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    // Libraries may print before it.
    let text = String(decoding: data, as: UTF8.self)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard process.terminationStatus == 0, let brace = text.firstIndex(of: "{"),
      let result = try? decoder.decode(Result.self, from: Data(text[brace...].utf8))
    else {
      throw ValidationError(
        "\(executable) \(arguments.prefix(1).joined()) ended with code \(process.terminationStatus) and no figures; "
          + "see its messages above")
    }
    return result
  }
}
