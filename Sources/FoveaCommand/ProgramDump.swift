import CommandSupport
import Fovea
import KernelVerification

/// The programs of a step as a driver would get them, for compilers that need no GPU.
struct ProgramDump {
  private var sources: [PlannedProgram: KernelSource] = [:]

  /// How many programs there are.
  var count: Int { sources.count }

  /// - Parameters:
  ///   - plan: the step, planned for `gpu` with tiled convolutions.
  ///   - allTiles: whether to add every tile of the tuning space, for each pass of the convolution with most work.
  ///   - gpu: the device that the programs are for.
  init(_ plan: StepPlan, allTiles: Bool, on gpu: DeviceDescription) throws {
    add(plan.launches)
    guard allTiles, let call = plan.convolutions.max(by: { $0.geometry.flops < $1.geometry.flops }) else { return }
    let device = Device(planning: gpu)
    let operand = gpu.matrixOperand(for: call.dtype)
    try ConvolutionAlgorithm.$forced.withValue(.tiled) {
      for pass in ConvolutionPass.allCases {
        let trial = ConvolutionTrial(call, pass, on: device)
        for configuration in ConvolutionSpace(pass, call.geometry, .tiled, operand, on: gpu).configurations {
          trial.run(configuration)
        }
        try device.checkFailure()
      }
    }
    add(device.takePlan())
  }

  private mutating func add(_ launches: [PlannedLaunch]) {
    for launch in launches { sources[launch.program] = launch.source }
  }

  /// Makes the folder, where there must be nothing or an empty one: `N.cl` for each program, and `index.tsv` with number,
  /// kernel and options, a line each.
  func write(to folder: String) throws {
    let programs = sources.sorted { $0.key < $1.key }
    try AtomicFolder.write(to: folder) { folder in
      var index = ""
      for (number, (program, source)) in programs.enumerated() {
        try AtomicFile.write(source.text, to: "\(folder)/\(number).cl")
        index += "\(number)\t\(program.kernel)\t\(program.options)\n"
      }
      try AtomicFile.write(index, to: "\(folder)/index.tsv")
    }
  }
}
