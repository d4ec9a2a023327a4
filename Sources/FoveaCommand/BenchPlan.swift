import ArgumentParser
import CommandSupport
import Foundation
import Fovea
import KernelVerification

struct BenchPlan: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "By calculation alone: what the tiled convolutions of a training step ask of a GPU.",
    discussion: """
      One line for each kernel variant that the step would launch on a GPU: work-groups in a launch, splits of the \
      sums among them, local memory, registers (an estimate, see below the table), work-groups that a compute unit \
      holds at once, and the bytes that work-groups ask for beside those that have to move. Nothing is run and no GPU \
      is needed, only some OpenCL device to stand for one. The choice of tiles depends on the number of compute units.
      """)

  @OptionGroup var device: DeviceOptions
  @OptionGroup(title: "Model") var model: ModelOptions

  @Option(help: "Images a step.")
  var batchSize = 64

  @Option(help: "Compute units of the GPU. Default: the device's where it is a GPU, else 132.")
  var computeUnits: Int?

  @Option(
    help: ArgumentHelp(
      "Local memory of the GPU, for a work-group. Default: the device's where it is a GPU, else 48.", valueName: "KiB"))
  var localMemory: Int?

  @Option(
    help: ArgumentHelp(
      "Work-items that a work-group of the GPU may have. Default: the device's where it is a GPU, else 1024.",
      valueName: "items"))
  var workGroupSize: Int?

  @Option(
    help: ArgumentHelp("Work-items of an AMD GPU in step, 32 or 64. Default: the device's.", valueName: "items"))
  var wavefrontWidth: Int?

  @Option(
    help: ArgumentHelp(
      "Work-items that can share a thread's registers on an Intel GPU, such as 8,16,32. Default: the device's.",
      valueName: "list"))
  var subgroupSizes: String?

  @Flag(help: "Plan for a GPU with tensor cores, which --precision tf32, float16 and bfloat16 use.")
  var tensorCores = false

  @Option(
    help: ArgumentHelp(
      "Write every program of the step, with its options, to a new folder, for Scripts/gpu-compile, instead of the table.",
      valueName: "dir"))
  var dumpPrograms: String?

  @Flag(help: "Dump also every tile that tuning may try, for the convolution with most work.")
  var allTiles = false

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if allTiles, dumpPrograms == nil { throw ValidationError("--all-tiles needs --dump-programs DIR") }
    if json, dumpPrograms != nil { throw ValidationError("--dump-programs prints no table, so no --json either") }
    guard (1...4096).contains(batchSize) else {
      throw ValidationError("--batch-size must be 1 to 4096, not \(batchSize)")
    }
    if let computeUnits, !(1...4096).contains(computeUnits) {
      throw ValidationError("--compute-units must be 1 to 4096, not \(computeUnits)")
    }
    if let localMemory, !(16...1024).contains(localMemory) {
      throw ValidationError("--local-memory must be 16 to 1024, not \(localMemory)")
    }
    if let workGroupSize, !(64...4096).contains(workGroupSize) {
      throw ValidationError("--work-group-size must be 64 to 4096, not \(workGroupSize)")
    }
    if let wavefrontWidth, ![32, 64].contains(wavefrontWidth) {
      throw ValidationError("--wavefront-width must be 32 or 64, not \(wavefrontWidth)")
    }
    if wavefrontWidth != nil, subgroupSizes != nil {
      throw ValidationError(
        "--wavefront-width is for an AMD GPU and --subgroup-sizes for one of Intel's: not both")
    }
    if let subgroupSizes, sizes(subgroupSizes).isEmpty {
      throw ValidationError("--subgroup-sizes must be of 8,16,32, not \(subgroupSizes)")
    }
  }

  /// Empty for a list that is none.
  private func sizes(_ list: String) -> [Int] {
    let parts = list.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
    return parts.allSatisfy([8, 16, 32].contains) ? parts.sorted() : []
  }

  private struct Row: Encodable {
    var kernel: String
    var options: String
    var tile: String
    var launches = 0
    var fewestGroups: Int
    var mostGroups: Int
    /// Parts of the sums, in work-groups of their own.
    var fewestSplits: Int
    var mostSplits: Int
    var workItems: Int
    var localBytes: Int
    var registersEstimated: Int
    /// By the name of the limits.
    var groupsPerComputeUnit: [String: String]
    var gflop = 0.0
    var megabytesRequested = 0.0
    var megabytesLeast = 0.0
  }

  func run() throws {
    let dumpFolder = try dumpPrograms.map { try checkedNewFolder($0, of: "--dump-programs") }
    let gpu = try description()
    let plan = try ConvolutionAlgorithm.$forced.withValue(.tiled) {
      try StepPlan(
        trainingStepOf: model.description(classes: 2, batchNormMomentum: 0.99), batchSize: batchSize, on: gpu)
    }
    if let dumpFolder {
      let dump = try ProgramDump(plan, allTiles: allTiles, on: gpu)
      try dump.write(to: dumpFolder)
      return say("\(dump.count) programs in \(dumpFolder)")
    }
    var rows: [PlannedProgram: Row] = [:]
    var latest: PlannedProgram?
    for launch in plan.launches {
      // What adds up the splits of the launch before belongs to it.
      if launch.program.kernel == "conv_tiled_sum", let latest {
        rows[latest]?.megabytesRequested += launch.cost.bytes * 1e-6
        rows[latest]?.megabytesLeast += launch.cost.bytes * 1e-6
      }
      guard let resources = TiledKernelResources(launch.program), let groups = launch.groups else { continue }
      latest = launch.program
      let splits = resources.splits(of: launch)
      var row =
        rows[launch.program]
        ?? Row(
          kernel: resources.pass, options: resources.structure, tile: resources.tileText, fewestGroups: groups,
          mostGroups: groups, fewestSplits: splits, mostSplits: splits, workItems: resources.items,
          localBytes: resources.localBytes,
          registersEstimated: resources.registers,
          groupsPerComputeUnit: Dictionary(
            uniqueKeysWithValues: GPULimits.all.map { ($0.name, $0.occupancy(of: resources).text) }))
      row.launches += 1
      row.fewestGroups = min(row.fewestGroups, groups)
      row.mostGroups = max(row.mostGroups, groups)
      row.fewestSplits = min(row.fewestSplits, splits)
      row.mostSplits = max(row.mostSplits, splits)
      row.gflop += launch.cost.flops * 1e-9
      row.megabytesRequested += (launch.cost.requestedBytes ?? launch.cost.bytes) * 1e-6
      row.megabytesLeast += launch.cost.bytes * 1e-6
      rows[launch.program] = row
    }
    let sorted = rows.values.sorted { ($0.gflop, $0.options) > ($1.gflop, $1.options) }
    if json { return print(try jsonText(sorted)) }
    printTable(sorted, gpu)
    print("the whole step: \(plan.launches.count) launches of \(plan.programs.count) programs")
  }

  /// The device, passed off as a GPU unless it is one.
  private func description() throws -> DeviceDescription {
    // Nothing is computed that a line about how would be of use for.
    let there = try device.describe(for: model.precision, say: { _ in })
    let isGPU = there.kind == .gpu
    // Who says the one means a GPU that does not have the other.
    let isOther = wavefrontWidth != nil || subgroupSizes != nil
    var gpu = there.imitatingGPU(
      computeUnits: computeUnits ?? (isGPU ? there.computeUnits : 132),
      localMemory: localMemory.map { $0 << 10 } ?? (isGPU ? there.localMemory : 48 << 10),
      maximumWorkGroupSize: workGroupSize ?? (isGPU ? there.maximumWorkGroupSize : 1024),
      wavefrontWidth: isOther ? wavefrontWidth : there.wavefrontWidth,
      subgroupSizes: isOther ? subgroupSizes.map(sizes) ?? [] : there.subgroupSizes)
    gpu.matrixUnits = tensorCores ? MatrixUnits(operands: Set(MatrixOperand.allCases)) : there.matrixUnits
    return gpu
  }

  private func printTable(_ rows: [Row], _ gpu: DeviceDescription) {
    print(
      "\(model.description(classes: 2, batchNormMomentum: 0.99).model), batch \(batchSize), tiled convolutions of a training step on \(gpu.computeUnits) compute units"
    )
    print(
      "launches      groups   splits  items  local B  registers  "
        + GPULimits.all.map { $0.name.padding(toLength: 14, withPad: " ", startingAt: 0) }.joined()
        + "  GFLOP  MB asked  MB least  ratio  kernel")
    for row in rows {
      func column(_ fewest: Int, _ most: Int, width: Int) -> String {
        let text = fewest == most ? "\(most)" : "\(fewest)–\(most)"
        return String(repeating: " ", count: max(width - text.count, 1)) + text
      }
      print(
        String(format: "%8d", row.launches) + column(row.fewestGroups, row.mostGroups, width: 12)
          + column(row.fewestSplits, row.mostSplits, width: 9)
          + String(format: "%7d%9d%11d  ", row.workItems, row.localBytes, row.registersEstimated)
          + GPULimits.all.map {
            (row.groupsPerComputeUnit[$0.name] ?? "").padding(toLength: 14, withPad: " ", startingAt: 0)
          }.joined()
          + String(
            format: "%7.1f%10.0f%10.0f%7.1f  ", row.gflop, row.megabytesRequested, row.megabytesLeast,
            row.megabytesRequested / row.megabytesLeast) + "\(row.kernel) \(row.tile) \(row.options)")
    }
    let total = rows.reduce((flop: 0.0, asked: 0.0, least: 0.0)) {
      ($0.flop + $1.gflop, $0.asked + $1.megabytesRequested, $0.least + $1.megabytesLeast)
    }
    print(
      String(
        format: "all: %.0f GFLOP; work-groups ask for %.1f GB, %.1f GB have to move; %.0f operations a byte asked for",
        total.flop, total.asked * 1e-3, total.least * 1e-3, total.flop * 1e3 / total.asked))
    print(
      """
      registers: an estimate, \(TiledKernelResources.formula)
      work-groups at once, with what limits them (reg, local, thr: threads, grp: groups; * spills):
      """)
    for limits in GPULimits.all { print("  \(limits.name): \(limits.explanation)") }
    print(
      "splits: parts of the sums that go to work-groups of their own. Adding up those of forward passes and data "
        + "gradients counts in MB asked and least.\n"
        + "MB asked: what work-groups load and store together, padding included, without the rows of affines. MB least: each "
        + "tensor once.")
  }
}
