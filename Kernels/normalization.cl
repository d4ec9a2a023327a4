// Batch statistics, their gradient, and the affine step of a prologue with its gradient.
//
// Sums over rows are made in two stages with a fixed order: chunks of rows, then the chunks one after another with
// compensated summation. Work-items: (channel vectors, chunks), so that neighbours read neighbouring channels.

// Without sums, work-items take whole rows where the host asks for that (dimension 0 is 1): a core reads memory in
// order.
#define FOR_CHANNELS(c, channels) for (int c = get_global_id(0) * VEC; c < (channels); c += get_global_size(0) * VEC)

// partials[chunk][0][c] = mean of the chunk, [1] = sum of squared deviations from it. The second pass finds the chunk
// in cache; deviations from the chunk's own mean keep the variance free of cancellation.
//
// A channel has the same moments, to the bit, in a slab and in a copy beside others, where vectors may be of another
// width. Therefore multiply-adds are written out: compilers fuse them or not, and Intel's does one for VEC = 1 and the
// other for VEC = 4.
kernel WIDE void moments_partial(global const stored *x, int xOffset, int xStride, int rows, int chunkRows,
                                 int channels, float preSlope, global float *partials) {
  const int c = get_global_id(0) * VEC;
  const int chunk = get_global_id(1);
  const long first = (long)chunk * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  global const stored *p = x + xOffset + first * xStride + c;
  vfloat sum = 0.0f;
  for (int i = 0; i < count; i++)
    sum += APPLY_PRE(SLOAD(p + (long)i * xStride), preSlope);
  const vfloat mean = sum / (float)count;
  vfloat squares = 0.0f;
  for (int i = 0; i < count; i++) {
    const vfloat d = APPLY_PRE(SLOAD(p + (long)i * xStride), preSlope) - mean;
    squares = fma(d, d, squares);
  }
  VSTORE(mean, partials + (long)chunk * 2 * channels + c);
  VSTORE(squares, partials + ((long)chunk * 2 + 1) * channels + c);
}

// The work-items of the finishing kernels are (channel vectors, SHARE); see `common.cl`.

// Mean and biased variance from the chunks, by Chan's formula: var * M = sum of squares + sum of n (mean_i - mean)^2.
// What one work-item adds of the two sums, with compensated summation; `hasCounts`: the chunks' rows lie behind them.
#define ROWS_OF_CHUNK(i)                                                                                               \
  (hasCounts ? partials[(long)chunks * 2 * channels + i] : (float)min((long)chunkRows, rows - (long)i * chunkRows))
INLINE vfloat share_of_sum(global const float *partials, int chunks, int rows, int chunkRows, int hasCounts,
                           int channels, int c) {
  vfloat sum = 0.0f, rest = 0.0f;
  for (int i = FIRST_CHUNK; i < chunks; i += SHARE) {
    const float n = ROWS_OF_CHUNK(i);
    // The product and what is carried over are rounded once, so not by `add_compensated`.
    const vfloat term = fma(VLOAD(partials + (long)i * 2 * channels + c), (vfloat)(n), -rest);
    const vfloat next = sum + term;
    rest = (next - sum) - term;
    sum = next;
  }
  return sum;
}
INLINE vfloat share_of_squares(global const float *partials, int chunks, int rows, int chunkRows, int hasCounts,
                               int channels, int c, vfloat mean) {
  vfloat squares = 0.0f, rest = 0.0f;
  for (int i = FIRST_CHUNK; i < chunks; i += SHARE) {
    const float n = ROWS_OF_CHUNK(i);
    const vfloat d = VLOAD(partials + (long)i * 2 * channels + c) - mean;
    add_compensated(fma(d * d, (vfloat)(n), VLOAD(partials + ((long)i * 2 + 1) * channels + c)), &squares, &rest);
  }
  return squares;
}

kernel WIDE TOGETHER void moments_finish(global const float *partials, int chunks, int rows, int chunkRows,
                                         int hasCounts, int channels, global float *mean, int meanOffset,
                                         global float *variance, int varianceOffset) {
  SHARED_SUMS;
  const int c = get_global_id(0) * VEC;
  const vfloat sum = share_of_sum(partials, chunks, rows, chunkRows, hasCounts, channels, c);
  const vfloat m = GROUP_SUM(sum) / (float)rows;
  const vfloat part = share_of_squares(partials, chunks, rows, chunkRows, hasCounts, channels, c, m);
  const vfloat squares = GROUP_SUM(part);
  if (FIRST_CHUNK == 0) {
    VSTORE(m, mean + meanOffset + c);
    VSTORE(squares / (float)rows, variance + varianceOffset + c);
  }
}

// dx (+)= pre'(x) * (dmean / M + 2 (pre(x) - mean) dvariance / M).
kernel WIDE void moments_gradient(global const stored *x, int xOffset, int xStride, int rows, int chunkRows,
                                  int channels, float preSlope, global const float *mean, int meanOffset,
                                  global const float *dmean, int dmeanOffset, global const float *dvariance,
                                  int dvarianceOffset, global stored *dx, int dxOffset, int dxStride, int manner) {
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  const float inverse = 1.0f / rows;
  for (int i = 0; i < count; i++)
    FOR_CHANNELS(c, channels) {
      const vfloat m = VLOAD(mean + meanOffset + c);
      const vfloat a = VLOAD(dmean + dmeanOffset + c) * inverse;
      const vfloat b = VLOAD(dvariance + dvarianceOffset + c) * (2.0f * inverse);
      const vfloat v = SLOAD(x + xOffset + (first + i) * xStride + c);
      vfloat g = a + (APPLY_PRE(v, preSlope) - m) * b;
#if PRE
      g = ACTIVATE_GRADIENT(v, preSlope, g);
#endif
      SPUT(manner, g, dx + dxOffset + (first + i) * dxStride + c);
    }
}

// affine rows: centre = mean, scale = gamma / sqrt(variance + epsilon), shift = beta. One work-item per channel.
#define FOLDED_SCALE(gamma, variance, epsilon) ((gamma) / sqrt((variance) + (epsilon)))
kernel void fold(global const float *mean, int meanOffset, global const float *variance, int varianceOffset,
                 global const float *gamma, int gammaOffset, global const float *beta, int betaOffset, float epsilon,
                 int channels, global float *affine) {
  const int c = get_global_id(0);
  affine[c] = mean[meanOffset + c];
  affine[channels + c] = FOLDED_SCALE(gamma[gammaOffset + c], variance[varianceOffset + c], epsilon);
  affine[2 * channels + c] = beta[betaOffset + c];
}

// From the gradient of the affine rows to those of mean, variance, gamma and beta, of VEC channels from c on.
// flags: 1 mean, 2 variance, 4 gamma, 8 beta wanted; the same shifted by 4: add to what is there.
#define FOLD_GRADIENT(dcentre, dscale, dshift, c)                                                                      \
  {                                                                                                                    \
    const vfloat inverse = 1.0f / sqrt(VLOAD(variance + varianceOffset + (c)) + epsilon);                              \
    const vfloat dv = VLOAD(gamma + gammaOffset + (c)) * (dscale) * -0.5f * inverse * inverse * inverse;               \
    ADD_IF_WANTED(0, dcentre, dmean + dmeanOffset + (c));                                                              \
    ADD_IF_WANTED(1, dv, dvariance + dvarianceOffset + (c));                                                           \
    ADD_IF_WANTED(2, (inverse) * (dscale), dgamma + dgammaOffset + (c));                                               \
    ADD_IF_WANTED(3, dshift, dbeta + dbetaOffset + (c));                                                               \
  }
#define ADD_IF_WANTED(bit, v, p)                                                                                       \
  {                                                                                                                    \
    if (flags & (1 << bit))                                                                                            \
      VSTORE(COMBINE((16 << bit) & flags, VLOAD(p), v), p);                                                            \
  }

kernel void fold_gradient(global const float *daffine, int daffineOffset, global const float *variance,
                          int varianceOffset, global const float *gamma, int gammaOffset, float epsilon, int channels,
                          global float *dmean, int dmeanOffset, global float *dvariance, int dvarianceOffset,
                          global float *dgamma, int dgammaOffset, global float *dbeta, int dbetaOffset, int flags) {
  const int c = get_global_id(0) * VEC;
  global const float *d = daffine + daffineOffset + c;
  FOLD_GRADIENT(VLOAD(d), VLOAD(d + channels), VLOAD(d + 2 * channels), c);
}

// moving = momentum * moving + (1 - momentum) * batch. The multiply-add is written out, as in `moments_partial`: the
// same bits in vectors of any width.
#define MOVED(old, batch, momentum) fma(old, momentum, (batch) * (1.0f - (momentum)))
kernel void update_moving(global float *moving, int movingOffset, global const float *batch, int batchOffset,
                          float momentum) {
  const int c = get_global_id(0);
  moving[movingOffset + c] = MOVED(moving[movingOffset + c], batch[batchOffset + c], momentum);
}

// What a batch normalisation does for each channel, in one launch: moments_finish for the channels from `first` on
// whose chunks are there, `fresh` of them (the others' moments are read), fold, and with `moves` update_moving for mean
// and variance. `first` and `fresh` are multiples of VEC.
kernel WIDE TOGETHER void batch_norm_fold(global const float *partials, int chunks, int rows, int chunkRows,
                                          int hasCounts, int first, int fresh, global float *mean, int meanOffset,
                                          global float *variance, int varianceOffset, global const float *gamma,
                                          int gammaOffset, global const float *beta, int betaOffset, float epsilon,
                                          int channels, global float *affine, global float *movingMean,
                                          int movingMeanOffset, global float *movingVariance, int movingVarianceOffset,
                                          float momentum, int moves) {
  SHARED_SUMS;
  const int c = get_global_id(0) * VEC;
  // All work-items come by the barriers, those of other channels without chunks.
  const int isFresh = c >= first && c < first + fresh;
  const int count = isFresh ? chunks : 0;
  const int from = isFresh ? c - first : 0;
  const vfloat sum = share_of_sum(partials, count, rows, chunkRows, hasCounts, fresh, from);
  vfloat m = GROUP_SUM(sum) / (float)rows;
  const vfloat part = share_of_squares(partials, count, rows, chunkRows, hasCounts, fresh, from, m);
  vfloat v = GROUP_SUM(part) / (float)rows;
  if (FIRST_CHUNK > 0)
    return;
  if (isFresh) {
    VSTORE(m, mean + meanOffset + c);
    VSTORE(v, variance + varianceOffset + c);
  } else {
    m = VLOAD(mean + meanOffset + c);
    v = VLOAD(variance + varianceOffset + c);
  }
  VSTORE(m, affine + c);
  VSTORE(FOLDED_SCALE(VLOAD(gamma + gammaOffset + c), v, epsilon), affine + channels + c);
  VSTORE(VLOAD(beta + betaOffset + c), affine + 2 * channels + c);
  if (moves) {
    global float *p = movingMean + movingMeanOffset + c;
    VSTORE(MOVED(VLOAD(p), m, (vfloat)(momentum)), p);
    p = movingVariance + movingVarianceOffset + c;
    VSTORE(MOVED(VLOAD(p), v, (vfloat)(momentum)), p);
  }
}

// y (+)= prologue(x).
kernel WIDE void prologue_apply(global const stored *x, int xOffset, int xStride, int rows, int chunkRows, int channels,
                                global const float *affine, int affineOffset, float preSlope, float postSlope,
                                global result *y, int yOffset, int yStride, int manner) {
  const long first = (long)get_global_id(1) * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  for (int i = 0; i < count; i++)
    FOR_CHANNELS(c, channels) {
      DECLARE_PROLOGUE(affine + affineOffset, channels, c);
      const vfloat v = SLOAD(x + xOffset + (first + i) * xStride + c);
      const vfloat value = APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope);
      RPUT(manner, value, y + yOffset + (first + i) * yStride + c);
    }
}

// From the gradient g of prologue(x) to dx, and per chunk and channel the sums that the affine's gradient is made of:
// sums[chunk][0][c] = sum of h, [1] = sum of h (pre(x) - centre), with h the gradient before the affine's output.
kernel WIDE void prologue_gradient(global const stored *x, int xOffset, int xStride, int rows, int chunkRows,
                                   int channels, global const float *affine, int affineOffset, float preSlope,
                                   float postSlope, global const result *g, int gOffset, int gStride, global stored *dx,
                                   int dxOffset, int dxStride, int wanted, int manner, global float *sums) {
  const int c = get_global_id(0) * VEC;
  const int chunk = get_global_id(1);
  const long first = (long)chunk * chunkRows;
  const int count = min((long)chunkRows, rows - first);
  DECLARE_EPILOGUE(affine + affineOffset, channels, c);
  vfloat sumShift = 0.0f, sumScale = 0.0f;
  for (int i = 0; i < count; i++) {
    const vfloat v = SLOAD(x + xOffset + (first + i) * xStride + c);
    vfloat h = RLOAD(g + gOffset + (first + i) * gStride + c);
    EPILOGUE_GRADIENT(h, v, ecentre, escale, eshift, preSlope, postSlope, sumShift, sumScale);
    if (wanted)
      SPUT(manner, h, dx + dxOffset + (first + i) * dxStride + c);
  }
#if EAFFINE
  VSTORE(sumShift, sums + (long)chunk * 2 * channels + c);
  VSTORE(sumScale, sums + ((long)chunk * 2 + 1) * channels + c);
#endif
}

// Gradient of the affine rows from the sums of all chunks: dcentre = -scale * sum of h, dscale, dshift. What one
// work-item adds of the two sums, with compensated summation.
INLINE void share_of_affine_sums(global const float *sums, int chunks, int channels, int c, vfloat *shift,
                                 vfloat *scale) {
  vfloat sumShift = 0.0f, restShift = 0.0f, sumScale = 0.0f, restScale = 0.0f;
  for (int i = FIRST_CHUNK; i < chunks; i += SHARE) {
    add_compensated(VLOAD(sums + (long)i * 2 * channels + c), &sumShift, &restShift);
    add_compensated(VLOAD(sums + ((long)i * 2 + 1) * channels + c), &sumScale, &restScale);
  }
  *shift = sumShift;
  *scale = sumScale;
}

kernel WIDE TOGETHER void affine_gradient(global const float *sums, int chunks, int channels,
                                          global const float *affine, int affineOffset, global float *daffine,
                                          int daffineOffset, int accumulate) {
  SHARED_SUMS;
  const int c = get_global_id(0) * VEC;
  vfloat sumShift, sumScale;
  share_of_affine_sums(sums, chunks, channels, c, &sumShift, &sumScale);
  sumShift = GROUP_SUM(sumShift);
  sumScale = GROUP_SUM(sumScale);
  if (FIRST_CHUNK > 0)
    return;
  vfloat dcentre = -VLOAD(affine + affineOffset + channels + c) * sumShift;
  global float *target = daffine + daffineOffset + c;
  if (accumulate) {
    dcentre += VLOAD(target);
    sumScale += VLOAD(target + channels);
    sumShift += VLOAD(target + 2 * channels);
  }
  VSTORE(dcentre, target);
  VSTORE(sumScale, target + channels);
  VSTORE(sumShift, target + 2 * channels);
}

// affine_gradient and fold_gradient in one launch, for affines whose gradient nobody else adds to or reads.
kernel WIDE TOGETHER void batch_norm_fold_gradient(global const float *sums, int chunks, int channels,
                                                   global const float *affine, int affineOffset,
                                                   global const float *variance, int varianceOffset,
                                                   global const float *gamma, int gammaOffset, float epsilon,
                                                   global float *dmean, int dmeanOffset, global float *dvariance,
                                                   int dvarianceOffset, global float *dgamma, int dgammaOffset,
                                                   global float *dbeta, int dbetaOffset, int flags) {
  SHARED_SUMS;
  const int c = get_global_id(0) * VEC;
  vfloat sumShift, sumScale;
  share_of_affine_sums(sums, chunks, channels, c, &sumShift, &sumScale);
  sumShift = GROUP_SUM(sumShift);
  sumScale = GROUP_SUM(sumScale);
  if (FIRST_CHUNK > 0)
    return;
  const vfloat dcentre = -VLOAD(affine + affineOffset + channels + c) * sumShift;
  FOLD_GRADIENT(dcentre, sumScale, sumShift, c);
}
