import COpenCL

/// Memory that a recorded step asked for: planned with all the others, and there while the step's memory is.
final class CapturedMemory: @unchecked Sendable {
  let byteCount: Int
  /// Place in the order of the recording's requests.
  let index: Int
  /// Nil while the captured step holds no memory.
  var memory: cl_mem?

  init(byteCount: Int, index: Int) {
    self.byteCount = byteCount
    self.index = index
  }
}

/// What a step did, in order, without having done it.
struct Recording: @unchecked Sendable {
  /// A buffer as commands refer to it. Captured memory is not referred to by its `Buffer`, whose end tells how long it is
  /// needed.
  enum Place {
    case buffer(Buffer)
    case captured(CapturedMemory)

    var memory: cl_mem? {
      switch self {
      case .buffer(let buffer): buffer.memory
      case .captured(let memory): memory.memory
      }
    }
  }

  enum Argument {
    case place(Place)
    case value(KernelArgument)
  }

  struct Launch {
    /// Nil on a planning device.
    var kernel: cl_kernel?
    var name: String
    var global: [Int]
    var local: [Int]?
    var slices: [LaunchSlice]
    var arguments: [Argument]
    var cost: LaunchCost
  }

  enum Command {
    case launch(Launch)
    case copy(from: Place, to: Place, sourceOffset: Int, offset: Int, count: Int)
    case zero(Place, offset: Int, count: Int)
  }

  private(set) var commands: [Command] = []
  private(set) var memories: [CapturedMemory] = []
  /// Whether the buffer of each of `memories` was still in use when the recording ended.
  private(set) var isResult: [Bool] = []
  /// The first thing that cannot be replayed.
  private(set) var error: CaptureError?

  mutating func append(_ command: Command) { commands.append(command) }

  mutating func append(
    _ kernel: cl_kernel?, _ name: String, _ global: [Int], _ local: [Int]?, _ slices: [LaunchSlice],
    _ arguments: [KernelArgument], _ cost: LaunchCost
  ) {
    let arguments: [Argument] = arguments.enumerated().map { index, argument in
      guard case .buffer(let buffer) = argument else { return .value(argument) }
      return .place(place(of: buffer, argument: index, of: name))
    }
    commands.append(
      .launch(
        Launch(
          kernel: kernel, name: name, global: global, local: local, slices: slices, arguments: arguments, cost: cost)))
  }

  mutating func fail(_ error: CaptureError) { self.error = self.error ?? error }

  /// How commands refer to `buffer`; notes an error for what another captured step made.
  mutating func place(of buffer: Buffer, argument: Int, of kernel: String) -> Place {
    guard let memory = buffer.captured else { return .buffer(buffer) }
    if !owns(memory) { fail(.capturedResult(kernel: kernel, argument: argument)) }
    return .captured(memory)
  }

  private func owns(_ memory: CapturedMemory) -> Bool {
    memory.index < memories.count && memories[memory.index] === memory
  }

  mutating func allocate(byteCount: Int) -> CapturedMemory {
    let memory = CapturedMemory(byteCount: byteCount, index: memories.count)
    memories.append(memory)
    isResult.append(true)
    return memory
  }

  mutating func release(_ memory: CapturedMemory) {
    if owns(memory) { isResult[memory.index] = false }
  }

  /// For each memory that a command uses, the first and the last command that do. What is still in use when the recording
  /// ends is needed until then.
  var lifetimes: [Placement.Request] {
    var spans: [ClosedRange<Int>?] = Array(repeating: nil, count: memories.count)
    for (index, command) in commands.enumerated() {
      for case .captured(let memory) in command.places {
        spans[memory.index] = (spans[memory.index]?.lowerBound ?? index)...index
      }
    }
    return spans.indices.compactMap { index in
      spans[index].map { span in
        Placement.Request(
          index: index, byteCount: max(memories[index].byteCount, 1),
          span: isResult[index] ? span.lowerBound...commands.count : span)
      }
    }
  }

  /// The first difference between this step and `later`, which should do the same.
  func difference(from later: Recording) -> CaptureError? {
    for (index, (old, new)) in zip(commands, later.commands).enumerated() {
      if let difference = Self.difference(old, new, at: index) { return difference }
    }
    guard commands.count != later.commands.count else { return nil }
    let index = min(commands.count, later.commands.count)
    func text(_ commands: [Command]) -> String { commands.count > index ? commands[index].text : "nothing" }
    return .commandChanged(index: index, before: text(commands), after: text(later.commands))
  }

  private static func difference(_ old: Command, _ new: Command, at index: Int) -> CaptureError? {
    guard old.text == new.text else { return .commandChanged(index: index, before: old.text, after: new.text) }
    guard case .launch(let before) = old, case .launch(let after) = new else {
      return zip(old.places, new.places).contains { !isSame($0, $1) }
        ? .bufferChanged(kernel: old.text, argument: 0) : nil
    }
    guard before.kernel == after.kernel, before.arguments.count == after.arguments.count else {
      return .commandChanged(index: index, before: old.text, after: "\(new.text) of another program")
    }
    for (argument, pair) in zip(before.arguments, after.arguments).enumerated() {
      switch pair {
      case (.place(let a), .place(let b)):
        if !isSame(a, b) { return .bufferChanged(kernel: before.name, argument: argument) }
      case (.value(let a), .value(let b)) where isSame(a, b): continue
      default:
        return .valueChanged(kernel: before.name, argument: argument, before: pair.0.text, after: pair.1.text)
      }
    }
    return nil
  }

  private static func isSame(_ a: Place, _ b: Place) -> Bool {
    switch (a, b) {
    case (.buffer(let a), .buffer(let b)): a === b
    // The same request of either recording.
    case (.captured(let a), .captured(let b)): a.index == b.index
    default: false
    }
  }

  private static func isSame(_ a: KernelArgument, _ b: KernelArgument) -> Bool {
    switch (a, b) {
    case (.int(let a), .int(let b)): a == b
    case (.float(let a), .float(let b)): a.bitPattern == b.bitPattern
    case (.local(let a), .local(let b)): a == b
    default: false
    }
  }
}

extension Recording.Argument {
  var text: String {
    switch self {
    case .place, .value(.buffer): "a buffer"
    case .value(.int(let value)): "\(value)"
    case .value(.float(let value)): "\(value)"
    case .value(.local(let bytes)): "\(bytes) bytes of local memory"
    }
  }
}

extension Recording.Command {
  var text: String {
    switch self {
    case .launch(let launch):
      "\(launch.name) over \(launch.global.map(String.init).joined(separator: "×"))"
        + (launch.local.map { " by \($0.map(String.init).joined(separator: "×"))" } ?? "")
    case .copy(_, _, let source, let offset, let count): "a copy of \(count) bytes from \(source) to \(offset)"
    case .zero(_, let offset, let count): "\(count) zero bytes from \(offset)"
    }
  }

  var places: [Recording.Place] {
    switch self {
    case .launch(let launch):
      launch.arguments.compactMap { if case .place(let place) = $0 { place } else { nil } }
    case .copy(let source, let target, _, _, _): [source, target]
    case .zero(let place, _, _): [place]
    }
  }
}
