import OpenCLRuntime
import Synchronization
import TensorCore

/// Measured choices of configurations by pass, shape, type of the images and what matrix units round operands to,
/// whatever the batch; see `ConvolutionChoices`.
package struct ConvolutionTable: Sendable, Hashable, Codable {
  private struct Key: Hashable, Codable {
    var pass: ConvolutionPass
    var shape: ConvolutionGeometry
    var dtype: DType
    /// Nil for products in single precision.
    var operand: MatrixOperand?
  }

  private var entries: [Key: ConvolutionConfiguration] = [:]
  /// When it was measured, ISO 8601; no two tables of a device have the same.
  package let date: String

  /// Empty.
  package init(date: String) { self.date = date }

  /// The choice for a pass of convolutions like that one, of any batch: a smaller last batch must not need programs of
  /// its own. What is fastest for images of 32 bits need not be for those of 16, nor for other products.
  package subscript(
    pass: ConvolutionPass, geometry: ConvolutionGeometry, dtype: DType, operand: MatrixOperand? = nil
  ) -> ConvolutionConfiguration? {
    get { entries[Key(pass: pass, shape: geometry.withBatch(1), dtype: dtype, operand: operand)] }
    set { entries[Key(pass: pass, shape: geometry.withBatch(1), dtype: dtype, operand: operand)] = newValue }
  }

  private enum CodingKeys: CodingKey { case date, choices }

  private struct Choice: Codable {
    var key: Key
    var configuration: ConvolutionConfiguration
  }

  /// Reads what `encode(to:)` wrote.
  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    date = try container.decode(String.self, forKey: .date)
    for choice in try container.decode([Choice].self, forKey: .choices) { entries[choice.key] = choice.configuration }
  }

  /// Writes all choices, always in the same order.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(date, forKey: .date)
    let choices = entries.map { Choice(key: $0, configuration: $1) }.sorted { "\($0.key)" < "\($1.key)" }
    try container.encode(choices, forKey: .choices)
  }
}

extension DeviceDescription {
  /// What was measured on this device; without it every pass has its standard configuration.
  package var convolutionTable: ConvolutionTable? {
    get { tuning as? ConvolutionTable }
    set { tuning = newValue }
  }

  /// The summary and whether kernels were chosen by measurement.
  package var header: String {
    summary + ", " + (convolutionTable.map { "kernels tuned \($0.date.prefix(10))" } ?? "default kernels")
  }

  /// How a pass over images of that type is computed on such a device: as `forced`, or as the device's table says where
  /// that is legal, or by the standard.
  package func configuration(
    of pass: ConvolutionPass, _ geometry: ConvolutionGeometry, _ dtype: DType, _ algorithm: ConvolutionAlgorithm
  ) -> ConvolutionConfiguration {
    if let forced = ConvolutionConfiguration.forced[pass] { return forced }
    let operand = algorithm == .tiled ? matrixOperand(for: dtype) : nil
    if let measured = convolutionTable?[pass, geometry, dtype, operand],
      ConvolutionSpace(pass, geometry, algorithm, operand, on: self).violation(of: measured) == nil
    {
      return measured
    }
    return .standard(pass, geometry, algorithm, operand, on: self)
  }
}

/// The configurations of a device's convolutions, each worked out once.
final class ConvolutionChoices: Sendable {
  private struct Key: Hashable {
    var pass: ConvolutionPass
    var geometry: ConvolutionGeometry
    var dtype: DType
    var algorithm: ConvolutionAlgorithm
  }

  private let known = Mutex<[Key: ConvolutionConfiguration]>([:])

  func configuration(
    of pass: ConvolutionPass, _ geometry: ConvolutionGeometry, _ dtype: DType, _ algorithm: ConvolutionAlgorithm,
    on device: Device
  ) -> ConvolutionConfiguration {
    guard ConvolutionConfiguration.forced.isEmpty else {
      return device.description.configuration(of: pass, geometry, dtype, algorithm)
    }
    return known.withLock { known in
      let key = Key(pass: pass, geometry: geometry, dtype: dtype, algorithm: algorithm)
      if let configuration = known[key] { return configuration }
      let configuration = device.description.configuration(of: pass, geometry, dtype, algorithm)
      known[key] = configuration
      return configuration
    }
  }
}

extension Device {
  func configuration(
    of pass: ConvolutionPass, _ geometry: ConvolutionGeometry, _ dtype: DType, _ algorithm: ConvolutionAlgorithm
  ) -> ConvolutionConfiguration {
    cached("convolution choices") { ConvolutionChoices() }.configuration(of: pass, geometry, dtype, algorithm, on: self)
  }
}
