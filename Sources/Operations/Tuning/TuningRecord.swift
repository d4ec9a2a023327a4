import OpenCLRuntime
import TensorCore

/// What was measured of convolutions that share a program, with all timings.
package struct TuningRecord: Codable, Sendable {
  /// A convolution with the number of its launches in a step.
  package struct Member: Codable, Sendable, Hashable {
    package var convolution: ConvolutionGeometry
    package var launches: Int

    package init(convolution: ConvolutionGeometry, launches: Int) {
      self.convolution = convolution
      self.launches = launches
    }
  }

  /// Runs of a candidate on one member, each right after one of the standard.
  package struct Timing: Codable, Sendable {
    /// Index of the member.
    package var member: Int
    package var milliseconds: [Double]
    package var standardMilliseconds: [Double]

    package init(member: Int, milliseconds: [Double], standardMilliseconds: [Double]) {
      self.member = member
      self.milliseconds = milliseconds
      self.standardMilliseconds = standardMilliseconds
    }
  }

  package struct Trial: Codable, Sendable {
    package var configuration: ConvolutionConfiguration
    /// Why it was not timed, or not further.
    package var rejected: String?
    package var timings: [Timing]
    /// Time in a step as a share of the standard's; nil for what was rejected.
    package var ratio: Double?

    package init(configuration: ConvolutionConfiguration, timings: [Timing] = [], ratio: Double? = nil) {
      self.configuration = configuration
      self.timings = timings
      self.ratio = ratio
    }
  }

  package var pass: ConvolutionPass
  /// The type of images and results; nil in files from before there was a choice.
  private var storage: DType?
  /// What matrix units round operands to; nil for products in single precision.
  package var operand: MatrixOperand?
  package var members: [Member]
  package var standard: ConvolutionConfiguration
  package var chosen: ConvolutionConfiguration
  package var trials: [Trial]

  package init(
    pass: ConvolutionPass, dtype: DType, operand: MatrixOperand? = nil, members: [Member],
    standard: ConvolutionConfiguration, chosen: ConvolutionConfiguration, trials: [Trial]
  ) {
    self.pass = pass
    storage = dtype
    self.operand = operand
    self.members = members
    self.standard = standard
    self.chosen = chosen
    self.trials = trials
  }

  /// The type of images and results.
  package var dtype: DType { storage ?? .float32 }

  package var name: String { Self.name(of: members, pass, dtype, operand) }

  /// What a task over these convolutions is called.
  package static func name(
    of members: [Member], _ pass: ConvolutionPass, _ dtype: DType, _ operand: MatrixOperand?
  ) -> String {
    let first = members.first?.convolution.label ?? ""
    return "\(pass.rawValue) \(first)" + (members.count > 1 ? " and \(members.count - 1) more" : "")
      + (dtype == .float32 ? "" : ", \(dtype)") + (operand.map { ", products of \($0.rawValue)" } ?? "")
  }
}

extension TuningRecord.Timing {
  /// The median over turns of the time as a share of the standard's beside it: what disturbs both cancels.
  package var ratio: Double {
    median(zip(milliseconds, standardMilliseconds).map { $0 / max($1, 1e-9) })
  }
}
