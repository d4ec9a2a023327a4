// Filter gradient of a convolution for CPUs: dw[kh, kw, ci, co] = sum over pixels of prologue(x) * dy.
//
// A work-item takes every `splits`-th unit of unitRows output rows by unitColumns output columns of one image, packs
// the input window of the unit for the channels from `firstChannel` on (at most LD of them), and adds outer products
// into its own partial gradient: blocks of KB consecutive floats of a run by NB output channels are held in registers
// over all pixels of the unit. The splits are added in order afterwards.
//
// With sumsBias the sums of dy over a split's pixels, the bias's gradient, are left in `biasPartials`: a row of sums
// for each split, and behind all of them a row for each of what their roundings lost (Kahan 1965).
//
// The unit's dy is packed for each block of output channels, so that the inner loop reads it and the window from the
// first-level cache whatever their strides in memory.
//
// Baked: KH KW SH SW (kernel and stride), LD (floats between window pixels), NV (vectors of outputs), KB, CAPACITY
// (floats of the window), PIXELS (most pixels of a unit), PARTIAL (0 where outputs are a multiple of 16),
// PRE/AFFINE/POST (prologue on load). For KW > 1, LD equals the channels. For KW = 1 a work-item takes `itemChannels`
// of them, at most LD.

#define NB (16 * NV)
// Outputs of vector v that there are, where it has any; at most 16 are used.
#define LANES(v) (PARTIAL ? lanes - 16 * (v) : 16)
// Pixels between requests for memory.
#define PREFETCH_STEP 32

kernel WIDE void conv_filter_gradient(global const stored *x, int xOffset, int xStride, int height, int width,
                                      int channels, global const float *affine, int affineOffset, float preSlope,
                                      float postSlope, global const stored *dy, int dyOffset, int dyStride,
                                      int outHeight, int outWidth, int outChannels, int padTop, int padLeft, int images,
                                      int unitRows, int unitColumns, int itemChannels, int splits,
                                      global float *partials, global float *biasPartials, int sumsBias) {
  const int split = get_global_id(0);
  const int firstChannel = get_global_id(1) * itemChannels;
  const int blockChannels = min(itemChannels, channels - firstChannel);
  const int rowGroups = (outHeight + unitRows - 1) / unitRows;
  const int columnGroups = (outWidth + unitColumns - 1) / unitColumns;
  const int units = images * rowGroups * columnGroups;
  const int run = KW == 1 ? blockChannels : KW * LD;
  global float *partial = partials + (long)split * KH * KW * channels * outChannels;

  // Reads of the last block of a run may go up to KB floats beyond it; their products are not stored.
  float window[CAPACITY + KB] LINES;
  float panel[PIXELS * NB] LINES;
  const int windowStride = ((unitColumns - 1) * SW + KW) * LD;
  for (int unit = split, first = 1; unit < units; unit += splits, first = 0) {
    const int column = (unit % columnGroups) * unitColumns;
    const int row = (unit / columnGroups) % rowGroups * unitRows;
    const int n = unit / columnGroups / rowGroups;
    const int rows = min(unitRows, outHeight - row);
    const int columns = min(unitColumns, outWidth - column);
    const int windowRows = (rows - 1) * SH + KH;
    const int windowColumns = (columns - 1) * SW + KW;
    pack_unit(window, windowStride, windowRows, windowColumns, x + xOffset + firstChannel, n, xStride, height, width,
              row * SH - padTop, column * SW - padLeft, blockChannels, channels, affine + affineOffset + firstChannel,
              preSlope, postSlope);

    const int next = min(unit + splits, units - 1);
    const int nextColumn = (next % columnGroups) * unitColumns;
    const int nextRow = (next / columnGroups) % rowGroups * unitRows;
    const int nextImage = next / columnGroups / rowGroups;
    const int blocks = (run + KB - 1) / KB;
    const int shares =
        (outChannels + NB - 1) / NB * KH * blocks * rows * ((columns + PREFETCH_STEP - 1) / PREFETCH_STEP);
    Walk nextInput = begin_window_walk(x + xOffset + firstChannel + (long)nextImage * height * width * xStride, xStride,
                                       height, width, nextRow * SH - padTop, nextColumn * SW - padLeft, windowRows,
                                       windowColumns, blockChannels, shares);
    Walk nextGradient = begin_window_walk(dy + dyOffset + (long)nextImage * outHeight * outWidth * dyStride, dyStride,
                                          outHeight, outWidth, nextRow, nextColumn, rows, columns, outChannels, shares);

    global const stored *dyUnit = dy + dyOffset + (((long)n * outHeight + row) * outWidth + column) * dyStride;
    for (int n0 = 0; n0 < outChannels; n0 += NB) {
      const int lanes = outChannels - n0;
      for (int r = 0; r < rows; r++)
        for (int p = 0; p < columns; p++) {
          global const stored *d = dyUnit + ((long)r * outWidth + p) * dyStride + n0;
#pragma unroll
          for (int v = 0; v < NV; v++)
            store16(lanes > v * 16 ? load_stored_lanes(d + v * 16, LANES(v)) : (float16)(0.0f), v,
                    panel + (r * columns + p) * NB);
        }
      if (sumsBias && firstChannel == 0)
        for (int v = 0; v < NV && lanes > v * 16; v++) {
          float16 parts[4] = {0.0f, 0.0f, 0.0f, 0.0f};
          int p = 0;
          for (; p + 4 <= rows * columns; p += 4)
#pragma unroll
            for (int i = 0; i < 4; i++)
              parts[i] += vload16((p + i) * NV + v, panel);
          for (; p < rows * columns; p++)
            parts[0] += vload16(p * NV + v, panel);
          float16 term = (parts[0] + parts[1]) + (parts[2] + parts[3]);
          global float *sums = biasPartials + (long)split * outChannels + n0 + v * 16;
          global float *lost = sums + (long)splits * outChannels;
          const float16 old = first ? (float16)(0.0f) : load_lanes(sums, LANES(v));
          term += first ? (float16)(0.0f) : load_lanes(lost, LANES(v));
          const float16 sum = old + term;
          store_lanes(sum, sums, LANES(v));
          store_lanes(term - (sum - old), lost, LANES(v));
        }
      for (int kh = 0; kh < KH; kh++)
        for (int k0 = 0; k0 < run; k0 += KB) {
          float16 acc[KB][NV];
#pragma unroll
          for (int k = 0; k < KB; k++)
#pragma unroll
            for (int v = 0; v < NV; v++)
              acc[k][v] = 0.0f;
          for (int r = 0; r < rows; r++) {
            const float *a = window + (r * SH + kh) * windowStride + k0;
            const float *d = panel + r * columns * NB;
            for (int p0 = 0; p0 < columns; p0 += PREFETCH_STEP) {
              // While these products are computed: the next unit.
              walk_on(&nextInput);
              walk_on(&nextGradient);
              const int end = min(p0 + PREFETCH_STEP, columns);
              for (int p = p0; p < end; p++) {
                float16 g[NV];
#pragma unroll
                for (int v = 0; v < NV; v++)
                  g[v] = vload16(v, d + p * NB);
#pragma unroll
                for (int k = 0; k < KB; k++)
#pragma unroll
                  for (int v = 0; v < NV; v++)
                    acc[k][v] = fma((float16)(a[p * SW * LD + k]), g[v], acc[k][v]);
              }
            }
          }
          // Row of dw: (kh, kw, channel) with the run's index split for KW = 1 by channel block.
          const int firstIndex = KW == 1 ? kh * channels + firstChannel + k0 : kh * run + k0;
          global float *target = partial + (long)firstIndex * outChannels + n0;
          if (!first && run - k0 >= KB && lanes >= NB) {
#pragma unroll
            for (int k = 0; k < KB; k++)
#pragma unroll
              for (int v = 0; v < NV; v++) {
                global float *element = target + (long)k * outChannels + v * 16;
                store16(acc[k][v] + vload16(0, element), 0, element);
              }
            continue;
          }
          // The first unit and the edges, through memory: the compiler would otherwise write it once for every
          // register.
          float results[KB * NB] LINES;
#pragma unroll
          for (int k = 0; k < KB; k++)
#pragma unroll
            for (int v = 0; v < NV; v++)
              store16(acc[k][v], k * NV + v, results);
          for (int k = 0; k < min(KB, run - k0); k++)
            for (int v = 0; v < NV && lanes > v * 16; v++) {
              global float *element = target + (long)k * outChannels + v * 16;
              const float16 value = vload16(k * NV + v, results);
              store_lanes(first ? value : value + load_lanes(element, LANES(v)), element, LANES(v));
            }
        }
    }
  }
}
