import COpenCL

/// The time that launches took on the device, by label, from OpenCL's own event clocks.
public struct ProfileEntry: Sendable {
  /// What was launched, as its `LaunchCost` calls it.
  public let label: String
  /// Seconds from its start to its end on the device.
  public let seconds: Double
  /// Floating-point operations, from its `LaunchCost`.
  public let flops: Double
  /// Bytes moved at the least, from its `LaunchCost`.
  public let bytes: Double
}

/// Events of launches that have not been read yet.
struct PendingProfile: @unchecked Sendable {
  var events: [(event: cl_event, cost: LaunchCost)] = []

  /// The entries of all events, in launch order; the queue must be finished.
  mutating func drain() -> [ProfileEntry] {
    defer { events = [] }
    return events.map { event, cost in
      var start: cl_ulong = 0
      var end: cl_ulong = 0
      clGetEventProfilingInfo(event, cl_profiling_info(CL_PROFILING_COMMAND_START), 8, &start, nil)
      clGetEventProfilingInfo(event, cl_profiling_info(CL_PROFILING_COMMAND_END), 8, &end, nil)
      clReleaseEvent(event)
      return ProfileEntry(
        label: cost.label, seconds: end > start ? Double(end - start) * 1e-9 : 0, flops: cost.flops, bytes: cost.bytes)
    }
  }
}
