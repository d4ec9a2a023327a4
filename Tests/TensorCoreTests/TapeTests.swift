import OpenCLRuntime
import TensorCore
import Testing

extension DeviceTests {
  @Suite struct TapeTests {}
}

extension KernelSource {
  /// y (+)= factor · x over rows of channels.
  fileprivate static let scale = KernelSource(
    name: "test scale",
    text: """
      kernel void scale(global const float *x, int xOffset, int xStride, float factor, global float *y, int yOffset,
                        int yStride, int accumulate) {
        const int c = get_global_id(0), row = get_global_id(1);
        global float *target = y + yOffset + row * yStride + c;
        const float v = factor * x[xOffset + row * xStride + c];
        *target = accumulate ? *target + v : v;
      }
      """)
}

/// y (+)= factor · x, not recorded.
private func scale(_ x: Tensor, by factor: Float, to y: Tensor, accumulate: Bool) {
  device.launch(
    .scale, "scale", global: [x.channels, x.rows],
    [
      .buffer(x.storage.buffer), .int(x.elementOffset), .int(x.pixelStride), .float(factor),
      .buffer(y.storage.buffer), .int(y.elementOffset), .int(y.pixelStride), .int(accumulate ? 1 : 0),
    ])
}

extension Tensor {
  /// factor · self, the only operation of these tests; `log` hears of its gradient.
  fileprivate func times(
    _ factor: Float, into target: Tensor? = nil, log: @escaping (Bool) -> Void = { _ in }
  ) -> Tensor {
    let y = target ?? Tensor(uninitialized: shape, on: device)
    scale(self, by: factor, to: y, accumulate: false)
    Tape.record("times", inputs: [self], outputs: [y]) { store in
      guard let dy = store.gradient(of: y), let dx = store.destination(for: self) else { return }
      log(dx.accumulate)
      scale(dy, by: factor, to: dx.tensor, accumulate: dx.accumulate)
    }
    return y
  }

  /// self + other.
  fileprivate func plus(_ other: Tensor) -> Tensor {
    let y = Tensor(uninitialized: shape, on: device)
    scale(self, by: 1, to: y, accumulate: false)
    scale(other, by: 1, to: y, accumulate: true)
    Tape.record("plus", inputs: [self, other], outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      for input in [self, other] {
        guard let dx = store.destination(for: input) else { continue }
        scale(dy, by: 1, to: dx.tensor, accumulate: dx.accumulate)
      }
    }
    return y
  }

  fileprivate static func ones(_ shape: Shape) -> Tensor {
    Tensor([Float](repeating: 1, count: shape.count), shape: shape, on: TestDevice.shared)
  }
}

extension DeviceTests.TapeTests {
  @Test func chain() throws {
    let x = Tensor.ones([2, 3])
    let (value, gradients) = valueWithGradients(at: [x]) { x.times(2).times(5) }
    #expect(try value.floats() == [Float](repeating: 10, count: 6))
    #expect(try gradients[x]?.floats() == [Float](repeating: 10, count: 6))
  }

  @Test func firstWriterOverwritesLaterOnesAccumulate() throws {
    let x = Tensor.ones([2])
    var log: [Bool] = []
    let (_, gradients) = valueWithGradients(at: [x]) {
      x.times(2) { log.append($0) }.plus(x.times(3) { log.append($0) }).plus(x.times(4) { log.append($0) })
    }
    #expect(log == [false, true, true])
    #expect(try gradients[x]?.floats() == [9, 9])
  }

  @Test func oneTensorTwiceInOneOperation() throws {
    let x = Tensor.ones([3])
    let (_, gradients) = valueWithGradients(at: [x]) { x.plus(x) }
    #expect(try gradients[x]?.floats() == [2, 2, 2])
  }

  @Test func onlyWhatDependsOnAWatchedTensorIsRecorded() throws {
    let x = Tensor.ones([2])
    let other = Tensor.ones([2])
    var log: [Bool] = []
    let (_, gradients) = valueWithGradients(at: [x]) {
      x.times(2).plus(other.times(3) { log.append($0) })
    }
    #expect(log.isEmpty)
    #expect(gradients[other] == nil)
    #expect(try gradients[x]?.floats() == [2, 2])
  }

  @Test func parametersNeedNoWatching() throws {
    let parameter = Tensor.ones([2])
    parameter.storage.requiresGradient = true
    let arena = Tensor.ones([8])
    parameter.storage.gradientHome = Storage(buffer: arena.storage.buffer, baseOffset: 3, rows: 1, channels: 2)
    let (_, gradients) = valueWithGradients { parameter.times(5) }
    #expect(try gradients[parameter]?.floats() == [5, 5])
    #expect(try arena.floats() == [1, 1, 1, 5, 5, 1, 1, 1])
  }

  @Test func unusedTensorsHaveNoGradient() {
    let (x, unused) = (Tensor.ones([2]), Tensor.ones([2]))
    let (_, gradients) = valueWithGradients(at: [x, unused]) {
      _ = unused.times(2)
      return x.times(3)
    }
    #expect(gradients[unused] == nil)
  }

  @Test func aResultThatDependsOnNothingHasNoGradients() {
    let x = Tensor.ones([2])
    let (_, gradients) = valueWithGradients(at: [x]) { Tensor.ones([2]).times(2) }
    #expect(gradients[x] == nil)
  }

  @Test func theWatchedTensorItself() throws {
    let x = Tensor.ones([2])
    let (_, gradients) = valueWithGradients(at: [x]) { x }
    #expect(try gradients[x]?.floats() == [1, 1])
  }

  @Test func nothingIsRecordedOutsideATapeOrDuringBackward() {
    let x = Tensor.ones([2])
    x.storage.requiresGradient = true
    var current: Tape?
    _ = valueWithGradients {
      let y = x.times(2)
      Tape.record("probe", inputs: [y], outputs: [y]) { _ in current = Tape.current }
      return y
    }
    #expect(current == nil && Tape.current == nil)
  }

  @Test func gradientsOfIntermediateTensorsAreKeptWhenWatched() throws {
    let x = Tensor.ones([2])
    let tape = Tape()
    tape.watch(x)
    let (middle, y) = Tape.$current.withValue(tape) {
      let middle = x.times(2)
      return (middle, middle.times(3))
    }
    tape.watch(middle)
    let gradients = tape.gradients(of: y)
    #expect(try gradients[middle]?.floats() == [3, 3])
    #expect(try gradients[x]?.floats() == [6, 6])
  }

  @Test func intermediateGradientsAreFreedOnTheWay() throws {
    let x = Tensor.ones([2])
    let tape = Tape()
    tape.watch(x)
    let (middle, y) = Tape.$current.withValue(tape) {
      let middle = x.times(2)
      return (middle, middle.times(3))
    }
    let gradients = tape.gradients(of: y)
    #expect(gradients[middle] == nil && gradients[y] == nil)
    #expect(gradients[x] != nil)
  }

  @Test func seeds() throws {
    let x = Tensor.ones([3])
    let tape = Tape()
    tape.watch(x)
    let y = Tape.$current.withValue(tape) { x.times(2) }
    let gradients = tape.gradients(of: y, seed: Tensor([1, 10, 100] as [Float], shape: [3], on: device))
    #expect(try gradients[x]?.floats() == [2, 20, 200])
  }

  /// A loss that is a view, with a seed that is one, too.
  @Test func seedsOfViews() throws {
    let x = Tensor.ones([3, 2])
    let tape = Tape()
    tape.watch(x)
    var stack = ChannelStack(shape: [3, 5], on: device)
    Tape.$current.withValue(tape) {
      _ = x.times(2, into: stack.appendSlab(channels: 2))
      _ = x.times(3, into: stack.appendSlab(channels: 2))
    }
    let wide = Tensor((0..<12).map(Float.init), shape: [3, 4], on: device)
    let gradients = tape.gradients(of: stack.prefix.channels(2..<4), seed: wide.channels(1..<3))
    #expect(try gradients[x]?.floats() == [3, 6, 15, 18, 27, 30])
  }

  @Test func slabsTakeTheirPartOfThePrefixGradient() throws {
    let a = Tensor.ones([2, 1])
    let b = Tensor.ones([2, 2])
    let (_, gradients) = valueWithGradients(at: [a, b]) {
      var stack = ChannelStack(shape: [2, 3], on: device)
      _ = a.times(2, into: stack.appendSlab(channels: 1))
      let first = stack.prefix.times(10)
      _ = b.times(3, into: stack.appendSlab(channels: 2))
      let second = stack.prefix.times(100)
      return second.channels(0..<1).plus(first)
    }
    #expect(try gradients[a]?.floats() == [220, 220])
    // Channels of the second part that the result does not read have the gradient zero.
    #expect(try gradients[b]?.floats() ?? [0, 0, 0, 0] == [0, 0, 0, 0])
  }

  /// The first slab comes from a tensor that nobody asks about.
  @Test func slabsOfUnwatchedTensors() throws {
    let a = Tensor.ones([2, 1])
    let b = Tensor.ones([2, 2])
    let (_, gradients) = valueWithGradients(at: [b]) {
      var stack = ChannelStack(shape: [2, 3], on: device)
      _ = a.times(2, into: stack.appendSlab(channels: 1))
      let first = stack.prefix.times(10)
      _ = b.times(3, into: stack.appendSlab(channels: 2))
      return stack.prefix.times(100).channels(0..<1).plus(first).plus(stack.prefix.channels(2..<3))
    }
    #expect(gradients[a] == nil)
    #expect(try gradients[b]?.floats() == [0, 3, 0, 3])
  }

  @Test func partsOfAGradientThatNobodyWroteAreZero() throws {
    let x = Tensor.ones([2, 4])
    let (_, gradients) = valueWithGradients(at: [x]) { x.channels(1..<3).times(7) }
    #expect(try gradients[x]?.floats() == [0, 7, 7, 0, 0, 7, 7, 0])
    #expect(gradients[x.channels(0..<1)] != nil)
  }

  @Test func tapesDoNotShare() throws {
    let x = Tensor.ones([2])
    let (outer, inner) = (Tape(), Tape())
    #expect(outer.id != inner.id)
    outer.watch(x)
    let y = Tape.$current.withValue(outer) {
      let y = x.times(2)
      _ = Tape.$current.withValue(inner) { y.times(3) }
      return y
    }
    #expect(!inner.isTracked(y) && outer.isTracked(y))
    #expect(try outer.gradients(of: y)[x]?.floats() == [2, 2])
  }

  @Test func theTapeLetsGoOfWhatItKept() {
    let x = Tensor.ones([2])
    weak var kept: Storage?
    let tape = Tape()
    tape.watch(x)
    do {
      let y = Tape.$current.withValue(tape) { () -> Tensor in
        let middle = x.times(2)
        kept = middle.storage
        return middle.times(3)
      }
      #expect(kept != nil)
      _ = tape.gradients(of: y)
    }
    #expect(kept == nil)
  }
}
