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

/// A launch that a planning device noted in place of running it.
package struct PlannedLaunch: Sendable {
  package let program: PlannedProgram
  package let global: [Int]
  /// Nil where the driver chooses.
  package let local: [Int]?
  package let cost: LaunchCost

  /// Work-groups, where the launch says how large they are.
  package var groups: Int? {
    local.map { zip(global, $0).reduce(1) { $0 * ($1.0 / $1.1) } }
  }
}
