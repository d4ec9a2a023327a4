/// A step that runs once, is recorded once and is replayed from then on: the same launches, without the work of asking for
/// them.
///
/// ```swift
/// let photos = Tensor(uninitialized: [64, 300, 300, 3], on: device, dtype: .uint8)
/// let step = CapturedStep(on: device) { model(photos) }
/// for batch in batches {
///   photos.overwrite(enqueueing: batch)
///   let scores = try step().floats()
/// }
/// ```
///
/// The first call runs the body. The second records it, which runs nothing, plans one block of memory for all that it
/// needs, and replays the recording. The third records it once more and throws a ``CaptureError`` when the step is not the
/// same: a number or a tensor that changes from call to call would be frozen in a replay. Later calls only replay.
///
/// So the body's Swift code runs three times at most. What changes between calls must lie in tensors that are made outside
/// and overwritten; the body may neither read values nor copy any from the host. Results are the same tensors after each
/// call but the first, and each call overwrites their values. A replay gives the same bits as the body does.
///
/// Only the launches of the calling thread belong to the step. A captured step itself is not thread-safe.
public final class CapturedStep<Results> {
  private let device: Device
  private let body: () throws -> Results
  private var state = State.new

  private enum State {
    case new
    /// Has run once.
    case known
    case recorded(CapturedLaunches, Recording, Results)
    case checked(CapturedLaunches, Results)
  }

  /// A step of what `body` launches on `device`; nothing runs yet.
  public init(on device: Device, _ body: @escaping () throws -> Results) {
    self.device = device
    self.body = body
  }

  /// Enqueues the step.
  ///
  /// - Returns: what the body returned when it was recorded; at the first call, what it returns now.
  /// - Throws: what the body throws, or a `CaptureError` when the step cannot be replayed.
  public func callAsFunction() throws -> Results {
    switch state {
    case .new:
      let results = try body()
      state = .known
      return results
    case .known:
      let (recording, results) = try device.recording(body)
      let launches = CapturedLaunches(recording, on: device)
      launches.enqueue()
      state = .recorded(launches, recording, results)
      return results
    case .recorded(let launches, let recording, let results):
      let difference = try device.recording { _ = try body() }.0
      if let difference = recording.difference(from: difference) {
        state = .new
        throw difference
      }
      launches.enqueue()
      state = .checked(launches, results)
      return results
    case .checked(let launches, let results):
      launches.enqueue()
      return results
    }
  }

  /// Gives the step's memory back until the next call; values of its results are gone then, and must not be used.
  public func releaseMemory() {
    launches?.releaseMemory()
  }

  /// Bytes of the planned memory, and the least that any plan needs: what is in use at the fullest moment. Nil before the
  /// step has been recorded.
  public var plannedMemory: (byteCount: Int, least: Int)? {
    launches.map { ($0.placement.byteCount, $0.placement.leastByteCount) }
  }

  /// Whether the next call only replays.
  public var isCaptured: Bool {
    if case .checked = state { true } else { false }
  }

  private var launches: CapturedLaunches? {
    switch state {
    case .new, .known: nil
    case .recorded(let launches, _, _), .checked(let launches, _): launches
    }
  }
}
