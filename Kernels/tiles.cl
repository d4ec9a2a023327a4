// Tiles of matrix products in local memory: what the kernels of convolution_tiled.cl, convolution_tiled_patch.cl and
// convolution_tiled_patch_filter_gradient.cl share.
//
// A work-group of ITEMS = COLUMNS * ROWS work-items computes a TM x TN tile of a product, TK terms at a time, each
// work-item RM * RN register tiles of 4 x 4 values. The terms of the next step are fetched into registers while the
// current ones are multiplied, and stored to the other of two buffers in local memory, so that one barrier a step is
// enough. All loops with barriers have bounds that are the same for the whole work-group.
//
// With MATRIX (matrix.cl) the products run on matrix units: tiles then lie as the units want them, of operands rounded
// as they are stored there, and the work-items of each warp are laid out over its 32 x 16 values likewise. All else
// stays the same.
//
// Baked: KH KW SH SW (kernel and stride), TM TN TK (tile), RM RN (4 x 4 tiles a work-item has down and across), VX VF
// VY (1: the quads of source, filter and result are aligned and complete), PRE/AFFINE/POST (prologue on load, applied
// when a tile is stored), and what tiles_result.cl takes.

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

#ifndef PATCH
#define PATCH 0
#endif
// With PATCH (convolution_tiled_patch.cl) a step has all taps of so many channels as lie side by side in local memory,
// and with FEW a quad, or what there is of one. Matrix units take several such quads together, of different taps, which
// are filled up to whole sets.
#ifndef FEW
#define FEW 0
#endif
#if MATRIX && !FEW
#define PATCH_CHANNELS (MATRIX_WORDS * PACK)
#else
#define PATCH_CHANNELS 4
#endif
#if MATRIX
#define TAPS_TOGETHER (MATRIX_WORDS * PACK / PATCH_CHANNELS)
#else
#define TAPS_TOGETHER 1
#endif
#define TAP_SETS ((KH * KW + TAPS_TOGETHER - 1) / TAPS_TOGETHER)
#if PATCH
#define TK (TAP_SETS * TAPS_TOGETHER * PATCH_CHANNELS)
#endif
#ifndef TK
#define TK 16
#endif
// Columns that lie in local memory, where a patch's filter has fewer than TN.
#ifndef KEPT
#define KEPT TN
#endif
#define COLUMNS (TN / (4 * RN))
#define ROWS (TM / (4 * RM))
#define ITEMS (COLUMNS * ROWS)
// Words of a step: its terms, or pairs of them.
#define WORDS (TK / PACK)
// Float4s of a term in local memory. One more than needed spreads the scalar stores of a transposition over banks.
#define LDA (TM / 4 + 1)
#define LDB (TN / 4 + 1)
#if PATCH
#define SIZE_A ((PATCH * PATCH_CHANNELS / PACK + 3) / 4)
#elif MATRIX
#define SIZE_A MATRIX_TILE_SIZE(TM, WORDS)
#else
#define SIZE_A (WORDS * LDA)
#endif
#if MATRIX
#define SIZE_B MATRIX_TILE_SIZE(KEPT, WORDS)
#else
#define SIZE_B (WORDS * LDB)
#endif
// What a work-item fetches for a step are quads: terms side by side, of ROWS_TOGETHER rows or of one column, or rows or
// columns side by side, for TERMS_TOGETHER terms. What is together, as much as matrix units have side by side, is
// stored together: bundles of slots.
#define ROWS_TOGETHER (MATRIX ? 2 : 1)
#define TERMS_TOGETHER (MATRIX ? 2 * PACK : 1)
#define BUNDLE(s, together) (item + ITEMS * ((s) / (together)))
// Of terms side by side: the first, the same for all slots, and the row or column of slot s.
#define FIRST_TERM (item % (TK / 4) * 4)
#define INDEX_OF(s, together) (BUNDLE(s, together) / (TK / 4) * (together) + (s) % (together))
// Of rows or columns side by side: the term and the quad of slot s.
#define TERM_OF(s, extent) (BUNDLE(s, TERMS_TOGETHER) / (extent / 4) * TERMS_TOGETHER + (s) % TERMS_TOGETHER)
#define QUAD_OF(s, extent) (BUNDLE(s, TERMS_TOGETHER) % (extent / 4))
#define TOGETHER_A (FILTER_GRADIENT ? TERMS_TOGETHER : ROWS_TOGETHER)
#define TOGETHER_B (GRADIENT ? (PATCH && MATRIX ? 2 : 1) : TERMS_TOGETHER)
#define BUNDLES_A (TM * TK / 4 / TOGETHER_A)
#define BUNDLES_B (KEPT * TK / 4 / TOGETHER_B)
#define SLOTS_A (TOGETHER_A * ((BUNDLES_A + ITEMS - 1) / ITEMS))
#define SLOTS_B (TOGETHER_B * ((BUNDLES_B + ITEMS - 1) / ITEMS))
// Whether a work-item has slot s; where all of them have all slots, without asking.
#define HAS_A(s) (BUNDLES_A % ITEMS == 0 || BUNDLE(s, TOGETHER_A) < BUNDLES_A)
#define HAS_B(s) (BUNDLES_B % ITEMS == 0 || BUNDLE(s, TOGETHER_B) < BUNDLES_B)
// The tiles of a step, and of the two that are in memory at once, or the one with ONE_STEP. The sums of the epilogue
// and the moments reuse it.
#ifndef ONE_STEP
#define ONE_STEP 0
#endif
#define TILE_SIZE (SIZE_A + SIZE_B)
#define TILES_SIZE (ONE_STEP ? TILE_SIZE : 2 * TILE_SIZE)
#define SUM_SIZE (2 * RN * ITEMS)
#define LOCAL_SIZE ((EPILOGUE && EAFFINE || MOMENTS) && SUM_SIZE > TILES_SIZE ? SUM_SIZE : TILES_SIZE)
// Where those of a step lie. A step reads one buffer and writes the other, which the barrier at the end of the step
// before has made free.
#define TILES_OF(tiles, step) ((tiles) + (ONE_STEP ? 0 : 1 & (step)) * TILE_SIZE)
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

// Where a work-item's register tiles lie: value i of its rows in row ROW_OF(ty, i), columns 4 * (h * COLUMNS + tx) +
// 0...3. Eight work-items side by side and four below each other read 192 bytes of the tiles between them, sixteen by
// two 288. Rows of a patch are read one by one, so neighbours have neighbouring ones; for matrix units they are the
// columns of an instruction (`multiply_words`), and the columns its rows.
#if !PATCH
#define ROW_OF(ty, i) (4 * ((i) / 4 * ROWS + (ty)) + (i) % 4)
#elif MATRIX
#define ROW_OF(ty, i) ((ty) / 4 * (16 * RM) + (i) / 2 * 8 + (ty) % 4 * 2 + (i) % 2)
#else
#define ROW_OF(ty, i) (ROWS * (i) + (ty))
#endif
#if MATRIX && PATCH
#define TILE_COLUMN(item) ((item) / LANES % (COLUMNS / 8) * 8 + (item) % LANES / 4)
#define TILE_ROW(item) ((item) / LANES / (COLUMNS / 8) * 4 + (item) % 4)
#elif MATRIX
#define TILE_COLUMN(item) ((item) / LANES % (COLUMNS / 4) * 4 + (item) % 4)
#define TILE_ROW(item) ((item) / LANES / (COLUMNS / 4) * 8 + (item) % LANES / 4)
#elif COLUMNS > 8 && COLUMNS % 8 == 0 && ROWS % 4 == 0
#define TILE_COLUMN(item) ((item) / 32 % (COLUMNS / 8) * 8 + (item) % 8)
#define TILE_ROW(item) ((item) / 32 / (COLUMNS / 8) * 4 + (item) % 32 / 8)
#else
#define TILE_COLUMN(item) ((item) % COLUMNS)
#define TILE_ROW(item) ((item) / COLUMNS)
#endif

INLINE void clear_sums(float4 acc[4 * RM][RN]) {
#pragma unroll
  for (int i = 0; i < 4 * RM; i++)
#pragma unroll
    for (int h = 0; h < RN; h++)
      acc[i][h] = 0.0f;
}

// acc += one term: four rows by a work-item's columns, in the register tiles from row 4 * g on.
INLINE void add_products(float4 a, const float4 b[RN], int g, float4 acc[4 * RM][RN]) {
#pragma unroll
  for (int h = 0; h < RN; h++) {
    acc[4 * g][h] = fma((float4)(a.x), b[h], acc[4 * g][h]);
    acc[4 * g + 1][h] = fma((float4)(a.y), b[h], acc[4 * g + 1][h]);
    acc[4 * g + 2][h] = fma((float4)(a.z), b[h], acc[4 * g + 2][h]);
    acc[4 * g + 3][h] = fma((float4)(a.w), b[h], acc[4 * g + 3][h]);
  }
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
#define BUNDLE_WORD(values, s, i) operand_words(values[(s) + PACK * (i)], values[(s) + PACK * (i) + PACK - 1])
#define STORED_WORD(stored, s, i) stored_words(stored[(s) + PACK * (i)], stored[(s) + PACK * (i) + PACK - 1])

#else

// Four terms are as they come.
typedef float4 four_words;
#define operand_terms(v) (v)

// Four terms of one row or column into a tile with `ld` float4s a term.
INLINE void store_transposed(float4 v, local float4 *tile, int ld, int term, int index) {
  local float *const p = (local float *)(tile + term * ld) + index;
  p[0] = v.x;
  p[4 * ld] = v.y;
  p[8 * ld] = v.z;
  p[12 * ld] = v.w;
}

#endif

// v where it is of the image, zeros elsewhere: `whole` quads by one bit, else a bit for each value. The padding comes
// after the prologue, of which only an affine makes something of zeros.
#if AFFINE
#define INSIDE_ONLY(v, bits, whole)                                                                                    \
  select((float4)(0.0f), v, (whole) ? (int4)(-(bits)) : -((int4)(bits) >> (int4)(0, 1, 2, 3) & 1))
#else
#define INSIDE_ONLY(v, bits, whole) (v)
#endif

#if FILTER_GRADIENT

// Columns that lie side by side in memory, as a work-item has fetched them, into a tile.
INLINE void store_columns(const stored_quad next[SLOTS_B], int item, local float4 *bs) {
  float4 values[SLOTS_B];
#pragma unroll
  for (int s = 0; s < SLOTS_B; s++)
    values[s] = VALUE(next[s]);
#pragma unroll
  for (int s = 0; s < SLOTS_B; s += TOGETHER_B)
    if (HAS_B(s)) {
#if MATRIX && STORES_OPERANDS
      store_four_columns(STORED_WORD(next, s, 0), STORED_WORD(next, s, 1), bs, TN, TERM_OF(s, TN), QUAD_OF(s, TN));
#elif MATRIX
      store_four_columns(BUNDLE_WORD(values, s, 0), BUNDLE_WORD(values, s, 1), bs, TN, TERM_OF(s, TN), QUAD_OF(s, TN));
#else
      bs[TERM_OF(s, TN) * LDB + QUAD_OF(s, TN)] = values[s];
#endif
    }
}

#endif
