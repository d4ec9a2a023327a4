/// The cyclic redundancy check of the Castagnoli polynomial (RFC 3720, B.4), which guards records of event files.
enum CRC32C {
  /// The remainder for each byte, with the polynomial 0x1EDC6F41 reflected.
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { rest, _ in rest & 1 == 1 ? rest >> 1 ^ 0x82F6_3B78 : rest >> 1 }
  }

  static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(~0) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
  }

  /// As it stands in a record: rotated and shifted by a constant, because the check of data that holds checks of its own
  /// is weak (TensorFlow's `crc32c.h`).
  static func masked(_ bytes: some Sequence<UInt8>) -> UInt32 {
    let checksum = checksum(bytes)
    return (checksum >> 15 | checksum << 17) &+ 0xA282_EAD8
  }
}
