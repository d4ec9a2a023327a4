// Convolution to few output channels (1 to 4), as at the end of a net that makes pictures, for CPUs. Vectors run along
// the summed index (kernel column, input channel) instead of the outputs, which would leave most lanes empty.
//
// Baked: KH KW SH SW, LD (= input channels), NARROW (output channels), TILE and BLOCK (pixels a work-item takes and
// pixels in registers), PRE/AFFINE/POST; for the filter gradient RB (vectors of a run in registers) and CAPACITY.

#ifndef KH
#define KH 1
#define KW 1
#define SH 1
#define SW 1
#define NARROW 3
#define TILE 8
#define BLOCK 8
#endif
#define WINDOW ((TILE - 1) * SW + KW)
#define RUN (KW * LD)
#define RV ((RUN + 15) / 16)

inline float sum_lanes(float16 v) {
  const float8 e = v.lo + v.hi;
  const float4 q = e.lo + e.hi;
  return (q.x + q.y) + (q.z + q.w);
}

// Filters to [kernel row][output][RV * 16], zero beyond the run. Work-items: (RV * 16, outputs, kernel rows).
kernel void pack_filter_narrow(global const float *w, int wOffset, global float *packed) {
  const int k = get_global_id(0);
  const int c = get_global_id(1);
  const int kh = get_global_id(2);
  packed[(kh * NARROW + c) * RV * 16 + k] = k < RUN ? w[wOffset + (kh * RUN + k) * NARROW + c] : 0.0f;
}

// y = bias + sum over taps of prologue(x) * filter. Work-items: (groups of TILE columns, output rows, images).
kernel WIDE void conv_forward_narrow(global const stored *x, int xOffset, int xStride, int height, int width,
                                     int channels, global const float *affine, int affineOffset, float preSlope,
                                     float postSlope, global const float *packed, global stored *y, int yOffset,
                                     int yStride, int outHeight, int outWidth, int padTop, int padLeft,
                                     global const float *bias, int biasOffset, int hasBias) {
  const int oh = get_global_id(1);
  const int n = get_global_id(2);
  const int ow0 = get_global_id(0) * TILE;
  // The last vector of a run may reach beyond it, into values that are finite and meet zero weights.
  float window[KH * WINDOW * LD + 16] LINES;
  pack_unit(window, WINDOW * LD, KH, WINDOW, x + xOffset, n, xStride, height, width, oh * SH - padTop,
            ow0 * SW - padLeft, channels, channels, affine + affineOffset, preSlope, postSlope);
  zero_floats(window + KH * WINDOW * LD, 16);

  // Of the next work-item's window the last rows: those above were read for the output row above.
  const int lowest = oh * SH - padTop + KH - SH;
  Walk next = begin_window_walk(x + xOffset + (long)n * height * width * xStride, xStride, height, width, lowest,
                                (ow0 + TILE) * SW - padLeft + KW - SW, SH, TILE * SW, channels, TILE / BLOCK * KH);
  for (int p0 = 0; p0 < TILE; p0 += BLOCK) {
    float16 acc[BLOCK][NARROW];
#pragma unroll
    for (int p = 0; p < BLOCK; p++)
#pragma unroll
      for (int c = 0; c < NARROW; c++)
        acc[p][c] = 0.0f;
    for (int kh = 0; kh < KH; kh++) {
      walk_on(&next);
      for (int k = 0; k < RV; k++) {
        const float *a = window + (kh * WINDOW + p0 * SW) * LD + k * 16;
        float16 weights[NARROW];
#pragma unroll
        for (int c = 0; c < NARROW; c++)
          weights[c] = vload16(0, packed + ((kh * NARROW + c) * RV + k) * 16);
#pragma unroll
        for (int p = 0; p < BLOCK; p++) {
          const float16 v = vload16(0, a + p * SW * LD);
#pragma unroll
          for (int c = 0; c < NARROW; c++)
            acc[p][c] = fma(v, weights[c], acc[p][c]);
        }
      }
    }
#pragma unroll
    for (int p = 0; p < BLOCK; p++)
      if (ow0 + p0 + p < outWidth)
#pragma unroll
        for (int c = 0; c < NARROW; c++)
          STORE_AS(STORE, 1, sum_lanes(acc[p][c]) + (hasBias ? bias[biasOffset + c] : 0.0f),
                   y + yOffset + (((long)n * outHeight + oh) * outWidth + ow0 + p0 + p) * yStride + c);
  }
}

// Partial filter gradients of each split, as in `conv_filter_gradient`. Work-items: splits.
#ifdef RB
#define RUN_BLOCKS ((RV + RB - 1) / RB)

kernel WIDE void conv_filter_gradient_narrow(global const stored *x, int xOffset, int xStride, int height, int width,
                                             int channels, global const float *affine, int affineOffset, float preSlope,
                                             float postSlope, global const stored *dy, int dyOffset, int dyStride,
                                             int outHeight, int outWidth, int padTop, int padLeft, int images,
                                             int unitRows, int unitColumns, int splits, global float *partials) {
  const int split = get_global_id(0);
  const int rowGroups = (outHeight + unitRows - 1) / unitRows;
  const int columnGroups = (outWidth + unitColumns - 1) / unitColumns;
  const int units = images * rowGroups * columnGroups;
  const int windowStride = ((unitColumns - 1) * SW + KW) * LD;
  global float *partial = partials + (long)split * KH * RUN * NARROW;
  // The last vectors of a run may reach beyond it; what they add up is not stored.
  float window[CAPACITY + RB * 16] LINES;
  // Sums over all units, [kernel row][vector of the run][output][16].
  float sums[KH * RUN_BLOCKS * RB * NARROW * 16] LINES;
  zero_floats(sums, KH * RUN_BLOCKS * RB * NARROW * 16);
  for (int unit = split; unit < units; unit += splits) {
    const int column = (unit % columnGroups) * unitColumns;
    const int row = (unit / columnGroups) % rowGroups * unitRows;
    const int n = unit / columnGroups / rowGroups;
    const int rows = min(unitRows, outHeight - row);
    const int columns = min(unitColumns, outWidth - column);
    pack_unit(window, windowStride, (rows - 1) * SH + KH, (columns - 1) * SW + KW, x + xOffset, n, xStride, height,
              width, row * SH - padTop, column * SW - padLeft, channels, channels, affine + affineOffset, preSlope,
              postSlope);
    const int next = min(unit + splits, units - 1);
    Walk nextInput = begin_window_walk(x + xOffset + (long)(next / columnGroups / rowGroups) * height * width * xStride,
                                       xStride, height, width, next / columnGroups % rowGroups * unitRows * SH - padTop,
                                       next % columnGroups * unitColumns * SW - padLeft, (rows - 1) * SH + KH,
                                       (columns - 1) * SW + KW, channels, KH * RUN_BLOCKS * rows);
    global const stored *dyUnit = dy + dyOffset + (((long)n * outHeight + row) * outWidth + column) * dyStride;
    for (int kh = 0; kh < KH; kh++)
      for (int k0 = 0; k0 < RV; k0 += RB) {
        float16 acc[RB][NARROW];
#pragma unroll
        for (int k = 0; k < RB; k++)
#pragma unroll
          for (int c = 0; c < NARROW; c++)
            acc[k][c] = 0.0f;
        for (int r = 0; r < rows; r++) {
          // While these products are computed: the next unit.
          walk_on(&nextInput);
          const float *a = window + (r * SH + kh) * windowStride + k0 * 16;
          global const stored *d = dyUnit + (long)r * outWidth * dyStride;
          for (int p = 0; p < columns; p++) {
            float g[NARROW];
#pragma unroll
            for (int c = 0; c < NARROW; c++)
              g[c] = LOAD_AS(STORE, 1, d + (long)p * dyStride + c);
#pragma unroll
            for (int k = 0; k < RB; k++) {
              const float16 v = vload16(0, a + p * SW * LD + k * 16);
#pragma unroll
              for (int c = 0; c < NARROW; c++)
                acc[k][c] = fma(v, (float16)(g[c]), acc[k][c]);
            }
          }
        }
        float *target = sums + (kh * RUN_BLOCKS * RB + k0) * NARROW * 16;
#pragma unroll
        for (int k = 0; k < RB; k++)
#pragma unroll
          for (int c = 0; c < NARROW; c++)
            store16(acc[k][c] + vload16(k * NARROW + c, target), k * NARROW + c, target);
      }
  }
  for (int kh = 0; kh < KH; kh++)
    for (int k = 0; k < RUN; k++)
      for (int c = 0; c < NARROW; c++)
        partial[(kh * RUN + k) * NARROW + c] = sums[((kh * RUN_BLOCKS * RB + k / 16) * NARROW + c) * 16 + k % 16];
}
#endif
