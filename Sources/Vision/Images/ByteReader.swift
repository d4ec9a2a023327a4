/// Numbers at given offsets of a file; nil beyond its end, so that no header can make a decoder read outside.
struct ByteReader {
  let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
  }

  var count: Int { bytes.count }

  func byte(at offset: Int) -> Int? {
    guard offset >= 0, offset < bytes.count else { return nil }
    return Int(bytes[offset])
  }

  /// `size` bytes (up to 4) as an unsigned number.
  func integer(at offset: Int, size: Int, bigEndian: Bool = false) -> Int? {
    guard offset >= 0, offset <= bytes.count - size else { return nil }
    var value = 0
    for i in 0..<size {
      value = value << 8 | Int(bytes[bigEndian ? offset + i : offset + size - 1 - i])
    }
    return value
  }

  func signed32(at offset: Int) -> Int? {
    integer(at: offset, size: 4).map { Int(Int32(truncatingIfNeeded: $0)) }
  }

  func holds(_ expected: some Collection<UInt8>, at offset: Int) -> Bool {
    guard offset >= 0, offset <= bytes.count - expected.count else { return false }
    return bytes[offset..<offset + expected.count].elementsEqual(expected)
  }

  func holds(_ expected: String, at offset: Int) -> Bool {
    holds(Array(expected.utf8), at: offset)
  }

  /// Traps when out of range.
  func slice(_ range: Range<Int>) -> ByteReader {
    ByteReader(UnsafeRawBufferPointer(rebasing: bytes[range]))
  }
}
