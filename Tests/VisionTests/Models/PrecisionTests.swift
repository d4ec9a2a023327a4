import KernelVerification
import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing
import Vision

extension DeviceModelTests {
  /// A whole training step in 16 bits beside the same step in `float32` in which each value is rounded where the other
  /// stores it.
  ///
  /// Beside a step without roundings there is little to say: they turn signs of rectifiers, and an untrained DenseNet
  /// passes that on to everything behind. With the roundings of the forward pass the same, signs are the same as well, and
  /// what is left is linear: the roundings of the gradients.
  @Suite struct PrecisionTests {
    /// An operation of the forward pass.
    fileprivate struct Operation {
      var name: String
      /// The type of its first input and of its first output.
      var input: DType
      var output: DType
    }

    private struct Step {
      var loss: Float
      var logits: [Float]
      /// Of each kernel of a convolution by name, and the operation that reads it.
      var gradients: [String: (values: [Float], operation: Int)] = [:]
      var operations: [Operation] = []
    }

    /// - Parameter sixteenBit: the step whose roundings a `float32` step repeats.
    private static func step(
      _ precision: Precision, gradientScale: Float, rounding sixteenBit: Step? = nil
    ) throws -> Step {
      let device = try DeviceModelTests.device.get()
      var description = ModelDescription()
      description.precision = precision
      (description.targetHeight, description.targetWidth) = (48, 48)
      let classifier = try description.build()
      let arena = ParameterArena(classifier, on: device, seed: 5)
      var random = RandomNumbers(seed: 1)
      // Black and white: 0 and 1 are the same in all types.
      let shape: Shape = [8, 64, 64, 3]
      let photos = Tensor(
        (0..<shape.count).map { _ in random.next() % 2 == 0 ? UInt8(0) : 255 }, shape: shape, on: device)
      let targets = Tensor([1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1], shape: [8, 2], on: device)

      var operations: [Operation] = []
      var readers: [Int: Int] = [:]
      let tape = Tape()
      tape.onRecord = { name, inputs, outputs in
        let operation = Operation(name: name, input: inputs[0].dtype, output: outputs[0].dtype)
        if operation.isCast {
          // There is none in a float32 step: it rounds what was to be cast.
          operations[operations.count - 1].output = operation.output
          return
        }
        for input in inputs { readers[input.storage.id] = operations.count }
        if let type = sixteenBit?.operations[operations.count].output, type != .float32 {
          Tape.$current.withValue(nil) { outputs[0].overwrite(with: outputs[0].cast(to: type).cast(to: .float32)) }
        }
        operations.append(operation)
      }
      // Where a convolution leaves moments their bits are others than where they are computed from what it stored, as they are
      // from what is rounded behind it.
      let (loss, logits) = MomentsTarget.$isUsed.withValue(false) {
        withTraining {
          Tape.$current.withValue(tape) {
            let logits = classifier(photos).logits
            return (logits.softmaxCrossEntropy(targets: targets, labelSmoothing: 0.1).loss, logits)
          }
        }
      }
      let gradients = tape.gradients(of: loss, seed: Tensor([gradientScale], shape: [], on: device))
      var step = Step(loss: try loss.item(), logits: try logits.floats(), operations: operations)
      for parameter in arena.parameters where parameter.isTrainable && parameter.shape.rank == 4 {
        step.gradients[parameter.name] = (
          try #require(gradients[parameter.tensor]).floats().map { $0 / gradientScale },
          try #require(readers[parameter.tensor.storage.id])
        )
      }
      return step
    }

    /// With p bits a number m · 2ᵉ, 1 ≤ m < 2, is rounded by an error uniform within ±u 2ᵉ, u = 2⁻ᵖ. Over significands m as
    /// they occur, with density 1 / (m ln 2), the root mean square in relation to the number is
    /// u √(∫ 1/(3 m³ ln 2)) = u √(1 / (8 ln 2)) = 0.425 u.
    ///
    /// A gradient is rounded once by each operation that read a value of 16 bits behind it: those add to one gradient
    /// one after another, or lie on the way. L such errors, independent of each other, are together 0.425 u √L: the limit
    /// for all kernels together. A single one may have twice that, because BatchNorm takes the mean off a gradient, and
    /// of what is left the rounding is a larger share.
    @Test(arguments: [(Precision.float16, Float(256)), (.bfloat16, 1)])
    func gradientsDifferByTheirRoundings(precision: Precision, gradientScale: Float) throws {
      let short = try Self.step(precision, gradientScale: gradientScale)
      let rounded = try Self.step(.float32, gradientScale: 1, rounding: short)
      #expect(short.operations.map(\.name) == rounded.operations.map(\.name))
      #expect(short.logits == rounded.logits && short.loss == rounded.loss)
      #expect(short.gradients.count == 126 && rounded.gradients.count == 126)
      let error = 0.425 * precision.storage.storageRoundoff
      func roundings(behind operation: Int) -> Double {
        Double(short.operations[(operation + 1)...].filter { $0.input == precision.storage }.count)
      }
      var (differences, squares) = (0.0, 0.0)
      for (name, gradient) in short.gradients {
        let expected = try #require(rounded.gradients[name]?.values)
        let difference = zip(gradient.values, expected).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
        let square = expected.reduce(0) { $0 + Double($1) * Double($1) }
        let distance = (difference / square).squareRoot()
        let limit = 2 * error * roundings(behind: gradient.operation).squareRoot()
        #expect(distance <= limit, "\(name): \(distance), limit \(limit)")
        differences += difference
        squares += square
      }
      let all = (differences / squares).squareRoot()
      #expect(all <= error * roundings(behind: 0).squareRoot())
      // They were rounded at all.
      #expect(all > error)
    }
  }
}

extension DeviceModelTests.PrecisionTests.Operation {
  /// Whether it brings a `float32` value into 16 bits and does nothing else.
  fileprivate var isCast: Bool { name == "copy" && input == .float32 && output != .float32 }
}
