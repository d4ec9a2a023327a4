// Products on matrix units: 32 work-items (the lanes of a warp) multiply 32 rows by 16 columns of a tile, 8 words of
// terms at a time, and add in single precision.
//
// MATRIX is the type that operands are rounded to: TF32 (to the nearest, ties away from zero, 11 bits of fraction in
// all), HALF or BFLOAT (to the nearest, ties to even). A word holds one term of TF32, or two of 16 bits, the earlier in
// its lower half.
//
// The layout is that of PTX's mma.sync: m16n8k8 for TF32, m16n8k16 for 16 bits. With lane = 4 * group + member, its
// registers are
//   A 0...3   (row group, word member), (group + 8, member), (group, member + 4), (group + 8, member + 4)
//   B 0, 1    (word member, column group), (member + 4, group)
//   C 0...3   (row group, column 2 * member), (group, 2 * member + 1), the same two columns of row group + 8
// Which words, rows and columns of the tile an instruction takes is ours to say. It takes the tile's word 2 * i as its
// word i and 2 * i + 1 as its word i + 4. Of the 2 x 2 instructions that cover 32 x 16, (q, p) takes row 4 * i + 2 * q
// as its row i and row 4 * i + 2 * q + 1 as its row i + 8, and column 2 * j + p as its column j. A lane then holds rows
// 4 * group + 0...3 by columns 4 * member + 0...3, a register tile as any other.
//
// The registers of an operand have to lie side by side, so that what is read in any other order is moved first. Tiles
// therefore lie in local memory as quads of words that are registers as they are read: of two rows
// (row, word), (row + 1, word), (row, word + 1), (row + 1, word + 1), and of two columns (word, column),
// (word + 1, column), (word, column + 1), (word + 1, column + 1).
//
// EMULATED computes the same from the fragments of all lanes, in plain OpenCL C: for tests where there is no such unit.

#define TF32 1
#define HALF 2
#define BFLOAT 3
#ifndef MATRIX
#define MATRIX 0
#endif
#ifndef EMULATED
#define EMULATED 0
#endif

// Terms in a word.
#if MATRIX == HALF || MATRIX == BFLOAT
#define PACK 2
#else
#define PACK 1
#endif

#if MATRIX

// Words of a step, and the lanes that share it.
#define MATRIX_WORDS 8
#define LANES 32

// The quad of words 2 * pair and 2 * pair + 1 and of the first or, with second = 1, the last two of rows or columns
// 4 * quad + 0...3, in a tile of so many rows or columns. The lanes of a quarter of a warp read all members' pairs of
// two groups, and write four or eight pairs of one group, or one pair of eight: their quads lie in different eighths of
// the banks (with the padding of two and, every fourth pair, of one more).
#define MATRIX_QUAD(extent, pair, second, quad)                                                                        \
  ((pair) * ((extent) / 2 + 2) + (pair) / 4 + (second) * ((extent) / 4 + 1) + (quad))
#define MATRIX_TILE_SIZE(extent, words) MATRIX_QUAD(extent, (words) / 2, 0, 0)

// Two values as a word; of TF32 only the first.
INLINE uint operand_word(float low, float high) {
#if EMULATED && MATRIX == TF32
  const uint b = as_uint(low);
  // Half a unit of the last bit is added to the magnitude and the rest cut off; a NaN stays one.
  return select((b + 0x1000u) & 0xffffe000u, b | 0x400000u, (b & 0x7fffffffu) > 0x7f800000u);
#elif EMULATED && MATRIX == HALF
  ushort2 halves;
  vstore_half2_rte((float2)(low, high), 0, (half *)&halves);
  return as_uint(halves);
#elif EMULATED
  const uint2 b = (uint2)(as_uint(low), as_uint(high));
  const uint2 upper = BFLOAT_BITS(b);
  return upper.x | upper.y << 16;
#else
  uint word;
#if MATRIX == TF32
  __asm__("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(low));
#elif MATRIX == HALF
  __asm__("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
  __asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
  return word;
#endif
}

// The words of four rows or columns.
INLINE uint4 operand_words(float4 low, float4 high) {
  return (uint4)(operand_word(low.x, high.x), operand_word(low.y, high.y), operand_word(low.z, high.z),
                 operand_word(low.w, high.w));
}

// The words of four terms.
#if PACK == 2
typedef uint2 four_words;
INLINE four_words operand_terms(float4 v) { return (uint2)(operand_word(v.x, v.y), operand_word(v.z, v.w)); }
#else
typedef uint4 four_words;
INLINE four_words operand_terms(float4 v) { return operand_words(v, v); }
#endif

// The words of four rows or columns of which two terms lie in memory as operands: each a half of four words.
INLINE uint4 stored_words(uint2 low, uint2 high) {
  return (uint4)((low.x & 0xffffu) | high.x << 16, low.x >> 16 | (high.x & 0xffff0000u),
                 (low.y & 0xffffu) | high.y << 16, low.y >> 16 | (high.y & 0xffff0000u));
}

// Into a tile of `extent` rows: terms `term` to `term` + 3 of rows `index` and `index` + 1.
INLINE void store_two_rows(four_words a, four_words b, local float4 *tile, int extent, int term, int index) {
  local uint4 *const quads = (local uint4 *)tile;
  const int second = index / 2 % 2;
#if PACK == 2
  quads[MATRIX_QUAD(extent, term / 4, second, index / 4)] = (uint4)(a.x, b.x, a.y, b.y);
#else
  quads[MATRIX_QUAD(extent, term / 2, second, index / 4)] = (uint4)(a.x, b.x, a.y, b.y);
  quads[MATRIX_QUAD(extent, term / 2 + 1, second, index / 4)] = (uint4)(a.z, b.z, a.w, b.w);
#endif
}

// Into a tile of `extent` columns: the same of column `index`.
INLINE void store_column(four_words v, local float4 *tile, int extent, int term, int index) {
  local uint2 *const pairs = (local uint2 *)tile + index % 2;
  const int second = index / 2 % 2;
#if PACK == 2
  pairs[2 * MATRIX_QUAD(extent, term / 4, second, index / 4)] = v;
#else
  pairs[2 * MATRIX_QUAD(extent, term / 2, second, index / 4)] = v.xy;
  pairs[2 * MATRIX_QUAD(extent, term / 2 + 1, second, index / 4)] = v.zw;
#endif
}

// The word of the terms from `term` on, and the next one, of each of four rows or columns.
INLINE void store_four_rows(uint4 word, uint4 next, local float4 *tile, int extent, int term, int quad) {
  local uint4 *const quads = (local uint4 *)tile;
  quads[MATRIX_QUAD(extent, term / (2 * PACK), 0, quad)] = (uint4)(word.xy, next.xy);
  quads[MATRIX_QUAD(extent, term / (2 * PACK), 1, quad)] = (uint4)(word.zw, next.zw);
}
INLINE void store_four_columns(uint4 word, uint4 next, local float4 *tile, int extent, int term, int quad) {
  local uint4 *const quads = (local uint4 *)tile;
  quads[MATRIX_QUAD(extent, term / (2 * PACK), 0, quad)] = (uint4)(word.x, next.x, word.y, next.y);
  quads[MATRIX_QUAD(extent, term / (2 * PACK), 1, quad)] = (uint4)(word.z, next.z, word.w, next.w);
}

// What a lane reads of a tile for a step: registers A of instructions q = 0 and 1, and registers B of p = 0 and 1.
typedef struct {
  uint4 upper, lower;
} RowFragment;

// `rows` points to the first pair's quad of the warp's first rows, in a tile of `extent` rows. Where that is less than
// the warp has, the others are the same again.
INLINE RowFragment row_fragment(local const uint4 *rows, int extent, int lane) {
  RowFragment fragment;
  const int quad = extent < 32 ? lane / 4 % (extent / 4) : lane / 4;
  fragment.upper = rows[MATRIX_QUAD(extent, lane % 4, 0, quad)];
  fragment.lower = rows[MATRIX_QUAD(extent, lane % 4, 1, quad)];
  return fragment;
}

// `columns` likewise.
INLINE uint4 column_fragment(local const uint4 *columns, int extent, int lane) {
  return columns[MATRIX_QUAD(extent, lane % 4, lane / 4 % 2, lane / 8)];
}

#define ROW_REGISTERS(a, q) ((q) ? (a).lower : (a).upper)
#define COLUMN_REGISTERS(b, p) ((p) ? (b).zw : (b).xy)

// What an instruction takes of the rows: a lane's own fragment, or to compute the same without a unit those of all
// members of its group.
#define MEMBERS (EMULATED ? 4 : 1)
typedef struct {
  RowFragment of[MEMBERS];
} RowSource;

INLINE RowSource row_source(local const uint4 *rows, int extent, int lane) {
  RowSource source;
#pragma unroll
  for (int i = 0; i < MEMBERS; i++)
    source.of[i] = row_fragment(rows, extent, EMULATED ? lane / 4 * 4 + i : lane);
  return source;
}

#if EMULATED

// The product of two words.
INLINE float word_product(uint a, uint b) {
#if MATRIX == TF32
  return as_float(a) * as_float(b);
#elif MATRIX == HALF
  const uint2 words = (uint2)(a, b);
  const float4 v = vload_half4(0, (const half *)&words);
  return v.x * v.z + v.y * v.w;
#else
  return as_float(a << 16) * as_float(b << 16) + as_float(a & 0xffff0000u) * as_float(b & 0xffff0000u);
#endif
}

// Registers C of a lane after instruction (q, p): a row's words are with the lanes of the same group, a column's with
// those of the group that has its number.
INLINE float4 instruction(RowSource rows, local const uint4 *columns, int columnExtent, int lane, int q, int p,
                          float4 c) {
#pragma unroll 1
  for (int member = 0; member < 4; member++) {
    const uint4 a = ROW_REGISTERS(rows.of[member], q);
    const uint4 left = column_fragment(columns, columnExtent, lane % 4 * 2 * 4 + member);
    const uint4 right = column_fragment(columns, columnExtent, (lane % 4 * 2 + 1) * 4 + member);
    const uint2 b0 = COLUMN_REGISTERS(left, p);
    const uint2 b1 = COLUMN_REGISTERS(right, p);
    c += (float4)(word_product(a.x, b0.x), word_product(a.x, b1.x), word_product(a.y, b0.x), word_product(a.y, b1.x));
    c += (float4)(word_product(a.z, b0.y), word_product(a.z, b1.y), word_product(a.w, b0.y), word_product(a.w, b1.y));
  }
  return c;
}
#define INSTRUCTION(q, p, c) instruction(a, columns, columnExtent, lane, q, p, c)

#else

#if MATRIX == TF32
#define MMA "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
#elif MATRIX == HALF
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#else
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#endif

INLINE float4 instruction(uint4 a, uint2 b, float4 c) {
  float c0 = c.x, c1 = c.y, c2 = c.z, c3 = c.w;
  // Volatile, so that it is not moved to where only some lanes come by.
  __asm__ volatile(MMA " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
                   : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
  return (float4)(c0, c1, c2, c3);
}
#define INSTRUCTION(q, p, c) instruction(ROW_REGISTERS(a.of[0], q), COLUMN_REGISTERS(b, p), c)

#endif

// Eight columns that lie anywhere: a lane's two words of one are side by side. They begin at an offset from `words`.
typedef struct {
  local const uint *words;
#if EMULATED
  // Of columns 2 * member and 2 * member + 1, and from there to what each member takes.
  int left, right, pair[4];
#else
  // Of column `group`; `words` is the lane's.
  int own;
#endif
} ColumnSource;

// Registers C of a lane after instruction q on rows as above and on such columns.
#if EMULATED
INLINE float4 instruction_on_words(RowSource rows, ColumnSource columns, int q, float4 c) {
#pragma unroll 1
  for (int member = 0; member < 4; member++) {
    const uint4 a = ROW_REGISTERS(rows.of[member], q);
    const uint2 b0 = *(local const uint2 *)(columns.words + columns.left + columns.pair[member]);
    const uint2 b1 = *(local const uint2 *)(columns.words + columns.right + columns.pair[member]);
    c += (float4)(word_product(a.x, b0.x), word_product(a.x, b1.x), word_product(a.y, b0.x), word_product(a.y, b1.x));
    c += (float4)(word_product(a.z, b0.y), word_product(a.z, b1.y), word_product(a.w, b0.y), word_product(a.w, b1.y));
  }
  return c;
}
#define INSTRUCTION_ON_WORDS(q, c) instruction_on_words(a, columns, q, c)
#else
#define INSTRUCTION_ON_WORDS(q, c) instruction(ROW_REGISTERS(a.of[0], q), b, c)
#endif

// Adds a step to columns 2 * member and 2 * member + 1 of a lane, of rows 4 * group + 0...3 each.
INLINE void multiply_words(RowSource a, ColumnSource columns, float4 *even, float4 *odd) {
#if !EMULATED
  const uint2 b = *(local const uint2 *)(columns.words + columns.own);
#endif
  float4 c = INSTRUCTION_ON_WORDS(0, ((float4)(even->x, odd->x, even->y, odd->y)));
  even->xy = c.xz;
  odd->xy = c.yw;
  c = INSTRUCTION_ON_WORDS(1, ((float4)(even->z, odd->z, even->w, odd->w)));
  even->zw = c.xz;
  odd->zw = c.yw;
}

// Adds a step to a lane's rows r0 to r3. b is its fragment of `columns`.
INLINE void multiply_fragments(RowSource a, local const uint4 *columns, int columnExtent, uint4 b, int lane, float4 *r0,
                               float4 *r1, float4 *r2, float4 *r3) {
  float4 even = INSTRUCTION(0, 0, ((float4)(r0->xz, r1->xz)));
  float4 odd = INSTRUCTION(0, 1, ((float4)(r0->yw, r1->yw)));
  *r0 = (float4)(even.x, odd.x, even.y, odd.y);
  *r1 = (float4)(even.z, odd.z, even.w, odd.w);
  even = INSTRUCTION(1, 0, ((float4)(r2->xz, r3->xz)));
  odd = INSTRUCTION(1, 1, ((float4)(r2->yw, r3->yw)));
  *r2 = (float4)(even.x, odd.x, even.y, odd.y);
  *r3 = (float4)(even.z, odd.z, even.w, odd.w);
}

#endif
