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
// single buffer of tiles), FEW (how many channels a step has, at most a quad), KEPT (columns of the filter that lie in
// local memory, a power of two: fewer than a warp with matrix units has, which then reads them several times). SPLIT
// cuts channels into parts.

// Quads that a work-item fetches of a patch: of its positions' channels, always the same ones.
#define PATCH_QUADS (PATCH_CHANNELS / 4)
#define PATCH_QUAD(s) (item + ITEMS * (s))
#define SLOTS_P ((PATCH * PATCH_QUADS + ITEMS - 1) / ITEMS)
#define HAS_P(s) (PATCH * PATCH_QUADS % ITEMS == 0 || PATCH_QUAD(s) < PATCH * PATCH_QUADS)
// Of the filter, in the gradient: neighbours have neighbouring columns.
#define FILTER_COLUMN(s) (BUNDLE(s, TOGETHER_B) % (KEPT / TOGETHER_B) * TOGETHER_B + (s) % TOGETHER_B)
#define FILTER_TERM(s) (BUNDLE(s, TOGETHER_B) / (KEPT / TOGETHER_B) * 4)

// Rows of a tile whose positions a work-item needs: its own, or with matrix units those that it reads for its warp, of
// eight columns of an instruction one each.
#if MATRIX && !EMULATED
#define READ_ROWS (2 * RM)
#define READ_ROW(tx, ty, i) ((ty) / 4 * (16 * RM) + 8 * (i) + (tx) % 8)
#else
#define READ_ROWS (4 * RM)
#define READ_ROW(tx, ty, i) ROW_OF(ty, i)
#endif

// Words of a position.
#define POSITION_WORDS (PATCH_CHANNELS / PACK)

// The taps of a step are multiplied in PARTS parts, each between fetching and storing as large a part of what the next
// step needs: so that little of that waits in registers, and that AMD's compiler does not load the operands of all taps
// at once (clang 19, gfx1030: in one part it spills 330 registers). More than nine taps, unrolled, would not fit into
// an instruction cache; they are one part, and rows of them a loop.
#define PARTS (!ONE_STEP && KH * KW <= 9 ? KH : 1)
#define OF_PART(s, together, part) ((s) / (together) % PARTS == (part))

// Part of so many.
#define PART_OF(count, part) ((part) * (count) / PARTS)

// acc += part of a step. `position`: those of the rows that it reads, below the first tap.
#if MATRIX

// The words that a lane takes of a row, from the first of the position below the first tap on: two of a tap's.
INLINE int words_of_set(int set, int member, int lineWidth) {
  // What fills up the last set meets zeros of the filter, but must be numbers.
  const int tap = min(set * TAPS_TOGETHER + 2 * member / POSITION_WORDS, KH * KW - 1);
  return (tap / KW * lineWidth + tap % KW) * POSITION_WORDS + 2 * member % POSITION_WORDS;
}

INLINE void multiply_part(int part, local const float4 *patch, const int position[READ_ROWS], int lineWidth, int tx,
                          int ty, float4 acc[4 * RM][RN]) {
  local const float4 *const bs = patch + SIZE_A;
  const int lane = tx % 8 * 4 + ty % 4;
#if TAP_SETS > 9 || EMULATED
#pragma unroll 1
#else
#pragma unroll
#endif
  for (int set = PART_OF(TAP_SETS, part); set < PART_OF(TAP_SETS, part + 1); set++) {
    local const uint4 *const rows =
        (local const uint4 *)bs + MATRIX_QUAD(KEPT, set * (MATRIX_WORDS / 2), 0, tx / 8 * 8);
    RowSource a[RN];
#pragma unroll
    for (int h = 0; h < RN; h++)
      a[h] = row_source(rows + h * COLUMNS, KEPT, lane);
    ColumnSource columns;
    columns.words = (local const uint *)patch;
#if EMULATED
    for (int member = 0; member < 4; member++)
      columns.pair[member] = words_of_set(set, member, lineWidth);
#else
    // Without FEW the same for all lanes.
    columns.words += words_of_set(set, FEW ? lane % 4 : 0, lineWidth);
#endif
#pragma unroll
    for (int g = 0; g < 2 * RM; g++) {
#if EMULATED
      columns.left = position[2 * g] * POSITION_WORDS;
      columns.right = position[2 * g + 1] * POSITION_WORDS;
#else
      columns.own = position[g] * POSITION_WORDS + (FEW ? 0 : lane % 4 * 2);
#endif
#pragma unroll
      for (int h = 0; h < RN; h++)
        multiply_words(a[h], columns, &acc[2 * g][h], &acc[2 * g + 1][h]);
    }
  }
}

#else

// Of the quads, those terms that are not all zeros.
#if FEW
#define USED_TERMS FEW
#else
#define USED_TERMS 4
#endif

INLINE void multiply_part(int part, local const float4 *patch, const int position[READ_ROWS], int lineWidth, int tx,
                          int ty, float4 acc[4 * RM][RN]) {
  local const float4 *const bs = patch + SIZE_A;
#if KH * KW > 9
#pragma unroll 1
#else
#pragma unroll
#endif
  for (int i = PART_OF(KH, part); i < PART_OF(KH, part + 1); i++) {
#pragma unroll
    for (int j = 0; j < KW; j++) {
      const int distance = i * lineWidth + j;
      local const float4 *const columns = bs + (i * KW + j) * 4 * LDB + tx;
      float4 b[USED_TERMS][RN];
#pragma unroll
      for (int k = 0; k < USED_TERMS; k++)
#pragma unroll
        for (int h = 0; h < RN; h++)
          b[k][h] = columns[k * LDB + h * COLUMNS];
#pragma unroll
      for (int r = 0; r < 4 * RM; r++) {
        const float4 a = patch[position[r] + distance];
#pragma unroll
        for (int h = 0; h < RN; h++) {
          acc[r][h] = fma((float4)(a.x), b[0][h], acc[r][h]);
#if USED_TERMS > 1
          acc[r][h] = fma((float4)(a.y), b[1][h], acc[r][h]);
#endif
#if USED_TERMS > 2
          acc[r][h] = fma((float4)(a.z), b[2][h], acc[r][h]);
#endif
#if USED_TERMS > 3
          acc[r][h] = fma((float4)(a.w), b[3][h], acc[r][h]);
#endif
        }
      }
    }
  }
}

#endif

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

// What a work-item fetches for a step.
typedef struct {
  global const stored *x;
  int stride;
  // Of which pixel each quad of the patch is, and a bit for each that is of an image.
  int pixel[SLOTS_P];
  uint inside;
  int channels;
  global const float *affine;
  global const float *filter;
  int outputs;
  // Of each quad of the filter the first channel, how many outputs it has, and where it lies.
  int filterChannel[SLOTS_B], outputsLeft[SLOTS_B], filterOffset[SLOTS_B];
} Source;

// The same as it lies in memory: nothing may use it before some taps are multiplied, or the work-item would wait there.
typedef struct {
  stored_quad image[SLOTS_P];
  float4 filter[SLOTS_B];
  float4 centre, scale, shift;
} Fetched;

// The first of the channels, of a step, that a work-item fetches of an image.
#define FIRST_CHANNEL (item % PATCH_QUADS * 4)

// A part of the step whose channels begin with k0.
INLINE void fetch_part(int part, const Source *source, int k0, int item, Fetched *next) {
  const int c = k0 + FIRST_CHANNEL;
  const int left = source->channels - c;
#if AFFINE
  if (part == 0) {
    next->centre = load_quad(source->affine + c, left, VX);
    next->scale = load_quad(source->affine + source->channels + c, left, VX);
    next->shift = load_quad(source->affine + 2 * source->channels + c, left, VX);
  }
#endif
#pragma unroll
  for (int s = 0; s < SLOTS_P; s++)
    if (OF_PART(s, 1, part))
      next->image[s] =
          fetch_quad(source->x + c + (long)source->pixel[s] * source->stride, source->inside >> s & 1 ? left : 0, VX);
#pragma unroll
  for (int s = 0; s < SLOTS_B; s++)
    if (OF_PART(s, TOGETHER_B, part)) {
      const int terms = source->channels - k0 - source->filterChannel[s];
#if GRADIENT
      next->filter[s] =
          load_quad(source->filter + k0 + source->filterOffset[s], source->outputsLeft[s] > 0 ? terms : 0, VF);
#else
      next->filter[s] = load_quad(source->filter + (long)k0 * source->outputs + source->filterOffset[s],
                                  terms > 0 ? source->outputsLeft[s] : 0, VF);
#endif
    }
}

INLINE void store_part(int part, const Fetched *next, uint inside, float preSlope, float postSlope, int item,
                       local float4 *patch) {
  local float4 *const bs = patch + SIZE_A;
#pragma unroll
  for (int s = 0; s < SLOTS_P; s++)
    if (OF_PART(s, 1, part) && HAS_P(s)) {
#if MATRIX && STORES_OPERANDS && !(PRE || AFFINE || POST)
      store_patch_quad(next->image[s], patch, PATCH_QUAD(s));
#else
      const float4 v = VALUE(next->image[s]);
      store_patch_quad(
          operand_terms(INSIDE_ONLY(APPLY_PROLOGUE(v, next->centre, next->scale, next->shift, preSlope, postSlope),
                                    (int)(inside >> s & 1), 1)),
          patch, PATCH_QUAD(s));
#endif
    }
#pragma unroll
  for (int s = 0; s < SLOTS_B; s += TOGETHER_B)
    if (OF_PART(s, TOGETHER_B, part) && HAS_B(s)) {
#if GRADIENT && MATRIX
      store_two_rows(operand_terms(next->filter[s]), operand_terms(next->filter[s + 1]), bs, KEPT, FILTER_TERM(s),
                     FILTER_COLUMN(s));
#elif GRADIENT
      store_transposed(next->filter[s], bs, LDB, FILTER_TERM(s), FILTER_COLUMN(s));
#elif MATRIX
      store_four_rows(BUNDLE_WORD(next->filter, s, 0), BUNDLE_WORD(next->filter, s, 1), bs, KEPT, TERM_OF(s, KEPT),
                      QUAD_OF(s, KEPT));
#else
      bs[TERM_OF(s, KEPT) * LDB + QUAD_OF(s, KEPT)] = next->filter[s];
#endif
    }
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
  int position[READ_ROWS];
#pragma unroll
  for (int i = 0; i < READ_ROWS; i++) {
    const int m = m0 + READ_ROW(tx, ty, i);
    position[i] = m < grid.pixels ? position_of(m, &grid) - firstPosition : 0;
  }

  Source source;
  source.x = x + xOffset;
  source.stride = xStride;
  source.channels = channels;
  source.affine = affine + affineOffset;
  source.filter = filter + filterStart;
  source.outputs = outputs;
  source.inside = 0;
#pragma unroll
  for (int s = 0; s < SLOTS_P; s++) {
    const int p = firstPosition + PATCH_QUAD(s) / PATCH_QUADS;
    const int inStrips = p / lineWidth / lines;
    const int image = inStrips / strips;
    const int row = p / lineWidth % lines - (GRADIENT ? KH - 1 - padTop : padTop);
    const int column = inStrips % strips * strip + p % lineWidth - (GRADIENT ? KW - 1 - padLeft : padLeft);
    const int isInside =
        HAS_P(s) & (image < images) & ((uint)row < (uint)sourceHeight) & ((uint)column < (uint)sourceWidth);
    source.pixel[s] = isInside ? (image * sourceHeight + row) * sourceWidth + column : 0;
    source.inside |= (uint)isInside << s;
  }
#pragma unroll
  for (int s = 0; s < SLOTS_B; s++) {
#if GRADIENT
    const int n = n0 + FILTER_COLUMN(s);
    const int tap = FILTER_TERM(s) / PATCH_CHANNELS;
    source.filterChannel[s] = FILTER_TERM(s) % PATCH_CHANNELS;
    source.filterOffset[s] = ((KH * KW - 1 - tap) * outputs + n) * channels + source.filterChannel[s];
#else
    const int n = n0 + QUAD_OF(s, KEPT) * 4;
    const int tap = TERM_OF(s, KEPT) / PATCH_CHANNELS;
    source.filterChannel[s] = TERM_OF(s, KEPT) % PATCH_CHANNELS;
    source.filterOffset[s] = (tap * channels + source.filterChannel[s]) * outputs + n;
#endif
    source.outputsLeft[s] = (HAS_B(s) & (tap < KH * KW)) ? outputs - n : 0;
  }

  float4 acc[4 * RM][RN];
  clear_sums(acc);

  const int allSteps = (channels + PATCH_CHANNELS - 1) / PATCH_CHANNELS;
  const int stepsOfSplit = (allSteps + SPLITS - 1) / SPLITS;
  const int before = min((int)get_group_id(2) * stepsOfSplit, allSteps);
  const int steps = min(stepsOfSplit, allSteps - before);
  if (steps > 0) {
    Fetched first;
#pragma unroll
    for (int part = 0; part < PARTS; part++)
      fetch_part(part, &source, before * PATCH_CHANNELS, item, &first);
#pragma unroll
    for (int part = 0; part < PARTS; part++)
      store_part(part, &first, source.inside, preSlope, postSlope, item, tiles);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int step = 0; step < steps; step++) {
    const int hasNext = step + 1 < steps;
    Fetched next;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      if (hasNext)
        fetch_part(part, &source, (before + step + 1) * PATCH_CHANNELS, item, &next);
      multiply_part(part, TILES_OF(tiles, step), position, lineWidth, tx, ty, acc);
      if (hasNext)
        store_part(part, &next, source.inside, preSlope, postSlope, item, TILES_OF(tiles, step + 1));
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  const Target target = TARGET;
  store_tile(acc, tiles, m0, n0, &grid, &target, outputs);
}
