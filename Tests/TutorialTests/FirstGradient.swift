import Fovea

func firstGradient() throws -> [Float] {
  let device = try Device.open()
  let x = Tensor([1, 2, 3], shape: [3], on: device)
  let (value, gradients) = valueWithGradients(at: [x]) { (x * x).sum() }
  print(try value.item())  // 14.0
  return try gradients[x]?.floats() ?? []  // [2, 4, 6]
}
