import COpenCL
import Dispatch

extension Device {
  /// How the device's clock, in which profiles are kept, stands to the host's.
  public struct ClockOffset: Sendable, Equatable {
    /// Nanoseconds to add to a time of the device to get `DispatchTime.uptimeNanoseconds`.
    public var nanoseconds: Int64
    /// The true offset differs by at most so many nanoseconds.
    public var uncertainty: Int64

    /// Creates an offset.
    public init(nanoseconds: Int64, uncertainty: Int64) {
      self.nanoseconds = nanoseconds
      self.uncertainty = uncertainty
    }
  }

  /// Compares the device's clock with the host's; the device must be profiling. Waits for all work.
  ///
  /// OpenCL 1.2 has no call that reads both clocks. A small copy is enqueued and waited for on the idle queue: the host
  /// reads its clock before (t₀) and after (t₁), the driver notes in its own clock when the copy was queued (q) and
  /// ended (e). As t₀ ≤ q + offset and e + offset ≤ t₁, the offset lies between t₀ − q and t₁ − e. Of several copies
  /// the narrowest interval counts, and its middle is the result.
  public func clockOffset() throws -> ClockOffset {
    precondition(isProfiling, "clockOffset: the device is not profiling")
    try synchronize()
    let buffer = allocate(byteCount: 4)
    var best = (low: Int64.min / 4, high: Int64.max / 4)
    for _ in 0..<16 {
      var value: Float = 0
      var event: cl_event?
      let before = DispatchTime.now().uptimeNanoseconds
      enqueue("clEnqueueWriteBuffer") { queue in
        clEnqueueWriteBuffer(queue, buffer.memory, cl_bool(CL_TRUE), 0, 4, &value, 0, nil, &event)
      }
      let after = DispatchTime.now().uptimeNanoseconds
      try checkFailure()
      guard let event else { continue }
      let low = Int64(before) - Int64(profilingTime(of: event, CL_PROFILING_COMMAND_QUEUED))
      let high = Int64(after) - Int64(profilingTime(of: event, CL_PROFILING_COMMAND_END))
      clReleaseEvent(event)
      if abs(high - low) < abs(best.high - best.low) { best = (low, high) }
    }
    return ClockOffset(nanoseconds: (best.low + best.high) / 2, uncertainty: (abs(best.high - best.low) + 1) / 2)
  }
}
