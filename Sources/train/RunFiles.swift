import CommandSupport
import Fovea

/// Writes what a run leaves in its folder after each epoch: history, the last and the best weights, skipped files.
final class RunFiles: Callback {
  private let folder: RunDirectory
  private let model: String
  private let loaders: [BatchLoader]

  init(_ folder: RunDirectory, model: String, loaders: [BatchLoader]) {
    self.folder = folder
    self.model = model
    self.loaders = loaders
  }

  func epochDidEnd(in loop: TrainingLoop) throws {
    let history = loop.progress.history
    try history.write(to: folder)
    try save("model.safetensors", loop)
    if history.best?.epoch == history.epochs.last?.epoch { try save("best.safetensors", loop) }
    try writeSkipped()
    if let scale = loop.trainer.lossScale {
      say("Loss scale \(Int(scale.scale)), \(scale.skipped) steps skipped so far, as their gradients were not finite")
    }
  }

  private func save(_ name: String, _ loop: TrainingLoop) throws {
    try loop.trainer.withResultingWeights {
      try loop.trainer.arena.save(
        to: folder.path(of: name), metadata: ["epoch": "\(loop.progress.epoch)", "model": model])
    }
  }

  private func writeSkipped() throws {
    let skipped = loaders.flatMap(\.skipped)
    guard !skipped.isEmpty else { return }
    try folder.write(skipped.csv, to: "skipped.csv")
    say("\(skipped.count) files could not be decoded; see \(folder.path(of: "skipped.csv"))")
  }
}
