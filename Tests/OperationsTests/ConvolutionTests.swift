import KernelVerification
import Operations
import ReferenceOperations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct ConvolutionTests {}
}

private typealias ConvolutionCase = ConvolutionCheck

/// Kernel sizes, strides and paddings at odd sizes. Where nothing is lost by it, cases share their programs: compiling
/// one takes longer than running it.
private let shapes = [
  ConvolutionCase(batch: 1, image: (1, 1), inputs: 1, outputs: 1, kernel: (1, 1)),
  ConvolutionCase(
    image: (3, 4), inputs: 3, outputs: 3, kernel: (1, 1), padding: .explicit(top: 1, bottom: 2, left: 1, right: 0),
    bias: true),
  ConvolutionCase(batch: 3, image: (7, 9), inputs: 7, outputs: 31, kernel: (1, 1), bias: true),
  ConvolutionCase(image: (5, 7), inputs: 65, outputs: 33, kernel: (1, 1), bias: true),
  ConvolutionCase(batch: 1, image: (3, 3), inputs: 300, outputs: 2, kernel: (1, 1), prologue: .affinePost),
  ConvolutionCase(image: (7, 5), inputs: 16, outputs: 7, kernel: (1, 1), strides: (2, 2)),
  ConvolutionCase(image: (9, 7), inputs: 3, outputs: 16, bias: true),
  ConvolutionCase(image: (5, 9), inputs: 16, outputs: 33, prologue: .affinePost),
  ConvolutionCase(image: (3, 27), inputs: 2, outputs: 1, bias: true),
  ConvolutionCase(image: (4, 1), inputs: 16, outputs: 16),
  ConvolutionCase(image: (3, 3), inputs: 16, outputs: 16, padding: .valid),
  // By Winograd's filtering where that is chosen: odd and even extents, one and two vectors, more than one channel block.
  ConvolutionCase(batch: 3, image: (7, 10), inputs: 16, outputs: 32, bias: true, prologue: .affinePost),
  ConvolutionCase(image: (6, 5), inputs: 144, outputs: 16, prologue: .preAffinePost),
  ConvolutionCase(
    batch: 1, image: (5, 6), inputs: 32, outputs: 64, padding: .explicit(top: 2, bottom: 0, left: 0, right: 3)),
  ConvolutionCase(
    image: (4, 5), inputs: 33, outputs: 2, padding: .explicit(top: 2, bottom: 0, left: 1, right: 3), bias: true,
    prologue: .preAffinePost),
  ConvolutionCase(image: (9, 8), inputs: 7, outputs: 3, strides: (2, 2), padding: .valid),
  ConvolutionCase(image: (7, 6), inputs: 7, outputs: 3, strides: (2, 2)),
  ConvolutionCase(image: (6, 7), inputs: 3, outputs: 7, strides: (1, 2), prologue: .pre),
  ConvolutionCase(image: (10, 11), inputs: 2, outputs: 65, strides: (3, 3), bias: true, prologue: .preAffinePost),
  ConvolutionCase(
    image: (8, 9), inputs: 2, outputs: 3, kernel: (2, 2), strides: (3, 3),
    padding: .explicit(top: 1, bottom: 0, left: 0, right: 2)),
  ConvolutionCase(image: (4, 6), inputs: 7, outputs: 3, kernel: (1, 3)),
  ConvolutionCase(image: (6, 5), inputs: 65, outputs: 3, kernel: (3, 1), bias: true, prologue: .preAffine),
  ConvolutionCase(image: (8, 4), inputs: 3, outputs: 16, kernel: (5, 5)),
  ConvolutionCase(image: (2, 3), inputs: 3, outputs: 16, kernel: (5, 5)),
  ConvolutionCase(image: (3, 4), inputs: 2, outputs: 1, kernel: (7, 7), prologue: .affine),
  ConvolutionCase(
    image: (15, 13), inputs: 3, outputs: 7, kernel: (7, 7), strides: (2, 2),
    padding: .explicit(top: 3, bottom: 3, left: 3, right: 3), bias: true),
]

/// Every structure of pending steps; the table above has most of them with larger kernels and strides.
private let prologues = PrologueStructure.allCases.map {
  ConvolutionCase(image: (3, 5), inputs: 7, outputs: 3, kernel: (1, 1), bias: true, prologue: $0)
}

extension OperationsTests.ConvolutionTests {
  @Test(arguments: TestDevice.algorithms)
  func shapesAgainstTheReference(algorithm: ConvolutionAlgorithm) throws {
    try ConvolutionAlgorithm.$forced.withValue(algorithm) {
      for row in shapes { try OperationsTests.expectPasses(row.check("\(algorithm): \(row)")) }
    }
  }

  @Test(arguments: TestDevice.algorithms)
  func prologuesAgainstTheReference(algorithm: ConvolutionAlgorithm) throws {
    try ConvolutionAlgorithm.$forced.withValue(algorithm) {
      for row in prologues { try OperationsTests.expectPasses(row.check("\(algorithm): \(row)")) }
    }
  }
}
