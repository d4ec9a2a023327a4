import KernelVerification
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore
import Testing

/// Filter gradients whose parts wait in one buffer, on the tests' device passed off as a GPU: the bits are those of sums
/// in a fixed order, whatever else waits.
@Suite struct PartialSumTests {
  private static func gpu(groupItems: Int = 256) throws -> Device {
    try Device(
      TestDevice.tiled.description.imitatingGPU(
        computeUnits: 64, localMemory: 48 << 10, maximumWorkGroupSize: groupItems))
  }

  private typealias Segment = PartialSumCheck.Segment

  /// One part and many, around the numbers that work-items share; quads and not, fewer and more than a work-group takes.
  private static let segments: [Segment] = [
    .init(1, 1), .init(1, 4), .init(2, 3), .init(3, 1028), .init(15, 12), .init(16, 8), .init(31, 8), .init(32, 7),
    .init(33, 36), .init(64, 130), .init(127, 6), .init(128, 40), .init(255, 3), .init(256, 260), .init(700, 5),
    .init(5, 257), .init(40, 16388),
  ]

  /// What the device does, in the same order and the same precision.
  private static func sum(
    _ parts: [Float], _ segment: Segment, mostItems: Int, onto start: Float?, _ value: Int
  ) -> Float {
    var share = 1
    while 2 * share <= min(mostItems, 32), segment.splits / (2 * share) >= 8 { share *= 2 }
    let shares = (0..<share).map { first in
      var (sum, rest) = (Float(0), Float(0))
      for split in stride(from: first, to: segment.splits, by: share) {
        let term = parts[split * segment.values + value] - rest
        let next = sum + term
        rest = (next - sum) - term
        sum = next
      }
      return sum
    }
    let sum = shares.dropFirst().reduce(shares[0], +)
    return start.map { sum + $0 } ?? sum
  }

  /// Whatever the size of work-groups; places in the arena that are multiples of 16, as in a model's, and any.
  @Test(arguments: [(256, 16, 1), (1024, 1, 2), (64, 16, 3), (32, 3, 1), (16, 16, 1), (1, 1, 1)])
  func sumsInAFixedOrder(groupItems: Int, alignment: Int, contributions: Int) throws {
    let device = try Self.gpu(groupItems: groupItems)
    let check = PartialSumCheck(Self.segments, contributions: contributions, alignment: alignment)
    let result = check.result(on: device)
    // Contributions to one gradient are added in the reverse order of their operations.
    let parts = check.parts.reversed().map { $0.map(\.floats) }
    for (index, segment) in Self.segments.enumerated() {
      let expected = (0..<segment.values).map { value in
        parts.reduce(Float?.none) {
          Self.sum($1[index], segment, mostItems: groupItems, onto: $0, value)
        }
      }
      #expect(try result.gradients[index].floats() == expected, "\(segment)")
    }
    let arena = try result.arena.tensor.floats()
    for (index, segment) in Self.segments.enumerated() {
      let end = index + 1 < result.offsets.count ? result.offsets[index + 1] : arena.count
      #expect(arena[result.offsets[index] + segment.values..<end].allSatisfy { $0.isNaN }, "behind \(segment)")
    }
    #expect(try result.arena.neighboursAreUntouched())
    #expect(device.programsInUse.contains { $0.kernel == "sum_segments" })
    #expect(!device.programsInUse.contains { $0.kernel == "sum_rows_finish" })
  }

  private func launches(_ check: PartialSumCheck, on device: Device, capacity: Int) throws -> (Int, [[Float]]) {
    try PartialSumPool.$forcedCapacity.withValue(capacity) {
      let before = device.counters.launches
      let gradients = check.result(on: device).gradients
      return (device.counters.launches - before, try gradients.map { try $0.floats() })
    }
  }

  /// A pool that is full is added up, and what is larger than a pool is not put there: the same bits with fewer launches.
  @Test func anyCapacityGivesTheSameBits() throws {
    let device = try Self.gpu()
    // 32, 792, 6, 96, 4096, 1 and 63 elements, rounded up to multiples of 32, in pools from the last to the first.
    let check = PartialSumCheck(
      [.init(4, 8), .init(33, 24), .init(2, 3), .init(3, 32), .init(64, 64), .init(1, 1), .init(7, 9)])
    let (apart, expected) = try launches(check, on: device, capacity: 1)
    for (capacity, launched) in [(1 << 20, 1), (4096, 3), (4095, 2), (800, 4), (791, 3), (128, 5), (31, 7)] {
      let (count, gradients) = try launches(check, on: device, capacity: capacity)
      #expect(gradients == expected, "\(capacity)")
      #expect(apart - count == check.segments.count - launched, "\(capacity)")
    }
  }

  /// A gradient that waits is there as soon as somebody in the backward pass reads it.
  @Test func readingAGradientThatWaits() throws {
    let device = try Self.gpu()
    let parts = [2, 3].map { ReferenceTensor.random([$0, 8], seed: UInt64($0)) }
    let arena = Tensor(uninitialized: [32], on: device)
    arena.fill(.nan)
    let parameters = [0, 16].map { offset in
      let parameter = Tensor(uninitialized: [8], on: device)
      parameter.storage.requiresGradient = true
      parameter.storage.gradientHome = Storage(
        buffer: arena.storage.buffer, baseOffset: offset, rows: 1, channels: 8)
      return parameter
    }
    var seen: [[Float]] = []
    let (_, gradients) = valueWithGradients {
      // The first operation, so that its gradient is the last.
      let y = Tensor([0] as [Float], shape: [], on: device)
      Tape.record("reader", inputs: [parameters[0]], outputs: [y]) { store in
        for parameter in parameters { seen.append((try? store.gradient(of: parameter)?.floats()) ?? []) }
      }
      return zip(parameters, parts).map { $0.used(gradient: $1.tensor(on: device)) }.reduce(y) { $0 + $1 }
    }
    for (index, part) in parts.enumerated() {
      expectClose(
        seen[index], Reference.channelSum(part), within: tolerance(terms: 3), "as it was read",
        sourceLocation: #_sourceLocation)
      #expect(try gradients[parameters[index]]?.floats() == seen[index])
    }
  }

  /// Gradients whose homes are in several buffers, and without a home.
  @Test func homesInOtherBuffers() throws {
    let device = try Self.gpu()
    let parts = (0..<4).map { ReferenceTensor.random([5, 6], seed: 300 + UInt64($0)) }
    let homes = (0..<2).map { _ in GuardedMemory([32], on: device) }
    let parameters = (0..<4).map { index in
      let parameter = Tensor(uninitialized: [6], on: device)
      if index < 3 {
        parameter.storage.requiresGradient = true
        let home = homes[index % 2].storage
        parameter.storage.gradientHome = Storage(
          buffer: home.buffer, baseOffset: home.baseOffset + 16 * (index / 2), rows: 1, channels: 6)
      }
      return parameter
    }
    let (_, gradients) = valueWithGradients(at: [parameters[3]]) {
      let terms = zip(parameters, parts).map { $0.used(gradient: $1.tensor(on: device)) }
      return terms.dropFirst().reduce(terms[0]) { $0 + $1 }
    }
    for (parameter, part) in zip(parameters, parts) {
      expectClose(
        try gradients[parameter]?.floats() ?? [], Reference.channelSum(part), within: tolerance(terms: 5), "gradient",
        sourceLocation: #_sourceLocation)
    }
    for home in homes { #expect(try home.neighboursAreUntouched()) }
  }

  // MARK: Convolutions

  /// Convolutions one after another whose filters have homes in one buffer; the third filter is used twice.
  private struct Net {
    let device: Device
    let images: Tensor
    let filters: [Tensor]
    private let arena: GuardedMemory

    init(on device: Device) {
      self.device = device
      images = ReferenceTensor.random([2, 7, 5, 3], seed: 1).tensor(on: device)
      let shapes = [[3, 3, 3, 8], [1, 1, 8, 7], [3, 3, 7, 7], [1, 1, 7, 12]]
      arena = GuardedMemory([4096], on: device)
      var offset = arena.storage.baseOffset
      filters = shapes.enumerated().map { [arena] index, shape in
        let filter = ReferenceTensor.random(shape, seed: UInt64(2 + index)).tensor(on: device)
        filter.storage.requiresGradient = true
        filter.storage.gradientHome = Storage(
          buffer: arena.storage.buffer, baseOffset: offset, rows: filter.storage.rows, channels: filter.channels)
        offset += (filter.shape.count + 15) / 16 * 16
        return filter
      }
    }

    func gradients() -> [Tensor] {
      let (_, gradients) = valueWithGradients {
        var y = images
        for index in [0, 1, 2, 2, 3] { y = y.conv2d(filter: filters[index]).leakyReLU(slope: 0.2).materialized() }
        return (y * y).sum()
      }
      return filters.compactMap { gradients[$0] }
    }
  }

  /// With one buffer for all, with one that holds some, and with one for each.
  @Test func convolutionsGiveTheSameBits() throws {
    let net = try Net(on: Self.gpu())
    func gradients(_ capacity: Int?) throws -> (launches: Int, values: [[Float]]) {
      try PartialSumPool.$forcedCapacity.withValue(capacity) {
        let before = net.device.counters.launches
        let tensors = net.gradients()
        return (net.device.counters.launches - before, try tensors.map { try $0.floats() })
      }
    }
    let apart = try gradients(1)
    #expect(apart.values.count == 4 && apart.values.joined().allSatisfy { $0.isFinite })
    let together = try gradients(nil)
    // Five sums in two launches: the filter that is used twice ends the first.
    #expect(apart.launches - together.launches == 3)
    #expect(together.values == apart.values)
    #expect(try gradients(500).values == apart.values)
    #expect(try gradients(nil).values == apart.values)
  }

  /// Recorded, the table is a constant of the device, and the gradients of new images come out of a replay.
  @Test func capturedSteps() throws {
    let net = try Net(on: Self.gpu())
    let step = CapturedStep(on: net.device) { net.gradients() }
    for seed in 10..<15 {
      let images = ReferenceTensor.random([2, 7, 5, 3], seed: UInt64(seed)).floats
      net.images.overwrite(enqueueing: images)
      let captured = try step().map { try $0.floats() }
      let expected = try PartialSumPool.$forcedCapacity.withValue(1) { try net.gradients().map { try $0.floats() } }
      #expect(captured == expected, "call \(seed - 9)")
    }
    #expect(step.isCaptured)
  }
}
