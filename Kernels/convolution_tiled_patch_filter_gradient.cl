// Filter gradients for GPUs with a stride of 1 and several taps, in tiles (tiles.cl) that read an image once for all of
// them.
//
// Rows of a tile are QUADS quads of channels under each tap, columns outputs, terms positions of the padded images:
// strip by strip, in lines of strip + KW - 1 and strips of height + KH - 1, as convolution_tiled_patch.cl counts them.
// A term of position p is dy of the pixel that p stands for, which is zero between lines and strips, by x at position
// p + i * (strip + KW - 1) + j for tap (i, j): a tap is a distance, the same for all positions.
//
// The positions of x that a step and its taps read lie in local memory in a ring, with the prologue applied and zeros
// for the padding. Each step puts in as many new ones as it has terms, so that a work-group reads each position once.
// The first positions of the ring lie behind its end again, for quads of positions that run over it.
//
// Baked, besides what tiles.cl takes: RING, the positions that there is room for. TK are positions of a step.

// Quads of channels of a work-group, and from one position to the next: the lanes of a warp read quads of eight taps or
// channels at positions 2 * PACK apart, which an odd distance spreads over the banks.
#define QUADS (TM / 4 / (KH * KW))
#define POSITION_QUADS (MATRIX ? QUADS | 1 : QUADS)
// What a work-item fetches of a step's new positions: always the same channels.
#define NEW_QUADS (TK * QUADS)
#define SLOTS_X ((NEW_QUADS + ITEMS - 1) / ITEMS)
#define HAS_X(s) (NEW_QUADS % ITEMS == 0 || item + ITEMS * (s) < NEW_QUADS)
// Positions that a lane reads one after another.
#if MATRIX
#define POSITIONS_TOGETHER (2 * PACK)
#else
#define POSITIONS_TOGETHER 4
#endif
#define REPEATED (POSITIONS_TOGETHER - 1)
#define RING_SIZE (((RING + REPEATED) * POSITION_QUADS + PACK - 1) / PACK)

// Quads `at` of the ring on that positions together have.
#if MATRIX

INLINE RowFragment ring_fragment(local const four_words *ring, int at) {
  RowFragment fragment;
  const four_words first = ring[at];
  const four_words second = ring[at + POSITION_QUADS];
#if PACK == 2
  const uint4 low = stored_words(first, second);
  const uint4 high = stored_words(ring[at + 2 * POSITION_QUADS], ring[at + 3 * POSITION_QUADS]);
  fragment.upper = (uint4)(low.xy, high.xy);
  fragment.lower = (uint4)(low.zw, high.zw);
#else
  fragment.upper = (uint4)(first.xy, second.xy);
  fragment.lower = (uint4)(first.zw, second.zw);
#endif
  return fragment;
}

#endif

// acc += the step whose positions begin with quad `start` of the ring. `tap`: quads from there to those of a
// work-item's rows below the first position; `wrap`: of the ring.
INLINE void multiply_ring(local const four_words *ring, int start, int wrap, const int tap[RM], local const float4 *bs,
                          int tx, int ty, float4 acc[4 * RM][RN]) {
#if MATRIX
  const int lane = ty % 8 * 4 + tx % 4;
#if EMULATED
#pragma unroll 1
#else
#pragma unroll
#endif
  for (int w = 0; w < WORDS; w += MATRIX_WORDS) {
    local const uint4 *const columns = (local const uint4 *)bs + MATRIX_QUAD(TN, w / 2, 0, tx / 4 * 4);
    uint4 b[RN];
#pragma unroll
    for (int h = 0; h < RN; h++)
      b[h] = column_fragment(columns + h * COLUMNS, TN, lane);
#pragma unroll
    for (int g = 0; g < RM; g++) {
      RowSource a;
#pragma unroll
      for (int i = 0; i < MEMBERS; i++) {
        const int member = EMULATED ? i : lane % 4;
        const int at = start + (w * PACK + member * POSITIONS_TOGETHER) * POSITION_QUADS + tap[g];
        a.of[i] = ring_fragment(ring, at >= wrap ? at - wrap : at);
      }
#pragma unroll
      for (int h = 0; h < RN; h++)
        multiply_fragments(a, columns + h * COLUMNS, TN, b[h], lane, &acc[4 * g][h], &acc[4 * g + 1][h],
                           &acc[4 * g + 2][h], &acc[4 * g + 3][h]);
    }
  }
#else
  local const float4 *const columns = bs + tx;
#pragma unroll
  for (int k = 0; k < TK; k += POSITIONS_TOGETHER) {
    local const float4 *rows[RM];
#pragma unroll
    for (int g = 0; g < RM; g++) {
      const int at = start + k * POSITION_QUADS + tap[g];
      rows[g] = ring + (at >= wrap ? at - wrap : at);
    }
#pragma unroll
    for (int i = 0; i < POSITIONS_TOGETHER; i++) {
      float4 b[RN];
#pragma unroll
      for (int h = 0; h < RN; h++)
        b[h] = columns[(k + i) * LDB + h * COLUMNS];
#pragma unroll
      for (int g = 0; g < RM; g++)
        add_products(rows[g][i * POSITION_QUADS], b, g, acc);
    }
  }
#endif
}

// Division by a number that only the launch knows, for each step. With 2^(l - 1) < d <= 2^l, ceil(2^(31 + l) / d) has
// 32 bits and is at most d / 2^(31 + l) of itself too large: too little for n < 2^31 to be noticed.
typedef struct {
  uint factor, shift;
} Divisor;
INLINE Divisor divisor(int d) {
  Divisor result;
  result.shift = 31;
  while (1u << (result.shift - 31) < (uint)d)
    result.shift++;
  result.factor = (uint)(((1ul << result.shift) + d - 1) / d);
  return result;
}
INLINE int quotient(int n, Divisor by) { return (int)((ulong)(uint)n * by.factor >> by.shift); }

// partials[offset + (split, tap, channel, output)] = sum over the split's positions of prologue(x) * dy.
// Work-groups: (4 * QUADS channels, TN outputs, splits of `steps` steps, of `allSteps` in all). VX: aligned quads of x,
// VY: of dy and of the partials.
kernel GROUP void conv_tiled_patch_filter_gradient(global const stored *x, int xOffset, int xStride, int height,
                                                   int width, int channels, global const float *affine,
                                                   int affineOffset, float preSlope, float postSlope,
                                                   global const stored *dy, int dyOffset, int dyStride, int images,
                                                   int outHeight, int outWidth, int outputs, int padTop, int padLeft,
                                                   int strip, int stepsOfSplit, int allSteps, global float *partials,
                                                   int partialsOffset) {
  local float4 memory[RING_SIZE + 2 * SIZE_B];
  // The pixels that a step's new positions of x and those of dy stand for, of two steps.
  local int pixels[2][2 * TK];
  local four_words *const ring = (local four_words *)memory;
  local float4 *const tiles = memory + RING_SIZE;
  const int item = get_local_id(0);
  const int tx = TILE_COLUMN(item);
  const int ty = TILE_ROW(item);
  const int c0 = get_group_id(0) * (4 * QUADS);
  const int n0 = get_group_id(1) * TN;
  const int before = min((int)get_group_id(2) * stepsOfSplit, allSteps);
  const int steps = min(stepsOfSplit, allSteps - before);

  const int strips = outWidth / strip;
  const int lines = outHeight + KH - 1;
  const int lineWidth = strip + KW - 1;
  const Divisor byWidth = divisor(lineWidth);
  const Divisor byLines = divisor(lines);
  const Divisor byStrips = divisor(strips);
  // Rounds of new positions that come before the first step is complete; the ring holds one more.
  const int early = 1 + ((KH - 1) * lineWidth + KW - 1 + TK - 1) / TK;
  const int rounds = steps > 0 ? steps + early : 0;
  const int wrap = (early + 1) * TK * POSITION_QUADS;

  int tap[RM];
#pragma unroll
  for (int g = 0; g < RM; g++) {
    const int quad = g * ROWS + ty;
    const int t = quad / QUADS < KH * KW ? quad / QUADS : 0;
    tap[g] = (t / KW * lineWidth + t % KW) * POSITION_QUADS + quad % QUADS;
  }

  const int c = c0 + item % QUADS * 4;
#if AFFINE
  affine += affineOffset;
  const float4 centre = load_quad(affine + c, channels - c, 0);
  const float4 scale = load_quad(affine + channels + c, channels - c, 0);
  const float4 shift = load_quad(affine + 2 * channels + c, channels - c, 0);
#endif
  global const stored *const xChannels = x + xOffset + c;
  const int n = n0 + item % (TN / 4) * 4;
  global const stored *const dyOutputs = dy + dyOffset + n;

  float4 acc[4 * RM][RN];
  clear_sums(acc);

  // Where the step's positions and the new ones begin in the ring.
  int start = 0, next = 0;
  // Round -1 only looks up pixels.
  for (int round = -1; round < rounds; round++) {
    const int step = round - early;
    const int fetchesX = (round >= 0) & (round < rounds - 1);
    const int fetchesDy = (step + 1 >= 0) & (step + 1 < steps);
    local const int *const found = pixels[round & 1];
    // As they lie in memory: nothing may use them before the tiles are multiplied, or the work-item would wait there.
    stored_quad nextX[SLOTS_X], nextDy[SLOTS_B];
    int inside[SLOTS_X];
    if (fetchesX) {
#pragma unroll
      for (int s = 0; s < SLOTS_X; s++) {
        const int pixel = HAS_X(s) ? found[(item + s * ITEMS) / QUADS] : -1;
        inside[s] = pixel >= 0;
        nextX[s] = fetch_quad(xChannels + (long)pixel * xStride, inside[s] ? channels - c : 0, VX);
      }
    }
    if (fetchesDy) {
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++) {
        const int pixel = HAS_B(s) ? found[TK + TERM_OF(s, TN)] : -1;
        nextDy[s] = fetch_quad(dyOutputs + (long)pixel * dyStride, pixel >= 0 ? outputs - n : 0, VY);
      }
    }
    if (step >= 0) {
      multiply_ring(ring, start, wrap, tap, tiles + (step & 1) * SIZE_B, tx, ty, acc);
      start += TK * POSITION_QUADS;
      start = start == wrap ? 0 : start;
    }
    if (fetchesX) {
#pragma unroll
      for (int s = 0; s < SLOTS_X; s++)
        if (HAS_X(s)) {
          const int position = (item + s * ITEMS) / QUADS;
          const int at = next + position * POSITION_QUADS + item % QUADS;
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
          const four_words words = nextX[s];
#else
          const float4 v = VALUE(nextX[s]);
          const four_words words =
              operand_terms(INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope), inside[s], 1));
#endif
          ring[at] = words;
          if (next == 0 && position < REPEATED)
            ring[at + wrap] = words;
        }
      next += TK * POSITION_QUADS;
      next = next == wrap ? 0 : next;
    }
    if (fetchesDy)
      store_columns(nextDy, item, tiles + ((step + 1) & 1) * SIZE_B);
    // Negative ones, of dy before the first step, are not used.
    for (int i = item; i < 2 * TK; i += ITEMS) {
      const int isOfDy = i >= TK;
      const int p = before * TK + (isOfDy ? step + 1 : round) * TK + i % TK + TK;
      const int line = quotient(p, byWidth);
      const int inStrips = quotient(line, byLines);
      const int image = quotient(inStrips, byStrips);
      const int inLine = p - line * lineWidth;
      const int row = line - inStrips * lines - (isOfDy ? 0 : padTop);
      const int column = (inStrips - image * strips) * strip + inLine - (isOfDy ? 0 : padLeft);
      const int planeHeight = isOfDy ? outHeight : height;
      const int planeWidth = isOfDy ? outWidth : width;
      const int inside = (image < images) & ((uint)row < (uint)planeHeight) & ((uint)column < (uint)planeWidth) &
                         (inLine < (isOfDy ? strip : lineWidth));
      pixels[(round + 1) & 1][i] = inside ? (image * planeHeight + row) * planeWidth + column : -1;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  const int rows = KH * KW * channels;
  global float *partial = partials + partialsOffset + (long)get_group_id(2) * rows * outputs;
#pragma unroll
  for (int g = 0; g < RM; g++) {
    const int quad = g * ROWS + ty;
    const int t = quad / QUADS;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int channel = c0 + quad % QUADS * 4 + i;
      if (t < KH * KW && channel < channels) {
#pragma unroll
        for (int h = 0; h < RN; h++) {
          const int column = n0 + 4 * (h * COLUMNS + tx);
          store_quad(acc[4 * g + i][h], partial + ((long)t * channels + channel) * outputs + column, outputs - column,
                     VY);
        }
      }
    }
  }
}
