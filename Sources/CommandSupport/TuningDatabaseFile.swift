import Fovea

extension TuningDatabase {
  /// Writes the file, whole or not at all.
  package func write(for device: DeviceDescription, in folder: String = UserCache.folder()) throws {
    try UserCache.write(jsonText(self) + "\n", to: Self.name(for: device), in: folder)
  }
}
