import ArgumentParser
import Fovea

/// Where decoded photos are kept, as every command asks for it that reads them several times.
public struct CacheOptions: ParsableArguments {
  /// The choice; nil as `none`.
  @Option(
    help: ArgumentHelp(
      "Decode each photo once and keep it, at the input size, in memory or in a file that later runs use too. Default: none.",
      discussion: """
        memory takes the number of photos × height × width × 3 bytes. A file of that size is mapped; it is checked \
        when a run begins, and made anew when a photo or the input size has changed. ./memory is a file of that name.
        """, valueName: "memory|file"), completion: .file())
  public var cache: Choice?

  /// What `--cache` can say.
  public enum Choice: ExpressibleByArgument, Equatable, Sendable {
    /// Photos are decoded each time.
    case none
    /// They are decoded once.
    case at(ImageCachePlace)

    /// Reads `memory`, `none` or a path.
    public init?(argument: String) {
      switch argument {
      case "": return nil
      case "none": self = .none
      case "memory": self = .at(.memory)
      default: self = .at(.file(argument))
      }
    }
  }

  /// The defaults.
  public init() {}

  /// Whether there is to be a cache.
  public var isOn: Bool { place != nil }

  /// What is to be done for photos at that size; nil when nothing is. Nothing is written yet.
  ///
  /// - Parameter made: the folder that the command makes for its results, where the file may go as well.
  public func plan(
    for datasets: [any ImageDataset], _ model: (height: Int, width: Int), orIn made: String? = nil
  ) throws -> ImageCachePlan? {
    if case .file(let path) = place { try checkOutput(path, of: "--cache", orIn: made) }
    do {
      return try place.map { try ImageCachePlan($0, of: datasets, height: model.height, width: model.width) }
    } catch let error as FileError {
      throw ValidationError("--cache: \(error)")
    }
  }

  private var place: ImageCachePlace? {
    guard case .at(let place) = cache else { return nil }
    return place
  }
}

extension ImageCachePlan {
  /// Makes the cache, with its progress shown by lines that `line` begins.
  ///
  /// - Parameter check: called after each picture; what it throws ends the work.
  public func carryOut(
    workers: Int, say: (String) -> Void, line: (_ title: String, _ total: Int) -> ProgressLine, check: () throws -> Void
  ) throws -> ImageCache {
    var current: (work: Work, line: ProgressLine)?
    defer { current?.line.abandon() }
    let cache = try carryOut(
      workers: workers,
      say: { text in
        current?.line.abandon()
        current = nil
        say(text)
      }
    ) { work, done, total in
      try check()
      if current?.work != work {
        current?.line.finish(fields: [])
        current = (work, line(work == .checking ? "Checking the cache of photos" : "Decoding photos", total))
      }
      current?.line.update(step: done, fields: [])
    }
    current?.line.finish(fields: [])
    return cache
  }
}
