import OpenCLRuntime
import TensorCore
import Testing

/// Parent of the suites that use the device: its work is built by one thread at a time.
@Suite(.serialized) struct DeviceTests {}

enum TestDevice {
  static let shared: Device = {
    do { return try Device(DeviceSelection.pick("cpu")) } catch { fatalError("\(error)") }
  }()
}

var device: Device { TestDevice.shared }

extension DeviceTests {
  @Suite struct TensorTests {
    private static let values = (0..<24).map(Float.init)

    @Test func roundTrip() throws {
      #expect(try Tensor(Self.values, shape: [2, 3, 4], on: device).floats() == Self.values)
      #expect(try Tensor(enqueueing: Self.values, shape: [2, 3, 4], on: device).floats() == Self.values)
      #expect(try Tensor([UInt8(1), 255, 7], shape: [3], on: device).bytes() == [1, 255, 7])
      #expect(try Tensor(enqueueing: [UInt8(1), 255, 7], shape: [3], on: device).bytes() == [1, 255, 7])
      #expect(try Tensor([4.5], shape: [], on: device).item() == 4.5)
      #expect(try Tensor.zeros([5], on: device).floats() == [0, 0, 0, 0, 0])
    }

    @Test func channelViews() throws {
      let tensor = Tensor(Self.values, shape: [6, 4], on: device)
      let view = tensor.channels(1..<3)
      #expect(view.shape == [6, 2] && view.channelRange == 1..<3 && !view.isContiguous && !view.coversStorage)
      #expect(try view.floats() == [1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22])
      let inner = view.channels(1..<2)
      #expect(inner.channelRange == 2..<3)
      #expect(try inner.floats() == [2, 6, 10, 14, 18, 22])
      #expect(tensor.channels(0..<4).coversStorage)
    }

    @Test func bytesOfAView() throws {
      let tensor = Tensor((0..<12).map(UInt8.init), shape: [4, 3], on: device)
      #expect(try tensor.channels(1..<2).bytes() == [1, 4, 7, 10])
    }

    @Test func reshapeSharesMemory() throws {
      let tensor = Tensor(Self.values, shape: [6, 4], on: device)
      let reshaped = tensor.reshaped([2, 12])
      #expect(reshaped.storage.id == tensor.storage.id && reshaped.channelRange == 0..<4)
      #expect(try reshaped.floats() == Self.values)
    }

    @Test func fillOfAViewLeavesTheRest() throws {
      let tensor = Tensor(Self.values, shape: [6, 4], on: device)
      tensor.channels(1..<3).fill(-1)
      tensor.channels(3..<4).fill(0)
      #expect(try tensor.floats() == (0..<6).flatMap { [Float($0 * 4), -1, -1, 0] })
    }

    /// A part of an arena lies behind other values.
    @Test func partsOfAnArena() throws {
      let buffer = device.allocate(byteCount: 20 * 4)
      let whole = Tensor(storage: Storage(buffer: buffer, baseOffset: 0, rows: 1, channels: 20), shape: [20])
      whole.fill(7)
      let part = Tensor(storage: Storage(buffer: buffer, baseOffset: 6, rows: 3, channels: 2), shape: [3, 2])
      part.fill(0)
      part.channels(1..<2).fill(2)
      #expect(try part.floats() == [0, 2, 0, 2, 0, 2])
      #expect(try part.channels(1..<2).floats() == [2, 2, 2])
      let expected = [Float](repeating: 7, count: 6) + [0, 2, 0, 2, 0, 2] + [Float](repeating: 7, count: 8)
      #expect(try whole.floats() == expected)
    }

    @Test func channelStack() throws {
      var stack = ChannelStack(shape: [3, 5], on: device)
      #expect(stack.filled == 0)
      let first = stack.appendSlab(channels: 2)
      first.fill(1)
      let second = stack.appendSlab(channels: 3)
      second.fill(2)
      #expect(stack.filled == 5 && first.storage.id == second.storage.id && second.channelRange == 2..<5)
      #expect(try stack.prefix.floats() == [1, 1, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2])
      // A copy of the stack fills on its own.
      var other = ChannelStack(shape: [1, 4], on: device)
      let kept = other
      _ = other.appendSlab(channels: 4)
      #expect(kept.filled == 0 && other.filled == 4)
    }

    @Test func storageNumbersAreNotReused() {
      let numbers = (0..<10).map { _ in Storage(device: device, rows: 1, channels: 1).id }
      #expect(Set(numbers).count == 10)
    }
  }
}
