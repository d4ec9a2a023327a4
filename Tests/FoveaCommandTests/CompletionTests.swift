import ArgumentParser
import Foundation
import Testing

@testable import FoveaCommand

/// What bash offers when the tabulator key is pressed, with the script that `fovea` generates.
@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: "/bin/bash"))) struct CompletionTests {
  /// In a folder that holds `photos/`, `runs/`, `weights.safetensors` and `notes.txt`. The last word is being typed.
  @Test(arguments: [
    ("fovea ev", ["evaluate"]), ("fovea bench pe", ["peak"]),
    ("fovea predict ", ["notes.txt", "photos", "runs", "weights.safetensors"]), ("fovea predict ph", ["photos"]),
    ("fovea resize ph", ["photos"]), ("fovea predict --run ", ["photos", "runs"]),
    ("fovea evaluate --data ph", ["photos"]), ("fovea inspect --run r", ["runs"]),
    ("fovea compare --output r", ["runs"]), ("fovea evaluate --weights ", ["photos", "runs", "weights.safetensors"]),
    ("fovea import w", ["weights.safetensors"]), ("fovea predict --device ", ["auto", "cpu", "gpu"]),
    ("fovea inspect --resizer m", ["muller"]),
    ("fovea inspect --model d", ["densenet121", "densenet169", "densenet201"]),
    ("fovea inspect --interpolation b", ["bicubic", "bilinear"]), ("fovea inspect --precision b", ["bfloat16"]),
    ("fovea compare --backbone ", ["densenet121", "densenet169", "densenet201"]),
  ])
  func bashOffers(_ line: String, _ expected: [String]) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    for name in ["photos", "runs"] {
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("in/\(name)"), withIntermediateDirectories: true)
    }
    for name in ["weights.safetensors", "notes.txt"] {
      try Data().write(to: folder.appendingPathComponent("in/\(name)"))
    }
    try FoveaTool.completionScript(for: .bash).write(
      to: folder.appendingPathComponent("completions"), atomically: true, encoding: .utf8)
    let bash = Process()
    bash.executableURL = URL(fileURLWithPath: "/bin/bash")
    bash.currentDirectoryURL = folder.appendingPathComponent("in")
    // As bash calls it: the words typed, the last of them being completed.
    bash.arguments = [
      "--norc", "-c",
      """
      source ../completions
      COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
      read -ra COMP_WORDS <<< "$1"
      [[ $1 == *' ' ]] && COMP_WORDS+=('')
      COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
      _fovea fovea "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
      printf '%s\\n' "${COMPREPLY[@]}"
      """, "bash", line,
    ]
    let output = Pipe()
    bash.standardOutput = output
    try bash.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    bash.waitUntilExit()
    // Flags are offered beside the photos.
    let offers = text.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("-") }
    #expect(offers.sorted() == expected)
  }
}
