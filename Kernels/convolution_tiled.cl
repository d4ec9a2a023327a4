// Convolution for GPUs: implicit matrix products in tiles (tiles.cl), for any kernel size and stride.
//
// Tiles lie in local memory as [term][row] and [term][column], so that the inner loop reads one float4 of each for 16
// multiply-adds.
//
//   conv_tiled               y = x * filter: rows are output pixels, columns output channels, terms (tap, channel)
//   conv_tiled, GRADIENT     dx from dy: rows are input pixels, columns input channels, terms (tap, output channel)
//   conv_tiled_filter_gradient  rows are (tap, input channel), columns output channels, terms output pixels
//   conv_tiled_sum           what conv_tiled leaves with SPLIT, added up
//
// Baked, besides what tiles.cl and tiles_result.cl take: FLAT (channels of the source of conv_tiled that are no
// multiple of TK: its terms are then counted through all taps instead of tap by tap). FILTER_GRADIENT and SPLIT_SUM
// leave only the kernels of those names in the program.

#if SPLIT_SUM

// y (+)= bias + the splits of partials [split][pixel][output], added in their order, so that two runs give the same
// bits, for the `count` outputs of `pixel` from n on. The result is what is stored.
INLINE float4 add_splits(global const float *partials, int splits, int pixels, int outputs, global stored *y,
                         int yStride, int accumulate, global const float *bias, int hasBias, int pixel, int n) {
  const int count = outputs - n;
  const long size = (long)pixels * outputs;
  global const float *part = partials + (long)pixel * outputs + n;
  float4 value = load_quad(part, count, VX);
  for (int split = 1; split < splits; split++)
    value += load_quad(part + split * size, count, VX);
  value += load_quad(bias + n, hasBias ? count : 0, 0);
  global stored *target = y + (long)pixel * yStride + n;
  if (accumulate)
    value += load_stored_quad(target, count, VY);
  store_stored_quad(value, target, count, VY);
  return ROUND_AS(STORE, 4, value);
}

#if MOMENTS

// What a work-group of SUM_ITEMS work-items adds up, and quads of it side by side.
#define SUM_PIXELS 32
#define SUM_OUTPUTS 32
#define SUM_QUADS (SUM_OUTPUTS / 4)

// Work-groups: (SUM_PIXELS pixels, SUM_OUTPUTS outputs). VX: aligned quads of the partials, VY: of y. Those with the
// same pixels leave the moments of what they store, as those of conv_tiled do.
kernel __attribute__((reqd_work_group_size(SUM_ITEMS, 1, 1))) void
conv_tiled_sum(global const float *partials, int splits, int pixels, int outputs, global stored *y, int yOffset,
               int yStride, int accumulate, global const float *bias, int biasOffset, int hasBias,
               global float *moments, int momentGroups) {
  local float4 values[SUM_PIXELS * SUM_QUADS];
  const int item = get_local_id(0);
  const int group = get_group_id(0);
  const int m0 = group * SUM_PIXELS;
  const int n0 = get_group_id(1) * SUM_OUTPUTS;
  const int own = min(SUM_PIXELS, pixels - m0);
  for (int s = 0; s < SUM_PIXELS * SUM_QUADS / SUM_ITEMS; s++) {
    const int i = item + s * SUM_ITEMS;
    const int pixel = i / SUM_QUADS;
    const int n = n0 + i % SUM_QUADS * 4;
    if (pixel < own && n < outputs)
      values[i] = add_splits(partials, splits, pixels, outputs, y + yOffset, yStride, accumulate, bias + biasOffset,
                             hasBias, m0 + pixel, n);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = item; i < min(SUM_OUTPUTS, outputs - n0); i += SUM_ITEMS) {
    local const float *value = (local const float *)values + i;
    float mean = 0.0f, squares = 0.0f;
    for (int p = 0; p < own; p++)
      mean += value[p * SUM_OUTPUTS];
    mean /= (float)own;
    for (int p = 0; p < own; p++)
      squares += (value[p * SUM_OUTPUTS] - mean) * (value[p * SUM_OUTPUTS] - mean);
    moments[(long)group * 2 * outputs + n0 + i] = mean;
    moments[((long)group * 2 + 1) * outputs + n0 + i] = squares;
  }
  if (item == 0 && n0 == 0)
    moments[(long)momentGroups * 2 * outputs + group] = own;
}

#else

// Work-items: quads of outputs, pixel by pixel, and some more. VX: aligned quads of the partials, VY: of y.
kernel void conv_tiled_sum(global const float *partials, int splits, int pixels, int outputs, global stored *y,
                           int yOffset, int yStride, int accumulate, global const float *bias, int biasOffset,
                           int hasBias) {
  const int quads = (outputs + 3) / 4;
  const int pixel = get_global_id(0) / quads;
  if (pixel < pixels)
    add_splits(partials, splits, pixels, outputs, y + yOffset, yStride, accumulate, bias + biasOffset, hasBias, pixel,
               get_global_id(0) % quads * 4);
}

#endif

#else

// acc += one step.
INLINE void multiply_tiles(local const float4 *as, int tx, int ty, float4 acc[4 * RM][RN]) {
  local const float4 *const bs = as + SIZE_A;
#if MATRIX
  const int lane = ty % 8 * 4 + tx % 4;
#if EMULATED
#pragma unroll 1
#else
#pragma unroll
#endif
  for (int w = 0; w < WORDS; w += MATRIX_WORDS) {
    local const uint4 *const rows = (local const uint4 *)as + MATRIX_QUAD(TM, w / 2, 0, ty / 8 * 8);
    local const uint4 *const columns = (local const uint4 *)bs + MATRIX_QUAD(TN, w / 2, 0, tx / 4 * 4);
    uint4 b[RN];
#pragma unroll
    for (int h = 0; h < RN; h++)
      b[h] = column_fragment(columns + h * COLUMNS, TN, lane);
#pragma unroll
    for (int g = 0; g < RM; g++) {
      const RowSource a = row_source(rows + g * ROWS, TM, lane);
#pragma unroll
      for (int h = 0; h < RN; h++)
        multiply_fragments(a, columns + h * COLUMNS, TN, b[h], lane, &acc[4 * g][h], &acc[4 * g + 1][h],
                           &acc[4 * g + 2][h], &acc[4 * g + 3][h]);
    }
  }
#else
  // From pointers of their own, the rest of each address is a constant.
  local const float4 *const rows = as + ty;
  local const float4 *const columns = bs + tx;
#pragma unroll
  for (int k = 0; k < TK; k++) {
    float4 b[RN];
#pragma unroll
    for (int h = 0; h < RN; h++)
      b[h] = columns[k * LDB + h * COLUMNS];
#pragma unroll
    for (int g = 0; g < RM; g++)
      add_products(rows[k * LDA + g * ROWS], b, g, acc);
  }
#endif
}

#if !FILTER_GRADIENT

// What the product reads: images of `channels`, the taps that count, and the filter.
typedef struct {
  global const stored *x;
  int stride, height, width, channels;
  global const float *affine;
  global const float *filter;
  int outputs;
  // Taps firstTap + SH * (0..<tapRows) of the filter in the gradient, where others do not reach the pixels; else all.
  int tapRows, tapColumns, firstTapRow, firstTapColumn;
} Source;

// Terms of a step that lie side by side in memory, below any pixel: quads, or with FLAT single ones where the quads of
// the source, or of the filter, are not complete.
#define QUADS_OF_X (!FLAT || VX)
#define QUADS_OF_FILTER (!FLAT || VF)
typedef struct {
  // How many there are, at most 0 for none, and the channel of the first.
  int count, channel;
  // The pixel below their tap, seen from that below the first tap, and the elements from there to the terms.
  int row, column;
  int offset;
  // Their tap in the filter, of a gradient.
  int tap;
} Terms;

// From term k on. Without FLAT, k counts channels of the tap given.
INLINE Terms terms_from(const Source *s, int tapRow, int tapColumn, int k) {
  Terms terms;
  terms.channel = k;
#if FLAT
  const int tap = k / FLAT;
  terms.channel = k % FLAT;
  tapRow = tap / s->tapColumns;
  tapColumn = tap % s->tapColumns;
  terms.count = tapRow < s->tapRows ? FLAT - terms.channel : 0;
#else
  terms.count = s->channels - k;
#endif
#if GRADIENT
  terms.tap = (s->firstTapRow + SH * tapRow) * KW + s->firstTapColumn + SW * tapColumn;
#endif
  terms.row = GRADIENT ? -tapRow : tapRow;
  terms.column = GRADIENT ? -tapColumn : tapColumn;
  terms.offset = (terms.row * s->width + terms.column) * s->stride + terms.channel;
  return terms;
}

// Whether the pixel below the terms' tap is one, for the row of the product whose first tap is at (row, column).
INLINE int reaches(const Source *s, int row, int column, const Terms *terms) {
  return (uint)(row + terms->row) < (uint)s->height & (uint)(column + terms->column) < (uint)s->width;
}

// y (+)= bias + product. Work-groups: (TM pixels, TN outputs, phases).
//
// With SPLIT, partials[split][pixel][output] = the sum over the split's steps of TK terms, for conv_tiled_sum.
// Work-groups then: (TM pixels, TN outputs, splits of each phase).
//
// In the gradient a phase is the set of pixels with the same row modulo SH and column modulo SW: exactly the taps
// congruent to it reach them, so that no work is spent on the others.
kernel GROUP void conv_tiled(global const stored *x, int xOffset, int xStride, int sourceHeight, int sourceWidth,
                             int channels, global const float *affine, int affineOffset, float preSlope,
                             float postSlope, global const float *filter, int filterStart, int images, int height,
                             int width, int outputs, int padTop, int padLeft, TARGET_PARAMETERS) {
  local float4 tiles[LOCAL_SIZE];
  const int item = get_local_id(0);
  const int tx = TILE_COLUMN(item);
  const int ty = TILE_ROW(item);
  const int m0 = get_group_id(0) * TM;
  const int n0 = get_group_id(1) * TN;

  Source source;
  source.x = x + xOffset;
  source.stride = xStride;
  source.height = sourceHeight;
  source.width = sourceWidth;
  source.channels = FLAT ? FLAT : channels;
  source.affine = affine + affineOffset;
  source.filter = filter + filterStart;
  source.outputs = outputs;
  Grid grid;
  grid.images = images;
  grid.height = height;
  grid.width = width;
  grid.phase = (int)get_group_id(2) / SPLITS;
#if GRADIENT
  const int phaseRow = grid.phase / SW;
  const int phaseColumn = grid.phase % SW;
  grid.rows = (height - phaseRow + SH - 1) / SH;
  grid.columns = (width - phaseColumn + SW - 1) / SW;
  source.firstTapRow = (phaseRow + padTop) % SH;
  source.firstTapColumn = (phaseColumn + padLeft) % SW;
  source.tapRows = max((KH - source.firstTapRow + SH - 1) / SH, 0);
  source.tapColumns = max((KW - source.firstTapColumn + SW - 1) / SW, 0);
#else
  grid.rows = height;
  grid.columns = width;
  source.firstTapRow = 0;
  source.firstTapColumn = 0;
  source.tapRows = KH;
  source.tapColumns = KW;
#endif
  grid.pixels = images * grid.rows * grid.columns;

  // The pixel below the first tap of each row that this work-item fetches, and where that lies.
  const int ka = FIRST_TERM;
  int row[SLOTS_A], column[SLOTS_A];
  global const stored *pixel[SLOTS_A];
#pragma unroll
  for (int s = 0; s < SLOTS_A; s++) {
    const int m = m0 + INDEX_OF(s, ROWS_TOGETHER);
    row[s] = OUTSIDE;
    column[s] = 0;
    pixel[s] = source.x;
    if (m < grid.pixels && HAS_A(s)) {
#if GRADIENT
      row[s] = m / grid.columns % grid.rows + (phaseRow + padTop - source.firstTapRow) / SH;
      column[s] = m % grid.columns + (phaseColumn + padLeft - source.firstTapColumn) / SW;
#else
      row[s] = m / grid.columns % grid.rows * SH - padTop;
      column[s] = m % grid.columns * SW - padLeft;
#endif
      pixel[s] +=
          (((long)(m / grid.columns / grid.rows) * source.height + row[s]) * source.width + column[s]) * source.stride;
    }
  }
  // The column of each quad of the filter that it fetches, at most `outputs` there, and where the quad lies.
  int outputsLeft[SLOTS_B];
  int filterOffset[SLOTS_B];
#pragma unroll
  for (int s = 0; s < SLOTS_B; s++) {
#if GRADIENT
    const int n = n0 + INDEX_OF(s, 1);
    outputsLeft[s] = HAS_B(s) ? outputs - n : 0;
    filterOffset[s] = n * source.channels;
#else
    const int n = n0 + QUAD_OF(s, TN) * 4;
    outputsLeft[s] = HAS_B(s) ? outputs - n : 0;
    filterOffset[s] = TERM_OF(s, TN) * outputs + n;
#endif
  }

  float4 acc[4 * RM][RN];
  clear_sums(acc);

  const int taps = source.tapRows * source.tapColumns;
#if FLAT
  const int allSteps = (taps * channels + TK - 1) / TK;
#else
  const int stepsOfTap = (channels + TK - 1) / TK;
  const int allSteps = taps * stepsOfTap;
#endif
#if SPLIT
  // Where a phase has fewer taps than others, the last splits may have none: they leave zeros.
  const int stepsOfSplit = (allSteps + splits - 1) / splits;
  const int before = min((int)get_group_id(2) % splits * stepsOfSplit, allSteps);
  const int steps = min(stepsOfSplit, allSteps - before);
#if FLAT
  int tapRow = 0, tapColumn = 0, k0 = before * TK;
#else
  const int tap = before / stepsOfTap;
  int tapRow = tap / max(source.tapColumns, 1), tapColumn = tap % max(source.tapColumns, 1);
  int k0 = before % stepsOfTap * TK;
#endif
#else
  const int steps = allSteps;
  int tapRow = 0, tapColumn = 0, k0 = 0;
#endif
  // Step -1 only fetches.
  for (int step = -1; step < steps; step++) {
    // As it lies in memory: nothing may use it before the tiles are multiplied, or the work-item would wait there.
    stored_quad nextA[SLOTS_A];
    float4 nextB[SLOTS_B];
    float4 centre, scale, shift;
    int inside[SLOTS_A];
    if (step + 1 < steps) {
#if QUADS_OF_X
      const Terms terms = terms_from(&source, tapRow, tapColumn, k0 + ka);
#if AFFINE
      centre = load_quad(source.affine + terms.channel, terms.count, VX);
      scale = load_quad(source.affine + source.channels + terms.channel, terms.count, VX);
      shift = load_quad(source.affine + 2 * source.channels + terms.channel, terms.count, VX);
#endif
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
        inside[s] = reaches(&source, row[s], column[s], &terms);
        nextA[s] = fetch_quad(pixel[s] + terms.offset, inside[s] ? terms.count : 0, VX);
      }
#else
      Terms terms[4];
      float centres[4], scales[4], shifts[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        terms[j] = terms_from(&source, 0, 0, k0 + ka + j);
#if AFFINE
        const int c = terms[j].channel;
        centres[j] = source.affine[c];
        scales[j] = source.affine[source.channels + c];
        shifts[j] = source.affine[2 * source.channels + c];
#endif
      }
#if AFFINE
      centre = (float4)(centres[0], centres[1], centres[2], centres[3]);
      scale = (float4)(scales[0], scales[1], scales[2], scales[3]);
      shift = (float4)(shifts[0], shifts[1], shifts[2], shifts[3]);
#endif
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
        stored lanes[4];
        inside[s] = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          lanes[j] = 0;
          if ((terms[j].count > 0) & reaches(&source, row[s], column[s], &terms[j])) {
            lanes[j] = pixel[s][terms[j].offset];
            inside[s] |= 1 << j;
          }
        }
        nextA[s] = QUAD_OF_ELEMENTS(lanes);
      }
#endif
#if GRADIENT && QUADS_OF_FILTER
#if !QUADS_OF_X
      const Terms filterTerms = terms_from(&source, 0, 0, k0 + ka);
#else
      const Terms filterTerms = terms;
#endif
      global const float *const filterQuads =
          source.filter + ((long)filterTerms.tap * outputs * source.channels + filterTerms.channel);
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++)
        nextB[s] = load_quad(filterQuads + filterOffset[s], outputsLeft[s] > 0 ? filterTerms.count : 0, VF);
#elif GRADIENT
      float filterLanes[SLOTS_B][4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const Terms filterTerms = terms_from(&source, 0, 0, k0 + ka + j);
        global const float *const filterLane =
            source.filter + ((long)filterTerms.tap * outputs * source.channels + filterTerms.channel);
#pragma unroll
        for (int s = 0; s < SLOTS_B; s++) {
          filterLanes[s][j] = 0.0f;
          if ((outputsLeft[s] > 0) & (filterTerms.count > 0))
            filterLanes[s][j] = filterLane[filterOffset[s]];
        }
      }
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++)
        nextB[s] = (float4)(filterLanes[s][0], filterLanes[s][1], filterLanes[s][2], filterLanes[s][3]);
#else
      const int filterTerms = (FLAT ? KH * KW : 1) * source.channels - k0;
      global const float *const filterQuads =
          source.filter + ((long)(tapRow * KW + tapColumn) * source.channels + k0) * outputs;
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++)
        nextB[s] = load_quad(filterQuads + filterOffset[s], TERM_OF(s, TN) < filterTerms ? outputsLeft[s] : 0, VF);
#endif
      k0 += TK;
#if !FLAT
      if (k0 >= channels) {
        k0 = 0;
        tapColumn++;
        if (tapColumn == source.tapColumns) {
          tapColumn = 0;
          tapRow++;
        }
      }
#endif
    }
    if (step >= 0)
      multiply_tiles(TILES_OF(tiles, step), tx, ty, acc);
    if (step + 1 < steps) {
      local float4 *const as = TILES_OF(tiles, step + 1);
      local float4 *const bs = as + SIZE_A;
      four_words words[SLOTS_A];
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
        words[s] = nextA[s];
#else
        const float4 v = VALUE(nextA[s]);
        words[s] = operand_terms(
            INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope), inside[s], QUADS_OF_X));
#endif
      }
#pragma unroll
      for (int s = 0; s < SLOTS_A; s += ROWS_TOGETHER)
        if (HAS_A(s)) {
#if MATRIX
          store_two_rows(words[s], words[s + 1], as, TM, ka, INDEX_OF(s, ROWS_TOGETHER));
#else
          store_transposed(words[s], as, LDA, ka, INDEX_OF(s, ROWS_TOGETHER));
#endif
        }
#pragma unroll
      for (int s = 0; s < SLOTS_B; s += TOGETHER_B)
        if (HAS_B(s)) {
#if GRADIENT && MATRIX
          store_column(operand_terms(nextB[s]), bs, TN, ka, INDEX_OF(s, 1));
#elif GRADIENT
          store_transposed(nextB[s], bs, LDB, ka, INDEX_OF(s, 1));
#elif MATRIX
          store_four_columns(BUNDLE_WORD(nextB, s, 0), BUNDLE_WORD(nextB, s, 1), bs, TN, TERM_OF(s, TN),
                             QUAD_OF(s, TN));
#else
          bs[TERM_OF(s, TN) * LDB + QUAD_OF(s, TN)] = nextB[s];
#endif
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  const Target target = TARGET;
  store_tile(acc, tiles, m0, n0, &grid, &target, outputs);
}

#else

// Whether the pixel below tap j of a work-item's rows is one of the image.
#define REACHES(j) ((uint)(r0 + tapRow[j] - padTop) < (uint)height & (uint)(q0 + tapColumn[j] - padLeft) < (uint)width)

// partials[offset + (split, tap, channel, output)] = sum over the split's pixels of prologue(x) * dy.
// Work-groups: (TM (tap, channel) pairs, TN outputs, splits of `chunk` output pixels). VX: aligned quads of x, VY: of
// dy and of the partials.
kernel GROUP void conv_tiled_filter_gradient(global const stored *x, int xOffset, int xStride, int height, int width,
                                             int channels, global const float *affine, int affineOffset, float preSlope,
                                             float postSlope, global const stored *dy, int dyOffset, int dyStride,
                                             int images, int outHeight, int outWidth, int outputs, int padTop,
                                             int padLeft, int chunk, global float *partials, int partialsOffset) {
  local float4 tiles[TILES_SIZE];
  const int item = get_local_id(0);
  const int tx = TILE_COLUMN(item);
  const int ty = TILE_ROW(item);
  const int m0 = get_group_id(0) * TM;
  const int n0 = get_group_id(1) * TN;
  const int first = get_group_id(2) * chunk;
  const int end = min(first + chunk, images * outHeight * outWidth);
  const int rows = KH * KW * channels;

  // The four rows that this work-item fetches for some of the pixels: their taps, and where they lie from the pixel
  // below the first tap on. With VX they share a tap.
  const int mQuad = item % (TM / 4);
  const int nQuad = item % (TN / 4);
  int tapRow[4], tapColumn[4], c[4];
  global const stored *tap[4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const int m = m0 + 4 * mQuad + j;
    tapRow[j] = m < rows ? m / channels / KW : OUTSIDE;
    tapColumn[j] = m / channels % KW;
    c[j] = m % channels;
    tap[j] =
        x + xOffset + ((long)((m < rows ? tapRow[j] : 0) - padTop) * width + tapColumn[j] - padLeft) * xStride + c[j];
  }
#if AFFINE
  affine += affineOffset;
  const float4 centre = (float4)(affine[c[0]], affine[c[1]], affine[c[2]], affine[c[3]]);
  affine += channels;
  const float4 scale = (float4)(affine[c[0]], affine[c[1]], affine[c[2]], affine[c[3]]);
  affine += channels;
  const float4 shift = (float4)(affine[c[0]], affine[c[1]], affine[c[2]], affine[c[3]]);
#endif

  // The output pixels whose terms it fetches, as (image's first row in x, row, column) of the output, and how far on
  // the next step's lie: divisions are for once, not for each step.
  int imageRow[SLOTS_A], row[SLOTS_A], column[SLOTS_A];
#pragma unroll
  for (int s = 0; s < SLOTS_A; s++) {
    const int pixel = first + TERM_OF(s, TM);
    imageRow[s] = pixel / outWidth / outHeight * height;
    row[s] = pixel / outWidth % outHeight;
    column[s] = pixel % outWidth;
  }
  const int nextImageRow = TK / (outWidth * outHeight) * height;
  const int nextRow = TK % (outWidth * outHeight) / outWidth;
  const int nextColumn = TK % outWidth;

  float4 acc[4 * RM][RN];
  clear_sums(acc);

  const int steps = (end - first + TK - 1) / TK;
  for (int step = -1; step < steps; step++) {
    // As they lie in memory: nothing may use them before the tiles are multiplied, or the work-item would wait there.
    stored_quad nextA[SLOTS_A], nextB[SLOTS_B];
    int inside[SLOTS_A];
    if (step + 1 < steps) {
      const int pixelsLeft = end - first - (step + 1) * TK;
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
        const int used = HAS_A(s) & (TERM_OF(s, TM) < pixelsLeft);
        const int r0 = row[s] * SH;
        const int q0 = column[s] * SW;
        const long below = (long)((imageRow[s] + r0) * width + q0) * xStride;
#if VX
        inside[s] = used & REACHES(0);
        nextA[s] = fetch_quad(tap[0] + below, inside[s] ? 4 : 0, VX);
#else
        stored lanes[4];
        inside[s] = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          lanes[j] = 0;
          if (used & REACHES(j)) {
            lanes[j] = tap[j][below];
            inside[s] |= 1 << j;
          }
        }
        nextA[s] = QUAD_OF_ELEMENTS(lanes);
#endif
        column[s] += nextColumn;
        row[s] += nextRow;
        imageRow[s] += nextImageRow;
        if (column[s] >= outWidth) {
          column[s] -= outWidth;
          row[s]++;
        }
        if (row[s] >= outHeight) {
          row[s] -= outHeight;
          imageRow[s] += height;
        }
      }
      global const stored *const dyPixels = dy + dyOffset + (long)(first + (step + 1) * TK) * dyStride;
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++) {
        const int n = n0 + 4 * nQuad;
        const int used = HAS_B(s) & (TERM_OF(s, TN) < pixelsLeft);
        nextB[s] = fetch_quad(dyPixels + ((long)TERM_OF(s, TN) * dyStride + n), used ? outputs - n : 0, VY);
      }
    }
    if (step >= 0)
      multiply_tiles(TILES_OF(tiles, step), tx, ty, acc);
    if (step + 1 < steps) {
      local float4 *const as = TILES_OF(tiles, step + 1);
      local float4 *const bs = as + SIZE_A;
      float4 valuesA[SLOTS_A];
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
        const float4 v = VALUE(nextA[s]);
        valuesA[s] = INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope), inside[s], VX);
      }
#pragma unroll
      for (int s = 0; s < SLOTS_A; s += TOGETHER_A)
        if (HAS_A(s)) {
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
          store_four_rows(STORED_WORD(nextA, s, 0), STORED_WORD(nextA, s, 1), as, TM, TERM_OF(s, TM), mQuad);
#elif MATRIX
          store_four_rows(BUNDLE_WORD(valuesA, s, 0), BUNDLE_WORD(valuesA, s, 1), as, TM, TERM_OF(s, TM), mQuad);
#else
          as[TERM_OF(s, TM) * LDA + mQuad] = valuesA[s];
#endif
        }
      store_columns(nextB, item, bs);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  global float *partial = partials + partialsOffset + (long)get_group_id(2) * rows * outputs;
#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
#pragma unroll
    for (int i = 0; i < 4 * RM; i++) {
      const int m = m0 + ROW_OF(ty, i);
      if (m < rows)
        store_quad(acc[i][h], partial + (long)m * outputs + n, outputs - n, VY);
    }
  }
}
#endif
#endif
