import CommandSupport
import Foundation
import Fovea
import Testing

@testable import KernelVerification

extension KernelVerificationTests {
  @Suite struct TuningTests {
    private static let cpu = Result { try DeviceSelection.pick("cpu", from: DeviceDescription.all()) }

    /// A step of one pointwise convolution to 64 outputs.
    private static func oneConvolution(_ dtype: DType = .float32, tuned table: ConvolutionTable? = nil) throws
      -> StepPlan
    {
      var description = try cpu.get()
      description.convolutionTable = table
      return try StepPlan(on: description) { device in
        let x = Tensor(uninitialized: [3, 9, 11, 24], on: device, dtype: dtype)
        let filter = Tensor(uninitialized: [1, 1, 24, 64], on: device)
        _ = valueWithGradients(at: [x, filter]) { x.conv2d(filter: filter) }
      }
    }

    /// On a device whose kernels apply an affine that is not there for one vector of outputs, and do not compile for
    /// three (they divide by zero in a condition), candidates with these are turned away, the reason is kept, and others are timed all the same.
    @Test func wrongCandidatesAreRejected() throws {
      let plan = try Self.oneConvolution()
      let task = try #require(TuningTask.tasks(of: plan, on: Self.cpu.get()).first { $0.pass == .forward })
      #expect(task.standard == .vector(pixels: 6, vectors: 4, tiles: 4))
      let breaking = "-DAFFINE=(NV==1) -DEPOST=(1/(NV!=3)-1)"
      var tuner = try ConvolutionTuner(budget: 4, seed: 0) {
        let device = try Device(Self.cpu.get().compiling(with: breaking))
        try device.setProfiling(true)
        return device
      }
      let record = try #require(
        try tuner.tune(
          task,
          candidates: [
            .vector(pixels: 8, vectors: 3, tiles: 1), .vector(pixels: 8, vectors: 1, tiles: 6),
            .vector(pixels: 6, vectors: 2, tiles: 4),
          ]))
      #expect(record.answers(task))
      #expect(record.trials[0].rejected?.contains("do not compile") == true)
      #expect(record.trials[1].rejected?.hasPrefix("wrong") == true)
      #expect(record.trials[0].timings.isEmpty && record.trials[1].timings.isEmpty)
      let good = record.trials[2]
      #expect(
        good.timings.allSatisfy { !$0.milliseconds.isEmpty && $0.milliseconds.count == $0.standardMilliseconds.count })
      #expect(!good.timings.isEmpty && (good.ratio != nil) != (good.rejected != nil))
      #expect(
        ![.vector(pixels: 8, vectors: 3, tiles: 1), .vector(pixels: 8, vectors: 1, tiles: 6)].contains(record.chosen))
    }

    /// Images of 16 bits are tuned as such: with kernels that read them, and for nothing but them.
    @Test(arguments: [DType.float16, .bfloat16]) func sixteenBitsHaveRowsOfTheirOwn(dtype: DType) throws {
      let plan = try Self.oneConvolution(dtype)
      let device = try Self.cpu.get()
      let tasks = try TuningTask.tasks(of: plan, on: device)
      #expect(tasks.count == 3 && tasks.allSatisfy { $0.dtype == dtype && $0.name.contains("\(dtype)") })
      var tuner = try ConvolutionTuner(budget: 1, seed: 0) {
        let device = try Device(device)
        try device.setProfiling(true)
        return device
      }
      var database = TuningDatabase(for: device)
      for task in tasks {
        var record = try #require(try tuner.tune(task, candidates: [task.candidates[1]]))
        #expect(record.dtype == dtype && record.answers(task))
        // It computes what the standard does; whether it is faster is luck.
        #expect(record.trials[0].rejected.map { $0.contains("slower") } ?? true, "\(record.trials[0])")
        record.chosen = task.candidates[1]
        database.add(record)
        let other = try TuningTask.tasks(of: Self.oneConvolution(), on: device).first { $0.pass == task.pass }
        #expect(try !record.answers(#require(other)))
      }
      #expect(database.records.count == 3)
      #expect(try Self.oneConvolution(dtype, tuned: database.table).programs != plan.programs)
      #expect(try Self.oneConvolution(tuned: database.table).programs == Self.oneConvolution().programs)
    }

    /// Where the standard itself is wrong nothing is measured.
    @Test func aWrongStandardIsAnError() throws {
      let plan = try Self.oneConvolution()
      let task = try #require(TuningTask.tasks(of: plan, on: Self.cpu.get()).first { $0.pass == .forward })
      var tuner = try ConvolutionTuner(budget: 4, seed: 0) {
        try Device(Self.cpu.get().compiling(with: "-DAFFINE=(NV==2)"))
      }
      #expect(throws: ConvolutionTuner.StandardIsWrong.self) { try tuner.tune(task, candidates: []) }
    }

    /// With any choice a step has no more programs than without, the checks run all of them, and each task is its own.
    @Test(arguments: ["cpu", "gpu"]) func tunedStepsAreChecked(kind: String) throws {
      var device = try Self.cpu.get()
      if kind == "gpu" {
        device = device.imitatingGPU(computeUnits: 132, localMemory: 48 << 10, maximumWorkGroupSize: 1024)
      }
      let model = ModelDescription()
      let plan = try StepPlan(trainingStepOf: model, batchSize: 16, on: device)
      let tasks = try TuningTask.tasks(of: plan, on: device)
      #expect(
        tasks.count > 8
          && Set(tasks.map { [$0.pass.rawValue] + $0.members.map(\.convolution.label) }).count == tasks.count)
      var table = ConvolutionTable(date: "today")
      for (index, task) in tasks.enumerated() {
        let candidate = task.candidates[index * 7 % task.candidates.count]
        for member in task.members { table[task.pass, member.convolution, task.dtype] = candidate }
      }
      device.convolutionTable = table
      let tuned = try StepPlan(trainingStepOf: model, batchSize: 16, on: device)
      #expect(tuned.programs.count <= plan.programs.count)
      #expect(tuned.programs.subtracting(plan.programs).count >= tasks.count / 2)
      let checks = try convolutionChecks(of: tuned, on: device, .short) + operationChecks(.short)
      let covered = try checks.reduce(into: Set<PlannedProgram>()) { $0.formUnion(try $1.programs(device)) }
      #expect(tuned.programs.subtracting(covered).isEmpty)
    }

    /// Compiled programs are kept where the driver keeps none, or as the environment says.
    @Test func programsAreKeptWhereThatHelps() throws {
      func keeps(_ environment: [String: String]) throws -> Bool {
        try DeviceOptions.parse(["--device", "cpu"]).describe(for: nil, environment: environment).programCache != nil
      }
      #expect(try keeps(["FOVEA_PROGRAM_CACHE": "on"]))
      #expect(try !keeps(["FOVEA_PROGRAM_CACHE": "off"]))
      let byDevice = try ProgramCache.helps(Self.cpu.get())
      #expect(try keeps([:]) == byDevice)
    }

    /// The file is used as long as it is whole and of this driver and these kernels; otherwise one line says why not.
    @Test func databaseIsReadOrSaidToBeUnusable() throws {
      let cache = NSTemporaryDirectory() + "fovea-tuning-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: cache) }
      let folder = cache + "/fovea"
      let device = try Self.cpu.get()
      var lines: [String] = []
      func choice(_ options: [String] = [], tuning: String = "on") throws -> ConvolutionTable? {
        lines = []
        return try DeviceOptions.parse(["--device", device.selector] + options)
          .describe(for: nil, environment: ["XDG_CACHE_HOME": cache, "FOVEA_TUNING": tuning]) { lines.append($0) }
          .convolutionTable
      }
      #expect(try choice() == nil && lines.isEmpty)

      let plan = try Self.oneConvolution()
      let task = try #require(TuningTask.tasks(of: plan, on: device).first { $0.pass == .forward })
      let chosen = task.candidates[3]
      let trial = TuningRecord.Trial(
        configuration: chosen,
        timings: [.init(member: 0, milliseconds: [1, 2, 4], standardMilliseconds: [4, 4, 4])], ratio: 0.5)
      #expect(trial.timings[0].ratio == 0.5)
      var database = TuningDatabase(for: device)
      let record = TuningRecord(
        pass: task.pass, dtype: task.dtype, members: task.members, standard: task.standard, chosen: chosen,
        trials: [trial])
      database.add(record)
      database.add(record)
      #expect(database.records.count == 1)
      try database.write(for: device, in: folder)
      let table = try #require(try choice())
      let path = folder + "/" + TuningDatabase.name(for: device)
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(lines.isEmpty && table[.forward, task.members[0].convolution, .float32] == chosen)
      // Files from before there were 16 bits do not say which type they are of.
      let older = text.replacing(#/"storage"\s*:\s*"float32",?\s*/#, with: "")
      #expect(older != text)
      try older.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try choice() == table && lines.isEmpty)
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try choice(["--no-tuning"]) == nil && choice(tuning: "off") == nil && lines.isEmpty)

      func expectUnusable(_ damaged: String, _ why: String) throws {
        try damaged.write(toFile: path, atomically: true, encoding: .utf8)
        #expect(try choice() == nil)
        #expect(lines.count == 1 && lines[0].contains(why), "\(lines)")
      }
      try expectUnusable(String(text.prefix(text.count / 2)), "damaged")
      try expectUnusable(text.replacingOccurrences(of: device.driverVersion, with: "0.1"), "driver 0.1")
      let kernels = String(KernelSource.libraryFingerprint, radix: 16)
      try expectUnusable(text.replacingOccurrences(of: kernels, with: "0"), "other kernels")
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try choice() == table)
    }

    /// A device that is opened from the library has what the commands would use, unless it is told not to; what is not
    /// usable is done without, and said.
    @Test func openedDevicesAreTuned() throws {
      let folder = NSTemporaryDirectory() + "fovea-opening-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let device = try Self.cpu.get()
      let task = try #require(TuningTask.tasks(of: Self.oneConvolution(), on: device).first { $0.pass == .forward })
      var database = TuningDatabase(for: device)
      database.add(
        TuningRecord(
          pass: task.pass, dtype: task.dtype, members: task.members, standard: task.standard,
          chosen: task.candidates[3], trials: []))
      try database.write(for: device, in: folder)

      var lines: [String] = []
      func table(usesTuning: Bool = true, in folder: String? = folder) throws -> ConvolutionTable? {
        try Device.open(device.selector, usesTuning: usesTuning, cacheFolder: folder) { lines.append($0) }
          .description.convolutionTable
      }
      let isOff = ProcessInfo.processInfo.environment["FOVEA_TUNING"] == "off"
      #expect(database.table[.forward, task.members[0].convolution, .float32] == task.candidates[3])
      #expect(try table() == (isOff ? nil : database.table))
      #expect(try table(usesTuning: false) == nil && table(in: nil) == nil && table(in: folder + "/none") == nil)
      #expect(lines.isEmpty)
      try "{".write(toFile: folder + "/" + TuningDatabase.name(for: device), atomically: true, encoding: .utf8)
      #expect(try table() == nil)
      #expect(isOff || lines.count == 1 && lines[0].contains("damaged"), "\(lines)")
    }

    /// Programs are kept in the folder that is given; one that cannot be written to harms nothing.
    @Test func openedDevicesKeepPrograms() throws {
      let folder = NSTemporaryDirectory() + "fovea-opening-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      func sum(cacheFolder: String?) throws -> [Float] {
        var description = try Self.cpu.get()
        description.equip(
          for: nil, usesTuning: true, cacheFolder: cacheFolder, environment: ["FOVEA_PROGRAM_CACHE": "on"]
        ) { Issue.record("\($0)") }
        #expect((description.programCache == nil) == (cacheFolder == nil))
        let x = Tensor([1, 2, 3], shape: [3], on: try Device(description))
        return try (x + x).floats()
      }
      #expect(try sum(cacheFolder: folder) == [2, 4, 6])
      #expect(try !FileManager.default.contentsOfDirectory(atPath: folder + "/programs").isEmpty)
      // Nothing can be made below a device that is no folder.
      for other in [nil, "/dev/null/fovea"] { #expect(try sum(cacheFolder: other) == [2, 4, 6]) }
    }

    /// A CPU has no matrix units to try: nothing is known of any then, whatever is to be computed, and only tf32, which
    /// asks for them, is said to be without.
    @Test(arguments: [nil] + Precision.allCases) func matrixUnitsAreNotTriedOnCPUs(precision: Precision?) throws {
      var lines: [String] = []
      let device = try Device.open("cpu", precision: precision, cacheFolder: nil) { lines.append($0) }
      #expect(device.description.matrixUnits == nil && device.description.usesTF32 == (precision == .tf32))
      #expect(lines == (precision == .tf32 ? [device.description.productsLine(.tf32)] : []))
    }
  }
}
