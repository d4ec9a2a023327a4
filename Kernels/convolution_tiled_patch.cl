// Convolution for GPUs with a stride of 1 and several taps, in tiles (tiles.cl) that read an image once for all of
// them.
//
// A step is PATCH_CHANNELS channels under all taps. The pixels below any tap of any row of the tile, with the prologue
// applied and zeros for the padding, lie in local memory together: a patch. Pixel (row, column) of the result reads
// position (row + i, column + j) of it for tap (i, j), so that a tap is a distance between positions, the same for all.
//
// For that the result is cut into strips of `strip` columns, which divide its width: pixels are counted line by line
// down a strip, strip by strip and image by image, and so are positions, in lines of strip + KW - 1 and strips of
// height + KH - 1. Rows of a tile are pixels that follow each other; their positions do, but for ends of lines and
// strips, which a patch holds as well. PATCH is how many positions that are at most.
//
//   conv_tiled_patch             as conv_tiled
//   conv_tiled_patch, GRADIENT   likewise: taps are counted from the last to the first
//
// Baked, besides what tiles.cl and tiles_result.cl take: PATCH, ONE_STEP (where PATCH_CHANNELS are all channels: a
// single buffer of tiles), FEW (channels, fewer than a quad). SPLIT cuts channels into parts.

#ifndef FEW
#define FEW 4
#endif

// Quads that a work-item fetches of a patch: of its positions' channels, always the same ones.
#define PATCH_QUADS (PATCH_CHANNELS / 4)
#define PATCH_QUAD(s) (item + (s)*ITEMS)
#define SLOTS_P ((PATCH * PATCH_QUADS + ITEMS - 1) / ITEMS)
#define HAS_P(s) (PATCH * PATCH_QUADS % ITEMS == 0 || PATCH_QUAD(s) < PATCH * PATCH_QUADS)
// Of the filter, in the gradient: neighbours have neighbouring columns.
#define FILTER_COLUMN(s) (BUNDLE(s, 1) % TN)
#define FILTER_TERM(s) (BUNDLE(s, 1) / TN * 4)

// Words of a position.
#define POSITION_WORDS (PATCH_CHANNELS / PACK)

// acc += one step. `position`: that of each row of the work-item below the first tap.
INLINE void multiply_patch(local const float4 *patch, const int position[4 * RM], int lineWidth, int tx, int ty,
                           float4 acc[4 * RM][RN]) {
  local const float4 *const bs = patch + SIZE_A;
  // More than nine taps would not fit into an instruction cache, unrolled.
#if KH * KW > 9 || MATRIX && EMULATED
#pragma unroll 1
#else
#pragma unroll
#endif
  for (int i = 0; i < KH; i++) {
#if MATRIX && EMULATED
#pragma unroll 1
#else
#pragma unroll
#endif
    for (int j = 0; j < KW; j++) {
      const int tap = i * KW + j;
      const int distance = i * lineWidth + j;
#if MATRIX
      const int lane = ty % 8 * 4 + tx % 4;
      local const uint4 *const columns =
          (local const uint4 *)bs + MATRIX_QUAD(TN, tap * (MATRIX_WORDS / 2), 0, tx / 4 * 4);
      uint4 b[RN];
#pragma unroll
      for (int h = 0; h < RN; h++)
        b[h] = column_fragment(columns + h * COLUMNS, TN, lane);
#pragma unroll
      for (int g = 0; g < RM; g++) {
        RowSource source;
        source.words = (local const uint *)patch + distance * POSITION_WORDS;
#pragma unroll
        for (int r = 0; r < 4; r++)
          source.row[r] = position[4 * g + r] * POSITION_WORDS;
        const RowFragment a = row_fragment(source, lane);
#pragma unroll
        for (int h = 0; h < RN; h++)
          multiply_fragments(source, a, columns + h * COLUMNS, TN, b[h], lane, &acc[4 * g][h], &acc[4 * g + 1][h],
                             &acc[4 * g + 2][h], &acc[4 * g + 3][h]);
      }
#else
      local const float4 *const columns = bs + tap * 4 * LDB + tx;
      float4 b[FEW][RN];
#pragma unroll
      for (int k = 0; k < FEW; k++)
#pragma unroll
        for (int h = 0; h < RN; h++)
          b[k][h] = columns[k * LDB + h * COLUMNS];
#pragma unroll
      for (int r = 0; r < 4 * RM; r++) {
        const float4 a = patch[position[r] + distance];
#pragma unroll
        for (int h = 0; h < RN; h++) {
          acc[r][h] = fma((float4)(a.x), b[0][h], acc[r][h]);
#if FEW > 1
          acc[r][h] = fma((float4)(a.y), b[1][h], acc[r][h]);
#endif
#if FEW > 2
          acc[r][h] = fma((float4)(a.z), b[2][h], acc[r][h]);
#endif
#if FEW > 3
          acc[r][h] = fma((float4)(a.w), b[3][h], acc[r][h]);
#endif
        }
      }
#endif
    }
  }
}

// The position below the first tap of pixel m.
INLINE int position_of(int m, const Grid *grid) {
  const int line = m / grid->strip;
  return (line / grid->height * (grid->height + KH - 1) + line % grid->height) * (grid->strip + KW - 1) +
         m % grid->strip;
}

// Puts a quad of channels into a patch.
INLINE void store_patch_quad(four_words v, local float4 *patch, int quad) {
#if MATRIX && PACK == 2
  ((local uint2 *)patch)[quad] = v;
#elif MATRIX
  ((local uint4 *)patch)[quad] = v;
#else
  patch[quad] = v;
#endif
}

// Work-groups: (TM pixels, TN outputs, splits).
kernel GROUP void conv_tiled_patch(global const stored *x, int xOffset, int xStride, int sourceHeight, int sourceWidth,
                                   int channels, global const float *affine, int affineOffset, float preSlope,
                                   float postSlope, global const float *filter, int filterStart, int images, int height,
                                   int width, int outputs, int padTop, int padLeft, int strip, TARGET_PARAMETERS) {
  local float4 tiles[LOCAL_SIZE];
  const int item = get_local_id(0);
  const int tx = TILE_COLUMN(item);
  const int ty = TILE_ROW(item);
  const int m0 = get_group_id(0) * TM;
  const int n0 = get_group_id(1) * TN;
  const Grid grid = {images, height, width, 0, height, width, images * height * width, strip};

  const int lineWidth = strip + KW - 1;
  const int lines = height + KH - 1;
  const int strips = width / strip;
  const int firstPosition = position_of(m0, &grid);
  int position[4 * RM];
#pragma unroll
  for (int i = 0; i < 4 * RM; i++) {
    const int m = m0 + ROW_OF(ty, i);
    position[i] = m < grid.pixels ? position_of(m, &grid) - firstPosition : 0;
  }

  // The quads of the patch that it fetches: of which pixel, and a bit for each that is of an image.
  x += xOffset;
  const int ka = item % PATCH_QUADS * 4;
  int pixel[SLOTS_P];
  uint inside = 0;
#pragma unroll
  for (int s = 0; s < SLOTS_P; s++) {
    const int p = firstPosition + PATCH_QUAD(s) / PATCH_QUADS;
    const int inStrips = p / lineWidth / lines;
    const int image = inStrips / strips;
    const int row = p / lineWidth % lines - (GRADIENT ? KH - 1 - padTop : padTop);
    const int column = inStrips % strips * strip + p % lineWidth - (GRADIENT ? KW - 1 - padLeft : padLeft);
    const int isInside = HAS_P(s) & image < images & (uint)row < (uint)sourceHeight & (uint)column < (uint)sourceWidth;
    pixel[s] = isInside ? (image * sourceHeight + row) * sourceWidth + column : 0;
    inside |= (uint)isInside << s;
  }

  // The quads of the filter that it fetches: the first of their channels, how many outputs they have, and where they
  // lie.
  filter += filterStart;
  int filterChannel[SLOTS_B], outputsLeft[SLOTS_B], filterOffset[SLOTS_B];
#pragma unroll
  for (int s = 0; s < SLOTS_B; s++) {
#if GRADIENT
    const int n = n0 + FILTER_COLUMN(s);
    const int tap = KH * KW - 1 - FILTER_TERM(s) / PATCH_CHANNELS;
    filterChannel[s] = FILTER_TERM(s) % PATCH_CHANNELS;
    filterOffset[s] = (tap * outputs + n) * channels + filterChannel[s];
#else
    const int n = n0 + QUAD_OF(s, TN) * 4;
    const int tap = TERM_OF(s, TN) / PATCH_CHANNELS;
    filterChannel[s] = TERM_OF(s, TN) % PATCH_CHANNELS;
    filterOffset[s] = (tap * channels + filterChannel[s]) * outputs + n;
#endif
    outputsLeft[s] = HAS_B(s) ? outputs - n : 0;
  }

  float4 acc[4 * RM][RN];
#pragma unroll
  for (int i = 0; i < 4 * RM; i++)
#pragma unroll
    for (int h = 0; h < RN; h++)
      acc[i][h] = 0.0f;

  const int allSteps = (channels + PATCH_CHANNELS - 1) / PATCH_CHANNELS;
  const int stepsOfSplit = (allSteps + SPLITS - 1) / SPLITS;
  const int before = min((int)get_group_id(2) * stepsOfSplit, allSteps);
  const int steps = min(stepsOfSplit, allSteps - before);
  // Step -1 only fetches.
  for (int step = -1; step < steps; step++) {
    // As it lies in memory: nothing may use it before the tiles are multiplied, or the work-item would wait there.
    stored_quad nextA[SLOTS_P];
    float4 nextB[SLOTS_B];
    float4 centre, scale, shift;
    if (step + 1 < steps) {
      const int k0 = (before + step + 1) * PATCH_CHANNELS;
#if AFFINE
      global const float *const quads = affine + affineOffset + k0 + ka;
      centre = load_quad(quads, channels - k0 - ka, VX);
      scale = load_quad(quads + channels, channels - k0 - ka, VX);
      shift = load_quad(quads + 2 * channels, channels - k0 - ka, VX);
#endif
#pragma unroll
      for (int s = 0; s < SLOTS_P; s++)
        nextA[s] = fetch_quad(x + (k0 + ka) + (long)pixel[s] * xStride, inside >> s & 1 ? channels - k0 - ka : 0, VX);
#pragma unroll
      for (int s = 0; s < SLOTS_B; s++) {
        const int left = channels - k0 - filterChannel[s];
#if GRADIENT
        nextB[s] = load_quad(filter + k0 + filterOffset[s], outputsLeft[s] > 0 ? left : 0, VF);
#else
        nextB[s] = load_quad(filter + (long)k0 * outputs + filterOffset[s], left > 0 ? outputsLeft[s] : 0, VF);
#endif
      }
    }
    if (step >= 0)
      multiply_patch(TILES_OF(tiles, step), position, lineWidth, tx, ty, acc);
    if (step + 1 < steps) {
      local float4 *const patch = TILES_OF(tiles, step + 1);
      local float4 *const bs = patch + SIZE_A;
#pragma unroll
      for (int s = 0; s < SLOTS_P; s++)
        if (HAS_P(s)) {
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
          store_patch_quad(nextA[s], patch, PATCH_QUAD(s));
#else
          const float4 v = VALUE(nextA[s]);
          store_patch_quad(operand_terms(INSIDE_ONLY(APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope),
                                                     (int)(inside >> s & 1), 1)),
                           patch, PATCH_QUAD(s));
#endif
        }
#pragma unroll
      for (int s = 0; s < SLOTS_B; s += TOGETHER_B)
        if (HAS_B(s)) {
#if GRADIENT && MATRIX
          store_column(operand_terms(nextB[s]), bs, TN, FILTER_TERM(s), FILTER_COLUMN(s));
#elif GRADIENT
          store_transposed(nextB[s], bs, LDB, FILTER_TERM(s), FILTER_COLUMN(s));
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
