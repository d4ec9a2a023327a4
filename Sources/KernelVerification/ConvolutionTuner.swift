import NeuralNetwork
import OpenCLRuntime
import Operations
import ReferenceOperations
import TensorCore

/// Convolutions whose pass has the same program by the standard. They get one configuration, so that a tuned step needs
/// hardly more programs than another: one where two passes shared it.
package struct TuningTask: Sendable {
  package let pass: ConvolutionPass
  /// The type of images and results, of all members.
  package let dtype: DType
  /// What matrix units round operands to; nil for products in single precision.
  package let operand: MatrixOperand?
  /// By work, most first.
  package let members: [TuningRecord.Member]
  package let standard: ConvolutionConfiguration
  /// All that are legal for each member, the standard left out.
  package let candidates: [ConvolutionConfiguration]
  fileprivate let calls: [ConvolutionCall]

  /// The tasks of a step, most work first.
  package static func tasks(of plan: StepPlan, on description: DeviceDescription) throws -> [TuningTask] {
    let algorithm = ConvolutionAlgorithm.choose(for: description)
    return ConvolutionPass.allCases.flatMap { pass in
      // Convolutions of one shape and type have one configuration whatever is pending, so they belong together as well.
      var groups: [(programs: Set<PlannedProgram>, calls: [ConvolutionCall])] = []
      for call in plan.convolutions where pass != .inputGradient || call.wantsInputGradient {
        let device = Device(planning: description)
        ConvolutionTrial(call, pass, on: device)
          .run(.standard(pass, call.geometry, algorithm, description.matrixOperand(for: call.dtype), on: description))
        var joined = (programs: Set(device.takePlan().map(\.program).filter(\.isOfAConvolution)), calls: [call])
        for group in groups
        where !group.programs.isDisjoint(with: joined.programs)
          || group.calls.contains(where: { $0.geometry == call.geometry && $0.dtype == call.dtype })
        {
          joined = (joined.programs.union(group.programs), group.calls + joined.calls)
        }
        groups.removeAll { group in group.calls.contains { joined.calls.contains($0) } }
        groups.append(joined)
      }
      return groups.compactMap { group in
        TuningTask(pass, group.calls, launches: plan.convolutionCounts, algorithm, on: description)
      }
    }
    .sorted { ($0.work, $0.name) > ($1.work, $1.name) }
  }

  /// Nil where there is no choice.
  private init?(
    _ pass: ConvolutionPass, _ all: [ConvolutionCall], launches: [ConvolutionCall: Int],
    _ algorithm: ConvolutionAlgorithm, on description: DeviceDescription
  ) {
    self.pass = pass
    dtype = all[0].dtype
    // One call for each shape, the most frequent.
    calls = Dictionary(grouping: all, by: \.geometry).values
      .compactMap { same in same.max { launches[$0, default: 0] < launches[$1, default: 0] } }
      .sorted { ($0.geometry.flops, $0.geometry.label) > ($1.geometry.flops, $1.geometry.label) }
    members = calls.map { call in
      .init(
        convolution: call.geometry,
        launches: all.filter { $0.geometry == call.geometry }.reduce(0) { $0 + launches[$1, default: 0] })
    }
    let operand = algorithm == .tiled ? description.matrixOperand(for: dtype) : nil
    self.operand = operand
    let spaces = calls.map { ConvolutionSpace(pass, $0.geometry, algorithm, operand, on: description) }
    let standard = ConvolutionConfiguration.standard(pass, calls[0].geometry, algorithm, operand, on: description)
    self.standard = standard
    candidates = spaces[0].configurations.filter { candidate in
      candidate != standard && spaces.allSatisfy { $0.violation(of: candidate) == nil }
    }
    if candidates.isEmpty { return nil }
  }

  /// Operations in a step.
  private var work: Double { members.reduce(0) { $0 + $1.convolution.flops * Double($1.launches) } }

  /// Says which it is; the same in another run over the same step.
  package var name: String { TuningRecord.name(of: members, pass, dtype, operand) }

  /// At most three members to time, of much, middling and little work, with the launches that each stands for.
  fileprivate var representatives: [(member: Int, weight: Double)] {
    let parts = min(members.count, 3)
    return (0..<parts).map { part in
      let range = members.count * part / parts..<members.count * (part + 1) / parts
      return (range.lowerBound + range.count / 2, members[range].reduce(0) { $0 + Double($1.launches) })
    }
  }
}

extension PlannedProgram {
  /// Whether it depends on a configuration; the programs that pack filters or add up splits serve all.
  fileprivate var isOfAConvolution: Bool {
    kernel.hasPrefix("conv_") && kernel != "conv_tiled_sum" || kernel == "winograd_forward"
      || kernel == "winograd_filter_gradient"
  }
}

extension TuningRecord {
  /// Whether it answers that task.
  package func answers(_ task: TuningTask) -> Bool {
    pass == task.pass && dtype == task.dtype && operand == task.operand && members == task.members
      && standard == task.standard
  }
}

/// Finds the fastest configuration of tasks on a device. Each candidate is first compared with the double-precision
/// reference and, at full size, with the standard configuration; then timed in turns with the latter.
package struct ConvolutionTuner {
  /// The standard configuration itself computes wrongly.
  package struct StandardIsWrong: Error, CustomStringConvertible {
    let task: String
    let comparison: Comparison

    package var description: String {
      "the default kernel of \(task) computes wrongly: \(comparison); `fovea verify` says more, another driver may help"
    }
  }

  /// Candidates of a task, at most.
  private let budget: Int
  /// Which are taken where there are more.
  private let seed: UInt64
  private let openDevice: () throws -> Device
  private var device: Device

  /// Only what is clearly faster displaces the standard: a share of its time.
  private static let adoption = 0.97
  private static let rounds = 3
  private static let finalRounds = 7

  /// - Parameter openDevice: opens the device, timing; called again after a failure, which a device keeps.
  package init(budget: Int, seed: UInt64, openDevice: @escaping () throws -> Device) throws {
    self.budget = budget
    self.seed = seed
    self.openDevice = openDevice
    device = try openDevice()
  }

  /// - Parameters:
  ///   - candidates: what to try; the task's own, of which the budget allows some, when nil.
  ///   - progress: called before each candidate with the number done and of all; false ends the task without a record.
  package mutating func tune(
    _ task: TuningTask, candidates: [ConvolutionConfiguration]? = nil,
    progress: (_ done: Int, _ total: Int) -> Bool = { _, _ in true }
  ) throws -> TuningRecord? {
    let candidates = candidates ?? sample(task)
    let reference = Self.check(of: task)
    if let wrong = try reference.flatMap({ try failure(of: $0, task.pass, task.standard) }) {
      throw StandardIsWrong(task: task.name, comparison: wrong)
    }
    var bench = try Bench(task, on: device)
    var trials: [TuningRecord.Trial] = []
    for (index, candidate) in candidates.enumerated() {
      guard progress(index, candidates.count) else { return nil }
      var trial = TuningRecord.Trial(configuration: candidate)
      do {
        if let wrong = try reference.flatMap({ try failure(of: $0, task.pass, candidate) }) {
          trial.rejected = "wrong: \(wrong)"
        } else if let wrong = try bench.failure(of: candidate) {
          trial.rejected = "wrong at full size: \(wrong)"
        } else {
          try bench.time(candidate, rounds: Self.rounds, givingUp: true, into: &trial)
        }
      } catch let error as OpenCLError {
        trial.rejected = String(error.description.prefix(1000))
        device = try openDevice()
        bench = try Bench(task, on: device)
      }
      trials.append(trial)
    }
    guard progress(candidates.count, candidates.count) else { return nil }
    var chosen = task.standard
    // The fastest of many was lucky as well: it has to show it again.
    if let best = trials.indices.filter({ (trials[$0].ratio ?? 1) < Self.adoption })
      .min(by: { (trials[$0].ratio ?? 1) < (trials[$1].ratio ?? 1) })
    {
      var again = TuningRecord.Trial(configuration: trials[best].configuration)
      try bench.time(again.configuration, rounds: Self.finalRounds, givingUp: false, into: &again)
      trials.append(again)
      if let ratio = again.ratio, ratio < Self.adoption { chosen = again.configuration }
    }
    return TuningRecord(
      pass: task.pass, dtype: task.dtype, operand: task.operand, members: task.members, standard: task.standard,
      chosen: chosen,
      trials: trials)
  }

  /// As many as the budget allows, the same ones each time, and of each kernel as many: their spaces differ in size.
  private func sample(_ task: TuningTask) -> [ConvolutionConfiguration] {
    guard task.candidates.count > budget else { return task.candidates }
    var random = RandomNumbers(seed: seed, name: task.name)
    let kernels = Dictionary(grouping: task.candidates, by: \.kernel).sorted { $0.key < $1.key }
      .map { $0.value.shuffled(using: &random) }
    let turns = (0..<budget).flatMap { turn in kernels.compactMap { $0.dropFirst(turn).first } }
    return Array(turns.prefix(budget))
  }

  // MARK: - Against the reference

  /// A small convolution like the task's, with the fewest channels; nil for pending steps that no check has.
  private static func check(of task: TuningTask) -> ConvolutionCheck? {
    let call = task.calls.min { $0.geometry.filterSize < $1.geometry.filterSize }
    return [(5, 7), (9, 11), (17, 19)].lazy.compactMap { call?.reduced(batch: 2, image: $0) }.first(where: \.fits)
  }

  /// The comparison that failed, if one did. A patch or ring without room for the small images is only compared at full size.
  private func failure(
    of check: ConvolutionCheck, _ pass: ConvolutionPass, _ configuration: ConvolutionConfiguration
  ) throws -> Comparison? {
    guard configuration.hasRoom(for: pass, check.geometry) else { return nil }
    return try ConvolutionConfiguration.$forced.withValue([pass: configuration]) { try check.check().run(on: device) }
      .first { !$0.passed }
  }

  // MARK: - At full size

  /// The representatives of a task with operands, and what the standard computes from them.
  private struct Bench {
    private struct Subject {
      let member: Int
      let weight: Double
      let trial: ConvolutionTrial
      let expected: Tensor
      let squares: Float
      let limit: Double
      /// Runs in a timing: short launches are timed several times over.
      let repeats: Int
    }

    private let task: TuningTask
    private let device: Device
    private let subjects: [Subject]

    init(_ task: TuningTask, on device: Device) throws {
      self.task = task
      self.device = device
      subjects = try task.representatives.map { member, weight in
        let trial = ConvolutionTrial(task.calls[member], task.pass, on: device)
        let expected = trial.result(task.standard)
        let squares = Tensor(uninitialized: [], on: device)
        expected.addSum(.squares, factor: 1 / Float(expected.shape.count), to: squares)
        // Twice: both sides may be off.
        let limit =
          2 * tolerance(terms: task.members[member].convolution.terms(of: task.pass))
          + 2 * expected.dtype.storageRoundoff + 2 * productRoundoff(task.operand)
        let mean = try squares.item()
        trial.run(task.standard)
        let once = max(try Self.seconds(1, on: device) { trial.run(task.standard) }, 1e-6)
        return Subject(
          member: member, weight: weight, trial: trial, expected: expected, squares: mean, limit: limit,
          repeats: max(1, min(20, Int(5e-3 / once))))
      }
    }

    /// The comparison with the standard that failed, if one did.
    func failure(of candidate: ConvolutionConfiguration) throws -> Comparison? {
      for subject in subjects {
        let error = try subject.trial.result(candidate).meanSquaredError(to: subject.expected).item()
        let comparison = Comparison(
          task.members[subject.member].convolution.label, error: Double(error / subject.squares).squareRoot(),
          limit: subject.limit)
        if !comparison.passed { return comparison }
      }
      return nil
    }

    /// Times a candidate in turns with the standard.
    ///
    /// - Parameter givingUp: whether to leave one that is clearly slower after its first turn.
    func time(
      _ candidate: ConvolutionConfiguration, rounds: Int, givingUp: Bool, into trial: inout TuningRecord.Trial
    ) throws {
      var spent = 0.0
      var standard = 0.0
      for subject in subjects {
        var timing = TuningRecord.Timing(member: subject.member, milliseconds: [], standardMilliseconds: [])
        subject.trial.run(candidate)
        for round in 0..<rounds {
          for configuration in [task.standard, candidate] {
            let seconds = try Self.seconds(subject.repeats, on: device) { subject.trial.run(configuration) }
            let milliseconds = seconds * 1e3
            if configuration == candidate {
              timing.milliseconds.append(milliseconds)
            } else {
              timing.standardMilliseconds.append(milliseconds)
            }
          }
          if givingUp, round == 0, timing.milliseconds[0] > 1.3 * timing.standardMilliseconds[0] {
            trial.timings.append(timing)
            trial.rejected = "clearly slower in its first turn"
            return
          }
        }
        trial.timings.append(timing)
        standard += subject.weight * median(timing.standardMilliseconds)
        spent += subject.weight * median(timing.standardMilliseconds) * timing.ratio
      }
      trial.ratio = spent / standard
    }

    /// Seconds of one of so many runs, by the device's clock; all launches of a run count.
    private static func seconds(_ repeats: Int, on device: Device, _ run: () -> Void) throws -> Double {
      _ = try device.takeProfile()
      for _ in 0..<repeats { run() }
      return try device.takeProfile().reduce(0) { $0 + $1.seconds } / Double(repeats)
    }
  }
}

extension ConvolutionGeometry {
  /// Products that are summed up for a value of the pass's result.
  fileprivate func terms(of pass: ConvolutionPass) -> Int {
    switch pass {
    case .forward: kernelHeight * kernelWidth * inputs
    case .inputGradient: kernelHeight * kernelWidth * outputs
    case .filterGradient: batch * outHeight * outWidth
    }
  }
}
