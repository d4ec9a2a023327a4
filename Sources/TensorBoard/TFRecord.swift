/// The framing of event files.
enum TFRecord {
  /// `data` as a record: its length in 8 bytes, the length's check in 4, the data, its check in 4; all little-endian.
  static func frame(_ data: [UInt8]) -> [UInt8] {
    let length = bytes(UInt64(data.count))
    return length + bytes(CRC32C.masked(length)) + data + bytes(CRC32C.masked(data))
  }

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian, Array.init)
  }
}
