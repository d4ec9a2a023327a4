/// Why a step cannot be captured: replaying it would not do what running it does.
///
/// Each case is one of the traps of every framework that records and replays; `Tests/OperationsTests/CaptureTrapTests`
/// is the list that can be run.
public enum CaptureError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Values were brought to the host, or the host waited: a replay would not run what comes of them.
  case hostRead(call: String)
  /// Values were copied from the host: a replay would copy those of the recorded step again.
  case hostWrite(call: String)
  /// A number given to a kernel is not the one of the step before: a replay would give the old one.
  case valueChanged(kernel: String, argument: Int, before: String, after: String)
  /// A kernel was given another buffer than in the step before: a replay would use the old one.
  case bufferChanged(kernel: String, argument: Int)
  /// A kernel was given a result of a captured step, which is overwritten by that step's next replay.
  case capturedResult(kernel: String, argument: Int)
  /// Another kernel, or one of another size, stands in this place than in the step before.
  case commandChanged(index: Int, before: String, after: String)
  /// A capture was begun within another.
  case nested

  /// What is wrong and what to do, in one line.
  public var description: String {
    switch self {
    case .hostRead(let call):
      "\(call) inside a captured step: read the step's results after it, or run without capturing"
    case .hostWrite(let call):
      "\(call) inside a captured step: a replay would copy the same values again; make the tensor before the step and "
        + "overwrite it before each (Tensor.overwrite)"
    case .valueChanged(let kernel, let argument, let before, let after):
      "argument \(argument) of \(kernel) was \(before) and is now \(after): a captured step would go on with \(before); "
        + "keep a value that changes in a tensor, or run without capturing"
    case .bufferChanged(let kernel, let argument):
      "argument \(argument) of \(kernel) is another tensor than in the step before: a captured step would go on with the "
        + "old one; overwrite one tensor (Tensor.overwrite) instead of making new ones"
    case .capturedResult(let kernel, let argument):
      "argument \(argument) of \(kernel) is a result of a captured step, which its next replay overwrites: copy it to a "
        + "tensor of its own first (Tensor.overwrite)"
    case .commandChanged(let index, let before, let after):
      "command \(index) of the step was \(before) and is now \(after): a captured step must do the same each time; give "
        + "each form of the step a capture of its own"
    case .nested:
      "a capture inside a captured step: capture the outer one only"
    }
  }
}
