import CommandSupport
import Foundation
import Fovea
import KernelVerification
import ReferenceOperations
import Testing

@testable import FoveaCommand

/// One after another: one thread at a time builds work for a device.
@Suite(.serialized) struct KernelVerificationTests {
  private static let cpu = Result { try DeviceSelection.pick("cpu", from: DeviceDescription.all()) }

  /// A large GPU, of which only the numbers matter: nothing is launched on it.
  private static func gpu(computeUnits: Int = 132) throws -> DeviceDescription {
    try cpu.get().imitatingGPU(computeUnits: computeUnits, localMemory: 48 << 10, maximumWorkGroupSize: 1024)
  }

  /// Expects all to have passed. What has not is a known issue where the driver miscompiles some kernels with barriers.
  private static func expectPasses(_ comparisons: [Comparison], sourceLocation: SourceLocation = #_sourceLocation) {
    withKnownIssue("the driver miscompiles some kernels with barriers", isIntermittent: true) {
      for comparison in comparisons { #expect(comparison.passed, "\(comparison)", sourceLocation: sourceLocation) }
    } when: {
      (try? cpu.get().miscompilesBarriers) ?? false
    }
  }

  /// Expects what is calculated of the tiled programs in use, of which there are some, to be what the driver says. Of POCL
  /// 5 and 6, which say 0, it is known.
  private static func expectCalculatedLocalMemory(
    on device: Device, programs: Int, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let resources = device.programsInUse.compactMap { program in
      TiledKernelResources(program).map { ($0, device.localMemory(of: program)) }
    }
    #expect(resources.count >= programs, sourceLocation: sourceLocation)
    for (calculated, driver) in resources where driver != 0 || ![5, 6].contains(device.description.poclVersion) {
      #expect(calculated.localBytes == driver, "\(calculated)", sourceLocation: sourceLocation)
    }
  }

  /// The checks run every program of the main job's step, at its own batch and image size, whatever the device.
  @Test(
    arguments: [("cpu", "resizer+densenet121"), ("gpu", "resizer+densenet121"), ("gpu", "muller+densenet169")],
    [nil, Precision.float16, .bfloat16])
  func checksCoverTheStep(_ subject: (kind: String, model: String), precision: Precision?) throws {
    let (kind, model) = subject
    let device = kind == "cpu" ? try Self.cpu.get() : try Self.gpu()
    var description = ModelDescription()
    description.model = model
    description.precision = precision
    let plan = try StepPlan(trainingStepOf: description, batchSize: 64, on: device)
    #expect(plan.programs.count > 30 && plan.convolutions.count > 60)
    let checks =
      try convolutionChecks(of: plan, on: device, .short) + operationChecks(.short, precision?.storage ?? .float32)
    let covered = try checks.reduce(into: Set<PlannedProgram>()) { $0.formUnion(try $1.programs(device)) }
    let missing = plan.programs.subtracting(covered)
    #expect(missing.isEmpty, "not checked: \(missing.sorted())")
  }

  /// The filter gradients of a step are added up in a few launches.
  @Test(arguments: [nil, Precision.bfloat16]) func filterGradientsAreAddedUpTogether(precision: Precision?) throws {
    var description = ModelDescription()
    description.precision = precision
    let device = try Self.gpu()
    func launches(_ capacity: Int?, _ kernel: String) throws -> Int {
      try PartialSumPool.$forcedCapacity.withValue(capacity) {
        try StepPlan(trainingStepOf: description, batchSize: 64, on: device).launches.count {
          $0.program.kernel == kernel
        }
      }
    }
    let (apart, others) = try (launches(0, "sum_rows_finish"), launches(nil, "sum_rows_finish"))
    // Of the backbone 121, its last layer's among them, and of the resizer 6.
    #expect(apart - others == 121 + 6)
    #expect(try launches(0, "sum_segments") == 0)
    #expect(try launches(nil, "sum_segments") <= 35)
  }

  /// The same for a GPU with matrix units, whose programs multiply what the precision says; and tuning leaves it at that.
  @Test(arguments: [Precision.tf32, .float16, .bfloat16], [MatrixOperand.tf32, .float16, .bfloat16])
  func checksCoverMatrixUnits(precision: Precision, only operand: MatrixOperand) throws {
    var device = try Self.gpu()
    device.matrixUnits = MatrixUnits(operands: [operand])
    device.usesTF32 = precision == .tf32
    var description = ModelDescription()
    description.precision = precision
    let plan = try StepPlan(trainingStepOf: description, batchSize: 64, on: device)
    // All but the kernel that adds up splits.
    let products = plan.programs.filter { $0.kernel.hasPrefix("conv_tiled") && $0.kernel != "conv_tiled_sum" }
    let onUnits = products.filter { $0.options.contains("MATRIX=") }
    #expect(plan.programs.allSatisfy { !$0.options.contains("EMULATED") })
    guard precision.rawValue == operand.rawValue else { return #expect(onUnits.isEmpty) }
    // The last layer's images are the means over all pixels, in float32 whatever the precision.
    #expect(onUnits.count >= 30 && (precision != .tf32 || onUnits == products))
    let checks = try convolutionChecks(of: plan, on: device, .short)
    let covered = try checks.reduce(into: Set<PlannedProgram>()) { $0.formUnion(try $1.programs(device)) }
    #expect(onUnits.subtracting(covered).isEmpty)
    let tasks = try TuningTask.tasks(of: plan, on: device)
    #expect(tasks.contains { $0.operand == operand && $0.name.hasSuffix("products of \(operand.rawValue)") })
    for task in tasks where task.operand == operand {
      for case .tiled(let tile, _) in [task.standard] + task.candidates { #expect(tile.operand == operand) }
    }
  }

  /// A check of a device with emulated units allows for the rounding of operands, and would not pass in its absence.
  @Test(arguments: [MatrixOperand.tf32, .bfloat16]) func matrixUnitsAreChecked(operand: MatrixOperand) throws {
    // Small work-groups: emulated units are slow.
    var description = try Self.cpu.get()
      .imitatingGPU(computeUnits: 1, localMemory: 48 << 10, maximumWorkGroupSize: 32)
    description.matrixUnits = .emulated
    description.usesTF32 = operand == .tf32
    let device = try Device(description)
    var check = ConvolutionCheck(image: (3, 5), inputs: 16, outputs: 12, kernel: (1, 1), prologue: .affinePost)
    if operand == .bfloat16 { check.dtype = .bfloat16 }
    check.leavesMoments = true
    let comparisons = try check.check().run(on: device) + check.momentsComparisons(on: device)
    Self.expectPasses(comparisons)
    #expect(comparisons.contains { $0.error > 2 * tolerance(terms: 16) })
    #expect(
      device.programsInUse.filter { $0.kernel.hasPrefix("conv_tiled") }.allSatisfy {
        $0.options.contains("MATRIX=\(operand == .tf32 ? "TF32" : "BFLOAT")")
      })
    try Self.expectCalculatedLocalMemory(on: device, programs: 3)
  }

  /// Products in splits, as a GPU with many compute units has them, on a CPU: whatever the type, also forced on images
  /// of another size, and with the moments left where they are added up.
  @Test(arguments: [DType.float32, .float16, .bfloat16]) func splitsAreChecked(dtype: DType) throws {
    let device = try Device(Self.gpu(computeUnits: 64).withoutOptimizations)
    func programs(_ gradient: Bool) -> [PlannedProgram] {
      device.programsInUse.filter { $0.isTiledProduct && $0.options.contains(" GRADIENT=1") == gradient }
    }
    for prologue in [PrologueStructure.none, .affinePost] {
      for strides in [(1, 1), (2, 2)] {
        var check = ConvolutionCheck(
          image: (3, 5), inputs: 36, outputs: 68, strides: strides, bias: true, prologue: prologue)
        check.dtype = dtype
        check.leavesMoments = true
        Self.expectPasses(try check.check().run(on: device) + check.momentsComparisons(on: device))
      }
    }
    let sums = device.programsInUse.filter { $0.kernel == "conv_tiled_sum" }
    #expect(Set(sums.map { $0.options.contains(" MOMENTS=1") }) == [false, true])
    for gradient in [false, true] {
      let found = programs(gradient)
      #expect(!found.isEmpty && found.allSatisfy { $0.options.contains("SPLIT=1") })
      #expect(found.allSatisfy { $0.options.contains("STORE=") == (dtype != .float32) })
    }
    // As the checks of a step do: splits of large images on small ones, and the other way round.
    let tile = TiledConvolution.Tile(rows: 32, columns: 32)
    for splits in [1, 4] {
      var check = ConvolutionCheck(image: (5, 3), inputs: 20, outputs: 12, prologue: .pre)
      check.dtype = dtype
      let before = device.programsInUse
      let comparisons = try ConvolutionConfiguration.$forced.withValue(tile.everywhere(splits: splits)) {
        try check.check().run(on: device)
      }
      Self.expectPasses(comparisons)
      let added = device.programsInUse.subtracting(before).filter(\.isTiledProduct)
      #expect(added.count >= 2 && added.allSatisfy { $0.options.contains("SPLIT=1") == (splits > 1) })
    }
  }

  /// What `fovea verify` runs for the splits of the main job's step on a large GPU, on a CPU in its place.
  @Test func theStepsSplitsAreChecked() throws {
    let gpu = try Self.gpu()
    let plan = try StepPlan(trainingStepOf: ModelDescription(), batchSize: 64, on: gpu)
    func splits(_ programs: Set<PlannedProgram>) -> Set<PlannedProgram> {
      programs.filter { $0.options.contains(" SPLIT=1") || $0.kernel == "conv_tiled_sum" }
    }
    let device = try Device(gpu.withoutOptimizations)
    var left = splits(plan.programs)
    #expect(left.count >= 5)
    for check in try convolutionChecks(of: plan, on: gpu, .short) {
      let programs = try splits(check.programs(gpu))
      guard !programs.isDisjoint(with: left) else { continue }
      Self.expectPasses(try check.run(device))
      left.subtract(programs)
    }
    #expect(left.isEmpty && splits(plan.programs).isSubset(of: device.programsInUse))
  }

  /// The step of the main job on a large GPU has splits, and its last block's are planned as the rule says.
  @Test func plansHaveSplits() throws {
    let gpu = try Self.gpu()
    let plan = try StepPlan(trainingStepOf: ModelDescription(), batchSize: 64, on: gpu)
    let products = plan.launches.filter(\.program.isTiledProduct)
    let split = products.filter { $0.program.options.contains("SPLIT=1") }
    let sums = plan.launches.filter { $0.program.kernel == "conv_tiled_sum" }
    #expect(split.count == sums.count && split.count >= 16 && split.count < products.count / 2)
    for launch in split {
      let resources = try #require(TiledKernelResources(launch.program))
      let splits = resources.splits(of: launch)
      let groups = try #require(launch.groups)
      #expect(splits > 1 && groups <= 2 * gpu.computeUnits && groups / splits <= gpu.computeUnits)
    }
    for launch in products where !launch.program.options.contains("SPLIT=1") {
      #expect(try #require(TiledKernelResources(launch.program)).splits(of: launch) == 1)
    }
    // On few compute units the same step needs none but for the last layer's 64 rows.
    let few = try StepPlan(trainingStepOf: ModelDescription(), batchSize: 64, on: Self.gpu(computeUnits: 4))
    #expect(few.launches.count { $0.program.options.contains(" SPLIT=1") } <= 2)
  }

  /// A step of a small model, really run, launches what its plan says.
  @Test func planIsWhatRuns() throws {
    var model = ModelDescription()
    (model.inputHeight, model.inputWidth, model.targetHeight, model.targetWidth) = (64, 64, 32, 32)
    model.model = "densenet121"
    let plan = try StepPlan(trainingStepOf: model, batchSize: 2, on: Self.cpu.get())
    let device = try Device(Self.cpu.get())
    let classifier = try model.build()
    let arena = ParameterArena(classifier, on: device)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.01), arena: arena)
    let trainer = Trainer(arena: arena, optimizer: optimizer, classes: 2, labelSmoothing: 0.1) {
      classifier($0).logits
    }
    let batch = TrainingBatch(
      pixels: (0..<2 * 64 * 64 * 3).map { UInt8(truncatingIfNeeded: $0) }, shape: [2, 64, 64, 3], labels: [0, 1])
    var given = false
    _ = try trainer.train(
      next: {
        defer { given = true }
        return given ? nil : [batch]
      }, report: { _, _ in })
    #expect(plan.programs == device.programsInUse)
    #expect(plan.launches.count == device.counters.launches)
  }

  /// What a helper process has the driver compile is what the step needs, and needs no memory of the step's size.
  @Test(arguments: ["cpu", "gpu"]) func preparationCompilesWhatTheStepNeeds(kind: String) throws {
    var model = ModelDescription()
    (model.inputHeight, model.inputWidth, model.targetHeight, model.targetWidth) = (48, 48, 32, 32)
    model.filters = 4
    let description = try Self.cpu.get()
    // What this compiler warns of, others refuse. POCL 5 also warns of loops that its optimizer leaves as they are.
    let strict = description.poclVersion == 5 ? description : description.compiling(with: "-Werror")
    let device = try Device(
      kind == "cpu"
        ? strict : strict.imitatingGPU(computeUnits: 4, localMemory: 48 << 10, maximumWorkGroupSize: 1024))
    let plan = try StepPlan(trainingStepOf: model, batchSize: 2, on: device.description)
    let launches = plan.compilations
    #expect(Set(launches.map(\.program)) == plan.programs && launches.count < plan.launches.count / 10)
    for launch in launches.reversed() { try device.prepare(launch) }
    #expect(device.programsInUse == plan.programs)
  }

  @Test func aRightDevicePasses() throws {
    let device = try Device(Self.cpu.get())
    for check in operationChecks(.short) {
      for comparison in try check.run(device) { #expect(comparison.passed, "\(comparison)") }
    }
  }

  /// Tiles that are read before all of a work-group has written them.
  @Test func aMissingBarrierIsCaught() throws {
    let check = ConvolutionCheck(image: (5, 7), inputs: 20, outputs: 8, prologue: .affinePost).check()
    let tile = try #require(TiledConvolution.tiles.all.min { $0.items < $1.items })
    func comparisons(_ options: String) throws -> [Comparison] {
      let device = try Device(Self.cpu.get().compiling(with: options))
      return try ConvolutionAlgorithm.$forced.withValue(.tiled) {
        try ConvolutionConfiguration.$forced.withValue(tile.everywhere()) { try check.run(on: device) }
      }
    }
    Self.expectPasses(try comparisons(""))
    let caught = try comparisons("-Dbarrier(flags)=").filter { !$0.passed }
    for part in ["value", "gradient 0", "gradient 1", "gradient 2"] {
      #expect(caught.contains { $0.what.hasSuffix(part) }, "\(part) passed")
    }
  }

  /// The local memory that `fovea bench plan` calculates is what the driver says.
  @Test func localMemoryIsAsCalculated() throws {
    let device = try Device(Self.cpu.get())
    let check = ConvolutionCheck(image: (2, 3), inputs: 20, outputs: 8, prologue: .affinePost).check()
    for tile in TiledConvolution.tiles.all.filter({ $0.items < 256 }) {
      _ = try ConvolutionAlgorithm.$forced.withValue(.tiled) {
        try ConvolutionConfiguration.$forced.withValue(tile.everywhere()) { try check.run(on: device) }
      }
    }
    try Self.expectCalculatedLocalMemory(on: device, programs: 6)
  }

  @Test func comparisonsFailOnWhatIsNoNumber() {
    #expect(!Comparison("x", error: .nan, limit: 1).passed)
    #expect(!Comparison("x", holds: false).passed && Comparison("x", holds: true).passed)
  }

  /// Once is enough, until a step runs other programs.
  @Test func firstUseIsRemembered() throws {
    let folder = NSTemporaryDirectory() + "fovea-first-use-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var model = ModelDescription()
    model.model = "densenet121"
    (model.inputHeight, model.inputWidth, model.targetHeight, model.targetWidth) = (32, 32, 32, 32)
    var lines: [String] = []
    func use(batchSize: Int) throws {
      try FirstUse(model: model, batchSize: batchSize, folder: folder).check(Self.cpu.get()) { lines.append($0) }
    }
    try use(batchSize: 2)
    #expect(lines.count == 1 && lines[0].hasPrefix("Kernels"))
    try use(batchSize: 2)
    #expect(lines.count == 1)
    // Another batch runs the same programs.
    try use(batchSize: 3)
    #expect(lines.count == 1)
    model.model = "resizer+densenet121"
    try use(batchSize: 3)
    #expect(lines.count == 2)
    try use(batchSize: 2)
    #expect(lines.count == 2)
  }
}

extension PlannedProgram {
  /// Whether it computes a forward pass or a data gradient in tiles.
  fileprivate var isTiledProduct: Bool { ["conv_tiled", "conv_tiled_patch"].contains(kernel) }
}
