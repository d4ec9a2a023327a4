import Foundation
import OpenCLRuntime
import Operations
import TensorCore
import Testing

/// What can go wrong when a step is recorded and replayed, as a list that can be run: each trap is refused with a clear
/// error, or shown as the rule that a user must know.
@Suite struct CaptureTrapTests {
  private let device: Device
  private let input: Tensor

  init() throws {
    device = try Device(DeviceSelection.pick(nil))
    input = Tensor([1, 2, 3] as [Float], shape: [3], on: device)
  }

  // MARK: Refused when it is recorded

  @Test func readingAValue() throws {
    let step = CapturedStep(on: device) { try self.input.scaled(by: 2).sum().item() }
    #expect(try step() == 12)
    #expect(throws: CaptureError.hostRead(call: "Buffer.read")) { try step() }
  }

  @Test func readingAValueLater() throws {
    let step = CapturedStep(on: device) {
      try self.input.scaled(by: 2).storage.buffer.enqueueRead(floats: 3).wait()
    }
    #expect(try step() == [2, 4, 6])
    #expect(throws: CaptureError.hostRead(call: "Buffer.enqueueRead")) { try step() }
  }

  @Test func waitingForTheDevice() throws {
    let step = CapturedStep(on: device) { try self.device.synchronize() }
    try step()
    #expect(throws: CaptureError.hostRead(call: "Device.synchronize")) { try step() }
  }

  @Test func copyingFromTheHost() throws {
    let step = CapturedStep(on: device) {
      self.input + Tensor([1, 1, 1] as [Float], shape: [3], on: self.device)
    }
    #expect(try step().floats() == [2, 3, 4])
    #expect(throws: CaptureError.hostWrite(call: "Buffer.write")) { try step() }
  }

  @Test func copyingFromTheHostLater() throws {
    let step = CapturedStep(on: device) {
      self.input + Tensor(enqueueing: [1, 1, 1], shape: [3], on: self.device)
    }
    _ = try step()
    #expect(throws: CaptureError.hostWrite(call: "Buffer.enqueueWrite")) { try step() }
  }

  @Test func aCaptureWithinACapture() throws {
    let inner = CapturedStep(on: device) { self.input.scaled(by: 2) }
    let outer = CapturedStep(on: device) { try inner() }
    _ = try outer()
    #expect(throws: CaptureError.nested) { try outer() }
  }

  @Test func aResultOfAnotherCapture() throws {
    let first = CapturedStep(on: device) { self.input.scaled(by: 2) }
    var result = try first()
    result = try first()
    let second = CapturedStep(on: device) { [result] in result.scaled(by: 3) }
    _ = try second()
    #expect(throws: CaptureError.self) { try second() }
  }

  // MARK: Refused when it is recorded again

  @Test func aNumberThatChanges() throws {
    var rate: Float = 1
    let step = CapturedStep(on: device) {
      rate *= 0.5
      return self.input.scaled(by: rate)
    }
    #expect(try step().floats() == [0.5, 1, 1.5])
    #expect(try step().floats() == [0.25, 0.5, 0.75])
    let error = #expect(throws: CaptureError.self) { try step() }
    guard case .valueChanged(_, _, "0.25", "0.125") = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func anotherTensorEachTime() throws {
    var batch = input
    let step = CapturedStep(on: device) { batch.scaled(by: 2) }
    for value in 1...2 {
      batch = Tensor([Float(value)], shape: [1], on: device)
      #expect(try step().floats() == [2 * Float(value)])
    }
    batch = Tensor([3] as [Float], shape: [1], on: device)
    let error = #expect(throws: CaptureError.self) { try step() }
    guard case .bufferChanged = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func anotherShape() throws {
    var batch = Tensor.zeros([4], on: device)
    let step = CapturedStep(on: device) { batch.scaled(by: 2) }
    _ = try step()
    _ = try step()
    batch = Tensor.zeros([64], on: device)
    #expect(throws: CaptureError.self) { try step() }
  }

  @Test func aBranchThatGoesAnotherWay() throws {
    var count = 0
    let step = CapturedStep(on: device) {
      count += 1
      return count < 3 ? self.input.scaled(by: 2) : self.input + self.input
    }
    _ = try step()
    _ = try step()
    let error = #expect(throws: CaptureError.self) { try step() }
    guard case .commandChanged(index: 0, _, _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func oneLaunchMore() throws {
    var count = 0
    let step = CapturedStep(on: device) {
      count += 1
      var result = self.input.scaled(by: 2)
      if count == 3 { result = result.scaled(by: 2) }
      return result
    }
    _ = try step()
    _ = try step()
    let error = #expect(throws: CaptureError.self) { try step() }
    guard case .commandChanged(index: 1, before: "nothing", _) = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
  }

  @Test func aTensorCarriedFromStepToStep() throws {
    var total = Tensor.zeros([3], on: device)
    let step = CapturedStep(on: device) {
      total = total + self.input
      return total
    }
    _ = try step()
    #expect(try step().floats() == [2, 4, 6])
    #expect(throws: CaptureError.self) { try step() }
  }

  // MARK: Rules to know

  @Test func swiftCodeRunsThreeTimesOnly() throws {
    var calls = 0
    let step = CapturedStep(on: device) {
      calls += 1
      return self.input.scaled(by: 2)
    }
    for _ in 0..<10 { _ = try step() }
    #expect(calls == 3 && step.isCaptured)
  }

  @Test func resultsAreOverwrittenByTheNextCall() throws {
    let step = CapturedStep(on: device) { self.input.scaled(by: 2) }
    for _ in 0..<3 { _ = try step() }
    let kept = try step()
    #expect(try kept.floats() == [2, 4, 6])
    let copy = Tensor(uninitialized: [3], on: device)
    copy.overwrite(with: kept)
    input.overwrite(enqueueing: [10, 20, 30])
    _ = try step()
    #expect(try kept.floats() == [20, 40, 60])
    #expect(try copy.floats() == [2, 4, 6])
  }

  @Test func whatChangesLiesInATensor() throws {
    let rate = Tensor([1] as [Float], shape: [1], on: device)
    let step = CapturedStep(on: device) { rate.scaled(by: 3) }
    for value in 1...6 {
      rate.overwrite(enqueueing: [Float(value)])
      #expect(try step().floats() == [3 * Float(value)])
    }
  }

  @Test func stateLivesInTensorsMadeOutside() throws {
    let total = Tensor.zeros([3], on: device)
    let step = CapturedStep(on: device) { total.overwrite(with: total + self.input) }
    for _ in 0..<6 { try step() }
    #expect(try total.floats() == [6, 12, 18])
  }

  @Test func memoryCanBeGivenBackBetweenCalls() throws {
    let step = CapturedStep(on: device) { (0..<8).reduce(self.input) { value, _ in value.scaled(by: 2) } }
    for _ in 0..<3 { _ = try step() }
    let held = device.pool.statistics.inUse
    step.releaseMemory()
    let released = device.pool.statistics.inUse
    let planned = try #require(step.plannedMemory)
    #expect(held - released >= planned.byteCount)
    // Someone else takes the same memory meanwhile.
    let other = Tensor.zeros([3], on: device)
    #expect(try step().floats() == [256, 512, 768])
    #expect(try other.floats() == [0, 0, 0])
    #expect(try step().floats() == [256, 512, 768])
  }

  @Test func aFailedCaptureLeavesTheDeviceUsable() throws {
    let step = CapturedStep(on: device) { try self.input.floats() }
    _ = try step()
    #expect(throws: CaptureError.self) { try step() }
    #expect(try input.scaled(by: 2).floats() == [2, 4, 6])
  }

  @Test func anErrorOfTheBodyPassesThrough() throws {
    struct Failure: Error {}
    var fails = false
    let step = CapturedStep(on: device) {
      if fails { throw Failure() }
      return self.input.scaled(by: 2)
    }
    _ = try step()
    fails = true
    #expect(throws: Failure.self) { try step() }
    fails = false
    #expect(try step().floats() == [2, 4, 6])
  }

  @Test func otherThreadsGoOnMeanwhile() async throws {
    // Steps are recorded by the thread that calls; what others launch runs.
    try await withThrowingTaskGroup { group in
      for factor in 1...4 {
        group.addTask { @Sendable [device] in
          let input = Tensor([1, 2] as [Float], shape: [2], on: device)
          let step = CapturedStep(on: device) { (0..<50).reduce(input) { value, _ in value.scaled(by: Float(factor)) } }
          let expected = pow(Float(factor), 50)
          for _ in 0..<5 {
            let values = try step().floats()
            #expect(values == [expected, 2 * expected])
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test func launchesAreCountedAndTimed() throws {
    let step = CapturedStep(on: device) { self.input.scaled(by: 2).scaled(by: 2) }
    for _ in 0..<3 { _ = try step() }
    try device.setProfiling(true)
    let before = device.counters.launches
    _ = try step()
    #expect(device.counters.launches == before + 2)
    #expect(try device.takeProfile().count == 2)
    try device.setProfiling(false)
    #expect(try step().floats() == [4, 8, 12])
  }
}
