import CommandSupport
import Foundation
import Fovea
import KernelVerification
import Testing

@testable import FoveaCommand

/// What `fovea bench plan --dump-programs` writes for compilers that need no GPU.
@Suite struct ProgramDumpTests {
  /// Every program that a training step launches on such a GPU is there, as a driver would get it, and no other.
  @Test(arguments: ["float32", "float16"]) func theWholeStepIsThere(precision: String) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let failure = FoveaTool.failure(
      of: [
        "bench", "plan", "--device", "cpu", "--batch-size", "2", "--input-size", "64", "--target-size", "32",
        "--precision", precision,
        "--dump-programs", folder,
      ])
    #expect(failure == nil, "\(failure?.text ?? "")")
    let lines = try String(contentsOfFile: folder + "/index.tsv", encoding: .utf8).split(separator: "\n")
    var found: Set<[String]> = []
    for (number, line) in lines.enumerated() {
      let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      #expect(fields.count == 3 && fields[0] == "\(number)")
      let text = try String(contentsOfFile: "\(folder)/\(number).cl", encoding: .utf8)
      #expect(text.contains(fields[1]), "\(line)")
      found.insert([fields[1], fields[2]])
    }
    #expect(found.count == lines.count)

    var model = ModelDescription()
    (model.inputHeight, model.inputWidth, model.targetHeight, model.targetWidth) = (64, 64, 32, 32)
    model.precision = precision == "float16" ? .float16 : .float32
    let gpu = try DeviceSelection.pick("cpu", from: DeviceDescription.all()).imitatingGPU(
      computeUnits: 132, localMemory: 48 << 10, maximumWorkGroupSize: 1024)
    let plan = try StepPlan(trainingStepOf: model, batchSize: 2, on: gpu)
    #expect(found == Set(plan.programs.map { [$0.kernel, $0.options] }))
    // Of each kind one that a step on any GPU has, and none of the vectors that CPUs get.
    for kernel in ["conv_tiled", "conv_tiled_filter_gradient", "batch_norm_fold", "cross_entropy", "sgd"] {
      #expect(found.contains { $0[0] == kernel }, "\(kernel)")
    }
    #expect(!found.contains { $0[1].contains("VEC=16") })
  }
}
