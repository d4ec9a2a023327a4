import Foundation

/// What one epoch came to.
public struct EpochRecord: Codable, Sendable, Equatable {
  /// From 1.
  public var epoch: Int
  public var steps: Int
  public var loss: Double
  public var accuracy: Double
  /// With the moving statistics.
  public var valLoss: Double
  public var valAccuracy: Double
  /// With statistics estimated afresh on training batches.
  public var valLossReestimated: Double?
  public var valAccuracyReestimated: Double?
  /// Of training alone.
  public var seconds: Double
  public var imagesPerSecond: Double
  /// Share of `seconds` in which the step waited for data, 0…1.
  public var dataWaitShare: Double
  /// At the start of the epoch.
  public var learningRate: Double

  public init(
    epoch: Int, steps: Int, loss: Double, accuracy: Double, valLoss: Double, valAccuracy: Double,
    valLossReestimated: Double? = nil, valAccuracyReestimated: Double? = nil, seconds: Double, imagesPerSecond: Double,
    dataWaitShare: Double, learningRate: Double
  ) {
    self.epoch = epoch
    self.steps = steps
    self.loss = loss
    self.accuracy = accuracy
    self.valLoss = valLoss
    self.valAccuracy = valAccuracy
    self.valLossReestimated = valLossReestimated
    self.valAccuracyReestimated = valAccuracyReestimated
    self.seconds = seconds
    self.imagesPerSecond = imagesPerSecond
    self.dataWaitShare = dataWaitShare
    self.learningRate = learningRate
  }

  enum CodingKeys: String, CodingKey, CaseIterable {
    case epoch, steps, loss, accuracy
    case valLoss = "val_loss"
    case valAccuracy = "val_accuracy"
    case valLossReestimated = "val_loss_reestimated"
    case valAccuracyReestimated = "val_accuracy_reestimated"
    case seconds
    case imagesPerSecond = "images_per_second"
    case dataWaitShare = "data_wait_share"
    case learningRate = "learning_rate"
  }

  /// The values in the order of the coding keys, as text.
  fileprivate var fields: [String] {
    let numbers: [Double?] = [
      loss, accuracy, valLoss, valAccuracy, valLossReestimated, valAccuracyReestimated, seconds, imagesPerSecond,
      dataWaitShare, learningRate,
    ]
    return ["\(epoch)", "\(steps)"] + numbers.map { $0.map { "\($0)" } ?? "" }
  }
}

/// The epochs of a run, kept as `history.json` and `history.csv`.
public struct TrainingHistory: Sendable {
  public private(set) var epochs: [EpochRecord] = []

  public init() {}

  public mutating func append(_ record: EpochRecord) { epochs.append(record) }

  /// One line an epoch under a header.
  public var csv: String {
    let header = EpochRecord.CodingKeys.allCases.map(\.rawValue).joined(separator: ",")
    return ([header] + epochs.map { $0.fields.joined(separator: ",") }).joined(separator: "\n") + "\n"
  }

  /// An array of objects, one an epoch; numbers that JSON cannot hold are texts.
  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return String(decoding: try encoder.encode(epochs), as: UTF8.self) + "\n"
  }

  /// Writes both files, each whole or not at all.
  public func write(to folder: RunDirectory) throws {
    try folder.write(json(), to: "history.json")
    try folder.write(csv, to: "history.csv")
  }
}
