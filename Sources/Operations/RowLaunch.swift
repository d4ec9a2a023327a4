import OpenCLRuntime
import TensorCore

/// How a kernel over rows of channels is spread over work-items: vectors of channels by chunks of rows.
///
/// CPUs get one work-item per work-group with 16-wide vectors and large chunks; GPUs get many small items and let the
/// driver choose the group.
package struct RowLaunch {
  package let rows: Int
  package let channels: Int
  /// Channels a work-item handles: 1, 4 or 16.
  package let vector: Int
  package let chunkRows: Int

  package var chunks: Int { (rows + chunkRows - 1) / chunkRows }
  /// Channel vectors by chunks; a work-item for each.
  package var global: [Int] { [channels / vector, chunks] }
  package var options: String { "-D VEC=\(vector)" }

  /// - Parameter chunkRows: fixed rows a chunk; nil chooses by the device and the amount of work.
  package init(rows: Int, channels: Int, device: Device, chunkRows: Int? = nil) {
    self.rows = rows
    self.channels = channels
    vector = Self.vector(channels, device)
    if let chunkRows {
      self.chunkRows = chunkRows
    } else {
      // About 16 Ki values a work-item on a CPU, 16 rows on a GPU.
      self.chunkRows = device.isCPU ? max(1, min(rows, 16384 / vector)) : 16
    }
  }

  /// For kernels that go through the channels of a row by themselves (FOR_CHANNELS): on CPUs a work-item takes whole rows,
  /// so that it reads memory in order.
  package static func wholeRows(_ rows: Int, channels: Int, device: Device) -> (launch: RowLaunch, global: [Int]) {
    guard device.isCPU else {
      let launch = RowLaunch(rows: rows, channels: channels, device: device)
      return (launch, launch.global)
    }
    let launch = RowLaunch(
      rows: rows, channels: channels, device: device, chunkRows: max(1, min(rows, 16384 / max(channels, 1))))
    return (launch, [1, launch.chunks])
  }

  /// For kernels that treat all channels alike: when every tensor is contiguous, rows and channels are re-cut so that
  /// vectors are full. On CPUs a row is a vector, so that a work-item reads memory in order.
  package static func elementwise(_ tensors: [Tensor]) -> (launch: RowLaunch, strides: [Int]) {
    let shape = tensors[0].shape
    let device = tensors[0].device
    if tensors.allSatisfy(\.isContiguous) {
      for channels in device.isCPU ? [16, 4] : [1024, 64, 16, 4] where shape.count % channels == 0 {
        return (
          RowLaunch(rows: shape.count / channels, channels: channels, device: device),
          tensors.map { _ in channels }
        )
      }
    }
    return (RowLaunch(rows: shape.rows, channels: shape.channels, device: device), tensors.map(\.pixelStride))
  }

  package static func vector(_ channels: Int, _ device: Device) -> Int {
    if device.isCPU, channels % 16 == 0 { return 16 }
    return channels % 4 == 0 ? 4 : 1
  }
}

/// How the last stage of a reduction is spread: a work-item for each vector of channels, or a group of work-items that
/// share the chunks. See SHARE in `common.cl`.
struct FinishingLaunch {
  let options: String
  let global: [Int]
  let local: [Int]?

  /// - Parameters:
  ///   - channels: values that come out of the reduction.
  ///   - first: where they begin among those that the launch is for.
  ///   - all: values that the launch is for; nil for `channels`. Whether chunks are shared, and so the order of the sums,
  ///     does not depend on it.
  ///   - chunks: how many partial results go into each.
  init(channels: Int, from first: Int = 0, of all: Int? = nil, chunks: Int, on device: Device) {
    let share = 32
    // With thousands of values there are work-items enough, and a few chunks are soon added.
    let together =
      !device.isCPU && channels / RowLaunch.vector(channels, device) < 4096 && chunks >= share
      && device.description.maximumWorkGroupSize >= share
    let all = all ?? channels
    let vector = [channels, first, all].map { RowLaunch.vector($0, device) }.min() ?? 1
    options = "-D VEC=\(vector)" + (together ? " -D SHARE=\(share)" : "")
    global = together ? [all / vector, share] : [all / vector]
    local = together ? [1, share] : device.independent(1)
  }
}

extension Tensor {
  /// The three arguments by which kernels take a tensor: its buffer, the element of its first value, and the elements
  /// from one row to the next. Traps for 16-bit types, whose values are no `float`s: ``TensorOperand/cast(to:)`` first.
  public var arguments: [KernelArgument] { vectorArguments + [.int(pixelStride)] }

  /// The two arguments by which kernels take a vector, such as a weight for each channel: its buffer and the element of
  /// its first value. Traps for 16-bit types, as `arguments` does.
  public var vectorArguments: [KernelArgument] {
    precondition(
      !dtype.isSixteenBit, "a kernel that takes floats got a \(dtype) tensor \(shape): cast(to: .float32) it first")
    return storedVectorArguments
  }

  /// `arguments` for kernels built with `storageOptions`.
  package var storedArguments: [KernelArgument] { storedVectorArguments + [.int(pixelStride)] }

  /// `vectorArguments` for kernels built with `storageOptions`.
  package var storedVectorArguments: [KernelArgument] { [.buffer(storage.buffer), .int(elementOffset)] }

  /// Compiler options for kernels that find this tensor and all others in its type: STORE in `common.cl`.
  package var storageOptions: String { dtype.isSixteenBit ? " -D STORE=\(dtype.kernelName)" : "" }

  /// Besides, the option for kernels whose result is of another type: RESULT in `common.cl`.
  package func resultOptions(_ result: Tensor) -> String {
    let type = dtype.isSixteenBit ? dtype : .float32
    return result.dtype == type ? "" : " -D RESULT=\(result.dtype.kernelName)"
  }
}

extension DType {
  /// What `common.cl` calls it.
  fileprivate var kernelName: String {
    switch self {
    case .float32: "float"
    case .float16: "half"
    case .bfloat16: "bfloat"
    case .uint8, .int32: preconditionFailure("a kernel cannot store values as \(self)")
    }
  }
}

extension GradientStore.Destination {
  /// The argument `manner` of a kernel that writes all of the tensor; see `common.cl`.
  var manner: KernelArgument { tensor.manner(accumulate: accumulate) }
}

extension Tensor {
  /// The argument `manner` of a kernel that writes all of the tensor; see `common.cl`.
  func manner(accumulate: Bool) -> KernelArgument {
    .int(accumulate ? 1 : device.isCPU && isWorthStreaming ? 2 : 0)
  }

  /// Whether a CPU kernel that writes all of it had better store past the caches: it is made of whole aligned cache
  /// lines, and too large for a cache to keep until it is read. Sixteen 16-bit values, which kernels store at a time,
  /// are half a line.
  var isWorthStreaming: Bool {
    dtype == .float32 && byteCount >= 8 << 20 && channels % 16 == 0 && pixelStride % 16 == 0 && elementOffset % 16 == 0
  }
}

extension DeferredTensor {
  /// Affine buffer, offset and the two slopes; the base stands in for an affine that is not there.
  package var prologueArguments: [KernelArgument] {
    let affine = prologue.affine ?? base
    return [
      .buffer(affine.storage.buffer), .int(affine.elementOffset), .float(prologue.preSlope ?? 1),
      .float(prologue.postSlope ?? 1),
    ]
  }

  /// Compiler options that bake the prologue's structure and the base's type; with a prefix for an epilogue's second
  /// structure, whose type is that of the result.
  package func prologueOptions(prefix: String = "") -> String {
    precondition(base.dtype.isFloatingPoint, "a tensor of \(base.dtype) \(base.shape) must be scaled to float32 first")
    var options = prefix.isEmpty ? base.storageOptions : ""
    if prologue.preSlope != nil { options += " -D \(prefix)PRE=1" }
    if prologue.affine != nil { options += " -D \(prefix)AFFINE=1" }
    if prologue.postSlope != nil { options += " -D \(prefix)POST=1" }
    return options
  }

  /// The tensors a gradient may flow to.
  package var inputs: [Tensor] { [base] + (prologue.affine.map { [$0] } ?? []) }
}
