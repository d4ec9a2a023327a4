import Foundation

/// Compiled programs in a folder, for drivers that keep none themselves: by device, driver, text and options.
///
/// Files appear whole or not at all, so that processes may share the folder, and carry a checksum: a damaged one is
/// compiled again. What cannot be read or written only costs the time of compiling. What has not been used for a month,
/// such as programs of an earlier version or driver, is removed when another program is kept.
package struct ProgramCache: Sendable {
  private let folder: String

  package init(folder: String) {
    self.folder = folder
  }

  /// Whether compiled programs are worth keeping for a device. Drivers with a cache of their own load from it as fast.
  package static func helps(_ device: DeviceDescription) -> Bool {
    device.kind == .cpu && device.platformName.hasPrefix("Intel")
  }

  /// A program as a driver compiles it.
  struct Key {
    fileprivate let text: String

    init(_ source: KernelSource, options: String, on device: DeviceDescription) {
      text = """
        \(device.identity)
        \(source.name) \(source.text.utf8.count) \(String(source.fingerprint, radix: 16))
        \(options)

        """
    }

    fileprivate var fileName: String { String(fnv1a(text.utf8), radix: 16) + ".bin" }
  }

  /// The binary kept under `key`; nil where there is none, or a damaged one.
  func binary(for key: Key) -> Data? {
    guard let file = FileManager.default.contents(atPath: path(of: key)) else { return nil }
    // The name is short; the key inside decides.
    let header = Data(key.text.utf8)
    let start = header.count + Self.checksumBytes
    guard file.count > start, file.starts(with: header) else { return nil }
    let binary = file.suffix(from: start)
    guard file[header.count..<start].elementsEqual(Self.checksum(of: binary)) else { return nil }
    noteUse(of: path(of: key))
    return Data(binary)
  }

  /// Keeps a binary in the place of what was there.
  func store(_ binary: Data, for key: Key) {
    let file = Data(key.text.utf8) + Self.checksum(of: binary) + binary
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    removeUnused()
    // Atomic: to a file of its own name first, then renamed.
    try? file.write(to: URL(fileURLWithPath: path(of: key)), options: .atomic)
  }

  private static let day = 86400.0
  static let lifetime = 30 * day

  /// A file's date of change tells when it was used last, to the day.
  private func noteUse(of path: String) {
    guard Self.age(of: path) > Self.day else { return }
    try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path)
  }

  private func removeUnused() {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where Self.age(of: folder + "/" + name) > Self.lifetime {
      try? FileManager.default.removeItem(atPath: folder + "/" + name)
    }
  }

  /// Seconds since a plain file was changed; 0 for anything else.
  private static func age(of path: String) -> Double {
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: path),
      attributes[.type] as? FileAttributeType == .typeRegular, let date = attributes[.modificationDate] as? Date
    else { return 0 }
    return -date.timeIntervalSinceNow
  }

  /// Forgets what is kept under `key`, because the driver does not take it.
  func remove(_ key: Key) {
    try? FileManager.default.removeItem(atPath: path(of: key))
  }

  func path(of key: Key) -> String { folder + "/" + key.fileName }

  private static let checksumBytes = 8

  private static func checksum(of binary: Data) -> Data {
    withUnsafeBytes(of: fnv1a(binary).littleEndian) { Data($0) }
  }
}
