import Fovea
import Foundation
import Testing

/// What the articles of the documentation say about their code. The code itself is in the files beside this one.
@Suite(.serialized) struct TutorialTests {
  @Test func gradientOfSquares() throws {
    #expect(try firstGradient() == [2, 4, 6])
  }

  @Test func resizerKeepsWhatThePlainResizeLoses() throws {
    let (learned, plain) = try compareResizers()
    // Another device rounds differently, and training amplifies that as it does another seed: of four seeds the worst
    // got 0.94.
    #expect(learned > 0.9)
    // Guessing gets 128 ± 8 of 256 right; five deviations above are 0.66.
    #expect(plain < 0.66)
  }

  @Test func resizerTakesAnySize() throws {
    let device = try Device.open()
    let resizer = DetailResizer(size: 11)
    _ = ParameterArena(resizer, on: device)
    let wide = Tensor.zeros([2, 9, 31, 3], on: device)
    #expect(resizer(wide).shape == [2, 11, 11, 3])
    #expect(resizer.namedParameters().map(\.name) == ["look/kernel", "look/bias", "tell/kernel", "tell/bias"])
    #expect(resizer.parameterCount == 251)
  }

  @Test func preluOfAViewAndOfPendingSteps() throws {
    let device = try Device.open()
    let whole = Tensor((0..<12).map { Float($0) - 6 }, shape: [3, 4], on: device)
    let slope = Tensor([0.5, -0.25], shape: [2], on: device)
    let view = whole.channels(1..<3)  // −5 −4, −1 0, 3 4
    let (y, gradients) = valueWithGradients(at: [view]) { view.prelu(slope: slope) }
    #expect(try y.floats() == [-2.5, 1, -0.5, 0, 3, 4])
    #expect(try gradients[view]?.floats() == [0.5, -0.25, 0.5, -0.25, 1, 1])
    #expect(try whole.relu().prelu(slope: Tensor([1, 1, 1, 1], shape: [4], on: device)).floats().max() == 5)
  }

  /// The loss is 1·x over two channels, so that a step of plain descent is exact: slope − rate · Σ x where x ≤ 0.
  @Test func preluTrains() throws {
    let layer = ParametricReLU(channels: 2)
    let device = try Device.open()
    let arena = ParameterArena(layer, on: device)
    let optimizer = Optimizer(.sgd(), schedule: .constant(0.125), arena: arena)
    let x = Tensor([-2, 1, -1, 3], shape: [2, 2], on: device)
    optimizer.update(valueWithGradients { layer(x).sum() }.gradients)
    #expect(try layer.slope.tensor.floats() == [0.25 + 0.125 * 3, 0.25])
  }

  /// The code blocks of a page, read from top to bottom, are a file of this folder.
  @Test(arguments: [
    ("Fovea.md", "FirstGradient.swift"), ("YourOwnResizer.md", "DetailResizer.swift"),
    ("YourOwnKernel.md", "ParametricReLU.swift"),
  ])
  func pageShowsThisCode(page: String, file: String) throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let catalogue = folder.appendingPathComponent("../../Sources/Fovea/Fovea.docc").standardizedFileURL
    let text = try String(contentsOf: catalogue.appendingPathComponent(page), encoding: .utf8)
    let blocks = text.components(separatedBy: "\n```swift\n").dropFirst().map { block in
      block.components(separatedBy: "\n```\n")[0]
    }
    let code = try String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
    #expect(blocks.joined(separator: "\n\n") + "\n" == code)
  }

  @Test func resizerHasSixtyLines() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("DetailResizer.swift")
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count - 1 <= 60)
  }
}
