import CImageCodecs
import Foundation

/// Pictures from and to the bytes of image files.
public enum ImageCodec {
  /// Pictures with more pixels are refused before anything is allocated for them.
  public static let maximumPixels = 1 << 26
  /// As are wider or higher ones.
  public static let maximumSide = 65_535
  /// And longer files are not read.
  public static let maximumFileBytes = 1 << 28

  /// Decodes a JPEG, PNG, BMP, GIF (first frame) or WebP (first frame) file held in memory.
  ///
  /// Grey, palette and CMYK pictures become RGB, 16-bit channels keep their high byte, transparency is dropped (not
  /// composited), and the orientation noted in EXIF is applied. Colour profiles are not.
  ///
  /// - Throws: `ImageError`. A JPEG with missing or undecodable picture data is an error; one that libjpeg merely finds
  ///   odd (extraneous bytes before a marker) is not.
  public static func decode(_ bytes: [UInt8]) throws -> RGBImage {
    try bytes.withUnsafeBytes { try decode($0) }
  }

  /// Decodes a file, told by its content.
  ///
  /// - Throws: `ImageError`, also when it cannot be read.
  public static func decode(contentsOfFile path: String) throws -> RGBImage {
    try decode(readFile(path))
  }

  /// Encodes without loss.
  ///
  /// - Throws: `ImageError.notEncoded`.
  public static func encodePNG(_ image: RGBImage) throws -> [UInt8] {
    try encode(image, as: .png) { pixels, bytes, count, message in
      fovea_png_encode(pixels, UInt32(image.width), UInt32(image.height), bytes, count, message)
    }
  }

  /// Encodes with 4:2:0 chroma; `quality` from 1 to 100.
  ///
  /// - Throws: `ImageError.notEncoded`, for one when a side is longer than JPEG's 65,500.
  public static func encodeJPEG(_ image: RGBImage, quality: Int = 90) throws -> [UInt8] {
    precondition((1...100).contains(quality), "encodeJPEG: quality \(quality) is not between 1 and 100")
    return try encode(image, as: .jpeg) { pixels, bytes, count, message in
      fovea_jpeg_encode(pixels, UInt32(image.width), UInt32(image.height), Int32(quality), bytes, count, message)
    }
  }

  static func decode(_ bytes: UnsafeRawBufferPointer) throws -> RGBImage {
    guard bytes.count > 0 else { throw ImageError.empty }
    guard bytes.count <= maximumFileBytes else { throw ImageError.fileTooLarge(bytes: bytes.count) }
    guard let format = ImageFormat(detecting: bytes) else { throw ImageError.unknownFormat }
    let image =
      switch format {
      case .jpeg: try decode(bytes, as: .jpeg, size: fovea_jpeg_size, pixels: fovea_jpeg_decode)
      case .png: try decode(bytes, as: .png, size: fovea_png_size, pixels: fovea_png_decode)
      case .webp: try decode(bytes, as: .webp, size: fovea_webp_size, pixels: fovea_webp_decode)
      case .bmp: try BMPDecoder(ByteReader(bytes)).decode()
      case .gif: try GIFDecoder(ByteReader(bytes)).decode()
      }
    return ImageOrientation(readingEXIFOf: ByteReader(bytes), format: format).upright(image)
  }

  /// Every decoder calls this between the header and the first large allocation.
  static func checkSize(_ format: ImageFormat, width: Int, height: Int) throws {
    guard width > 0, height > 0 else { throw ImageError.damaged(format: format, reason: "\(width)×\(height) pixels") }
    guard width <= maximumSide, height <= maximumSide, width * height <= maximumPixels else {
      throw ImageError.tooLarge(format: format, width: width, height: height)
    }
  }
}

// MARK: - The C libraries

extension ImageCodec {
  private typealias Message = UnsafeMutablePointer<CChar>
  private typealias SizeFunction =
    (UnsafePointer<UInt8>, Int, UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UInt32>, Message) -> Int32
  private typealias PixelFunction =
    (UnsafePointer<UInt8>, Int, UInt32, UInt32, UnsafeMutablePointer<UInt8>, Message) -> Int32

  private static func decode(
    _ bytes: UnsafeRawBufferPointer, as format: ImageFormat, size: SizeFunction, pixels: PixelFunction
  ) throws -> RGBImage {
    let base = bytes.bindMemory(to: UInt8.self).baseAddress!
    var width: UInt32 = 0
    var height: UInt32 = 0
    try withMessage(failure: { .damaged(format: format, reason: $0) }) { size(base, bytes.count, &width, &height, $0) }
    try checkSize(format, width: Int(width), height: Int(height))
    return try RGBImage(width: Int(width), height: Int(height)) { target in
      try withMessage(failure: { .damaged(format: format, reason: $0) }) {
        pixels(base, bytes.count, width, height, target.baseAddress!, $0)
      }
    }
  }

  private static func encode(
    _ image: RGBImage, as format: ImageFormat,
    with function: (
      UnsafePointer<UInt8>, UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>, UnsafeMutablePointer<Int>, Message
    ) -> Int32
  ) throws -> [UInt8] {
    var bytes: UnsafeMutablePointer<UInt8>?
    var count = 0
    defer { free(bytes) }
    try withMessage(failure: { .notEncoded(format: format, reason: $0) }) { message in
      image.pixels.withUnsafeBufferPointer { function($0.baseAddress!, &bytes, &count, message) }
    }
    return Array(UnsafeBufferPointer(start: bytes, count: count))
  }

  private static func withMessage(failure: (String) -> ImageError, _ call: (Message) -> Int32) throws {
    try withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(FOVEA_MESSAGE_LENGTH)) { message in
      message.initialize(repeating: 0)
      guard call(message.baseAddress!) != 0 else { return }
      throw failure(String(cString: message.baseAddress!))
    }
  }
}

extension ImageCodec {
  /// A regular file's bytes. Straight from the system, for its errors are one line and name the cause.
  private static func readFile(_ path: String) throws -> [UInt8] {
    // Without O_NONBLOCK a named pipe in a data set would hang the run.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw unreadable() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw unreadable() }
    guard status.st_mode & S_IFMT == S_IFREG else { throw ImageError.unreadable(reason: "not a regular file") }
    let size = Int(status.st_size)
    guard size <= maximumFileBytes else { throw ImageError.fileTooLarge(bytes: size) }
    return try [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let got = read(descriptor, buffer.baseAddress! + count, size - count)
        if got < 0, errno == EINTR { continue }
        guard got >= 0 else { throw unreadable() }
        if got == 0 { break }
        count += got
      }
    }
  }

  private static func unreadable() -> ImageError { .unreadable(reason: String(cString: strerror(errno))) }
}
