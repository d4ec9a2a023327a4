import NeuralNetwork

/// A data set's two parts.
public struct DatasetSplit: Sendable {
  /// To learn from.
  public let training: any ImageDataset
  /// To measure with.
  public let validation: any ImageDataset

  /// Two data sets with the same classes.
  public init(training: any ImageDataset, validation: any ImageDataset) {
    self.training = training
    self.validation = validation
  }

  /// Opens `directory`: with sub-folders `train` and `validation` these two, each with a sub-folder per class; otherwise
  /// the fraction `validationSplit` of its pictures, drawn at random from `seed`, is set apart for validation.
  ///
  /// - Throws: `DatasetError`.
  public static func open(directory: String, validationSplit: Double = 0.2, seed: UInt64) throws -> DatasetSplit {
    let parts = ["train", "validation"].map { "\(directory)/\($0)" }
    if parts.allSatisfy(FolderDataset.isFolder) {
      let (training, validation) = (try FolderDataset(parts[0]), try FolderDataset(parts[1]))
      guard training.classNames == validation.classNames else {
        throw DatasetError.differentClasses(training: training.classNames, validation: validation.classNames)
      }
      return DatasetSplit(training: training, validation: validation)
    }
    return try FolderDataset(directory).split(validationSplit: validationSplit, seed: seed)
  }
}

extension ImageDataset {
  /// Sets the fraction `validationSplit` of the pictures apart, drawn at random from `seed`.
  ///
  /// - Throws: `DatasetError.emptySplit` when either part would be empty.
  public func split(validationSplit: Double, seed: UInt64) throws -> DatasetSplit {
    let held = validationSplit.isFinite ? Int((Double(count) * min(max(validationSplit, 0), 1)).rounded()) : 0
    guard held > 0, held < count else {
      throw DatasetError.emptySplit(count: count, validationSplit: validationSplit)
    }
    var random = RandomNumbers(seed, streams.split)
    let order = random.permutation(count)
    return DatasetSplit(
      training: SubsetDataset(self, indices: order[held...].sorted()),
      validation: SubsetDataset(self, indices: order[..<held].sorted()))
  }
}
