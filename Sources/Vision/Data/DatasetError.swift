/// Why a data set cannot be used.
public enum DatasetError: Error, Equatable, Sendable, CustomStringConvertible {
  /// There is no such folder.
  case missingFolder(path: String)
  /// The path is that of a file.
  case notAFolder(path: String)
  /// The folder, or one below it, could not be listed.
  case unreadableFolder(path: String, reason: String)
  /// The folder has no sub-folders, hence no classes.
  case noClasses(path: String)
  /// The folder has a single sub-folder: there is nothing to tell apart.
  case oneClass(path: String, name: String)
  /// A class has no files.
  case emptyClass(path: String)
  /// `train/` and `validation/` hold different classes.
  case differentClasses(training: [String], validation: [String])
  /// The validation split leaves one side without pictures.
  case emptySplit(count: Int, validationSplit: Double)
  /// A picture could not be decoded, and bad pictures are not to be skipped.
  case badImage(SkippedFile)
  /// Not one picture could be decoded; `first` is the first tried.
  case noReadableImage(count: Int, first: SkippedFile)

  /// One line.
  public var description: String {
    switch self {
    case .missingFolder(let path): "there is no folder \(path.isEmpty ? "''" : path)"
    case .notAFolder(let path): "\(path) is a file; a data set is a folder with a sub-folder for each class"
    case .unreadableFolder(let path, let reason): "folder \(path) cannot be read: \(reason)"
    case .noClasses(let path): "\(path) has no sub-folders; a data set has one for each class"
    case .oneClass(let path, let name): "\(path) has only one class, \(name); at least two are needed"
    case .emptyClass(let path): "class folder \(path) has no files"
    case .differentClasses(let training, let validation):
      "train/ has the classes \(training.joined(separator: ", ")), "
        + "validation/ has \(validation.joined(separator: ", "))"
    case .emptySplit(let count, let split):
      "a validation split of \(split) of \(count) pictures leaves nothing to train on or nothing to validate on"
    case .badImage(let file): "\(file.path): \(file.reason)"
    case .noReadableImage(let count, let first):
      "none of \(count) pictures could be decoded; the first, \(first.path): \(first.reason)"
    }
  }
}

/// A picture that could not be decoded.
public struct SkippedFile: Sendable, Equatable, Codable {
  /// Its position in the data set.
  public let index: Int
  /// Its name in the data set.
  public let path: String
  /// One line.
  public let reason: String

  /// A record of a bad picture.
  public init(index: Int, path: String, reason: String) {
    self.index = index
    self.path = path
    self.reason = reason
  }
}

extension [SkippedFile] {
  /// `path,reason` lines under a header; a header alone when there is none.
  public var csv: String {
    (["path,reason"] + map { csvField($0.path) + "," + csvField($0.reason) }).joined(separator: "\n") + "\n"
  }
}

/// `text` as a field of a CSV line (RFC 4180): in quotes where it needs them.
package func csvField(_ text: String) -> String {
  guard text.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return text }
  return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
}
