import Foundation
import Fovea

/// Photos by their paths, without classes.
public struct PhotoList: ImageDataset {
  /// No classes.
  public let classNames: [String] = []
  private let photos: [(path: String, isNamed: Bool)]

  /// Photos named one by one and all files of the folders named, in that order.
  ///
  /// - Parameter arguments: paths of files and folders; `-` stands for a list on standard input, one path a line, or
  ///   separated by NUL as `find -print0` writes them.
  public init(_ arguments: [String]) throws {
    photos = try arguments.flatMap { argument -> [(path: String, isNamed: Bool)] in
      try (argument == "-" ? Self.standardInput() : [argument]).flatMap { path -> [(path: String, isNamed: Bool)] in
        guard FolderDataset.isFolder(path) else { return [(path, true)] }
        let folder = path.hasSuffix("/") ? path : path + "/"
        return try FolderDataset.files(below: path).map { (folder + $0, false) }
      }
    }
  }

  private static func standardInput() -> [String] {
    let bytes = FileHandle.standardInput.readDataToEndOfFile()
    let text = String(decoding: bytes, as: UTF8.self)
    let endsWithNUL = text.contains("\0")
    return text.split { endsWithNUL ? $0 == "\0" : $0.isNewline }.map(String.init)
  }

  /// Where photos were looked for, for a message: "in photos/, more/".
  public static func place(_ arguments: [String]) -> String {
    arguments == ["-"] ? "on standard input" : "in \(arguments.joined(separator: ", "))"
  }

  /// Photos, decodable or not.
  public var count: Int { photos.count }
  /// Always 0.
  public func label(at index: Int) -> Int { 0 }
  /// The path as it was given, or the folder's with the file's below it.
  public func name(at index: Int) -> String { photos[index].path }
  /// Whether the photo was named itself, and not found in a folder.
  public func isNamed(at index: Int) -> Bool { photos[index].isNamed }

  /// The photo as it is.
  ///
  /// - Throws: `ImageError`.
  public func image(at index: Int) throws -> RGBImage { try ImageCodec.decode(contentsOfFile: photos[index].path) }

  /// The photo, decoded and squashed.
  ///
  /// - Throws: `ImageError`.
  public func pixels(at index: Int, height: Int, width: Int) throws -> [UInt8] {
    squash(try image(at: index), height: height, width: width)
  }
}
