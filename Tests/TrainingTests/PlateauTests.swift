import Testing

@testable import Training

/// Keras 3's callbacks over the same validation losses.
@Suite(.serialized) struct PlateauTests {
  private let losses = [
    1.0, 0.9, 0.9, 0.95, 0.89995, 0.8, .nan, 0.81, 0.82, 0.7, 0.75, 0.74, 0.73, 0.72, 0.71, 0.70001,
  ]

  /// A history whose losses come from the one or the other kind of validation.
  private func history(_ losses: some Sequence<Double>) -> TrainingHistory {
    var history = TrainingHistory()
    for (index, loss) in losses.enumerated() {
      let (moving, reestimated) = index % 2 == 0 ? (loss, 2) : (.nan, loss)
      history.append(
        EpochRecord(
          epoch: index + 1, steps: 1, loss: 1, accuracy: 1, valLoss: moving, valLossReestimated: reestimated,
          seconds: 1, imagesPerSecond: 1, dataWaitShare: 0, learningRate: 1))
    }
    return history
  }

  @Test(arguments: zip(1...6, [3, 4, 9, 14, 15, 16])) func earlyStopping(patience: Int, end: Int) {
    let rule = EarlyStopping(patience: patience)
    #expect((0...16).first { rule.ends(history(losses.prefix($0))) } == end)
  }

  @Test(
    arguments: zip(
      1...3,
      [
        [0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12], [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5],
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4],
      ]))
  func reduceOnPlateau(patience: Int, halvings: [Int]) {
    let rule = ReduceOnPlateau(factor: 0.5, patience: patience)
    let factors = (1...16).map { rule.rateFactor(after: history(losses.prefix($0))) }
    #expect(factors == halvings.map { Float(sign: .plus, exponent: -$0, significand: 1) })
    #expect(rule.rateFactor(after: TrainingHistory()) == 1)
  }

  /// With a learning rate of nothing no epoch is better than the first.
  @Test func runsThatGetNoBetterEnd() throws {
    let run = try TinyRun(rule: .sgd(), schedule: .constant(0), epochs: 9, earlyStopping: EarlyStopping(patience: 1))
    #expect(try run.loop.run() == .finished)
    #expect(run.loop.hasStoppedEarly && run.loop.progress.isFinished && run.loop.progress.epoch < 9)
    let longest = try TinyRun(rule: .sgd(), schedule: .constant(0), epochs: 2)
    try longest.loop.run()
    #expect(!longest.loop.hasStoppedEarly && longest.loop.progress.epoch == 2)
  }

  @Test func resumedRunsKeepTheRate() throws {
    let folder = TemporaryPath()
    let checkpoints = CheckpointFolder(run: folder.path)
    // A rate so low that no loss falls by the minimum of 1e-4.
    func run(from checkpoint: Checkpoint? = nil, callbacks: [any Callback] = []) throws -> TinyRun {
      try TinyRun(
        rule: .sgd(), schedule: .constant(1e-6), from: checkpoint, epochs: 4,
        plateau: ReduceOnPlateau(factor: 0.5, patience: 1), callbacks: callbacks)
    }
    let whole = try run()
    try whole.loop.run()
    var stop: StopRequest?
    let cut = try run(callbacks: [AtStep(.training, epoch: 3, step: 2) { stop?.make() }, Checkpointer(checkpoints)])
    stop = cut.stop
    #expect(try cut.loop.run() == .stopped)
    let resumed = try run(from: checkpoints.newest().checkpoint)
    try resumed.loop.run()
    #expect(try resumed.outcome() == whole.outcome())
    let rates = whole.loop.progress.history.epochs.map(\.learningRate)
    #expect(rates.last! < rates.first!)
    #expect(rates == rates.sorted(by: >))
  }
}
