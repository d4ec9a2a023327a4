import OpenCLRuntime
import TensorCore

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
