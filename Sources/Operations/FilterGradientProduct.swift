import OpenCLRuntime
import TensorCore

/// The launch of `conv_tiled_filter_gradient`, or where the tile has a ring of `conv_tiled_patch_filter_gradient`: how its
/// terms are cut into splits, each to a part of its own of the partial gradients.
struct FilterGradientProduct {
  let splits: Int
  /// Work-items.
  let global: [Int]
  /// What the kernel takes between the sizes of the images and the partial gradients.
  let arguments: [KernelArgument]
  private let tile: TiledConvolution.Tile
  private let geometry: ConvolutionGeometry
  private let ring: TiledRing?

  /// - Parameter groups: work-groups for each compute unit that splits aim at.
  init(_ g: ConvolutionGeometry, _ tile: TiledConvolution.Tile, groups: Int, on device: DeviceDescription) {
    self.tile = tile
    geometry = g
    let wanted = TiledConvolution.splits(g, tile, groups: groups, on: device)
    let across = (g.outputs + tile.columns - 1) / tile.columns
    guard let room = tile.ring else {
      let pixels = g.batch * g.outHeight * g.outWidth
      let chunk = (pixels - 1) / wanted + 1
      ring = nil
      splits = (pixels - 1) / chunk + 1
      let rows = (TiledConvolution.filterRows(g) + tile.rows - 1) / tile.rows
      global = [rows * tile.items, across, splits]
      arguments = [.int(chunk)]
      return
    }
    // Configurations are legal by `ConvolutionSpace`; those that are forced have to be as well.
    if let violation = tile.ringViolation(g, on: device) { preconditionFailure("conv \(g.label): \(violation)") }
    guard let ring = TiledRing(g, terms: tile.terms, room: room, splits: wanted) else {
      preconditionFailure("conv \(g.label): no ring of \(room) positions")
    }
    self.ring = ring
    let length = ring.stepsOfSplit(atMost: wanted)
    splits = (ring.steps + length - 1) / length
    global = [tile.ringBlocks(g) * tile.items, across, splits]
    arguments = [.int(ring.strip), .int(length), .int(ring.steps)]
  }

  var kernel: String { ring == nil ? "conv_tiled_filter_gradient" : "conv_tiled_patch_filter_gradient" }

  var source: KernelSource { ring == nil ? .convolutionTiled : .convolutionTiledPatchFilterGradient }

  /// Bytes that work-groups load: each tile its rows, of x, and its columns, of dy, for all pixels, padding included. With
  /// a ring it loads each position of x for all taps at once.
  func requestedBytes(x: DType, dy: DType) -> Double {
    let g = geometry
    let across = Double(global[1])
    let down = Double(global[0] / tile.items)
    let pixels = Double(g.batch * g.outHeight * g.outWidth)
    let positions = ring.map { Double(($0.steps + splits * $0.early) * tile.terms) }
    let rowLoads = positions.map { $0 * Double(g.inputs) } ?? pixels * Double(TiledConvolution.filterRows(g))
    return rowLoads * across * Double(x.byteCount) + pixels * Double(g.outputs) * down * Double(dy.byteCount)
  }
}

extension TiledConvolution {
  /// Splits of a filter gradient that give each compute unit so many work-groups.
  static func splits(_ g: ConvolutionGeometry, _ tile: Tile, groups: Int, on device: DeviceDescription) -> Int {
    let tiles =
      tile.ring == nil
      ? tile.groups(filterRows(g), g.outputs) : tile.ringBlocks(g) * ((g.outputs + tile.columns - 1) / tile.columns)
    return max(1, min(groups * device.computeUnits / tiles, mostSplits(g)))
  }
}
