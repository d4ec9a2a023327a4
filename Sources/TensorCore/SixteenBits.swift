// Conversions between single precision and the two 16-bit types, as the kernels do them on a device: to the nearest,
// ties to even. Written out because `Float16` does not exist on every host.

extension Float {
  /// The value of a 16-bit IEEE number, exactly.
  package init(half: UInt16) {
    let sign = UInt32(half & 0x8000) << 16
    let magnitude = UInt32(half & 0x7FFF) << 13
    if magnitude >= 0x7C00 << 13 {
      self.init(bitPattern: sign | 0x7F80_0000 | magnitude)
      return
    }
    // 2¹¹² moves the exponent's bias from 15 to 127, and makes normal numbers of the subnormal ones.
    let value = Float(bitPattern: magnitude) * Float(bitPattern: 0x7780_0000)
    self.init(bitPattern: sign | value.bitPattern)
  }

  /// The value of a bfloat16, the upper half of a single-precision number, exactly.
  package init(bfloat: UInt16) {
    self.init(bitPattern: UInt32(bfloat) << 16)
  }

  /// The nearest 16-bit IEEE number.
  package var half: UInt16 {
    let sign = UInt16(truncatingIfNeeded: bitPattern >> 16) & 0x8000
    if isNaN { return sign | 0x7E00 }
    if magnitude >= 65520 { return sign | 0x7C00 }
    if magnitude < 0x1p-14 {
      // Subnormal: a whole number of 2⁻²⁴, or the smallest normal number after rounding.
      return sign | UInt16((magnitude * 0x1p24).rounded(.toNearestOrEven))
    }
    let bits = magnitude.bitPattern
    // A carry out of the fraction goes into the exponent, as it should.
    let rounded = bits + 0xFFF + ((bits >> 13) & 1)
    return sign | UInt16(truncatingIfNeeded: (rounded - 112 << 23) >> 13)
  }

  /// The nearest bfloat16.
  package var bfloat: UInt16 {
    if isNaN { return UInt16(truncatingIfNeeded: (bitPattern | 0x40_0000) >> 16) }
    return UInt16(truncatingIfNeeded: (bitPattern + 0x7FFF + ((bitPattern >> 16) & 1)) >> 16)
  }
}

extension DType {
  /// The bits of the nearest number of a 16-bit type.
  func bits(of value: Float) -> UInt16 { self == .float16 ? value.half : value.bfloat }

  /// The value of a 16-bit number of this type.
  func value(of bits: UInt16) -> Float { self == .float16 ? Float(half: bits) : Float(bfloat: bits) }

  /// `value` as this type holds it.
  package func rounded(_ value: Float) -> Float {
    switch self {
    case .float16, .bfloat16: self.value(of: bits(of: value))
    case .float32, .uint8, .int32: value
    }
  }
}
