// Convolution for GPUs: implicit matrix products, tiles shared through local memory, register tiles of 4 x 4 values.
//
// A work-group of ITEMS = COLUMNS * ROWS work-items computes a TM x TN tile of a product, TK terms at a time. The
// terms of the next step are fetched into registers while the current ones are multiplied, and stored to the other of
// two buffers in local memory, so that one barrier a step is enough. Tiles lie there as [term][row] and
// [term][column], so that the inner loop reads one float4 of each for 16 multiply-adds. All loops with barriers have
// bounds that are the same for the whole work-group.
//
// With MATRIX (matrix.cl) the products run on matrix units: tiles then lie as the units want them, of operands rounded
// as they are stored there, and the work-items of each warp are laid out over its 32 x 16 values likewise. All else
// stays the same.
//
//   conv_tiled               y = x * filter: rows are output pixels, columns output channels, terms (tap, channel)
//   conv_tiled, GRADIENT     dx from dy: rows are input pixels, columns input channels, terms (tap, output channel)
//   conv_tiled_filter_gradient  rows are (tap, input channel), columns output channels, terms output pixels
//   conv_tiled_sum           what conv_tiled leaves with SPLIT, added up
//
// Baked: KH KW SH SW (kernel and stride), TM TN TK (tile), RM RN (4 x 4 tiles a work-item has down and across), FLAT
// (channels of the source of conv_tiled that are no multiple of TK: its terms are then counted through all taps instead
// of tap by tap), VX VF VY (1: the quads of source, filter and result are aligned and complete), PRE/AFFINE/POST
// (prologue on load, applied when a tile is stored), GRADIENT and, for it, EPILOGUE with EPRE/EAFFINE/EPOST: the
// prologue through which the forward pass had read, whose gradient is applied on store, and without GRADIENT, MOMENTS.
// With SPLIT the terms of conv_tiled are cut into parts that go to different work-groups, without EPILOGUE and MOMENTS,
// which conv_tiled_sum has then. FILTER_GRADIENT and SPLIT_SUM leave only the kernels of those names in the program.

#ifndef KH
#define KH 1
#define KW 1
#define SH 1
#define SW 1
#endif
#ifndef TM
#define TM 64
#define TN 64
#define RM 1
#define RN 1
#endif
#ifndef FLAT
#define FLAT 0
#endif
#ifndef VX
#define VX 0
#endif
#ifndef VF
#define VF 0
#endif
#ifndef VY
#define VY 0
#endif
#ifndef GRADIENT
#define GRADIENT 0
#endif
#ifndef MOMENTS
#define MOMENTS 0
#endif
#ifndef SPLIT
#define SPLIT 0
#endif
#ifndef FILTER_GRADIENT
#define FILTER_GRADIENT 0
#endif
#ifndef SPLIT_SUM
#define SPLIT_SUM 0
#endif

#ifndef TK
#define TK 16
#endif
#define COLUMNS (TN / (4 * RN))
#define ROWS (TM / (4 * RM))
#define ITEMS (COLUMNS * ROWS)
// Words of a step: its terms, or pairs of them.
#define WORDS (TK / PACK)
#if MATRIX
#define SIZE_A MATRIX_TILE_SIZE(TM, WORDS)
#define SIZE_B MATRIX_TILE_SIZE(TN, WORDS)
#else
// Float4s of a term in local memory. One more than needed spreads the scalar stores of a transposition over banks.
#define LDA (TM / 4 + 1)
#define LDB (TN / 4 + 1)
#define SIZE_A (WORDS * LDA)
#define SIZE_B (WORDS * LDB)
#endif
// What a work-item fetches for a step are quads: terms side by side, of ROWS_TOGETHER rows or of one column, or rows or
// columns side by side, for TERMS_TOGETHER terms. What is together, as much as matrix units have side by side, is
// stored together: bundles of slots.
#define ROWS_TOGETHER (MATRIX ? 2 : 1)
#define TERMS_TOGETHER (MATRIX ? 2 * PACK : 1)
#define BUNDLE(s, together) (item + (s) / (together)*ITEMS)
// Of terms side by side: the first, the same for all slots, and the row or column of slot s.
#define FIRST_TERM (item % (TK / 4) * 4)
#define INDEX_OF(s, together) (BUNDLE(s, together) / (TK / 4) * (together) + (s) % (together))
// Of rows or columns side by side: the term and the quad of slot s.
#define TERM_OF(s, extent) (BUNDLE(s, TERMS_TOGETHER) / (extent / 4) * TERMS_TOGETHER + (s) % TERMS_TOGETHER)
#define QUAD_OF(s, extent) (BUNDLE(s, TERMS_TOGETHER) % (extent / 4))
#define TOGETHER_A (FILTER_GRADIENT ? TERMS_TOGETHER : ROWS_TOGETHER)
#define TOGETHER_B (GRADIENT ? 1 : TERMS_TOGETHER)
#define BUNDLES_A (TM * TK / 4 / TOGETHER_A)
#define BUNDLES_B (TN * TK / 4 / TOGETHER_B)
#define SLOTS_A (TOGETHER_A * ((BUNDLES_A + ITEMS - 1) / ITEMS))
#define SLOTS_B (TOGETHER_B * ((BUNDLES_B + ITEMS - 1) / ITEMS))
// Whether a work-item has slot s; where all of them have all slots, without asking.
#define HAS_A(s) (BUNDLES_A % ITEMS == 0 || BUNDLE(s, TOGETHER_A) < BUNDLES_A)
#define HAS_B(s) (BUNDLES_B % ITEMS == 0 || BUNDLE(s, TOGETHER_B) < BUNDLES_B)
// The tiles of a step, and of the two that are in memory at once. The sums of the epilogue and the moments reuse it.
#define TILE_SIZE (SIZE_A + SIZE_B)
#define TILES_SIZE (2 * TILE_SIZE)
#define SUM_SIZE (2 * RN * ITEMS)
#define LOCAL_SIZE ((EPILOGUE && EAFFINE || MOMENTS) && SUM_SIZE > TILES_SIZE ? SUM_SIZE : TILES_SIZE)
// Where those of a step lie. A step reads one buffer and writes the other, which the barrier at the end of the step
// before has made free.
#define TILES_OF(tiles, step) ((tiles) + ((step)&1) * TILE_SIZE)
// A row or column that lies in no image.
#define OUTSIDE (-(1 << 30))

// SUBGROUP, where it is given: work-items that share a thread's registers on Intel's GPUs.
#ifdef SUBGROUP
#define GROUP __attribute__((reqd_work_group_size(ITEMS, 1, 1), intel_reqd_sub_group_size(SUBGROUP)))
#else
#define GROUP __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#endif

// What a quad of a tensor is before it is converted. So it waits in registers: a use would wait for it.
typedef float4 quad_float;
typedef uint2 quad_half;
typedef uint2 quad_bfloat;
INLINE float4 value_of_float(float4 v) { return v; }
INLINE float4 value_of_half(uint2 bits) { return vload_half4(0, (const half *)&bits); }
INLINE float4 value_of_bfloat(uint2 bits) {
  return as_float4((uint4)(bits.x << 16, bits.x & 0xffff0000u, bits.y << 16, bits.y & 0xffff0000u));
}
INLINE float4 elements_float(const float *e) { return (float4)(e[0], e[1], e[2], e[3]); }
INLINE uint2 elements_half(const ushort *e) { return (uint2)(e[0] | (uint)e[1] << 16, e[2] | (uint)e[3] << 16); }
#define elements_bfloat(e) elements_half(e)
#define QUAD_AS_(type) quad_##type
#define QUAD_AS(type) QUAD_AS_(type)
typedef QUAD_AS(STORE) stored_quad;
#define VALUE_AS_(type, v) value_of_##type(v)
#define VALUE_AS(type, v) VALUE_AS_(type, v)
#define VALUE(v) VALUE_AS(STORE, v)
#define ELEMENTS_AS_(type, e) elements_##type(e)
#define ELEMENTS_AS(type, e) ELEMENTS_AS_(type, e)
#define QUAD_OF_ELEMENTS(e) ELEMENTS_AS(STORE, e)

// A complete quad to a multiple of its size.
#define store_quad_float(v, p) (*(global float4 *)(p) = (v))
#define store_quad_half(v, p) store_half_4(v, p)
#define store_quad_bfloat(v, p) store_bfloat_4(v, p)
#define STORE_QUAD_AS_(type, v, p) store_quad_##type(v, p)
#define STORE_QUAD_AS(type, v, p) STORE_QUAD_AS_(type, v, p)
#define STORE_QUAD(v, p) STORE_QUAD_AS(STORE, v, p)

// The first `count` values from p on, zeros behind them. `aligned` is a constant: p is a multiple of 16 bytes and count
// is at least 4 or at most 0.
INLINE float4 load_quad(global const float *p, int count, int aligned) {
  float4 v = 0.0f;
  if (aligned) {
    if (count > 0)
      v = *(global const float4 *)p;
  } else {
    if (count > 0)
      v.x = p[0];
    if (count > 1)
      v.y = p[1];
    if (count > 2)
      v.z = p[2];
    if (count > 3)
      v.w = p[3];
  }
  return v;
}

INLINE void store_quad(float4 v, global float *p, int count, int aligned) {
  if (aligned) {
    if (count > 0)
      *(global float4 *)p = v;
  } else {
    if (count > 0)
      p[0] = v.x;
    if (count > 1)
      p[1] = v.y;
    if (count > 2)
      p[2] = v.z;
    if (count > 3)
      p[3] = v.w;
  }
}

// The same for elements of a tensor, as they lie in memory.
INLINE stored_quad fetch_quad(global const stored *p, int count, int aligned) {
  stored_quad v = 0;
  if (aligned) {
    if (count > 0)
      v = *(global const stored_quad *)p;
  } else {
    stored elements[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      elements[i] = 0;
      if (count > i)
        elements[i] = p[i];
    }
    v = QUAD_OF_ELEMENTS(elements);
  }
  return v;
}

INLINE float4 load_stored_quad(global const stored *p, int count, int aligned) {
  return VALUE(fetch_quad(p, count, aligned));
}

INLINE void store_stored_quad(float4 v, global stored *p, int count, int aligned) {
  if (aligned) {
    if (count > 0)
      STORE_QUAD(v, p);
  } else {
    if (count > 0)
      STORE_AS(STORE, 1, v.x, p);
    if (count > 1)
      STORE_AS(STORE, 1, v.y, p + 1);
    if (count > 2)
      STORE_AS(STORE, 1, v.z, p + 2);
    if (count > 3)
      STORE_AS(STORE, 1, v.w, p + 3);
  }
}

// Where a work-item's register tiles lie: rows 4 * (g * ROWS + ty) + 0...3 by columns 4 * (h * COLUMNS + tx) + 0...3.
// Eight work-items side by side and four below each other read 192 bytes of the tiles between them, sixteen by two 288.
#if MATRIX
#define TILE_COLUMN(item) ((item) / LANES % (COLUMNS / 4) * 4 + (item) % 4)
#define TILE_ROW(item) ((item) / LANES / (COLUMNS / 4) * 8 + (item) % LANES / 4)
#elif COLUMNS > 8 && COLUMNS % 8 == 0 && ROWS % 4 == 0
#define TILE_COLUMN(item) ((item) / 32 % (COLUMNS / 8) * 8 + (item) % 8)
#define TILE_ROW(item) ((item) / 32 / (COLUMNS / 8) * 4 + (item) % 32 / 8)
#else
#define TILE_COLUMN(item) ((item) % COLUMNS)
#define TILE_ROW(item) ((item) / COLUMNS)
#endif

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
      const RowFragment a = row_fragment(rows + g * ROWS, TM, lane);
#pragma unroll
      for (int h = 0; h < RN; h++)
        multiply_fragments(rows + g * ROWS, TM, a, columns + h * COLUMNS, TN, b[h], lane, &acc[4 * g][h],
                           &acc[4 * g + 1][h], &acc[4 * g + 2][h], &acc[4 * g + 3][h]);
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
    for (int g = 0; g < RM; g++) {
      const float4 a = rows[k * LDA + g * ROWS];
#pragma unroll
      for (int h = 0; h < RN; h++) {
        acc[4 * g][h] = fma((float4)(a.x), b[h], acc[4 * g][h]);
        acc[4 * g + 1][h] = fma((float4)(a.y), b[h], acc[4 * g + 1][h]);
        acc[4 * g + 2][h] = fma((float4)(a.z), b[h], acc[4 * g + 2][h]);
        acc[4 * g + 3][h] = fma((float4)(a.w), b[h], acc[4 * g + 3][h]);
      }
    }
  }
#endif
}

#if MATRIX

// Whether quads of tensors are operands as they lie in memory.
#define OPERAND_OF_float 0
#define OPERAND_OF_half HALF
#define OPERAND_OF_bfloat BFLOAT
#define OPERAND_OF_(type) OPERAND_OF_##type
#define OPERAND_OF(type) OPERAND_OF_(type)
#define STORES_OPERANDS (MATRIX == OPERAND_OF(STORE))

// Word `i` of a bundle of slots from s on.
#define BUNDLE_WORD(values, s, i) operand_words(values[(s) + (i)*PACK], values[(s) + (i)*PACK + PACK - 1])
#define STORED_WORD(stored, s, i) stored_words(stored[(s) + (i)*PACK], stored[(s) + (i)*PACK + PACK - 1])

#else

// Four terms of one row or column into a tile with `ld` float4s a term.
INLINE void store_transposed(float4 v, local float4 *tile, int ld, int term, int index) {
  local float *const p = (local float *)(tile + term * ld) + index;
  p[0] = v.x;
  p[4 * ld] = v.y;
  p[8 * ld] = v.z;
  p[12 * ld] = v.w;
}

#endif

#if MATRIX
#define TERMS_OF(v) operand_terms(v)
#else
#define TERMS_OF(v) (v)
#endif

// v where it is of the image, zeros elsewhere: `whole` quads by one bit, else a bit for each value. The padding comes
// after the prologue, of which only an affine makes something of zeros.
#if AFFINE
#define INSIDE_ONLY(v, bits, whole)                                                                                    \
  select((float4)(0.0f), v, (whole) ? (int4)(-(bits)) : -((int4)(bits) >> (int4)(0, 1, 2, 3) & 1))
#else
#define INSIDE_ONLY(v, bits, whole) (v)
#endif

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

#elif !FILTER_GRADIENT

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

// Pixels of a tile from m0 on that work-items of row `ty` have.
INLINE int pixels_of(int ty, int m0, int pixels) {
  int count = 0;
#pragma unroll
  for (int b = 0; b < RM; b++)
    count += clamp(pixels - m0 - 4 * (b * ROWS + ty), 0, 4);
  return count;
}

// y (+)= bias + product. Work-groups: (TM pixels, TN outputs, phases).
//
// With SPLIT, partials[split][pixel][output] = the sum over the split's steps of TK terms, for conv_tiled_sum.
// Work-groups then: (TM pixels, TN outputs, splits of each phase).
//
// With MOMENTS, each row of work-groups leaves mean and summed squared deviations of what it stores, rounded as it is
// stored, as `moments_partial` does for its rows, and behind those of all the number of its pixels. Nothing is then
// added to what is there.
//
// In the gradient a phase is the set of pixels with the same row modulo SH and column modulo SW: exactly the taps
// congruent to it reach them, so that no work is spent on the others. sums is [phases * pixel groups, 2, outputs].
kernel GROUP void conv_tiled(global const stored *x, int xOffset, int xStride, int sourceHeight, int sourceWidth,
                             int channels, global const float *affine, int affineOffset, float preSlope,
                             float postSlope, global const float *filter, int filterStart, int images, int height,
                             int width, int outputs, int padTop, int padLeft,
#if SPLIT
                             int splits, global float *partials
#else
                             global stored *y, int yOffset, int yStride, int accumulate, global const float *bias,
                             int biasOffset, int hasBias
#if EPILOGUE
                             ,
                             global const stored *ex, int exOffset, int exStride, global const float *eaffine,
                             int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
#elif MOMENTS
                             ,
                             global float *moments, int momentGroups
#endif
#endif
) {
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
#if SPLIT
  const int split = (int)get_group_id(2) % splits;
  const int phase = (int)get_group_id(2) / splits;
#else
  const int phase = get_group_id(2);
#endif
#if GRADIENT
  const int phaseRow = phase / SW;
  const int phaseColumn = phase % SW;
  const int rows = (height - phaseRow + SH - 1) / SH;
  const int columns = (width - phaseColumn + SW - 1) / SW;
  source.firstTapRow = (phaseRow + padTop) % SH;
  source.firstTapColumn = (phaseColumn + padLeft) % SW;
  source.tapRows = max((KH - source.firstTapRow + SH - 1) / SH, 0);
  source.tapColumns = max((KW - source.firstTapColumn + SW - 1) / SW, 0);
#else
  const int rows = height;
  const int columns = width;
  source.firstTapRow = 0;
  source.firstTapColumn = 0;
  source.tapRows = KH;
  source.tapColumns = KW;
#endif
  const int pixels = images * rows * columns;

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
    if (m < pixels && HAS_A(s)) {
#if GRADIENT
      row[s] = m / columns % rows + (phaseRow + padTop - source.firstTapRow) / SH;
      column[s] = m % columns + (phaseColumn + padLeft - source.firstTapColumn) / SW;
#else
      row[s] = m / columns % rows * SH - padTop;
      column[s] = m % columns * SW - padLeft;
#endif
      pixel[s] += (((long)(m / columns / rows) * source.height + row[s]) * source.width + column[s]) * source.stride;
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
#pragma unroll
  for (int i = 0; i < 4 * RM; i++)
#pragma unroll
    for (int h = 0; h < RN; h++)
      acc[i][h] = 0.0f;

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
  const int before = min(split * stepsOfSplit, allSteps);
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
          if (terms[j].count > 0 & reaches(&source, row[s], column[s], &terms[j])) {
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
          if (outputsLeft[s] > 0 & filterTerms.count > 0)
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
#if MATRIX
      four_words words[SLOTS_A];
#else
      float4 words[SLOTS_A];
#endif
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
        words[s] = nextA[s];
#else
        const float4 v = VALUE(nextA[s]);
        words[s] =
            TERMS_OF(INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope), inside[s], QUADS_OF_X));
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

#if MOMENTS
  // Of this work-item's pixels first, then of the work-group's.
#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
    const float4 start = load_quad(bias + biasOffset + n, hasBias ? outputs - n : 0, 0);
#pragma unroll
    for (int i = 0; i < 4 * RM; i++)
      acc[i][h] = ROUND_AS(STORE, 4, acc[i][h] + start);
    float4 mean = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * RM; i++)
      if (m0 + 4 * (i / 4 * ROWS + ty) + i % 4 < pixels)
        mean += acc[i][h];
    mean /= (float)max(pixels_of(ty, m0, pixels), 1);
#pragma unroll
    for (int i = 0; i < 4 * RM; i++)
      if (m0 + 4 * (i / 4 * ROWS + ty) + i % 4 < pixels)
        squares += (acc[i][h] - mean) * (acc[i][h] - mean);
    tiles[(h * ROWS + ty) * COLUMNS + tx] = mean;
    tiles[((RN + h) * ROWS + ty) * COLUMNS + tx] = squares;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (item < RN * COLUMNS) {
    const int n = n0 + 4 * item;
    const int h = item / COLUMNS;
    const int column = item % COLUMNS;
    float4 mean = 0.0f, squares = 0.0f;
    int before = 0;
    for (int r = 0; r < ROWS; r++) {
      const int own = pixels_of(r, m0, pixels);
      if (own == 0)
        continue;
      const float4 delta = tiles[(h * ROWS + r) * COLUMNS + column] - mean;
      const float share = (float)own / (float)(before + own);
      mean += delta * share;
      squares += tiles[((RN + h) * ROWS + r) * COLUMNS + column] + delta * delta * ((float)before * share);
      before += own;
    }
    const long group = get_group_id(0);
    store_quad(mean, moments + group * 2 * outputs + n, outputs - n, 0);
    store_quad(squares, moments + (group * 2 + 1) * outputs + n, outputs - n, 0);
    moments[(long)momentGroups * 2 * outputs + group] = before;
  }
#endif

#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
    const int count = outputs - n;
#if !SPLIT && !MOMENTS
    const float4 start = load_quad(bias + biasOffset + n, hasBias ? count : 0, 0);
#endif
#if EPILOGUE && EAFFINE
    const float4 centre = load_quad(eaffine + eaffineOffset + n, count, VY);
    const float4 scale = load_quad(eaffine + eaffineOffset + outputs + n, count, VY);
    const float4 shift = load_quad(eaffine + eaffineOffset + 2 * outputs + n, count, VY);
    float4 sumShift = 0.0f, sumScale = 0.0f;
#endif
#pragma unroll
    for (int i = 0; i < 4 * RM; i++) {
      const int m = m0 + 4 * (i / 4 * ROWS + ty) + i % 4;
      if (m < pixels && count > 0) {
#if GRADIENT
        const long pixel = ((long)(m / columns / rows) * height + m / columns % rows * SH + phaseRow) * width +
                           m % columns * SW + phaseColumn;
#else
        const long pixel = m;
#endif
#if SPLIT
        const long first = split * (long)images * height * width;
        store_quad(acc[i][h], partials + (first + pixel) * outputs + n, count, VY);
#else
        global stored *target = y + yOffset + pixel * yStride + n;
#if MOMENTS
        float4 value = acc[i][h]; // with the bias
#else
        float4 value = acc[i][h] + start;
#endif
#if EPILOGUE
        const float4 input = load_stored_quad(ex + exOffset + pixel * exStride + n, count, VY);
        EPILOGUE_GRADIENT(value, input, centre, scale, shift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
        if (accumulate && !MOMENTS)
          value += load_stored_quad(target, count, VY);
        store_stored_quad(value, target, count, VY);
#endif
      }
    }
#if EPILOGUE && EAFFINE
    // The last barrier of the loop was after the last use of the tiles.
    tiles[(h * ROWS + ty) * COLUMNS + tx] = sumShift;
    tiles[((RN + h) * ROWS + ty) * COLUMNS + tx] = sumScale;
#endif
  }
#if EPILOGUE && EAFFINE
  barrier(CLK_LOCAL_MEM_FENCE);
  const long group = (long)phase * get_num_groups(0) + get_group_id(0);
  for (int i = item; i < 2 * RN * COLUMNS; i += ITEMS) {
    const int part = i / COLUMNS; // of RN for each of the two sums
    float4 sum = 0.0f;
    for (int r = 0; r < ROWS; r++)
      sum += tiles[(part * ROWS + r) * COLUMNS + i % COLUMNS];
    const int n = n0 + 4 * (part % RN * COLUMNS + i % COLUMNS);
    store_quad(sum, sums + (group * 2 + part / RN) * outputs + n, outputs - n, VY);
  }
#endif
}

#else

// Whether the pixel below tap j of a work-item's rows is one of the image.
#define REACHES(j) ((uint)(r0 + tapRow[j] - padTop) < (uint)height & (uint)(q0 + tapColumn[j] - padLeft) < (uint)width)

// partials[split][tap][channel][output] = sum over the split's pixels of prologue(x) * dy.
// Work-groups: (TM (tap, channel) pairs, TN outputs, splits of `chunk` output pixels). VX: aligned quads of x, VY: of
// dy and of the partials.
kernel GROUP void conv_tiled_filter_gradient(global const stored *x, int xOffset, int xStride, int height, int width,
                                             int channels, global const float *affine, int affineOffset, float preSlope,
                                             float postSlope, global const stored *dy, int dyOffset, int dyStride,
                                             int images, int outHeight, int outWidth, int outputs, int padTop,
                                             int padLeft, int chunk, global float *partials) {
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
#pragma unroll
  for (int i = 0; i < 4 * RM; i++)
#pragma unroll
    for (int h = 0; h < RN; h++)
      acc[i][h] = 0.0f;

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
      float4 valuesA[SLOTS_A], valuesB[SLOTS_B];
#pragma unroll
      for (int s = 0; s < SLOTS_A; s++) {
        const float4 v = VALUE(nextA[s]);
        valuesA[s] = INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope), inside[s], VX);
      }
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++)
        valuesB[s] = VALUE(nextB[s]);
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
#pragma unroll
      for (int s = 0; s < SLOTS_B; s += TOGETHER_B)
        if (HAS_B(s)) {
#if MATRIX && STORES_OPERANDS
          store_four_columns(STORED_WORD(nextB, s, 0), STORED_WORD(nextB, s, 1), bs, TN, TERM_OF(s, TN), nQuad);
#elif MATRIX
          store_four_columns(BUNDLE_WORD(valuesB, s, 0), BUNDLE_WORD(valuesB, s, 1), bs, TN, TERM_OF(s, TN), nQuad);
#else
          bs[TERM_OF(s, TN) * LDB + nQuad] = valuesB[s];
#endif
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  global float *partial = partials + (long)get_group_id(2) * rows * outputs;
#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
#pragma unroll
    for (int i = 0; i < 4 * RM; i++) {
      const int m = m0 + 4 * (i / 4 * ROWS + ty) + i % 4;
      if (m < rows)
        store_quad(acc[i][h], partial + (long)m * outputs + n, outputs - n, VY);
    }
  }
}
#endif
