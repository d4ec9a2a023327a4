import Foundation
import NeuralNetwork
import Operations
import TensorCore
import Testing

@testable import Vision

extension DeviceModelTests {
  /// The authors' order of operations in plain double precision: blur, difference, resize, tanh of two scalars.
  @Test func mullerIsTheAuthors() throws {
    let device = try Self.device.get()
    var options = MullerResizer.Options()
    options.targetSize = (5, 6)
    let resizer = MullerResizer(options)
    let arena = ParameterArena(resizer, on: device)
    #expect(
      arena.parameters.map(\.name) == [
        "muller_resizer/weight_1", "muller_resizer/weight_2", "muller_resizer/bias_1", "muller_resizer/bias_2",
      ])
    var random = RandomNumbers(seed: 3)
    let image = (0..<11 * 9 * 3).map { _ in random.uniform() }
    let photos = Tensor(image, shape: [1, 11, 9, 3], on: device)
    // Untrained it is the plain resize.
    #expect(try resizer(photos).floats() == photos.resized(height: 5, width: 6).floats())

    let scalars: [Float] = [1.5, -2, 0.1, -0.3]
    for (parameter, value) in zip(arena.parameters, scalars) { arena.set(parameter, to: [value]) }
    let expected = muller(
      image.map { Double($0) }, (11, 9), to: (5, 6), weights: [1.5, -2],
      biases: [Double(Float(0.1)), Double(Float(-0.3))])
    let values = try resizer(photos).floats()
    // Values of about 1, some tens of roundings each.
    for (value, expected) in zip(values, expected) { #expect(abs(Double(value) - expected) < 40 * 0x1p-24) }

    // Gradients of the sum of all values against central differences of the double-precision version.
    let (_, gradients) = valueWithGradients { resizer(photos).sum() }
    for index in 0..<4 {
      func total(_ shift: Double) -> Double {
        var numbers = scalars.map { Double($0) }
        numbers[index] += shift
        return muller(
          image.map { Double($0) }, (11, 9), to: (5, 6), weights: Array(numbers[..<2]), biases: Array(numbers[2...])
        ).reduce(0, +)
      }
      let difference = (total(1e-5) - total(-1e-5)) / 2e-5
      let gradient = try #require(gradients[arena.parameters[index].tensor]).item()
      // 90 terms of about 1 or less, each with some tens of roundings; the difference is good to 1e-9.
      #expect(abs(Double(gradient) - difference) < 90 * 40 * 0x1p-24, "\(arena.parameters[index].name)")
    }
  }
}

/// MULLER for one image with three channels.
private func muller(
  _ image: [Double], _ size: (Int, Int), to target: (Int, Int), weights: [Double], biases: [Double]
) -> [Double] {
  let filter = gaussianWeights(radius: 2, deviation: 1)
  func blurred(_ image: [Double]) -> [Double] {
    var result = [Double](repeating: 0, count: image.count)
    for y in 0..<size.0 {
      for x in 0..<size.1 {
        for (a, rowWeight) in filter.enumerated() where (0..<size.0).contains(y + a - 2) {
          for (b, columnWeight) in filter.enumerated() where (0..<size.1).contains(x + b - 2) {
            for c in 0..<3 {
              result[(y * size.1 + x) * 3 + c] +=
                rowWeight * columnWeight * image[((y + a - 2) * size.1 + x + b - 2) * 3 + c]
            }
          }
        }
      }
    }
    return result
  }
  let rows = ResizeTable(inputSize: size.0, outputSize: target.0, interpolation: .bilinear, antialias: false)
  let columns = ResizeTable(inputSize: size.1, outputSize: target.1, interpolation: .bilinear, antialias: false)
  func resized(_ image: [Double]) -> [Double] {
    var result: [Double] = []
    for y in 0..<target.0 {
      for x in 0..<target.1 {
        for c in 0..<3 {
          var sum = 0.0
          for (a, rowWeight) in rows.weights[y].enumerated() {
            for (b, columnWeight) in columns.weights[x].enumerated() {
              sum +=
                rowWeight * columnWeight * image[((rows.starts[y] + a) * size.1 + columns.starts[x] + b) * 3 + c]
            }
          }
          result.append(sum)
        }
      }
    }
    return result
  }
  var image = image
  var result = resized(image)
  for (weight, bias) in zip(weights, biases) {
    let soft = blurred(image)
    let residual = resized(zip(soft, image).map(-))
    result = zip(result, residual).map { $0 + tanh(weight * $1 + bias) }
    image = soft
  }
  return result
}
