import Operations
import TensorCore
import Testing

extension OperationsTests {
  @Suite struct OneHotTests {
    @Test func labelsBecomeRows() throws {
      let rows = Tensor.oneHot([2, 0] as [Int32], classes: 3, on: device)
      #expect(rows.shape == [2, 3])
      #expect(try rows.floats() == [0, 0, 1, 1, 0, 0])
      // A part of an array, whose indices do not begin at 0; a single class.
      #expect(try Tensor.oneHot([7, 1][1...], classes: 2, on: device).floats() == [0, 1])
      #expect(try Tensor.oneHot([0, 0], classes: 1, on: device).floats() == [1, 1])
    }

    @Test func aLabelBeyondTheClassesTraps() async {
      await #expect(processExitsWith: .failure) { _ = oneHotRows([3], classes: 3) }
      await #expect(processExitsWith: .failure) { _ = oneHotRows([-1], classes: 3) }
    }
  }
}
