import Foundation

/// What the system can still give.
enum SystemResources {
  /// Bytes of memory that can be had without swapping, within the limits of the process's control group; nil where the
  /// system does not say.
  static func availableMemory() -> Int? {
    #if os(Linux)
      let free = kibibytes("MemAvailable", in: text("/proc/meminfo")).map { $0 * 1024 }
      return [free, controlGroupRest()].compactMap { $0 }.min()
    #else
      return Int(ProcessInfo.processInfo.physicalMemory)
    #endif
  }

  /// Bytes that this user can still write to the disk of `folder`; nil where the system does not say.
  static func availableDisk(_ folder: String) -> Int? {
    var status = statvfs()
    guard statvfs(folder, &status) == 0 else { return nil }
    return Int(status.f_bavail) * Int(status.f_frsize)
  }

  /// What the control group (version 2) may still take: its limit without what is in use, file pages that can go aside.
  private static func controlGroupRest() -> Int? {
    guard let line = text("/proc/self/cgroup").split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else {
      return nil
    }
    let folder = "/sys/fs/cgroup" + line.dropFirst(3)
    func number(_ file: String) -> Int? {
      Int(text(folder + "/" + file).trimmingCharacters(in: .whitespacesAndNewlines))
    }
    guard let limit = number("memory.max"), let used = number("memory.current") else { return nil }
    let reclaimable = value("inactive_file", in: text(folder + "/memory.stat")) ?? 0
    return max(limit - used + reclaimable, 0)
  }

  private static func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }

  private static func kibibytes(_ name: String, in text: String) -> Int? { value(name + ":", in: text) }

  /// The number after `name` at the beginning of a line.
  private static func value(_ name: String, in text: String) -> Int? {
    let words = text.split(separator: "\n").lazy.map { $0.split(separator: " ") }
    return words.first { $0.first == Substring(name) }.flatMap { $0.count > 1 ? Int($0[1]) : nil }
  }
}
