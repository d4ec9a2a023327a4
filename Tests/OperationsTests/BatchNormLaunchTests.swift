import OpenCLRuntime
import ReferenceOperations
import TensorCore
import Testing

@testable import Operations

extension OperationsTests {
  /// A batch normalisation in few launches against the same in one launch for each thing that it does.
  @Suite struct BatchNormLaunchTests {}
}

extension OperationsTests.BatchNormLaunchTests {
  /// What is normalised, made anew for each form, as statistics stay with a storage.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    /// Launches of the forward pass: of statistics that nothing is known of the chunks too.
    var launches: Int
    /// Leaves, and from them what is normalised.
    var make: @Sendable (Device) -> (leaves: [Tensor], operand: () -> DeferredTensor)
    var testDescription: String { name }
  }

  private static func random(_ shape: [Int], _ seed: UInt64, on device: Device, _ dtype: DType = .float32) -> Tensor {
    ReferenceTensor.random(shape, seed: seed, range: -1...3).tensor(on: device, dtype: dtype)
  }

  private static func plain(_ shape: [Int], slope: Float? = nil, _ dtype: DType = .float32) -> Case {
    Case(name: "\(shape) \(dtype)\(slope == nil ? "" : " behind a leaky ReLU")", launches: 2) { device in
      let x = random(shape, 401, on: device, dtype)
      return ([x], { slope.map { x.leakyReLU(slope: $0) } ?? x.deferred })
    }
  }

  /// Slabs of a stack, each by a convolution that leaves partial moments or by a copy that does not, and which prefixes
  /// have been normalised before.
  private static func stack(
    _ image: [Int], slabs: [(channels: Int, leavesMoments: Bool)], known: [Int], view: Range<Int>? = nil, launches: Int
  ) -> Case {
    let name = "stack of \(slabs.map { "\($0.channels)\($0.leavesMoments ? " left" : "")" }), known \(known)"
    return Case(name: name + (view.map { ", channels \($0)" } ?? ""), launches: launches) { device in
      let x = random(image + [16], 402, on: device)
      let sources = slabs.enumerated().map { index, slab in
        random(
          slab.leavesMoments ? [1, 1, 16, slab.channels] : image + [slab.channels], 403 + UInt64(index), on: device)
      }
      return (
        (slabs.contains(where: \.leavesMoments) ? [x] : []) + sources,
        {
          let channels = slabs.reduce(0) { $0 + $1.channels }
          var stack = ChannelStack(shape: Shape(image + [channels]), on: device)
          for (slab, source) in zip(slabs, sources) {
            let target = stack.appendSlab(channels: slab.channels)
            if slab.leavesMoments {
              _ = x.conv2d(filter: source, into: target, leavingMoments: true)
            } else {
              _ = source.copied(into: target)
            }
            if known.contains(stack.prefix.channels) { _ = stack.prefix.moments() }
          }
          return (view.map { stack.prefix.channels($0) } ?? stack.prefix).deferred
        }
      )
    }
  }

  static let cases: [Case] =
    [[150, 16], [2, 5, 7, 31], [70, 4], [1, 65, 2], [3, 17, 13, 12], [4099, 8]].map { plain($0) } + [
      plain([3, 17, 13, 12], slope: 0.2), plain([3, 17, 13, 20], .float16), plain([3, 11, 13, 7], .bfloat16),
      // As in a dense block: all but the newest slab is known.
      stack([2, 16, 21], slabs: [(16, false), (16, true)], known: [16], launches: 1),
      stack([2, 16, 21], slabs: [(16, false), (16, false)], known: [16], launches: 2),
      // Vectors of another width than a slab alone would have.
      stack([2, 16, 21], slabs: [(6, false), (16, true), (2, false)], known: [22], launches: 2),
      stack([2, 16, 21], slabs: [(4, false), (16, true)], known: [4], launches: 1),
      // Several parts at once: all but the last are finished before.
      stack([2, 16, 21], slabs: [(16, true), (8, true), (16, true)], known: [], launches: 3),
      stack([2, 16, 21], slabs: [(16, false), (8, true), (16, false)], known: [], launches: 5),
      // Nothing is left to be computed.
      stack([2, 16, 21], slabs: [(16, true), (16, true)], known: [32], launches: 1),
      // A part of what is known, and of what is not.
      stack([2, 16, 21], slabs: [(16, false), (16, false)], known: [16], view: 5..<29, launches: 2),
    ]

  private struct Pass {
    var values: [String: [Float]]
    /// Of the normalisation.
    var launches: Int
    /// Of the whole pass backwards.
    var backwardLaunches: Int
  }

  /// A pass forward and backward.
  ///
  /// - Parameter readers: kernels that read the normalised values; each hands a gradient of its own to the affine.
  private static func run(
    _ test: Case, on device: Device, momentum: Float, readers: Int,
    _ normalize: (DeferredTensor, _ gamma: Tensor, _ beta: Tensor, MovingMoments) -> DeferredTensor
  ) throws -> Pass {
    poisonFreeMemory(on: device)
    let (leaves, operand) = test.make(device)
    let tape = Tape()
    var launches = 0
    let (result, inputs, moving) = Tape.$current.withValue(tape) {
      leaves.forEach(tape.watch)
      let x = operand()
      let channels = x.channels
      let gamma = random([channels], 411, on: device)
      let beta = random([channels], 412, on: device)
      let mean = GuardedMemory(ReferenceTensor.random([channels], seed: 413), margins: (0, 0), on: device)
      let variance = GuardedMemory(ReferenceTensor.random([channels], seed: 414), margins: (0, 0), on: device)
      [gamma, beta].forEach(tape.watch)
      let before = device.counters.launches
      let y = normalize(
        x, gamma, beta, MovingMoments(mean: mean.tensor, variance: variance.tensor, momentum: momentum))
      launches = device.counters.launches - before
      var values = y.relu().copied()
      for _ in 1..<readers { values = values.adding(y.copied()) }
      return (values, leaves + [gamma, beta], [mean, variance])
    }
    let seed = random(result.shape.dimensions, 415, on: device, result.dtype)
    let before = device.counters.launches
    let gradients = tape.gradients(of: result, seed: seed)
    let backwardLaunches = device.counters.launches - before
    var values = ["value": try result.floats()]
    for (index, input) in inputs.enumerated() { values["gradient \(index)"] = try gradients[input]?.floats() ?? [] }
    for (name, memory) in zip(["moving mean", "moving variance"], moving) {
      values[name] = try memory.tensor.floats()
      #expect(try memory.neighboursAreUntouched(), "memory beside \(name)")
    }
    return Pass(values: values, launches: launches, backwardLaunches: backwardLaunches)
  }

  private static let imitatedGPU = Result { try FinishingLaunchTests.imitatedGPU() }

  /// On the device of the tests, and on one that shares chunks among work-items as GPUs do.
  @Test(arguments: cases, [false, true])
  func equalsItsPartsInBits(_ test: Case, imitatesGPU: Bool) throws {
    let device = imitatesGPU ? try Self.imitatedGPU.get() : device
    for (momentum, readers) in [(Float(0.99), 1), (0, 2), (0.5, 3)] {
      let parts = try Self.run(test, on: device, momentum: momentum, readers: readers) { x, gamma, beta, moving in
        let moments = x.moments()
        moving.mean.updateMoving(with: moments.mean, momentum: moving.momentum)
        moving.variance.updateMoving(with: moments.variance, momentum: moving.momentum)
        let affine = moments.fold(gamma: gamma, beta: beta, epsilon: 1.001e-5)
        // Somebody asks for its gradient, which therefore is computed.
        Tape.current?.watch(affine)
        return x.affine(affine)
      }
      let whole = try Self.run(test, on: device, momentum: momentum, readers: readers) { x, gamma, beta, moving in
        x.batchNormalized(gamma: gamma, beta: beta, epsilon: 1.001e-5, updating: moving)
      }
      #expect(whole.launches == test.launches)
      // One reader's sums are added up where the fold's gradient is computed.
      #expect(parts.backwardLaunches - whole.backwardLaunches == (readers == 1 ? 1 : 0))
      #expect(whole.values.count == parts.values.count)
      for (name, values) in whole.values {
        #expect(!values.isEmpty && values.allSatisfy(\.isFinite), "\(name)")
        #expect(
          values.map(\.bitPattern) == parts.values[name]?.map(\.bitPattern),
          "\(name), momentum \(momentum), \(readers) readers")
      }
    }
  }

  /// The rows of the affine step are read by an operation of their own too, before or after the values.
  @Test(arguments: [false, true])
  func affineWithAnotherReader(readsRowsFirst: Bool) throws {
    func gradients(isWatched: Bool) throws -> [[UInt32]] {
      let x = Self.random([6, 5, 7], 421, on: device)
      let gamma = Self.random([7], 422, on: device)
      let beta = Self.random([7], 423, on: device)
      let weights = (Self.random([6, 5, 7], 424, on: device), Self.random([3, 7], 425, on: device))
      let (_, gradients) = valueWithGradients(at: [x, gamma, beta]) {
        let y = x.batchNormalized(gamma: gamma, beta: beta, epsilon: 1e-3)
        guard let affine = y.prologue.affine else { return x.sum() }
        if isWatched { Tape.current?.watch(affine) }
        func values() -> Tensor { y.materialized().multiplied(by: weights.0).sum() }
        func rows() -> Tensor { affine.multiplied(by: weights.1).sum() }
        if readsRowsFirst {
          let sum = rows()
          return sum + values()
        }
        let sum = values()
        return sum + rows()
      }
      return try [x, gamma, beta].map { try gradients[$0]?.floats().map(\.bitPattern) ?? [] }
    }
    let expected = try gradients(isWatched: true)
    #expect(expected.map(\.count) == [210, 7, 7])
    #expect(try gradients(isWatched: false) == expected)
  }

  /// A gradient of an affine that somebody asks for is there after the pass, and is that of a leaf of its values.
  @Test func watchedAffineHasItsGradient() throws {
    let x = Self.random([6, 5, 7], 431, on: device)
    let gamma = Self.random([7], 432, on: device)
    let beta = Self.random([7], 433, on: device)
    let weights = Self.random([6, 5, 7], 434, on: device)
    var rows: Tensor?
    let (_, gradients) = valueWithGradients(at: [gamma]) {
      let y = x.batchNormalized(gamma: gamma, beta: beta, epsilon: 1e-3)
      rows = y.prologue.affine
      if let rows { Tape.current?.watch(rows) }
      return y.materialized().multiplied(by: weights).sum()
    }
    let affine = try #require(rows)
    let (_, leaf) = valueWithGradients(at: [affine]) {
      x.affine(affine).materialized().multiplied(by: weights).sum()
    }
    let expected = try leaf[affine]?.floats() ?? []
    #expect(expected.count == 21)
    #expect(try gradients[affine]?.floats() == expected)
  }
}
