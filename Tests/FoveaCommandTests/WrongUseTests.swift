import ArgumentParser
import CommandSupport
import Foundation
import Testing

@testable import FoveaCommand

/// What a wrong command line is answered: one line that says what is wrong, and 64.
@Suite struct WrongUseTests {
  struct Case: CustomTestStringConvertible {
    let arguments: String
    let line: String
    var status: Int32 = 64
    var testDescription: String { arguments }
  }

  /// `FILE` is a text file, `NOWHERE` a path where there is nothing, `RUN` a folder that is no run.
  static let cases: [Case] = [
    Case(arguments: "", line: "", status: 0),
    Case(arguments: "paint", line: "Unexpected argument 'paint' (see 'fovea --help')"),
    Case(arguments: "devices --all", line: "Unknown option '--all'"),
    Case(arguments: "evaluate --run NOWHERE", line: "there is no folder NOWHERE"),
    Case(arguments: "evaluate --run RUN", line: "there is no RUN/config.json"),
    Case(arguments: "evaluate --run FILE", line: "there is no FILE/config.json"),
    Case(arguments: "evaluate --weights NOWHERE", line: "cannot read NOWHERE: No such file or directory"),
    Case(arguments: "evaluate --weights FILE", line: "FILE is not a safetensors file"),
    Case(arguments: "evaluate --limit -1", line: "--limit must be at least 1, not -1"),
    Case(arguments: "evaluate --limit x", line: "The value 'x' is invalid for '--limit <limit>'"),
    Case(arguments: "evaluate --batch-size 0", line: "--batch-size must be 1 to 4096, not 0"),
    Case(arguments: "evaluate --split test", line: "The value 'test' is invalid for '--split <split>'. Please provide"),
    Case(arguments: "predict", line: "Missing expected argument '<photos> ...' (see 'fovea predict --help')"),
    Case(arguments: "predict FILE --run NOWHERE", line: "there is no folder NOWHERE"),
    Case(arguments: "predict FILE --top 0", line: "--top must be at least 1, not 0"),
    Case(arguments: "predict FILE --save a.txt", line: "--save writes safetensors: the file must end in .safetensors"),
    Case(
      arguments: "predict FILE --save NOWHERE/a.safetensors", line: "--save NOWHERE/a.safetensors: there is no folder"),
    Case(arguments: "predict RUN", line: "no photos in RUN"),
    Case(arguments: "resize FILE", line: "Missing expected argument '--output <path>'"),
    Case(arguments: "resize FILE -o NOWHERE/a.png", line: "--output NOWHERE/a.png: there is no folder NOWHERE"),
    Case(arguments: "resize FILE -o a.webp", line: "--output a.webp: pictures are written as .png or .jpg"),
    Case(arguments: "resize FILE -o FILE", line: "--output: cannot create FILE: it exists and is not a folder"),
    Case(arguments: "resize FILE FILE -o a.png", line: "--output a.png is one file for 2 photos: name a folder"),
    Case(arguments: "resize FILE -o a.png --scale -1", line: "--scale must be above 0 and at most 64, not -1.0"),
    Case(
      arguments: "resize FILE -o a.png --size 9 --scale 1", line: "--size, --long-side and --scale exclude each other"),
    Case(arguments: "inspect --run NOWHERE", line: "there is no folder NOWHERE"),
    Case(arguments: "inspect --model vgg", line: "unknown model 'vgg'; known are resizer+densenet121"),
    Case(arguments: "inspect --target-size 31", line: "the target size 31×31 is too small"),
    Case(
      arguments: "inspect --input-size 0",
      line: "The value '0' is invalid for '--input-size <size>': '0' is no size: give N or HEIGHTxWIDTH"),
    Case(arguments: "inspect --blocks -1", line: "--blocks must be 0 to 64, not -1"),
    Case(arguments: "export --run NOWHERE -o a.onnx", line: "there is no folder NOWHERE"),
    Case(arguments: "export -o a.txt", line: "--output a.txt ends neither in .onnx nor in .safetensors"),
    Case(arguments: "export -o NOWHERE/a.onnx", line: "--output NOWHERE/a.onnx: there is no folder NOWHERE"),
    Case(arguments: "import NOWHERE", line: "cannot read NOWHERE: No such file or directory"),
    Case(arguments: "import RUN", line: "cannot read RUN: it is not a plain file"),
    Case(arguments: "import FILE", line: "FILE is not a safetensors file"),
    Case(arguments: "import FILE -o a.bin", line: "--output must end in .safetensors, not 'a.bin'"),
    Case(arguments: "import FILE --classes -1", line: "--classes must be 1 to 100000, not -1"),
    Case(arguments: "compare --arms area", line: "unknown arm 'area'; known are resizer, muller, nearest"),
    Case(arguments: "compare --arms resizer,resizer", line: "--arms must name each arm once"),
    Case(arguments: "compare --seeds 0", line: "--seeds must be 1 to 1000, not 0"),
    Case(arguments: "compare --output FILE", line: "--output: cannot create FILE: it exists and is not a folder"),
    Case(arguments: "compare -- --seed 1", line: "--seed cannot be given to train here"),
    Case(arguments: "verify --reference NOWHERE", line: "cannot read NOWHERE: No such file or directory"),
    Case(arguments: "verify --reference FILE", line: "FILE is not a safetensors file"),
    Case(arguments: "verify --device abacus", line: "no OpenCL device matches 'abacus'"),
    Case(arguments: "bench step --steps 0", line: "--steps must be 1 to 1000, not 0"),
    Case(arguments: "bench plan --compute-units 0", line: "--compute-units must be 1 to 4096, not 0"),
    Case(
      arguments: "bench plan --subgroup-sizes 8,12",
      line: "--subgroup-sizes must be of 8,16,32, not 8,12"),
    Case(arguments: "bench plan --wavefront-width 16", line: "--wavefront-width must be 32 or 64, not 16"),
    Case(
      arguments: "bench plan --wavefront-width 64 --subgroup-sizes 8",
      line: "--wavefront-width is for an AMD GPU and --subgroup-sizes for one of Intel's: not both"),
    Case(arguments: "bench plan --local-memory 8", line: "--local-memory must be 16 to 1024, not 8"),
    Case(arguments: "bench plan --work-group-size 32", line: "--work-group-size must be 64 to 4096, not 32"),
    Case(
      arguments: "bench plan --dump-programs NOWHERE/a",
      line: "--dump-programs NOWHERE/a: there is no folder NOWHERE: make it first, or name another place"),
    Case(
      arguments: "bench plan --dump-programs FILE",
      line: "--dump-programs FILE: that is a file: name a folder that is not there yet"),
    Case(
      arguments: "bench plan --dump-programs RUN/..",
      line: "--dump-programs RUN/..: that folder is not empty: remove it, or name one that is not there yet"),
    Case(arguments: "bench compare", line: "name a --keras or a --torch Python to compare with"),
    Case(arguments: "bench scaling -o a.png", line: "the drawing is an SVG: --output must end in .svg"),
    Case(arguments: "bench loading --data NOWHERE", line: "there is no folder NOWHERE"),
    Case(arguments: "bench loading --data FILE", line: "FILE is a file; a data set is a folder"),
    Case(arguments: "bench loading --data RUN", line: "RUN has no sub-folders"),
    Case(arguments: "bench epoch --data NOWHERE", line: "there is no folder NOWHERE"),
    Case(arguments: "bench epoch --data RUN --workers 0", line: "--workers must be at least 1, not 0"),
    Case(arguments: "--version", line: "fovea \(foveaVersion)", status: 0),
  ]

  @Test(arguments: cases) func aLineAndAStatus(_ example: Case) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder + "/run", withIntermediateDirectories: true)
    try Data("Just some text.\n".utf8).write(to: URL(fileURLWithPath: folder + "/notes.txt"))
    func filled(_ text: String) -> String {
      [("FILE", "/notes.txt"), ("NOWHERE", "/nowhere"), ("RUN", "/run")]
        .reduce(text) { $0.replacingOccurrences(of: $1.0, with: folder + $1.1) }
    }
    let failure = FoveaTool.failure(of: filled(example.arguments).split(separator: " ").map(String.init))
    #expect(failure?.status == example.status)
    let text = failure?.text ?? ""
    #expect(text.hasPrefix(filled(example.line)), "\(text)")
    if example.status == 64 { #expect(!text.contains { $0.isNewline }, "\(text)") }
  }
}
