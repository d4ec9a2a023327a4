import NeuralNetwork
import TensorCore
import Testing

private struct Outer: Module {
  let name: String? = "model"
  let inner = Dense(inputs: 2, units: 3, name: "")
  let layers: [any Module] = [Dense(inputs: 2, units: 2, useBias: false), BatchNorm(channels: 2, name: "norm")]
  let absent: Dense? = nil
  let scale = Parameter([2], .ones, name: "gain")
  let statistic = Parameter([5], .zeros, isTrainable: false)
  let width = 7
}

private class Base: Module {
  let first = Parameter([2], .ones)
}

private final class Derived: Base {
  let second = Parameter([3], .ones)
}

private struct Lists: Module {
  let weights = [Parameter([2], .ones), Parameter([3], .zeros, name: "own")]
  let groups = [[Dense(inputs: 1, units: 1, useBias: false)], [Dense(inputs: 1, units: 1, useBias: false)]]
}

private struct Tied: Module {
  let encoder: Dense
  let decoder: Dense

  init() {
    encoder = Dense(inputs: 2, units: 3)
    decoder = encoder
  }
}

@Suite struct ModuleTests {
  @Test func namesFollowPropertiesAndOwnNames() {
    #expect(
      Outer().namedParameters().map(\.name) == [
        "model/kernel", "model/bias", "model/layers_0/kernel", "model/norm/gamma", "model/norm/beta",
        "model/norm/moving_mean", "model/norm/moving_variance", "model/gain", "model/statistic",
      ])
  }

  @Test func countsOfElements() {
    // 6 + 3, 4, 4 × 2 of which 4 move, 2, and 5 that do not train.
    #expect(Outer().parameterCount == 9 + 4 + 8 + 2 + 5)
    #expect(Outer().trainableParameterCount == 9 + 4 + 4 + 2)
  }

  @Test func superclassesAreSearchedToo() {
    #expect(Derived().namedParameters().map(\.name) == ["first", "second"])
  }

  @Test func listsOfParametersAndListsOfListsAreSearched() {
    #expect(
      Lists().namedParameters().map(\.name) == ["weights_0", "own", "groups_0_0/kernel", "groups_1_0/kernel"])
  }

  @Test func aSharedLayerCountsOnceUnderItsFirstName() {
    #expect(Tied().namedParameters().map(\.name) == ["encoder/kernel", "encoder/bias"])
    #expect(Tied().parameterCount == 9)
  }
}
