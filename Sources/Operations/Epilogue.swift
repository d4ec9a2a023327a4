import OpenCLRuntime
import TensorCore

/// Where the work-items of a forward pass leave moments of what they store; see `PartialMoments`.
package struct MomentsTarget {
  /// False: moments are computed from what was stored, for tests of one against the other.
  @TaskLocal package static var isUsed = true

  let arguments: [KernelArgument]
  let left: PartialMoments?

  /// - Parameters:
  ///   - y: what is stored; nil where no moments are wanted.
  ///   - groups: work-items, in the order of their pixels.
  ///   - standIn: any tensor, an argument in the place of moments that are not there.
  init(of y: Tensor?, groups: Int, standIn: Tensor) {
    // With less than 16 pixels a group, the last apart, writing and joining them would cost more than another pass over
    // the result.
    guard Self.isUsed, let y, (groups - 1) * 16 < y.rows else {
      (arguments, left) = ([.buffer(standIn.storage.buffer), .int(0)], nil)
      return
    }
    let values = Tensor(uninitialized: [groups * (2 * y.channels + 1)], on: y.device)
    left = PartialMoments(channels: y.channelRange, groups: groups, values: values)
    arguments = [.buffer(values.storage.buffer), .int(groups)]
  }
}

/// What a kernel takes to apply the gradient of pending steps while it stores: EPILOGUE in `common.cl`.
struct Epilogue {
  /// Compiler options that bake the steps' structure.
  let options: String
  let arguments: [KernelArgument]
  /// What each work-item adds to the affine's gradient, [items, 2, channels]; see `finishAffineGradient`. Nil without an
  /// affine.
  let sums: Tensor?

  /// - Parameters:
  ///   - steps: the tensor that was read through them; nil makes an epilogue that adds nothing.
  ///   - items: work-items that leave sums.
  ///   - standIn: any tensor, an argument in the place of sums that are not there.
  init(of steps: DeferredTensor?, items: Int, standIn: Tensor) {
    guard let steps else {
      (options, arguments, sums) = ("", [], nil)
      return
    }
    options = " -D EPILOGUE=1" + steps.prologueOptions(prefix: "E")
    sums = steps.prologue.affine.map { Tensor(uninitialized: [items, 2, $0.channels], on: steps.device) }
    arguments = steps.base.storedArguments + steps.prologueArguments + [.buffer((sums ?? standIn).storage.buffer)]
  }
}
