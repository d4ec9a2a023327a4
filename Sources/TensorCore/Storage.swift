import OpenCLRuntime
import Synchronization

/// The memory behind one or more tensors, seen as rows of `channels` elements, with what belongs to that memory: the
/// channel statistics computed from it and where its gradient is to be written.
///
/// Not thread-safe beyond reference counting: one thread at a time builds work for a device.
public final class Storage: @unchecked Sendable {
  /// Unique for the life of the process, unlike an address, which a later storage may get again.
  public let id: Int
  /// The device that holds the memory.
  public let device: Device
  /// The memory, which other storages may share.
  public let buffer: Buffer
  /// Element of the buffer at which this storage starts; not 0 for a part of an arena.
  public let baseOffset: Int
  /// Rows of elements.
  public let rows: Int
  /// Elements of a row.
  public let channels: Int
  /// The type of the elements.
  public let dtype: DType
  /// True for trainable parameters: operations that read them are recorded on any tape.
  public var requiresGradient = false
  /// Where the gradient of this storage must be written, for parameters whose gradients lie in one arena.
  public var gradientHome: Storage?
  /// Moments of parts that the kernels that wrote some channels left behind, until their statistics are asked for.
  package var partialMoments: [PartialMoments] = []
  /// Batch statistics computed from this storage; see `ChannelStatistics`.
  public var statistics: ChannelStatistics?

  private static let nextID = Atomic<Int>(0)

  /// New memory of `rows` × `channels` elements with undefined contents.
  public init(device: Device, rows: Int, channels: Int, dtype: DType = .float32) {
    id = Self.nextID.wrappingAdd(1, ordering: .relaxed).newValue
    self.device = device
    buffer = device.allocate(byteCount: rows * channels * dtype.byteCount)
    baseOffset = 0
    self.rows = rows
    self.channels = channels
    self.dtype = dtype
  }

  /// A part of an arena, from element `baseOffset` of `buffer`.
  public init(buffer: Buffer, baseOffset: Int, rows: Int, channels: Int, dtype: DType = .float32) {
    precondition(
      (baseOffset + rows * channels) * dtype.byteCount <= buffer.byteCount, "Storage: part lies outside its arena")
    id = Self.nextID.wrappingAdd(1, ordering: .relaxed).newValue
    device = buffer.device
    self.buffer = buffer
    self.baseOffset = baseOffset
    self.rows = rows
    self.channels = channels
    self.dtype = dtype
  }
}

/// Mean, summed squared deviations from it and number of the rows of each of some groups that cover a storage's rows.
package struct PartialMoments: Sendable {
  /// The channels described.
  package let channels: Range<Int>
  package let groups: Int
  /// [groups, 2, channels], then the numbers of rows, [groups].
  package let values: Tensor

  package init(channels: Range<Int>, groups: Int, values: Tensor) {
    (self.channels, self.groups, self.values) = (channels, groups, values)
  }
}

/// Mean and biased variance per channel of a storage, computed range by range and kept with it, so that every
/// normalisation that reads a channel shares them. Concatenation by channel stack makes this pay: in a dense block each
/// slab is read by all later layers.
public final class ChannelStatistics {
  /// One element a channel of the storage described.
  public let mean: Storage
  /// Biased variance, one element a channel of the storage described.
  public let variance: Storage
  /// Channel ranges that hold values, sorted and disjoint.
  public var computed = RangeSet()
  /// The tape on which they were recorded; statistics from another tape carry no gradient here and are not reused.
  public let tapeID: Int?
  /// Slope of the activation applied before averaging, or nil.
  public let preSlope: Float?

  /// Statistics of `storage`, none of them computed yet.
  public init(of storage: Storage, tapeID: Int?, preSlope: Float?) {
    mean = Storage(device: storage.device, rows: 1, channels: storage.channels)
    variance = Storage(device: storage.device, rows: 1, channels: storage.channels)
    self.tapeID = tapeID
    self.preSlope = preSlope
  }
}
