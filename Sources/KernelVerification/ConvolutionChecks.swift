import OpenCLRuntime
import Operations

/// The checks that run every convolution program of `plan`, on images of a few pixels, and what adds up their filter
/// gradients.
///
/// A program depends on the size of the images and on what was measured for them, so the configurations of the planned
/// convolutions are forced on the small ones.
package func convolutionChecks(
  of plan: StepPlan, on description: DeviceDescription, _ thoroughness: Thoroughness
) throws -> [KernelCheck] {
  let sizes = [(3, 5), (5, 13), (3, 10), (7, 26), (1, 1)]
  let algorithm = ConvolutionAlgorithm.choose(for: description)
  let planned = plan.programs
  var covered: Set<PlannedProgram> = []
  var checks: [KernelCheck] = []

  func add(_ check: ConvolutionCheck, _ configurations: [ConvolutionPass: ConvolutionConfiguration] = [:]) {
    func forcing<Result>(_ body: () throws -> Result) rethrows -> Result {
      try ConvolutionAlgorithm.$forced.withValue(algorithm) {
        try ConvolutionConfiguration.$forced.withValue(configurations, operation: body)
      }
    }
    checks.append(
      KernelCheck(
        "convolution \(check.kernel.0)×\(check.kernel.1)", "\(check)\(configurations.text)",
        programs: { description in try forcing { try check.programs(on: description) } },
        run: { device in
          try forcing {
            try check.check().run(on: device) + (check.leavesMoments ? check.momentsComparisons(on: device) : [])
          }
        }))
  }

  // Few channels first: they are checked fastest, and often share their programs with many.
  let calls = plan.convolutions.sorted { $0.geometry.filterSize < $1.geometry.filterSize }
  for call in calls {
    let needed = try call.programs(on: description).intersection(planned).subtracting(covered)
    guard !needed.isEmpty else {
      if thoroughness == .thorough, let check = call.reduced(batch: 2, image: sizes[0]), check.fits { add(check) }
      continue
    }
    let configurations = call.configurations(on: description)
    let checked = sizes.compactMap { call.reduced(batch: 2, image: $0) }.filter { check in
      check.fits && configurations.allSatisfy { $1.hasRoom(for: $0, check.geometry) }
    }
    guard let first = checked.first else { continue }
    covered.formUnion(
      try ConvolutionConfiguration.$forced.withValue(configurations) { try first.programs(on: description) })
    add(first, configurations)
    // The same programs over other extents, a single pixel among them.
    guard thoroughness != .short else { continue }
    for var other in checked.dropFirst().suffix(thoroughness == .normal ? 1 : sizes.count) {
      other.batch = 1
      add(other, configurations)
    }
  }
  if thoroughness == .thorough {
    for (inputs, outputs, kernel) in [(1, 65, 3), (7, 31, 1), (31, 2, 3), (33, 7, 1), (65, 33, 3), (2, 1, 5)] {
      var check = ConvolutionCheck(
        image: (7, 5), inputs: inputs, outputs: outputs, kernel: (kernel, kernel), bias: true, prologue: .preAffinePost)
      check.dtype = calls.first?.dtype ?? .float32
      add(check)
    }
  }
  return algorithm == .tiled ? checks + partialSumChecks : checks
}

extension ConvolutionGeometry {
  var filterSize: Int { kernelHeight * kernelWidth * inputs * outputs }
}

extension [ConvolutionPass: ConvolutionConfiguration] {
  /// What is forced, for the names of checks.
  fileprivate var text: String {
    sorted { $0.key.rawValue < $1.key.rawValue }.map { ", \($0.key.rawValue) by \($0.value)" }.joined()
  }
}

extension ConvolutionCheck {
  /// What is computed, without what is pending.
  var geometry: ConvolutionGeometry {
    ConvolutionGeometry(
      input: [batch, image.0, image.1, inputs], filter: [kernel.0, kernel.1, inputs, outputs], strides: strides,
      padding: padding)
  }

  /// Whether the window fits the padded image.
  var fits: Bool {
    guard case .explicit(let top, let bottom, let left, let right) = padding else { return true }
    return image.0 + top + bottom >= kernel.0 && image.1 + left + right >= kernel.1
  }
}
