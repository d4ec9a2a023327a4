import Operations
import TensorCore
import Testing

extension OperationsTests {
  /// Results of several MiB, which CPU kernels store past the caches, have the bits of smaller ones, which they do not.
  @Suite struct StreamingTests {
    private static let operations: [(name: String, apply: @Sendable (DeferredTensor) -> Tensor)] = [
      ("copy", { $0.copied() }),
      ("resize", { $0.resized(height: 260, width: 258) }),
      ("scale", { $0.materialized().scaled(by: 3) }),
      ("convolution", { $0.conv2d(filter: noise([1, 1, 16, 16], seed: 3)) }),
    ]

    @Test(arguments: [false, true], operations.indices)
    func sameBits(hasAffine: Bool, operation: Int) throws {
      let (name, apply) = Self.operations[operation]
      let affine: Tensor? = hasAffine ? noise([3, 16], seed: 1) : nil
      // Two images are 8.5 MiB, one is half of that; a kernel treats images alike.
      let extents = [256, 272, 16]
      let images = try (0..<2).map { try noise([1] + extents, seed: 10 + UInt64($0)).floats() }
      func run(_ values: [Float], _ count: Int) throws -> (y: [Float], dx: [Float]) {
        let x = Tensor(values, shape: Shape([count] + extents), on: device)
        var y: Tensor?
        let (_, gradients) = valueWithGradients(at: [x]) {
          let pending = affine.map { x.leakyReLU(slope: 0.5).affine($0) } ?? x.leakyReLU(slope: 0.5)
          let result = apply(pending)
          y = result
          return (result * result).sum()
        }
        return (try #require(y).floats(), try #require(gradients[x]).floats())
      }
      let whole = try run(images[0] + images[1], 2)
      let parts = try images.map { try run($0, 1) }
      #expect(whole.y.count * 4 >= 8 << 20, "\(name) is not large enough")
      #expect(whole.y == parts[0].y + parts[1].y, "\(name)")
      #expect(whole.dx == parts[0].dx + parts[1].dx, "gradient of \(name)")
    }
  }
}

/// Values around 0 on the device of the tests.
private func noise(_ shape: [Int], seed: UInt64) -> Tensor {
  var state = seed
  let values = (0..<shape.reduce(1, *)).map { _ in
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(Int64(bitPattern: state) >> 40) / Float(1 << 23)
  }
  return Tensor(values, shape: Shape(shape), on: device)
}
