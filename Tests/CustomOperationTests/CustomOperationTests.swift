import Fovea
import Foundation
import Testing

/// The worked example of docs/adding-an-operation.md: an operation outside the library, with its public interface only.
@Suite struct CustomOperationTests {
  private func swish(_ x: Double) -> Double { x / (1 + exp(-x)) }

  /// (f(x + h) − f(x − h)) / 2h
  private func slope(_ x: Double) -> Double { (swish(x + 1e-5) - swish(x - 1e-5)) / 2e-5 }

  @Test func valueAndGradient() throws {
    let device = try Device.open()
    let values = (0..<24).map { Float($0) / 3 - 4 }
    let whole = Tensor(values, shape: [2, 3, 4], on: device)
    // A view of two channels of four; used twice, so that the second contribution to its gradient is added.
    let x = whole.channels(1..<3)
    let (y, gradients) = valueWithGradients(at: [x]) { x.swish() + x.swish() }
    let seen = try x.floats().map(Double.init)
    for (value, x) in zip(try y.floats(), seen) {
      #expect(abs(Double(value) - 2 * swish(x)) < 1e-5)
    }
    let dx = try #require(gradients[x]).floats()
    for (value, x) in zip(dx, seen) {
      #expect(abs(Double(value) - 2 * slope(x)) < 1e-5)
    }
  }

  @Test func readsPendingSteps() throws {
    let x = try Tensor([-1, 2], shape: [1, 2], on: Device.open())
    #expect(try abs(Double(x.relu().swish().floats()[1]) - swish(2)) < 1e-6)
    #expect(try x.relu().swish().floats()[0] == 0)
  }

  @Test func documentationShowsThisCode() throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let code = try String(contentsOf: folder.appendingPathComponent("CustomOperation.swift"), encoding: .utf8)
    let page = try String(
      contentsOf: folder.appendingPathComponent("../../docs/adding-an-operation.md").standardizedFileURL,
      encoding: .utf8)
    #expect(page.contains(code))
  }
}
