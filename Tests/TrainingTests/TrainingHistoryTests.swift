import Foundation
import Testing

@testable import Training

@Suite struct TrainingHistoryTests {
  private let columns = [
    "epoch", "steps", "loss", "accuracy", "val_loss", "val_accuracy", "val_loss_reestimated",
    "val_accuracy_reestimated", "seconds", "images_per_second", "data_wait_share", "learning_rate",
  ]

  private func history() -> TrainingHistory {
    var history = TrainingHistory()
    history.append(
      EpochRecord(
        epoch: 1, steps: 3, loss: 0.1, accuracy: 0.5, valLoss: 0.75, valAccuracy: 0.25, valLossReestimated: 0.5,
        valAccuracyReestimated: 1, seconds: 2, imagesPerSecond: 24.5, dataWaitShare: 0.003, learningRate: 0.01))
    history.append(
      EpochRecord(
        epoch: 2, steps: 3, loss: .infinity, accuracy: 0.5, valLossReestimated: .nan, seconds: 2, imagesPerSecond: 24,
        dataWaitShare: 0, learningRate: 1e-05))
    return history
  }

  @Test func bestEpochIsTheFirstOfTheHighestAccuracy() {
    func history(_ accuracies: [(moving: Double, reestimated: Double?)]) -> TrainingHistory {
      var history = TrainingHistory()
      for (index, accuracy) in accuracies.enumerated() {
        history.append(
          EpochRecord(
            epoch: index + 1, steps: 1, loss: 0, accuracy: 0, valAccuracy: accuracy.moving,
            valAccuracyReestimated: accuracy.reestimated, seconds: 0, imagesPerSecond: 0, dataWaitShare: 0,
            learningRate: 0))
      }
      return history
    }
    #expect(history([]).best == nil)
    #expect(history([(0.5, nil), (0.75, 0.25), (0.5, 0.75), (0.25, nil)]).best?.epoch == 2)
    #expect(history([(.nan, nil), (0.5, .nan), (.nan, 0.75), (.nan, .nan)]).best?.epoch == 3)
    #expect(history([(.nan, nil), (.nan, .nan)]).best?.epoch == 1)
  }

  @Test func csv() {
    #expect(
      history().csv == columns.joined(separator: ",") + "\n"
        + "1,3,0.1,0.5,0.75,0.25,0.5,1.0,2.0,24.5,0.003,0.01\n2,3,,0.5,,,,,2.0,24.0,0.0,1e-05\n")
  }

  @Test func jsonNamesEveryColumnAndReadsBack() throws {
    let text = try history().json()
    let objects = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
    #expect(objects.map { $0.keys.sorted() } == [columns.sorted(), columns.sorted()])
    #expect(objects[1]["val_loss"] is NSNull)
    let records = try JSONDecoder().decode([EpochRecord].self, from: Data(text.utf8))
    #expect(records[0].loss == 0.1 && records[0].valAccuracyReestimated == 1 && records[0].learningRate == 0.01)
    #expect(records[1].loss.isNaN && records[1].valLoss.isNaN && records[1].valLossReestimated == nil)
    #expect(try TrainingHistory().json() == "[]\n")
  }

  @Test func writesBothFiles() throws {
    let folder = TemporaryPath()
    let history = history()
    try history.write(to: RunDirectory(folder.path))
    #expect(try folder.text("history.csv") == history.csv)
    #expect(try folder.text("history.json") == history.json())
  }
}
