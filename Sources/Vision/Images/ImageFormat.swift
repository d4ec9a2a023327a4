/// The file formats that can be decoded, told apart by their first bytes and never by a file's name.
public enum ImageFormat: String, Sendable, CaseIterable {
  /// Baseline and progressive, in grey, YCbCr or CMYK.
  case jpeg = "JPEG"
  /// Any colour type and depth.
  case png = "PNG"
  /// Windows bitmaps.
  case bmp = "BMP"
  /// Its first frame.
  case gif = "GIF"
  /// Lossy and lossless.
  case webp = "WebP"

  /// Nil when the bytes begin like none of them.
  public init?(detecting bytes: [UInt8]) {
    guard let format = bytes.withUnsafeBytes({ ImageFormat(detecting: $0) }) else { return nil }
    self = format
  }

  init?(detecting bytes: UnsafeRawBufferPointer) {
    let reader = ByteReader(bytes)
    if reader.holds([0xFF, 0xD8, 0xFF], at: 0) {
      self = .jpeg
    } else if reader.holds([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A], at: 0) {
      self = .png
    } else if reader.holds("GIF87a", at: 0) || reader.holds("GIF89a", at: 0) {
      self = .gif
    } else if reader.holds("RIFF", at: 0), reader.holds("WEBP", at: 8) {
      self = .webp
    } else if reader.holds("BM", at: 0) {
      self = .bmp
    } else {
      return nil
    }
  }
}
