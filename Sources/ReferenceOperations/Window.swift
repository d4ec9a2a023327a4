/// A height and a width: of an image, a window or a stride.
public struct Size2D: Sendable, Equatable {
  /// Rows.
  public var height: Int
  /// Columns.
  public var width: Int

  /// A size of `height` rows and `width` columns.
  public init(_ height: Int, _ width: Int) {
    self.height = height
    self.width = width
  }

  /// A square.
  public init(_ side: Int) { self.init(side, side) }
}

/// Rows and columns added around an image.
public struct Padding: Sendable, Equatable {
  /// Rows above.
  public var top: Int
  /// Rows below.
  public var bottom: Int
  /// Columns on the left.
  public var left: Int
  /// Columns on the right.
  public var right: Int

  /// Explicit padding on every side.
  public init(top: Int, bottom: Int, left: Int, right: Int) {
    self.top = top
    self.bottom = bottom
    self.left = left
    self.right = right
  }

  /// The same padding on all four sides.
  public init(_ all: Int) { self.init(top: all, bottom: all, left: all, right: all) }

  /// No padding: only windows that lie within the image.
  public static let valid = Padding(0)

  /// TensorFlow's `SAME`: ⌈input / stride⌉ outputs, an odd row or column of padding at the bottom or right.
  public static func same(input: Size2D, window: Size2D, strides: Size2D = Size2D(1)) -> Padding {
    func total(_ input: Int, _ window: Int, _ stride: Int) -> Int {
      max(((input + stride - 1) / stride - 1) * stride + window - input, 0)
    }
    let rows = total(input.height, window.height, strides.height)
    let columns = total(input.width, window.width, strides.width)
    return Padding(top: rows / 2, bottom: rows - rows / 2, left: columns / 2, right: columns - columns / 2)
  }
}

/// The walk of a window over a batch of images, shared by convolution and pooling.
struct WindowSweep {
  let batch: Int
  let input: Size2D
  let output: Size2D
  let window: Size2D
  let strides: Size2D
  let padding: Padding

  init(over x: ReferenceTensor, window: Size2D, strides: Size2D, padding: Padding) {
    precondition(x.shape.count == 4, "an image is [batch, height, width, channels], not \(x.shape)")
    batch = x.shape[0]
    input = Size2D(x.shape[1], x.shape[2])
    output = Size2D(
      (input.height + padding.top + padding.bottom - window.height) / strides.height + 1,
      (input.width + padding.left + padding.right - window.width) / strides.width + 1)
    precondition(
      input.height + padding.top + padding.bottom >= window.height
        && input.width + padding.left + padding.right >= window.width,
      "a window of \(window) does not fit the padded image \(x.shape)")
    self.window = window
    self.strides = strides
    self.padding = padding
  }

  /// The shape of the result for a number of channels.
  func outputShape(channels: Int) -> [Int] { [batch, output.height, output.width, channels] }

  /// Calls `body` for every output pixel and every tap of its window, taps in row-major order, with the numbers of the
  /// output pixel, of the input pixel (nil in the padding) and of the tap.
  func forEach(_ body: (_ output: Int, _ input: Int?, _ tap: Int) -> Void) {
    for n in 0..<batch {
      for oy in 0..<output.height {
        for ox in 0..<output.width {
          let outputPixel = (n * output.height + oy) * output.width + ox
          for ky in 0..<window.height {
            for kx in 0..<window.width {
              let iy = oy * strides.height + ky - padding.top
              let ix = ox * strides.width + kx - padding.left
              let inside = iy >= 0 && iy < input.height && ix >= 0 && ix < input.width
              let inputPixel = inside ? (n * input.height + iy) * input.width + ix : nil
              body(outputPixel, inputPixel, ky * window.width + kx)
            }
          }
        }
      }
    }
  }
}
