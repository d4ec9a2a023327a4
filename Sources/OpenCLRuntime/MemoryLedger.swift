/// What memory is for, as plans tell it apart; each module names its own.
package struct MemoryLabel: Hashable, Sendable {
  package let name: String

  package init(_ name: String) { self.name = name }

  /// What nobody has named: memory that single operations work with.
  package static let workspace = MemoryLabel("workspace")
  /// What is made once and kept, such as tables; see `Device.cached`.
  package static let constants = MemoryLabel("constants")
}

/// What the memory of a planning device is for, now and when most was in use.
package struct MemoryLedger: Sendable {
  /// What the next requests are for.
  var label = MemoryLabel.workspace
  private var inUse: [MemoryLabel: Int] = [:]
  private var total = 0
  /// Bytes by label at the moment of the pool's peak; they add up to it.
  package private(set) var peak: [MemoryLabel: Int] = [:]
  /// The largest single buffer so far.
  package private(set) var largest = 0

  /// Notes a buffer and returns its label.
  ///
  /// - Parameter poolPeak: the pool's peak, this buffer included.
  mutating func add(_ capacity: Int, peak poolPeak: Int) -> MemoryLabel {
    inUse[label, default: 0] += capacity
    total += capacity
    largest = max(largest, capacity)
    if total == poolPeak { peak = inUse }
    return label
  }

  mutating func remove(_ capacity: Int, _ label: MemoryLabel) {
    inUse[label, default: 0] -= capacity
    total -= capacity
  }

  mutating func resetPeak() { peak = inUse }
}

extension Device {
  /// Runs `body`; a planning device notes what it allocates under `label`, unless `body` says it more closely.
  package func labellingMemory<Result>(_ label: MemoryLabel, _ body: () throws -> Result) rethrows -> Result {
    guard isPlanning, let outer = pool.setLabel(label) else { return try body() }
    defer { _ = pool.setLabel(outer) }
    return try body()
  }
}
