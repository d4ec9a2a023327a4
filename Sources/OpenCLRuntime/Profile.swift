import COpenCL

/// The time that launches took on the device, by label, from OpenCL's own event clocks.
public struct ProfileEntry: Sendable {
  public let label: String
  public let seconds: Double
  public let flops: Double
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
