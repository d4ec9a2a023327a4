// Resizing and its gradient: both are y[i, j] = sum over a, b of rowWeight[i][a] * columnWeight[j][b] *
// prologue(x)[rowStart[i] + a, columnStart[j] + b], with the tables of the host; the gradient uses the transposed
// tables. No atomics, any ratio, any method.
//
// With EPILOGUE the result is a gradient with respect to a prologue's value: it goes on through the prologue of `ex`
// (EPRE, EAFFINE, EPOST) and leaves the affine's sums, [work-items of dimensions 1 and 2][2][channels].
//
// Tables: starts[i], counts[i], weights[i * taps + a]. Work-items: (channel vectors, groups of `group` output columns,
// images * output rows).
kernel WIDE void resize(global const stored *x, int xOffset, int xStride, int height, int width, int channels,
                        global const float *affine, int affineOffset, float preSlope, float postSlope,
                        global const int *rowTable, global const float *rowWeights, int rowTaps,
                        global const int *columnTable, global const float *columnWeights, int columnTaps,
                        global result *y, int yOffset, int yStride, int outHeight, int outWidth, int manner, int group
#if EPILOGUE
                        ,
                        global const result *ex, int exOffset, int exStride, global const float *eaffine,
                        int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
#endif
) {
  const int c = get_global_id(0) * VEC;
  const int i = get_global_id(2) % outHeight;
  const int n = get_global_id(2) / outHeight;
  DECLARE_PROLOGUE(affine + affineOffset, channels, c);
#if EPILOGUE
  DECLARE_EPILOGUE(eaffine + eaffineOffset, channels, c);
  vfloat sumShift = 0.0f, sumScale = 0.0f;
#endif
  const int row = rowTable[2 * i], rows = rowTable[2 * i + 1];
  const int first = get_global_id(1) * group;
  const int last = min(first + group, outWidth);
  for (int j = first; j < last; j++) {
    const int column = columnTable[2 * j], columns = columnTable[2 * j + 1];
    vfloat sum = 0.0f;
    for (int a = 0; a < rows; a++) {
      global const stored *p = x + xOffset + (((long)n * height + row + a) * width + column) * xStride + c;
      vfloat line = 0.0f;
      for (int b = 0; b < columns; b++) {
        const vfloat v = SLOAD(p + (long)b * xStride);
        line += APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope) * columnWeights[j * columnTaps + b];
      }
      sum += line * rowWeights[i * rowTaps + a];
    }
    const long pixel = ((long)n * outHeight + i) * outWidth + j;
#if EPILOGUE
    const vfloat input = RLOAD(ex + exOffset + pixel * exStride + c);
    EPILOGUE_GRADIENT(sum, input, ecentre, escale, eshift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
    RPUT(manner, sum, y + yOffset + pixel * yStride + c);
  }
#if EPILOGUE && EAFFINE
  const long item = (long)get_global_id(2) * get_global_size(1) + get_global_id(1);
  VSTORE(sumShift, sums + item * 2 * channels + c);
  VSTORE(sumScale, sums + (item * 2 + 1) * channels + c);
#endif
}
