import Foundation

/// Image files in one sub-folder per class, both sorted by name.
///
/// What a file is, its content decides when it is read, not its ending. Hidden files, `Thumbs.db` and `desktop.ini` are
/// passed over. Files deeper inside a class's folder belong to that class.
public struct FolderDataset: ImageDataset {
  /// Absolute or relative as given.
  public let directory: String
  /// The sub-folders, sorted.
  public let classNames: [String]
  private let root: String  // `directory` as an absolute path, links resolved
  private let files: [(path: String, label: Int)]  // path below `directory`

  /// Lists the folder; no file is opened.
  ///
  /// - Throws: `DatasetError`: missing or unreadable folder, no class, one class only, a class without files.
  public init(_ directory: String) throws {
    guard FolderDataset.isFolder(directory) else {
      throw access(directory, F_OK) == 0
        ? DatasetError.notAFolder(path: directory) : DatasetError.missingFolder(path: directory)
    }
    classNames = try FolderDataset.visibleNames(in: directory).filter { FolderDataset.isFolder("\(directory)/\($0)") }
    guard let first = classNames.first else { throw DatasetError.noClasses(path: directory) }
    guard classNames.count > 1 else { throw DatasetError.oneClass(path: directory, name: first) }
    self.directory = directory
    root = URL(fileURLWithPath: directory).resolvingSymlinksInPath().path
    files = try classNames.enumerated().flatMap { label, name in
      let paths = try FolderDataset.files(below: "\(directory)/\(name)")
      guard !paths.isEmpty else { throw DatasetError.emptyClass(path: "\(directory)/\(name)") }
      return paths.map { ("\(name)/\($0)", label) }
    }
  }

  /// Files, decodable or not.
  public var count: Int { files.count }
  /// Index into `classNames`.
  public func label(at index: Int) -> Int { files[index].label }
  /// The file's path below `directory`.
  public func name(at index: Int) -> String { files[index].path }

  /// The file's picture, decoded.
  ///
  /// - Throws: `ImageError`.
  public func image(at index: Int) throws -> RGBImage {
    try ImageCodec.decode(contentsOfFile: "\(directory)/\(files[index].path)")
  }

  /// The file's absolute path, its size and when it was last changed, in nanoseconds.
  public func identity(at index: Int) -> String {
    var status = stat()
    guard stat("\(directory)/\(files[index].path)", &status) == 0 else { return "\(root)/\(files[index].path) missing" }
    #if os(Linux)
      let time = status.st_mtim
    #else
      let time = status.st_mtimespec
    #endif
    return "\(root)/\(files[index].path) \(status.st_size) \(Int(time.tv_sec) * 1_000_000_000 + Int(time.tv_nsec))"
  }

  package static func isFolder(_ path: String) -> Bool { FileKind(of: path) == .folder }

  /// The paths of all files below a folder, relative to it, folder by folder and sorted. Hidden files, `Thumbs.db`,
  /// `desktop.ini` and links to folders are passed over.
  ///
  /// - Throws: `DatasetError.unreadableFolder`.
  package static func files(below folder: String) throws -> [String] {
    try visibleNames(in: folder).flatMap { name -> [String] in
      let path = "\(folder)/\(name)"
      switch FileKind(of: path) {
      case .file: return [name]
      // A link to a folder above would never end.
      case .folder where !isLink(path): return try files(below: path).map { "\(name)/\($0)" }
      default: return []
      }
    }
  }

  private static func visibleNames(in folder: String) throws -> [String] {
    guard let stream = opendir(folder) else {
      throw DatasetError.unreadableFolder(path: folder, reason: String(cString: strerror(errno)))
    }
    closedir(stream)
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder)
        .filter { !$0.hasPrefix(".") && $0 != "Thumbs.db" && $0 != "desktop.ini" }
        .sorted()
    } catch {
      throw DatasetError.unreadableFolder(path: folder, reason: error.localizedDescription)
    }
  }

  private static func isLink(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
  }
}

/// What a path leads to, links followed. A dangling link counts as a file: reading it gives the reason for the report.
private enum FileKind {
  case file, folder, other

  init(of path: String) {
    var status = stat()
    if stat(path, &status) == 0 {
      switch status.st_mode & S_IFMT {
      case S_IFREG: self = .file
      case S_IFDIR: self = .folder
      default: self = .other
      }
    } else {
      self = lstat(path, &status) == 0 ? .file : .other
    }
  }
}
