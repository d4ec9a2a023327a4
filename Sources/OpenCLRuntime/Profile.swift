import COpenCL

/// The time that a launch or a copy took on the device, from OpenCL's own event clock.
public struct ProfileEntry: Sendable {
  /// What was launched, as its `LaunchCost` calls it.
  public let label: String
  /// When it started, in nanoseconds of the device's clock; see ``Device/clockOffset()``.
  public let start: UInt64
  /// When it ended, in nanoseconds of the device's clock.
  public let end: UInt64
  /// Floating-point operations, from its `LaunchCost`.
  public let flops: Double
  /// Bytes moved at the least, from its `LaunchCost`.
  public let bytes: Double

  /// Seconds from its start to its end on the device.
  public var seconds: Double { Double(end - start) * 1e-9 }

  /// The label without its sizes: words up to the first that holds a digit, or for convolutions up to the window.
  public var kind: String {
    let words = label.split(separator: " ")
    let plain = words.prefix { !$0.contains(where: \.isNumber) && !$0.hasPrefix("[") }
    if plain.last == "of" { return plain.dropLast().joined(separator: " ") }
    let isConvolution = label.hasPrefix("conv")
    return (plain + (isConvolution ? words.dropFirst(plain.count).prefix(1) : [])).joined(separator: " ")
  }
}

/// Events of launches that have not been read yet.
struct PendingProfile: @unchecked Sendable {
  var events: [(event: cl_event, cost: LaunchCost)] = []

  /// The entries of all events, in launch order; the queue must be finished.
  mutating func drain() -> [ProfileEntry] {
    defer { events = [] }
    return events.map { event, cost in
      let start = profilingTime(of: event, CL_PROFILING_COMMAND_START)
      let end = profilingTime(of: event, CL_PROFILING_COMMAND_END)
      clReleaseEvent(event)
      return ProfileEntry(label: cost.label, start: start, end: max(start, end), flops: cost.flops, bytes: cost.bytes)
    }
  }
}

/// One of an event's four times, in nanoseconds of the device's clock; 0 where the driver keeps none.
func profilingTime(of event: cl_event, _ name: Int32) -> UInt64 {
  var time: cl_ulong = 0
  clGetEventProfilingInfo(event, cl_profiling_info(name), MemoryLayout<cl_ulong>.size, &time, nil)
  return time
}
