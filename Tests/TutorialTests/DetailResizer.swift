import Fovea

/// A plain resize, plus what a small net saw while the picture was still large.
struct DetailResizer: Module {
  let size: Int
  let look = Conv2D(inputs: 3, filters: 8, kernelSize: 3)
  let tell = Conv2D(inputs: 8, filters: 3, kernelSize: 1)

  func callAsFunction(_ photos: Tensor) -> Tensor {
    let plain = photos.resized(height: size, width: size)
    let detail = look(photos).leakyReLU().resized(height: size, width: size)
    return plain + tell(detail)
  }
}

/// Photos to the scores of two classes, by way of 16×16 pictures. Without a resizer, a plain resize makes these.
struct Net: Module {
  let resizer: DetailResizer?
  let conv = Conv2D(inputs: 3, filters: 16, kernelSize: 3)
  let norm = BatchNorm(channels: 16, momentum: 0.9)
  let head = Dense(inputs: 16, units: 2)

  func callAsFunction(_ photos: Tensor) -> Tensor {
    let photos = photos.scaled(by: 1 / 255)
    let small = resizer?(photos) ?? photos.resized(height: 16, width: 16)
    return head(norm(conv(small)).relu().globalAveragePool())
  }
}

/// The photos of `range` as bytes [count, 32, 32, 3], and their classes as rows of 0 and 1, [count, 2].
func batch(_ range: Range<Int>, of data: some ImageDataset, on device: Device) throws -> (Tensor, Tensor) {
  let pixels: [UInt8] = try range.flatMap { try data.pixels(at: $0, height: 32, width: 32) }
  let photos = Tensor(pixels, shape: [range.count, 32, 32, 3], on: device)
  return (photos, Tensor.oneHot(range.map { data.label(at: $0) }, classes: 2, on: device))
}

/// Trains a net on 1600 pictures and returns the share of 256 others that it then gets right.
func accuracy(of net: Net, on device: Device) throws -> Float {
  let arena = ParameterArena(net, on: device, seed: 0)
  let optimizer = Optimizer(.adam(), schedule: .cosine(0.01, steps: 100), arena: arena)
  let pictures = SyntheticDataset(count: 1856, seed: 0, size: 32)
  for step in 0..<100 {
    let (photos, targets) = try batch(step * 16..<step * 16 + 16, of: pictures, on: device)
    let (loss, gradients) = withTraining {
      valueWithGradients { net(photos).softmaxCrossEntropy(targets: targets).loss }
    }
    optimizer.update(gradients)
    if step % 20 == 19 { print("step \(step + 1): loss \(try loss.item())") }
  }
  let (photos, targets) = try batch(1600..<1856, of: pictures, on: device)
  return try net(photos).softmaxCrossEntropy(targets: targets).correct.item() / 256
}

/// What the resizer is worth: the accuracy with it, and with a plain resize in its place.
func compareResizers() throws -> (learned: Float, plain: Float) {
  let device = try Device.open()
  let learned = try accuracy(of: Net(resizer: DetailResizer(size: 16)), on: device)
  return (learned, try accuracy(of: Net(resizer: nil), on: device))
}
