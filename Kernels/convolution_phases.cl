// What is done before and after the data gradient of a strided convolution that computes all phases at once: the pixels
// of a phase, those with the same row modulo the stride's height and column modulo its width, are outputs of their own
// of a convolution of dy without a stride.

// filter[a][b][output][phase][input] = w[firstRow + phase row - strideHeight * a][...][input][output], zero where there
// is no such tap. Work-items: its values, the last extent first, and some more.
kernel void phase_filter(global const float *w, int wOffset, int kernelHeight, int kernelWidth, int inputs, int outputs,
                         int strideHeight, int strideWidth, int firstRow, int firstColumn, int tapRows, int tapColumns,
                         global float *filter) {
  const int i = get_global_id(0);
  const int columns = strideHeight * strideWidth * inputs;
  if (i >= tapRows * tapColumns * outputs * columns)
    return;
  const int input = i % inputs;
  const int phase = i % columns / inputs;
  const int output = i / columns % outputs;
  const int tap = i / columns / outputs;
  const int row = firstRow + phase / strideWidth - strideHeight * (tap / tapColumns);
  const int column = firstColumn + phase % strideWidth - strideWidth * (tap % tapColumns);
  float value = 0.0f;
  if ((uint)row < (uint)kernelHeight & (uint)column < (uint)kernelWidth)
    value = w[wOffset + ((long)(row * kernelWidth + column) * inputs + input) * outputs + output];
  filter[i] = value;
}

// dx[image][row][column][input] (+)= phases[image][row / strideHeight][column / strideWidth][phase][input], with
// `rows` x `columns` pixels of phases an image. Work-items: pixels of dx, and some more.
kernel void phase_pixels(global const stored *phases, int rows, int columns, global stored *dx, int dxOffset,
                         int dxStride, int accumulate, int pixels, int height, int width, int inputs, int strideHeight,
                         int strideWidth) {
  const int i = get_global_id(0);
  if (i >= pixels)
    return;
  const int row = i / width % height;
  const int column = i % width;
  const int phase = row % strideHeight * strideWidth + column % strideWidth;
  const long pixel = ((long)(i / width / height) * rows + row / strideHeight) * columns + column / strideWidth;
  global const stored *source = phases + (pixel * strideHeight * strideWidth + phase) * inputs;
  global stored *target = dx + dxOffset + (long)i * dxStride;
  for (int c = 0; c < inputs; c++)
    SSTORE(COMBINE(accumulate, SLOAD(target + c), SLOAD(source + c)), target + c);
}
