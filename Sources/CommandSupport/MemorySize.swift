import ArgumentParser
import Foundation
import Fovea

/// An amount of memory from a text such as `3G`, `800M` or `1.5GiB`.
public struct MemorySize: Equatable, Sendable {
  /// The amount, at least 1.
  public let bytes: Int

  /// So many bytes.
  public init(bytes: Int) {
    self.bytes = bytes
  }

  /// Reads a number and K, M, G or T, powers of 1024, also as KiB and so on.
  ///
  /// - Throws: `ValidationError` for anything else.
  public init(_ text: String) throws {
    let units = ["k": 1, "m": 2, "g": 3, "t": 4]
    let lower = text.lowercased()
    let number = lower.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    var unit = lower.dropFirst(number.count)
    if unit.count == 3, unit.hasSuffix("ib") { unit = unit.prefix(1) }
    guard let first = number.first, first != ".", number.last != ".", let value = Double(number),
      let power = units[String(unit)]
    else {
      throw ValidationError("'\(text)' is no amount of memory: give a number and K, M, G or T, such as 3G or 800M")
    }
    let bytes = value * pow(1024, Double(power))
    guard bytes >= 1, bytes < 0x1p62 else {
      throw ValidationError("'\(text)' is too \(bytes < 1 ? "little" : "much") memory")
    }
    self.bytes = Int(bytes)
  }
}
