struct TrainingRun {
  init(_ options: TrainCommand) throws {}
  func execute() throws {}
}
