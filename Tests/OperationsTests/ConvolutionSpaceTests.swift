import Foundation
import OpenCLRuntime
import TensorCore
import Testing

@testable import Operations

/// Decisions alone: nothing is launched.
@Suite struct ConvolutionSpaceTests {
  private static let geometries = [
    (1, 1, 64, 128, 75), (1, 1, 1024, 128, 5), (3, 1, 128, 32, 37), (3, 1, 16, 16, 13), (3, 1, 7, 5, 6),
    (7, 1, 3, 16, 30), (7, 1, 16, 3, 30), (7, 2, 3, 64, 33), (1, 2, 20, 33, 9), (5, 3, 31, 2, 11), (1, 1, 2000, 3, 4),
  ].map { kernel, stride, inputs, outputs, side in
    ConvolutionGeometry(
      input: [4, side, side, inputs], filter: [kernel, kernel, inputs, outputs], strides: (stride, stride),
      padding: .same)
  }

  private static func devices() throws -> [(DeviceDescription, [ConvolutionAlgorithm])] {
    let cpu = try DeviceSelection.pick("cpu", from: DeviceDescription.all())
    func gpu(_ items: Int, _ local: Int) -> (DeviceDescription, [ConvolutionAlgorithm]) {
      (cpu.imitatingGPU(computeUnits: 20, localMemory: local, maximumWorkGroupSize: items), [.tiled])
    }
    return [
      (cpu, [.vector, .winograd]), gpu(1024, 48 << 10), gpu(256, 32 << 10), gpu(128, 16 << 10), gpu(32, 16 << 10),
      gpu(1024, 16 << 10),
    ]
  }

  /// What is used without measurements is legal everywhere, and first in its space.
  @Test func standardsAreLegal() throws {
    for (device, algorithms) in try Self.devices() {
      for geometry in Self.geometries {
        for algorithm in algorithms {
          for pass in ConvolutionPass.allCases {
            let space = ConvolutionSpace(pass, geometry, algorithm, on: device)
            let standard = ConvolutionConfiguration.standard(pass, geometry, algorithm, on: device)
            let violation = space.violation(of: standard)
            #expect(violation == nil, "\(pass) of \(geometry.label): \(standard): \(violation ?? "")")
            #expect(space.configurations.first == standard)
          }
        }
      }
    }
  }

  /// Two buffers of tiles lie in local memory at once. Where it has no room for them, the standard takes fewer terms a
  /// step, and tuning does not try them.
  @Test func tilesFitLocalMemory() throws {
    let cpu = try Self.devices()[0].0
    let large = TiledConvolution.Tile(rows: 128, columns: 128, down: 2, across: 2)
    #expect(large.localBytes(sums: false) == 2 * 16 * (128 + 4 + 128 + 4) * 4)
    for (kilobytes, terms) in [(48, 16), (32, 8), (16, 4)] {
      let device = cpu.imitatingGPU(computeUnits: 1, localMemory: kilobytes << 10, maximumWorkGroupSize: 1024)
      let space = ConvolutionSpace(.forward, Self.geometries[0], .tiled, on: device)
      let fitting = large.fitting(device)
      #expect(fitting.terms == terms && space.violation(of: .tiled(fitting)) == nil)
      #expect(
        space.violation(of: .tiled(.init(rows: 128, columns: 128, down: 2, across: 2, terms: 2 * terms))) != nil)
      for case .tiled(let tile, _) in space.configurations {
        #expect(tile.localBytes(sums: true) <= device.localMemory)
      }
    }
  }

  /// Each constraint rules out what only it forbids.
  @Test func constraintsHold() throws {
    let devices = try Self.devices()
    func violation(
      _ configuration: ConvolutionConfiguration, _ pass: ConvolutionPass, _ geometry: Int, gpu: Bool = false
    ) -> String? {
      let (device, algorithms) = gpu ? devices[2] : devices[0]
      return ConvolutionSpace(pass, Self.geometries[geometry], algorithms[algorithms.count - 1], on: device)
        .violation(of: configuration)
    }
    typealias Tile = TiledConvolution.Tile
    #expect(violation(.vector(pixels: 14, vectors: 2, tiles: 6), .forward, 0) == nil)
    #expect(violation(.vector(pixels: 15, vectors: 2, tiles: 6), .forward, 0)?.contains("registers") == true)
    #expect(violation(.vector(pixels: 8, vectors: 2, tiles: 40), .forward, 1)?.contains("private") == true)
    #expect(violation(.vector(pixels: 4, vectors: 2, tiles: 1), .forward, 4)?.contains("outputs") == true)
    #expect(violation(.vector(pixels: 0, vectors: 2, tiles: 1), .forward, 0) != nil)
    #expect(violation(.vector(pixels: 8, vectors: 2, tiles: 6), .filterGradient, 0) != nil)
    #expect(violation(.winograd(tiles: 8, vectors: 2), .forward, 2) == nil)
    #expect(violation(.winograd(tiles: 8, vectors: 2), .forward, 3)?.contains("divide") == true)
    #expect(violation(.winograd(tiles: 8, vectors: 1), .forward, 4) != nil)
    #expect(
      violation(
        .winogradFilterGradient(rows: 12, vectors: 2, channels: 64, tiles: 24, splits: 4), .filterGradient, 2)?
        .contains("rows") == true)
    #expect(violation(.gather, .inputGradient, 0) != nil && violation(.gather, .inputGradient, 7) == nil)
    #expect(violation(.tiled(Tile(rows: 64, columns: 64)), .forward, 0) != nil)
    #expect(violation(.tiled(Tile(rows: 64, columns: 64)), .forward, 0, gpu: true) == nil)
    #expect(violation(.tiled(Tile(rows: 128, columns: 128)), .forward, 0, gpu: true)?.contains("work-items") == true)
    #expect(
      violation(.tiled(Tile(rows: 128, columns: 128, down: 2, across: 2, terms: 32)), .forward, 0, gpu: true)?
        .contains("local memory") == true)
    #expect(
      violation(.tiled(Tile(rows: 256, columns: 64, down: 4, across: 4, terms: 8)), .forward, 0, gpu: true)?
        .contains("registers") == true)
    #expect(violation(.tiled(Tile(rows: 64, columns: 16, down: 4)), .forward, 0, gpu: true) == nil)
    #expect(violation(.tiled(Tile(rows: 16, columns: 128, across: 8)), .forward, 0, gpu: true) != nil)
  }

  /// A device's table decides where it says something legal, for any batch.
  @Test func tablesDecide() throws {
    var device = try Self.devices()[0].0
    let geometry = Self.geometries[0]
    let choice = ConvolutionConfiguration.vector(pixels: 6, vectors: 3, tiles: 2)
    let standard = device.configuration(of: .forward, geometry, .float32, .winograd)
    var table = ConvolutionTable(date: "today")
    table[.forward, geometry, .float32] = choice
    table[.inputGradient, geometry, .float32] = .vector(pixels: 100, vectors: 3, tiles: 2)
    device.convolutionTable = table
    #expect(choice != standard)
    #expect(device.configuration(of: .forward, geometry, .float32, .winograd) == choice)
    #expect(device.configuration(of: .forward, geometry.withBatch(9), .float32, .winograd) == choice)
    #expect(
      device.configuration(of: .inputGradient, geometry, .float32, .winograd)
        == .standard(.inputGradient, geometry, .winograd, on: device))
    #expect(device.configuration(of: .forward, Self.geometries[1], .float32, .winograd) != choice)
    // For images of another type it says nothing.
    #expect(device.configuration(of: .forward, geometry, .bfloat16, .winograd) == standard)
    ConvolutionConfiguration.$forced.withValue([.forward: standard]) {
      #expect(device.configuration(of: .forward, geometry, .float32, .winograd) == standard)
    }
    // Passed off as another device it is not the one that was measured.
    #expect(
      device.imitatingGPU(computeUnits: 2, localMemory: 1 << 15, maximumWorkGroupSize: 256).convolutionTable == nil)
  }

  @Test func configurationsAreWrittenAndRead() throws {
    for (device, algorithms) in try Self.devices().prefix(2) {
      for pass in ConvolutionPass.allCases {
        let all = ConvolutionSpace(pass, Self.geometries[2], algorithms[algorithms.count - 1], on: device)
          .configurations
        #expect(all.count > 10)
        let text = try JSONEncoder().encode(all)
        #expect(try JSONDecoder().decode([ConvolutionConfiguration].self, from: text) == all)
      }
    }
  }
}
