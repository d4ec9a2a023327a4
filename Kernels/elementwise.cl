// Operations without neighbours. Work-items: (channel vectors, groups of chunkRows rows).

// y = (float)x * factor, from bytes.
kernel WIDE void scale_bytes(global const uchar *x, int xOffset, float factor, int rows, int chunkRows, int channels,
                             global result *y) {
  const long first = (long)get_global_id(1) * chunkRows * channels;
  const long end = min((long)rows * channels, first + (long)chunkRows * channels);
  long i = first;
  for (; i + 16 <= end; i += 16)
    STORE_AS(RESULT, 16, convert_float16(vload16(0, x + xOffset + i)) * factor, y + i);
  for (; i < end; i++)
    STORE_AS(RESULT, 1, x[xOffset + i] * factor, y + i);
}

// y (+)= factor * scalar[0] * x, or without the scalar when it is not given.
kernel WIDE void scale(global const stored *x, int xOffset, int xStride, int rows, int chunkRows, float factor,
                       global const float *scalar, int scalarOffset, int hasScalar, global result *y, int yOffset,
                       int yStride, int manner) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  const float f = hasScalar ? factor * scalar[scalarOffset] : factor;
  for (int i = 0; i < count; i++) {
    const vfloat v = SLOAD(x + xOffset + (first + i) * xStride + c) * f;
    RPUT(manner, v, y + yOffset + (first + i) * yStride + c);
  }
}

// y (+)= a * b, elementwise.
kernel WIDE void multiply(global const stored *a, int aOffset, int aStride, global const stored *b, int bOffset,
                          int bStride, int rows, int chunkRows, global stored *y, int yOffset, int yStride,
                          int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++) {
    vfloat v = SLOAD(a + aOffset + (first + i) * aStride + c) * SLOAD(b + bOffset + (first + i) * bStride + c);
    global stored *target = y + yOffset + (first + i) * yStride + c;
    if (accumulate)
      v += SLOAD(target);
    SSTORE(v, target);
  }
}

// y = tanh(x).
kernel WIDE void tanh_values(global const stored *x, int xOffset, int xStride, int rows, int chunkRows,
                             global stored *y, int yOffset, int yStride) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++)
    SSTORE(tanh(SLOAD(x + xOffset + (first + i) * xStride + c)), y + yOffset + (first + i) * yStride + c);
}

// dx (+)= dy * (1 - y * y), where y = tanh(x).
kernel WIDE void tanh_gradient(global const stored *y, int yOffset, int yStride, global const stored *dy, int dyOffset,
                               int dyStride, int rows, int chunkRows, global stored *dx, int dxOffset, int dxStride,
                               int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++) {
    const vfloat t = SLOAD(y + yOffset + (first + i) * yStride + c);
    vfloat v = SLOAD(dy + dyOffset + (first + i) * dyStride + c) * (1.0f - t * t);
    global stored *target = dx + dxOffset + (first + i) * dxStride + c;
    if (accumulate)
      v += SLOAD(target);
    SSTORE(v, target);
  }
}

// y[row][c] (+)= factor * x[c]: the gradient of a sum over rows; with x a single value when `single` is set.
kernel WIDE void broadcast_rows(global const float *x, int xOffset, int single, float factor, int rows, int chunkRows,
                                global stored *y, int yOffset, int yStride, int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  vfloat value;
  if (single)
    value = (vfloat)(x[xOffset]);
  else
    value = VLOAD(x + xOffset + c);
  value *= factor;
  for (int i = 0; i < count; i++) {
    vfloat v = value;
    global stored *target = y + yOffset + (first + i) * yStride + c;
    if (accumulate)
      v += SLOAD(target);
    SSTORE(v, target);
  }
}

// dx (+)= factor * dloss * (x - t): the gradient of a sum of squares.
kernel WIDE void difference(global const stored *x, int xOffset, int xStride, global const stored *t, int tOffset,
                            int tStride, int rows, int chunkRows, float factor, global const float *dloss,
                            int dlossOffset, global stored *dx, int dxOffset, int dxStride, int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  const float f = factor * dloss[dlossOffset];
  for (int i = 0; i < count; i++) {
    vfloat v = (SLOAD(x + xOffset + (first + i) * xStride + c) - SLOAD(t + tOffset + (first + i) * tStride + c)) * f;
    global stored *target = dx + dxOffset + (first + i) * dxStride + c;
    if (accumulate)
      v += SLOAD(target);
    SSTORE(v, target);
  }
}
