import Foundation

/// Which device to open, from a text such as `auto`, `gpu`, `cpu`, `1:0`, `gpu:1` or part of a name.
public enum DeviceSelection {
  /// Picks the device that `text` asks for out of `devices`.
  ///
  /// - `auto`: the first GPU, else the first device.
  /// - `gpu`, `cpu`, `gpu:N`, `cpu:N`: the N-th device of that kind over all platforms. Never another kind.
  /// - `P:D`: platform P, device D, as `fovea devices` prints them.
  /// - anything else: the first device whose name, vendor or platform contains the text, ignoring case.
  ///
  /// Throws `OpenCLError.noPlatform` when `devices` is empty and `noDevice` when nothing matches.
  public static func pick(_ text: String, from devices: [DeviceDescription]) throws -> DeviceDescription {
    guard !devices.isEmpty else { throw OpenCLError.noPlatform }
    guard let index = index(of: text, in: devices.map(Candidate.init)) else {
      throw OpenCLError.noDevice(selection: text, available: devices.map(\.summary))
    }
    return devices[index]
  }

  /// Picks out of all devices that are there; without a text the environment's `FOVEA_DEVICE` decides, then `auto`.
  public static func pick(
    _ text: String?, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> DeviceDescription {
    try pick(text ?? environment["FOVEA_DEVICE"] ?? "auto", from: DeviceDescription.all())
  }

  /// What selection looks at, apart from OpenCL so that tests can make their own.
  struct Candidate {
    var platformIndex: Int
    var deviceIndex: Int
    var kind: DeviceKind
    var names: [String]
  }

  static func index(of text: String, in candidates: [Candidate]) -> Int? {
    let wanted = text.trimmingCharacters(in: .whitespaces).lowercased()
    if wanted.isEmpty { return nil }
    if wanted == "auto" { return candidates.firstIndex { $0.kind == .gpu } ?? candidates.indices.first }
    let parts = wanted.split(separator: ":", omittingEmptySubsequences: false)
    if let kind = DeviceKind(rawValue: String(parts[0])), parts.count <= 2 {
      guard let ordinal = parts.count == 2 ? Int(parts[1]) : 0, ordinal >= 0 else { return nil }
      return candidates.indices.filter { candidates[$0].kind == kind }.dropFirst(ordinal).first
    }
    if parts.count == 2, let platform = Int(parts[0]), let device = Int(parts[1]) {
      return candidates.firstIndex { $0.platformIndex == platform && $0.deviceIndex == device }
    }
    return candidates.firstIndex { $0.names.contains { $0.lowercased().contains(wanted) } }
  }
}

extension DeviceSelection.Candidate {
  init(_ device: DeviceDescription) {
    self.init(
      platformIndex: device.platformIndex, deviceIndex: device.deviceIndex, kind: device.kind,
      names: [device.name, device.vendor, device.platformName])
  }
}
