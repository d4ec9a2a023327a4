import Foundation
import Fovea

/// What a run's `config.json` says about its model and data, as far as later commands need it.
public struct RunDescription: Decodable, Sendable {
  /// The model.
  public let model: ModelDescription
  /// The classes in the order of the logits.
  public let classNames: [String]
  /// The folder of photos; nil for the synthetic set.
  public let data: String?
  /// Share of the photos that were validated on, where the folder does not say.
  public let validationSplit: Double
  /// Seed of weights, order and split.
  public let seed: UInt64
  /// Training images used; nil for all.
  public let limit: Int?
  /// Label smoothing of the loss.
  public let labelSmoothing: Float

  /// Reads the folder's `config.json`.
  public init(folder: String) throws {
    let path = folder + "/config.json"
    guard FileManager.default.fileExists(atPath: folder) else { throw RunError.missing(folder: folder) }
    guard let bytes = FileManager.default.contents(atPath: path) else { throw RunError.noConfiguration(path: path) }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      self = try decoder.decode(RunDescription.self, from: bytes)
    } catch {
      throw RunError.badConfiguration(path: path, reason: Self.reason(error))
    }
  }

  private static func reason(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context) -> String {
      context.codingPath.isEmpty ? "" : " in " + context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    switch error {
    case DecodingError.keyNotFound(let key, let context): return "'\(key.stringValue)' is missing\(place(context))"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
      return "a value has the wrong type\(place(context))"
    default: return "it is not valid JSON"
    }
  }

  /// The run's training and validation photos.
  public func openData() throws -> DatasetSplit {
    try .open(data: data, limit: limit, validationSplit: validationSplit, seed: seed)
  }
}

extension DatasetSplit {
  /// The photos that `train` uses for these options: the folder `data`, else the synthetic set.
  public static func open(data: String?, limit: Int?, validationSplit: Double, seed: UInt64) throws -> DatasetSplit {
    guard let data else {
      return SyntheticDataset.split(training: limit ?? 480, validation: max((limit ?? 480) / 4, 2), seed: seed)
    }
    let split = try DatasetSplit.open(directory: data, validationSplit: validationSplit, seed: seed)
    guard let limit else { return split }
    return DatasetSplit(
      training: split.training.limited(to: limit, seed: seed),
      validation: split.validation.limited(to: max(limit / 4, 1), seed: seed))
  }
}

/// Why a folder is no run that can be used.
public enum RunError: Error, Sendable, CustomStringConvertible {
  /// There is nothing of that name.
  case missing(folder: String)
  /// The folder has no `config.json`.
  case noConfiguration(path: String)
  /// Its `config.json` does not say what it should.
  case badConfiguration(path: String, reason: String)

  /// What is wrong and what to do, in one line.
  public var description: String {
    switch self {
    case .missing(let folder):
      "there is no folder \(folder): --run names the folder that a run of `train` has left"
    case .noConfiguration(let path): "there is no \(path): --run names the folder that a run of `train` has left"
    case .badConfiguration(let path, let reason): "\(path) is not the configuration of a run: \(reason)"
    }
  }
}
