import Foundation

/// What one epoch achieved, and how fast. A score that is not known, such as that of a validation set which is not
/// there, is NaN here, `null` in JSON and an empty cell in CSV.
public struct EpochRecord: Codable, Sendable, Equatable {
  /// The epoch's number, from 1.
  public var epoch: Int
  /// Steps taken in the epoch.
  public var steps: Int
  /// Mean training loss over the images.
  public var loss: Double
  /// Share of the training images that were classified correctly.
  public var accuracy: Double
  /// Mean loss over the validation images, with the moving statistics.
  public var valLoss: Double
  /// Share of the validation images that were classified correctly, with the moving statistics.
  public var valAccuracy: Double
  /// As ``valLoss``, with statistics estimated afresh; nil where that was not done.
  public var valLossReestimated: Double?
  /// As ``valAccuracy``, with statistics estimated afresh; nil where that was not done.
  public var valAccuracyReestimated: Double?
  /// Duration of the epoch's training, without validation.
  public var seconds: Double
  /// Training images per second.
  public var imagesPerSecond: Double
  /// Share of the time spent waiting for the next batch, 0…1.
  public var dataWaitShare: Double
  /// The learning rate at the start of the epoch.
  public var learningRate: Double

  /// The better of the two validation accuracies: early in training the moving statistics mislead. Not below 0.
  public var bestValAccuracy: Double {
    // What is NaN loses against any number.
    [valAccuracy, valAccuracyReestimated ?? 0].reduce(0) { $1 > $0 ? $1 : $0 }
  }

  /// The lower of the two validation losses; infinite when neither is a number.
  public var bestValLoss: Double {
    [valLoss, valLossReestimated ?? .infinity].reduce(.infinity) { $1 < $0 ? $1 : $0 }
  }

  /// Creates a record.
  public init(
    epoch: Int, steps: Int, loss: Double, accuracy: Double, valLoss: Double = .nan, valAccuracy: Double = .nan,
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

  /// The columns, in the order of the CSV file.
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

  /// Reads a record; a score that is `null` or missing is NaN.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func number(_ key: CodingKeys) throws -> Double { try values.decodeIfPresent(Double.self, forKey: key) ?? .nan }
    self.init(
      epoch: try values.decode(Int.self, forKey: .epoch), steps: try values.decode(Int.self, forKey: .steps),
      loss: try number(.loss), accuracy: try number(.accuracy),
      valLoss: try number(.valLoss), valAccuracy: try number(.valAccuracy),
      valLossReestimated: try values.decodeIfPresent(Double.self, forKey: .valLossReestimated),
      valAccuracyReestimated: try values.decodeIfPresent(Double.self, forKey: .valAccuracyReestimated),
      seconds: try number(.seconds), imagesPerSecond: try number(.imagesPerSecond),
      dataWaitShare: try number(.dataWaitShare), learningRate: try number(.learningRate))
  }

  /// Writes a record; a score that is not finite becomes `null`.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    for key in CodingKeys.allCases {
      switch key {
      case .epoch: try values.encode(epoch, forKey: key)
      case .steps: try values.encode(steps, forKey: key)
      default:
        // JSON has no NaN and no infinity.
        if let number = number(key) {
          try values.encode(number, forKey: key)
        } else {
          try values.encodeNil(forKey: key)
        }
      }
    }
  }

  /// The cells of the CSV file. Swift prints a number with the fewest digits that read back as the same number.
  var cells: [String] {
    CodingKeys.allCases.map { key in
      switch key {
      case .epoch: String(epoch)
      case .steps: String(steps)
      default: number(key).map { "\($0)" } ?? ""
      }
    }
  }

  /// The value of a column of fractions where it is finite.
  private func number(_ key: CodingKeys) -> Double? {
    let value: Double? =
      switch key {
      case .epoch: Double(epoch)
      case .steps: Double(steps)
      case .loss: loss
      case .accuracy: accuracy
      case .valLoss: valLoss
      case .valAccuracy: valAccuracy
      case .valLossReestimated: valLossReestimated
      case .valAccuracyReestimated: valAccuracyReestimated
      case .seconds: seconds
      case .imagesPerSecond: imagesPerSecond
      case .dataWaitShare: dataWaitShare
      case .learningRate: learningRate
      }
    return value.flatMap { $0.isFinite ? $0 : nil }
  }
}

/// The epochs of a run; `history.json` and `history.csv`.
public struct TrainingHistory: Sendable, Codable, Equatable {
  /// The finished epochs, oldest first.
  public private(set) var epochs: [EpochRecord] = []

  /// Creates an empty history.
  public init() {}

  /// The epoch whose weights are the run's best: that of the highest ``EpochRecord/bestValAccuracy``, the first of several.
  /// Nil before the first epoch has ended.
  public var best: EpochRecord? { epochs.max { $0.bestValAccuracy < $1.bestValAccuracy } }

  /// Adds a finished epoch.
  public mutating func append(_ record: EpochRecord) {
    epochs.append(record)
  }

  /// Writes `history.json`, an array with one object a line, and `history.csv` with the same columns.
  public func write(to directory: RunDirectory) throws {
    try directory.write(json(), to: "history.json")
    try directory.write(csv, to: "history.csv")
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let lines = try epochs.map { "  " + String(decoding: try encoder.encode($0), as: UTF8.self) }
    return lines.isEmpty ? "[]\n" : "[\n" + lines.joined(separator: ",\n") + "\n]\n"
  }

  var csv: String {
    let header = EpochRecord.CodingKeys.allCases.map(\.rawValue)
    return ([header] + epochs.map(\.cells)).map { $0.joined(separator: ",") + "\n" }.joined()
  }
}
