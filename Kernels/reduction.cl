// Sums in two stages with a fixed order; see normalization.cl.

// partials[chunk][c] = sum over the chunk's rows of x, or of (x - target)^2 with SQUARED_ERROR.
kernel WIDE void sum_rows_partial(global const stored *x, int xOffset, int xStride, int rows, int chunkRows,
                                  int channels,
#ifdef SQUARED_ERROR
                                  global const stored *t, int tOffset, int tStride,
#endif
                                  global float *partials) {
  const int c = get_global_id(0) * VEC;
  const int chunk = get_global_id(1);
  const long first = (long)chunk * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  vfloat sum = 0.0f;
  for (int i = 0; i < count; i++) {
#ifdef SQUARED_ERROR
    const vfloat d = SLOAD(x + xOffset + (first + i) * xStride + c) - SLOAD(t + tOffset + (first + i) * tStride + c);
    sum += d * d;
#elif defined(SQUARES)
    const vfloat d = SLOAD(x + xOffset + (first + i) * xStride + c);
    sum += d * d;
#else
    sum += SLOAD(x + xOffset + (first + i) * xStride + c);
#endif
  }
  VSTORE(sum, partials + (long)chunk * channels + c);
}

// y[c] (+)= factor * sum over `count` rows of partials, compensated. Work-items: (channel vectors, SHARE); see
// `common.cl`.
kernel WIDE TOGETHER void sum_rows_finish(global const float *partials, int count, int stride, float factor,
                                          global float *y, int yOffset, int accumulate) {
  SHARED_SUMS;
  const int c = get_global_id(0) * VEC;
  vfloat sum = 0.0f, rest = 0.0f;
  for (int i = FIRST_CHUNK; i < count; i += SHARE)
    add_compensated(VLOAD(partials + (long)i * stride + c), &sum, &rest);
  sum = GROUP_SUM(sum) * factor;
  if (FIRST_CHUNK > 0)
    return;
  if (accumulate)
    sum += VLOAD(y + yOffset + c);
  VSTORE(sum, y + yOffset + c);
}

// y (+)= factor * sum of all `count` values of x: one work-item, few values, one by one (`add_compensated` has
// vectors).
kernel void sum_values(global const float *x, int xOffset, int count, float factor, global float *y, int yOffset,
                       int accumulate) {
  float sum = 0.0f, rest = 0.0f;
  for (int i = 0; i < count; i++) {
    const float term = x[xOffset + i] - rest;
    const float next = sum + term;
    rest = (next - sum) - term;
    sum = next;
  }
  y[yOffset] = COMBINE(accumulate, y[yOffset], factor * sum);
}
