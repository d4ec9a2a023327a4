import TensorCore
import Testing

@Suite struct ShapeTests {
  @Test func extents() {
    let shape: Shape = [2, 3, 5, 7]
    #expect(shape.rank == 4 && shape.count == 210 && shape.channels == 7 && shape.rows == 30)
    #expect(shape[1] == 3)
    #expect(shape.withChannels(2) == [2, 3, 5, 2])
    #expect("\(shape)" == "[2, 3, 5, 7]")
  }

  @Test func scalarAndVector() {
    let scalar: Shape = []
    #expect(scalar.rank == 0 && scalar.count == 1 && scalar.channels == 1 && scalar.rows == 1)
    let vector: Shape = [5]
    #expect(vector.count == 5 && vector.channels == 5 && vector.rows == 1)
    #expect(Shape([4, 0]).count == 0)
  }

  @Test func elementSizes() {
    #expect(DType.float32.byteCount == 4 && DType.int32.byteCount == 4 && DType.uint8.byteCount == 1)
  }
}
