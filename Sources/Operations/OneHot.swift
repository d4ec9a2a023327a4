import OpenCLRuntime
import TensorCore

extension Tensor {
  /// Classes as targets for `softmaxCrossEntropy`: [labels, classes], 1 in each label's column and 0 elsewhere, as Keras's
  /// `one_hot`. A label outside 0 ..< `classes` traps.
  public static func oneHot(
    _ labels: some Collection<some BinaryInteger>, classes: Int, on device: Device
  ) -> Tensor {
    Tensor(oneHotRows(labels, classes: classes), shape: [labels.count, classes], on: device)
  }
}

/// The numbers of ``Tensor/oneHot(_:classes:on:)``, row by row.
package func oneHotRows(_ labels: some Collection<some BinaryInteger>, classes: Int) -> [Float] {
  var rows = [Float](repeating: 0, count: labels.count * classes)
  for (row, label) in labels.enumerated() {
    precondition(label >= 0 && label < classes, "oneHot: label \(label) of \(classes) classes")
    rows[row * classes + Int(label)] = 1
  }
  return rows
}
