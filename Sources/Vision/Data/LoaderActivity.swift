import Dispatch

/// What a thread of a ``BatchLoader`` did, and when.
public struct LoaderActivity: Sendable {
  /// What was done.
  public enum Work: Sendable, Equatable {
    /// A picture was read, decoded and squashed.
    case decode(name: String)
    /// Pictures were put together to a batch.
    case assemble(pictures: Int)
  }

  /// The thread, from 0.
  public let worker: Int
  /// What it did.
  public let work: Work
  /// When it began, in nanoseconds of `DispatchTime.uptimeNanoseconds`.
  public let start: UInt64
  /// When it ended.
  public let end: UInt64
}
