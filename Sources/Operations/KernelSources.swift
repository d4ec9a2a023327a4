import Kernels
import OpenCLRuntime

/// The library's own programs: the files of the `Kernels` folder, each behind `common.cl`.
extension KernelSource {
  static let convolutionFilters = library("convolution_filters")
  static let convolutionGather = library("convolution_gather")
  static let convolutionNarrow = library("convolution_narrow", after: ["window"])
  static let convolutionPhases = library("convolution_phases")
  static let convolutionTiled = library("convolution_tiled", after: ["matrix", "tiles", "tiles_result"])
  static let convolutionTiledPatch = library(
    "convolution_tiled_patch", after: ["matrix", "tiles", "tiles_result"])
  static let convolutionTiledPatchFilterGradient = library(
    "convolution_tiled_patch_filter_gradient", after: ["matrix", "tiles"])
  static let convolutionVector = library("convolution_vector", after: ["window"])
  static let convolutionVectorFilterGradient = library("convolution_vector_filter_gradient", after: ["window"])
  static let convolutionWinograd = library("convolution_winograd", after: ["window", "winograd"])
  static let convolutionWinogradFilterGradient = library(
    "convolution_winograd_filter_gradient", after: ["window", "winograd"])
  static let elementwise = library("elementwise")
  static let matrixProbe = library("matrix_probe", after: ["matrix"])
  static let normalization = library("normalization")
  package static let optimizer = library("optimizer")
  static let peak = library("peak")
  static let pooling = library("pooling")
  static let reduction = library("reduction")
  static let resize = library("resize")
  static let softmax = library("softmax")

  /// Stands for the text of all of them: it changes when a kernel does.
  package static let libraryFingerprint = KernelSource(
    name: "library",
    text: [
      convolutionFilters, convolutionGather, convolutionNarrow, convolutionPhases, convolutionTiled,
      convolutionTiledPatch,
      convolutionTiledPatchFilterGradient, convolutionVector, convolutionVectorFilterGradient, convolutionWinograd,
      convolutionWinogradFilterGradient, elementwise,
      normalization, optimizer, pooling, reduction, resize, softmax,
    ].map(\.text).joined()
  ).fingerprint

  private static func library(_ name: String, after headers: [String] = []) -> KernelSource {
    KernelSource(
      name: name + ".cl", text: (["common"] + headers + [name]).map(text).joined(), builtins: text("builtins"))
  }

  private static func text(_ name: String) -> String {
    guard let source = fovea_kernel_source(name) else { preconditionFailure("no kernel file \(name).cl is embedded") }
    return String(cString: source)
  }
}
