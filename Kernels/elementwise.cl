// Operations without neighbours. Work-items: (channel vectors, groups of chunkRows rows).

// y = (float)x * factor, from bytes.
kernel WIDE void scale_bytes(global const uchar *x, int xOffset, float factor, int rows, int chunkRows, int channels,
                             global float *y) {
  const long first = (long)get_global_id(1) * chunkRows * channels;
  const long end = min((long)rows * channels, first + (long)chunkRows * channels);
  long i = first;
  for (; i + 16 <= end; i += 16)
    vstore16(convert_float16(vload16(0, x + xOffset + i)) * factor, 0, y + i);
  for (; i < end; i++)
    y[i] = x[xOffset + i] * factor;
}

// y (+)= factor * scalar[0] * x, or without the scalar when it is not given.
kernel WIDE void scale(global const float *x, int xOffset, int xStride, int rows, int chunkRows, float factor,
                       global const float *scalar, int scalarOffset, int hasScalar, global float *y, int yOffset,
                       int yStride, int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  const float f = hasScalar ? factor * scalar[scalarOffset] : factor;
  for (int i = 0; i < count; i++) {
    vfloat v = VLOAD(x + xOffset + (first + i) * xStride + c) * f;
    global float *target = y + yOffset + (first + i) * yStride + c;
    if (accumulate)
      v += VLOAD(target);
    VSTORE(v, target);
  }
}

// y (+)= a * b, elementwise.
kernel WIDE void multiply(global const float *a, int aOffset, int aStride, global const float *b, int bOffset,
                          int bStride, int rows, int chunkRows, global float *y, int yOffset, int yStride,
                          int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++) {
    vfloat v = VLOAD(a + aOffset + (first + i) * aStride + c) * VLOAD(b + bOffset + (first + i) * bStride + c);
    global float *target = y + yOffset + (first + i) * yStride + c;
    if (accumulate)
      v += VLOAD(target);
    VSTORE(v, target);
  }
}

// y = tanh(x).
kernel WIDE void tanh_values(global const float *x, int xOffset, int xStride, int rows, int chunkRows, global float *y,
                             int yOffset, int yStride) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++)
    VSTORE(tanh(VLOAD(x + xOffset + (first + i) * xStride + c)), y + yOffset + (first + i) * yStride + c);
}

// dx (+)= dy * (1 - y * y), where y = tanh(x).
kernel WIDE void tanh_gradient(global const float *y, int yOffset, int yStride, global const float *dy, int dyOffset,
                               int dyStride, int rows, int chunkRows, global float *dx, int dxOffset, int dxStride,
                               int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++) {
    const vfloat t = VLOAD(y + yOffset + (first + i) * yStride + c);
    vfloat v = VLOAD(dy + dyOffset + (first + i) * dyStride + c) * (1.0f - t * t);
    global float *target = dx + dxOffset + (first + i) * dxStride + c;
    if (accumulate)
      v += VLOAD(target);
    VSTORE(v, target);
  }
}

// y[row][c] (+)= factor * x[c]: the gradient of a sum over rows; with x a single value when `single` is set.
kernel WIDE void broadcast_rows(global const float *x, int xOffset, int single, float factor, int rows, int chunkRows,
                                global float *y, int yOffset, int yStride, int accumulate) {
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
    global float *target = y + yOffset + (first + i) * yStride + c;
    if (accumulate)
      v += VLOAD(target);
    VSTORE(v, target);
  }
}

// dx (+)= factor * dloss * (x - t): the gradient of a sum of squares.
kernel WIDE void difference(global const float *x, int xOffset, int xStride, global const float *t, int tOffset,
                            int tStride, int rows, int chunkRows, float factor, global const float *dloss,
                            int dlossOffset, global float *dx, int dxOffset, int dxStride, int accumulate) {
  const int c = get_global_id(0) * VEC;
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  const float f = factor * dloss[dlossOffset];
  for (int i = 0; i < count; i++) {
    vfloat v = (VLOAD(x + xOffset + (first + i) * xStride + c) - VLOAD(t + tOffset + (first + i) * tStride + c)) * f;
    global float *target = dx + dxOffset + (first + i) * dxStride + c;
    if (accumulate)
      v += VLOAD(target);
    VSTORE(v, target);
  }
}
