import Foundation
import Testing

@testable import OpenCLRuntime

/// On the device at hand, whether or not its driver keeps compiled programs itself.
@Suite struct ProgramCacheTests {
  private static let source = KernelSource(
    name: "cached", text: "kernel void add(global float *x) { x[get_global_id(0)] += STEP; }")

  private let folder = NSTemporaryDirectory() + "fovea-programs-\(UUID().uuidString)"

  private func description() throws -> DeviceDescription {
    var description = try DeviceSelection.pick("auto", from: DeviceDescription.all())
    description.programCache = ProgramCache(folder: folder)
    return description
  }

  private struct Outcome: Equatable {
    var value: Float
    /// Whether the program came from the cache.
    var isLoaded: Bool

    init(_ value: Float, loaded: Bool) {
      self.value = value
      isLoaded = loaded
    }
  }

  /// 1 + step, by a device of its own.
  private func compute(step: Int = 2, options: String = "") throws -> Outcome {
    let device = try Device(description().compiling(with: options))
    let buffer = device.allocate(byteCount: 4)
    withUnsafeBytes(of: Float(1)) { buffer.write($0) }
    device.launch(Self.source, "add", options: "-D STEP=\(step)", global: [1], [.buffer(buffer)])
    var value: Float = 0
    try withUnsafeMutableBytes(of: &value) { try buffer.read(into: $0) }
    #expect(device.counters.programsBuilt == 1)
    return Outcome(value, loaded: device.counters.programsLoaded == 1)
  }

  private func files() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map { folder + "/" + $0 }
  }

  @Test func programsAreKeptByTextAndOptions() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try compute() == Outcome(3, loaded: false))
    #expect(try compute() == Outcome(3, loaded: true))
    #expect(try compute(step: 5) == Outcome(6, loaded: false))
    #expect(try compute(options: "-DOTHER=1") == Outcome(3, loaded: false))
    #expect(try compute(step: 5) == Outcome(6, loaded: true))
    #expect(try files().count == 3)
  }

  @Test func whatIsNotUsedForAMonthIsRemoved() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for step in [1, 2] { _ = try compute(step: step) }
    for file in try files() {
      let date = Date(timeIntervalSinceNow: -ProgramCache.lifetime - 60)
      try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: file)
    }
    // This one is used again, which counts from now on.
    #expect(try compute(step: 2).isLoaded)
    #expect(try files().count == 2)
    _ = try compute(step: 3)
    #expect(try files().count == 2)
    #expect(try compute(step: 2).isLoaded && compute(step: 3).isLoaded)
    #expect(try !compute(step: 1).isLoaded)
  }

  /// Cut short, changed in one bit, of another program, or no program at all under a right checksum: compiled anew, and
  /// good from then on.
  @Test func damagedFilesAreBuiltAnew() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try compute()
    let path = try #require(try files().first)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    _ = try compute(step: 5)
    let other = try #require(try files().first { $0 != path })
    var flipped = whole
    flipped[whole.count - whole.count / 3] ^= 1
    let damaged = [
      whole.prefix(whole.count / 2), whole.prefix(10), Data(), flipped,
      try Data(contentsOf: URL(fileURLWithPath: other)),
    ]
    for (index, file) in damaged.enumerated() {
      try file.write(to: URL(fileURLWithPath: path))
      #expect(try compute() == Outcome(3, loaded: false), "damage \(index)")
      #expect(try compute() == Outcome(3, loaded: true), "after damage \(index)")
    }
    let key = try ProgramCache.Key(Self.source, options: "-cl-std=CL1.2 -D STEP=2 ", on: description())
    let cache = ProgramCache(folder: folder)
    #expect(cache.binary(for: key) != nil)
    cache.store(Data("no program".utf8), for: key)
    #expect(try compute() == Outcome(3, loaded: false))
    #expect(try compute() == Outcome(3, loaded: true))
  }

  /// Writers and readers of one file at once: a reader finds nothing or a whole one.
  @Test func concurrentUseIsSafe() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let cache = ProgramCache(folder: folder)
    let key = try ProgramCache.Key(Self.source, options: "", on: description())
    let versions = (0..<4).map { Data(repeating: UInt8($0), count: 50_000 + $0) }
    let found = await withTaskGroup(of: Int.self) { group in
      for version in versions {
        group.addTask {
          for _ in 0..<30 { cache.store(version, for: key) }
          return 0
        }
        group.addTask {
          (0..<60).reduce(0) { count, _ in
            guard let binary = cache.binary(for: key) else { return count }
            #expect(versions.contains(binary))
            return count + 1
          }
        }
      }
      return await group.reduce(0, +)
    }
    let last = try #require(cache.binary(for: key))
    #expect(found > 0 && versions.contains(last))
    #expect(try files().count == 1)
  }

  /// A folder that cannot be written costs only the compilation.
  @Test func aFolderThatCannotBeWritten() throws {
    try Data().write(to: URL(fileURLWithPath: folder))
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try compute() == Outcome(3, loaded: false))
    #expect(try compute() == Outcome(3, loaded: false))
  }
}
