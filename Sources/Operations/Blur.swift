import Foundation
import OpenCLRuntime
import TensorCore

extension TensorOperand {
  /// Images [batch, height, width, channels] filtered along rows and columns, each channel by itself; zeros beyond the
  /// edge, as with a depthwise convolution's `same` padding.
  ///
  /// - Parameter weights: an odd number of them, the same from both ends, as of a Gaussian.
  public func blurred(weights: [Double]) -> Tensor {
    let x = deferred
    precondition(x.shape.rank == 4, "blur: the input must be [batch, height, width, channels], not \(x.shape)")
    precondition(
      weights.count % 2 == 1 && weights == weights.reversed(), "blur: \(weights) are not symmetric around a middle")
    let rows = AxisTable.filter(x.shape[1], weights, on: x.device)
    let columns = AxisTable.filter(x.shape[2], weights, on: x.device)
    let y = Tensor(uninitialized: x.shape, on: x.device, dtype: x.base.dtype)
    resample(x, rows: rows, columns: columns, to: .init(tensor: y, accumulate: false), "blur")
    Tape.record("blur", inputs: x.inputs, outputs: [y]) { store in
      guard let dy = store.gradient(of: y) else { return }
      x.resizeGradient(dy, rows: rows, columns: columns, store)
    }
    return y
  }
}

/// The weights of a Gaussian at −radius…radius, which sum to 1.
public func gaussianWeights(radius: Int, deviation: Double) -> [Double] {
  precondition(radius >= 0 && deviation > 0, "gaussianWeights: radius \(radius), deviation \(deviation)")
  let weights = (-radius...radius).map { exp(-Double($0 * $0) / (2 * deviation * deviation)) }
  let sum = weights.reduce(0, +)
  return weights.map { $0 / sum }
}

extension AxisTable {
  /// Of a blur and, as symmetric weights are their own transpose, of its gradient.
  fileprivate static func filter(_ size: Int, _ weights: [Double], on device: Device) -> AxisTable {
    let key = "filter \(size) \(weights)"
    return AxisTable(device.cached(key) { Values(.filter(size, weights: weights)) }, key, on: device)
  }
}
