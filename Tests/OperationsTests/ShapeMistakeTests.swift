import Operations
import TensorCore
import Testing

extension OperationsTests {
  /// A shape that does not fit traps with the operation and both shapes. Each test is a process of its own.
  @Suite struct ShapeMistakeTests {
    @Test func convolutionGeometry() async throws {
      let result = try #require(
        await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
          _ = ConvolutionGeometry(input: [1, 5, 5, 3], filter: [3, 3, 4, 8], strides: (1, 1), padding: .same)
        })
      expect(result, says: "conv2d: input [1, 5, 5, 3] has 3 channels, filter [3, 3, 4, 8] expects 4")
    }

    @Test func imageSmallerThanTheFilter() async throws {
      let result = try #require(
        await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
          _ = ConvolutionGeometry(input: [1, 2, 5, 3], filter: [3, 3, 3, 8], strides: (1, 1), padding: .valid)
        })
      expect(result, says: "conv2d: input [1, 2, 5, 3] is smaller than the 3×3 filter")
    }

    @Test func sumOfDifferentShapes() async throws {
      let result = try #require(
        await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
          _ = Tensor.zeros([2, 3], on: TestDevice.shared) + Tensor.zeros([3, 2], on: TestDevice.shared)
        })
      expect(result, says: "add: [2, 3] + [3, 2]")
    }

    @Test func bytesWithoutScaling() async throws {
      let result = try #require(
        await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
          _ = Tensor([UInt8](repeating: 1, count: 4), shape: [1, 2, 2, 1], on: TestDevice.shared)
            .maxPool(window: (2, 2), strides: (2, 2))
        })
      expect(result, says: "a tensor of uint8 [1, 2, 2, 1] must be scaled to float32 first")
    }

    @Test func sixteenBitsForAKernelOfFloats() async throws {
      let result = try #require(
        await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
          _ = Tensor([1, 2], shape: [1, 2], on: TestDevice.shared, dtype: .bfloat16).arguments
        })
      expect(result, says: "a kernel that takes floats got a bfloat16 tensor [1, 2]: cast(to: .float32) it first")
    }

    private func expect(_ result: ExitTest.Result, says text: String, sourceLocation: SourceLocation = #_sourceLocation)
    {
      let output = String(decoding: result.standardErrorContent, as: UTF8.self)
      #expect(output.contains(text), "\(output)", sourceLocation: sourceLocation)
    }
  }
}
