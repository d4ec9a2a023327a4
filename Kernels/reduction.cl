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

#ifdef SEGMENT_ITEMS
// A column's values of a row, zeros behind a single one.
INLINE float4 load_segment(global const float *p, int width) {
  return width == 4 ? *(global const float4 *)p : (float4)(*p, 0.0f, 0.0f, 0.0f);
}

// The compensated sum of a column's rows first, first + step, ... A work-item waits for memory and for nothing else, so
// up to four loads are under way at once. No branch depends on how many rows are left: compilers would move loads
// behind it, between the sums. The last row is read again in place of those that are not there, and not added.
INLINE float4 sum_of_column(global const float *p, int first, int step, int rows, int stride, int width) {
  float4 sum = 0.0f, rest = 0.0f;
  for (int i = first; i < rows; i += 4 * step) {
    float4 values[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
      values[j] = load_segment(p + (long)min(i + j * step, rows - 1) * stride, width);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      float4 nextSum = sum, nextRest = rest;
      add_compensated(values[j], &nextSum, &nextRest);
      const bool isThere = i + j * step < rows;
      sum = isThere ? nextSum : sum;
      rest = isThere ? nextRest : rest;
    }
  }
  return sum;
}

// y (+)= the sum over the rows of each of several segments of partials. Work-items share the rows of a column, and
// their compensated sums are added in order. Work-groups of SEGMENT_ITEMS, a power of two; eight numbers of `table` for
// each:
//   0, 1   the first of its partials, and the first of its results in y
//   2, 3   rows of the segment, and elements from one to the next
//   4, 5   results of the group, and of a column of work-items: 4, aligned, or 1
//   6      the logarithm of the number of work-items of a column
//   7      whether to add to what is in y
kernel WIDE __attribute__((reqd_work_group_size(SEGMENT_ITEMS, 1, 1))) void
sum_segments(global const float *partials, global const int8 *table, global float *y) {
  local float4 sums[SEGMENT_ITEMS];
  const int8 entry = table[get_group_id(0)];
  const int rows = entry.s2, stride = entry.s3, width = entry.s5, share = 1 << entry.s6;
  const int columns = SEGMENT_ITEMS >> entry.s6;
  // Neighbours have neighbouring columns.
  const int item = get_local_id(0);
  const int column = item & (columns - 1);
  const int first = item / columns;
  const int c = column * width;
  const bool isThere = c < entry.s4;
  global const float *p = partials + entry.s0 + c;
  float4 sum = 0.0f;
  if (isThere)
    sum =
        width == 4 ? sum_of_column(p, first, share, rows, stride, 4) : sum_of_column(p, first, share, rows, stride, 1);
  sums[item] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (!isThere || first > 0)
    return;
#pragma unroll 4
  for (int i = 1; i < share; i++)
    sum += sums[i * columns + column];
  global float *target = y + entry.s1 + c;
  if (entry.s7)
    sum += load_segment(target, width);
  if (width == 4)
    *(global float4 *)target = sum;
  else
    *target = sum.x;
}
#endif

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
