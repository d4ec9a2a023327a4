/// A kernel as it is compiled: which one, from which text, with which options.
package struct PlannedProgram: Sendable, Hashable {
  /// Name of the `KernelSource`.
  package let source: String
  package let kernel: String
  package let options: String
}

extension PlannedProgram: Comparable {
  package static func < (a: PlannedProgram, b: PlannedProgram) -> Bool {
    (a.source, a.kernel, a.options) < (b.source, b.kernel, b.options)
  }
}

/// An argument of a planned launch; of a buffer its size.
package enum PlannedArgument: Sendable {
  case buffer(byteCount: Int)
  case value(KernelArgument)

  init(_ argument: KernelArgument) {
    // Not the buffer itself, whose end says how long it is needed.
    if case .buffer(let buffer) = argument {
      self = .buffer(byteCount: buffer.byteCount)
    } else {
      self = .value(argument)
    }
  }
}

/// A launch that a planning device noted in place of running it.
package struct PlannedLaunch: Sendable {
  package let program: PlannedProgram
  package let source: KernelSource
  package let arguments: [PlannedArgument]
  package let global: [Int]
  /// Nil where the driver chooses.
  package let local: [Int]?
  package let cost: LaunchCost

  /// Whether POCL takes it for a large grid, for which it compiles a kernel once more.
  package var isLarge: Bool { global.contains { $0 > Int(UInt16.max) } }

  /// Work-groups, where the launch says how large they are.
  package var groups: Int? {
    local.map { zip(global, $0).reduce(1) { $0 * ($1.0 / $1.1) } }
  }
}

extension Device {
  /// Has the driver compile what `launch` needs, by running as little of it as that takes on memory of its own, all zeros.
  ///
  /// - Throws: the device's failure.
  package func prepare(_ launch: PlannedLaunch) throws {
    // Memory that was never touched, or no longer is, is zeros and costs nothing.
    pool.trim()
    let arguments = launch.arguments.map { argument -> KernelArgument in
      switch argument {
      case .buffer(let byteCount):
        let buffer = allocate(byteCount: byteCount)
        if description.kind != .cpu { buffer.zero(count: byteCount / 4 * 4) }
        return .buffer(buffer)
      case .value(let value): return value
      }
    }
    let global = launch.isLarge ? launch.global : launch.local ?? launch.global
    self.launch(
      launch.source, launch.program.kernel, options: launch.program.options, global: global, local: launch.local,
      arguments)
    try synchronize()
  }
}
