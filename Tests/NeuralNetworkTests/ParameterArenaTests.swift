import Foundation
import NeuralNetwork
import OpenCLRuntime
import Operations
import TensorCore
import Testing

private struct Net: Module {
  let first = Dense(inputs: 3, units: 5)
  let norm = BatchNorm(channels: 5)
  let last = Dense(inputs: 5, units: 2)
}

private struct Longer: Module {
  let stem = Dense(inputs: 3, units: 3)
  let first = Dense(inputs: 3, units: 5)
}

private struct Tied: Module {
  let encoder: Dense
  let decoder: Dense

  init() {
    encoder = Dense(inputs: 3, units: 3)
    decoder = encoder
  }
}

@Suite(.serialized) struct ParameterArenaTests {
  @Test func everyParameterHasItsOwnPlace() throws {
    let device = try OptimizerTests.device.get()
    let arena = ParameterArena(Net(), on: device, seed: 1)
    for (isTrainable, home) in [(true, arena.weights), (false, arena.statistics)] {
      var end = 0
      for parameter in arena.parameters where parameter.isTrainable == isTrainable {
        #expect(parameter.tensor.elementOffset == end && end % 16 == 0, "\(parameter.name)")
        #expect(parameter.tensor.storage.buffer === home.storage.buffer)
        #expect(parameter.tensor.storage.requiresGradient == isTrainable)
        end += (parameter.shape.count + 15) / 16 * 16
      }
      #expect(home.shape.count == end)
    }
  }

  @Test func settingOneLeavesTheOthers() throws {
    let device = try OptimizerTests.device.get()
    let arena = ParameterArena(Net(), on: device, seed: 1)
    let bias = try #require(arena.parameter(named: "first/bias"))
    var expected = try arena.weights.floats()
    arena.set(bias, to: [1, 2, 3, 4, 5])
    expected.replaceSubrange(bias.tensor.elementOffset..<bias.tensor.elementOffset + 5, with: [1, 2, 3, 4, 5])
    #expect(try arena.weights.floats() == expected)
    #expect(try bias.tensor.floats() == [1, 2, 3, 4, 5])
    #expect(arena.parameter(named: "bias") == nil)
  }

  @Test func aPartStartsAlikeInEveryModel() throws {
    let device = try OptimizerTests.device.get()
    let (short, long) = (Net(), Longer())
    let arenas = [ParameterArena(short, on: device, seed: 3), ParameterArena(long, on: device, seed: 3)]
    #expect(arenas.map(\.parameters.count) == [8, 4])
    #expect(try short.first.kernel.tensor.floats() == long.first.kernel.tensor.floats())
    #expect(try long.stem.kernel.tensor.floats() != Array(long.first.kernel.tensor.floats()[..<9]))
  }

  @Test func gradientsLieInTheArenaAndOldOnesAreCleared() throws {
    let device = try OptimizerTests.device.get()
    let net = Net()
    let arena = ParameterArena(net, on: device, seed: 1)
    let x = Tensor([1, 2, 3], shape: [1, 3], on: device)
    // Sums of a dense layer without activation: each bias has gradient 1, each weight that of its input.
    for usesLast in [true, false] {
      let (_, store) = valueWithGradients { usesLast ? net.last(net.first(x)).sum() : net.first(x).sum() }
      arena.completeGradients(store)
      let gradients = try arena.gradients.floats()
      func gradient(_ parameter: Parameter) -> [Float] {
        Array(gradients[parameter.tensor.elementOffset..<parameter.tensor.elementOffset + parameter.shape.count])
      }
      #expect(gradient(net.last.bias!) == (usesLast ? [1, 1] : [0, 0]))
      #expect(gradient(net.last.kernel).allSatisfy { ($0 != 0) == usesLast })
      #expect(gradient(net.norm.gamma) == [0, 0, 0, 0, 0])
      if !usesLast {
        #expect(gradient(net.first.bias!) == [1, 1, 1, 1, 1])
        #expect(gradient(net.first.kernel) == [1, 2, 3].flatMap { Array(repeating: Float($0), count: 5) })
      }
      // The gaps between parameters count in the global norm: they stay zero.
      var gaps = gradients
      for parameter in arena.parameters where parameter.isTrainable {
        for index in 0..<parameter.shape.count { gaps[parameter.tensor.elementOffset + index] = 0 }
      }
      #expect(gaps.allSatisfy { $0 == 0 })
    }
  }

  @Test func savedAndLoaded() throws {
    let device = try OptimizerTests.device.get()
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let saved = ParameterArena(Net(), on: device, seed: 1)
    try saved.save(to: "\(folder)/a", metadata: ["step": "3"])
    #expect(try SafetensorsFile(contentsOf: "\(folder)/a").metadata == ["step": "3"])
    let loaded = ParameterArena(Net(), on: device, seed: 2)
    #expect(try loaded.weights.floats() != saved.weights.floats())
    try loaded.load(from: "\(folder)/a")
    #expect(try loaded.weights.floats() == saved.weights.floats())
    #expect(try loaded.statistics.floats() == saved.statistics.floats())

    // A model with one parameter more: nothing changes, not even what the file has.
    let other = ParameterArena(Longer(), on: device, seed: 2)
    let before = try other.weights.floats()
    #expect(throws: SafetensorsError.self) { try other.load(from: "\(folder)/a") }
    #expect(try other.weights.floats() == before)
  }

  @Test func aSharedLayerIsOneLayer() throws {
    let device = try OptimizerTests.device.get()
    let tied = Tied()
    let arena = ParameterArena(tied, on: device, seed: 1)
    #expect(arena.parameters.map(\.name) == ["encoder/kernel", "encoder/bias"])
    let x = Tensor([1, 2, 3], shape: [1, 3], on: device)
    let (_, store) = valueWithGradients { tied.decoder(tied.encoder(x)).sum() }
    // The outer layer's bias has gradient 1; the inner one's is the sum of its kernel row.
    let kernel = try tied.encoder.kernel.tensor.floats()
    let bias = try #require(store[tied.encoder.bias!.tensor]).floats()
    for row in 0..<3 {
      let expected = 1 + kernel[row * 3] + kernel[row * 3 + 1] + kernel[row * 3 + 2]
      // Four terms of at most 1 each, six roundings at most.
      #expect(abs(bias[row] - expected) < 1e-6)
    }
  }
}
