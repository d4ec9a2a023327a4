/// Why bytes could not be turned into a picture, or a picture into bytes.
public enum ImageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file could not be read.
  case unreadable(reason: String)
  /// There are no bytes at all.
  case empty
  /// The bytes are none of the known formats.
  case unknownFormat
  /// The header announces more pixels than are accepted.
  case tooLarge(format: ImageFormat, width: Int, height: Int)
  /// The file has more bytes than are accepted.
  case fileTooLarge(bytes: Int)
  /// The format is known, this variant of it is not supported.
  case unsupported(format: ImageFormat, reason: String)
  /// The data are cut short, inconsistent or otherwise not a whole picture.
  case damaged(format: ImageFormat, reason: String)
  /// Encoding failed.
  case notEncoded(format: ImageFormat, reason: String)

  /// One line.
  public var description: String {
    switch self {
    case .unreadable(let reason): "cannot be read: \(reason)"
    case .empty: "the file is empty"
    case .unknownFormat: "not a JPEG, PNG, BMP, GIF or WebP file"
    case .tooLarge(let format, let width, let height):
      "\(format.rawValue): \(width)×\(height) is more than the accepted \(ImageCodec.maximumPixels) pixels "
        + "or \(ImageCodec.maximumSide) on a side"
    case .fileTooLarge(let bytes): "\(bytes) bytes are more than the accepted \(ImageCodec.maximumFileBytes)"
    case .unsupported(let format, let reason): "\(format.rawValue): \(reason)"
    case .damaged(let format, let reason): "damaged \(format.rawValue): \(reason)"
    case .notEncoded(let format, let reason): "\(format.rawValue) not written: \(reason)"
    }
  }
}
