// What becomes of a tile of `conv_tiled` and `conv_tiled_patch`: the epilogue that they share.
//
// Baked: GRADIENT and, for it, EPILOGUE with EPRE/EAFFINE/EPOST: the prologue through which the forward pass had read,
// whose gradient is applied on store, and without GRADIENT, MOMENTS. With SPLIT the terms are cut into parts that go to
// different work-groups, without EPILOGUE and MOMENTS, which conv_tiled_sum has then.

// The result, as images of pixels.
typedef struct {
  int images, height, width;
  // Of a phase, all its rows and columns and how many pixels there are; else the phase is 0, and they are the images'.
  int phase, rows, columns, pixels;
#if PATCH
  // Columns of a strip.
  int strip;
#endif
} Grid;

// The pixel of row m of the product.
INLINE long pixel_of(const Grid *grid, int m) {
#if PATCH
  const int strips = grid->width / grid->strip;
  if (strips == 1)
    return m;
  const int line = m / grid->strip;
  const int strip = line / grid->height;
  return ((long)(strip / strips) * grid->height + line % grid->height) * grid->width + strip % strips * grid->strip +
         m % grid->strip;
#elif GRADIENT
  const int line = m / grid->columns;
  return ((long)(line / grid->rows) * grid->height + line % grid->rows * SH + grid->phase / SW) * grid->width +
         m % grid->columns * SW + grid->phase % SW;
#else
  return m;
#endif
}

// Where it goes. With SPLIT, to partials[split][pixel][output], for conv_tiled_sum; else y (+)= bias + product.
//
// With MOMENTS, each row of work-groups leaves mean and summed squared deviations of what it stores, rounded as it is
// stored, as `moments_partial` does for its rows, and behind those of all the number of its pixels; not of what is
// added to with `accumulate`.
//
// sums is [phases * pixel groups, 2, outputs].
#if SPLIT
typedef struct {
  int split;
  global float *partials;
} Target;
#define TARGET_PARAMETERS int splits, global float *partials
#define SPLITS splits
#define TARGET ((Target){(int)get_group_id(2) % splits, partials})
#else
typedef struct {
  global stored *y;
  int yStride, accumulate;
  global const float *bias;
  int hasBias;
#if EPILOGUE
  global const stored *ex;
  int exStride;
  global const float *eaffine;
  float ePreSlope, ePostSlope;
  global float *sums;
#elif MOMENTS
  global float *moments;
  int momentGroups;
#endif
} Target;
#define RESULT_PARAMETERS                                                                                              \
  global stored *y, int yOffset, int yStride, int accumulate, global const float *bias, int biasOffset, int hasBias
#define RESULT_TARGET y + yOffset, yStride, accumulate, bias + biasOffset, hasBias
#if EPILOGUE
#define TARGET_PARAMETERS                                                                                              \
  RESULT_PARAMETERS, global const stored *ex, int exOffset, int exStride, global const float *eaffine,                 \
      int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
#define TARGET ((Target){RESULT_TARGET, ex + exOffset, exStride, eaffine + eaffineOffset, ePreSlope, ePostSlope, sums})
#elif MOMENTS
#define TARGET_PARAMETERS RESULT_PARAMETERS, global float *moments, int momentGroups
#define TARGET ((Target){RESULT_TARGET, moments, momentGroups})
#else
#define TARGET_PARAMETERS RESULT_PARAMETERS
#define TARGET ((Target){RESULT_TARGET})
#endif
#define SPLITS 1
#endif

// Pixels of a tile from m0 on that work-items of row `ty` have.
INLINE int pixels_of(int ty, int m0, int pixels) {
  int count = 0;
#pragma unroll
  for (int i = 0; i < 4 * RM; i++)
    count += m0 + ROW_OF(ty, i) < pixels;
  return count;
}

// Stores the sums `acc` of a work-group, whose rows and columns are those from m0 and n0 on. `tiles` are no longer in
// use, and all work-items come by.
INLINE void store_tile(float4 acc[4 * RM][RN], local float4 *tiles, int m0, int n0, const Grid *grid, const Target *to,
                       int outputs) {
  const int item = get_local_id(0);
  const int tx = TILE_COLUMN(item);
  const int ty = TILE_ROW(item);
  const int pixels = grid->pixels;
#if MOMENTS
  // Of this work-item's pixels first, then of the work-group's.
#define STORED_VALUE(i, h) ROUND_AS(STORE, 4, acc[i][h] + start)
#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
    const float4 start = load_quad(to->bias + n, to->hasBias ? outputs - n : 0, 0);
    float4 mean = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * RM; i++)
      if (m0 + ROW_OF(ty, i) < pixels)
        mean += STORED_VALUE(i, h);
    mean /= (float)max(pixels_of(ty, m0, pixels), 1);
#pragma unroll
    for (int i = 0; i < 4 * RM; i++)
      if (m0 + ROW_OF(ty, i) < pixels) {
        const float4 d = STORED_VALUE(i, h) - mean;
        squares += d * d;
      }
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
    store_quad(mean, to->moments + group * 2 * outputs + n, outputs - n, 0);
    store_quad(squares, to->moments + (group * 2 + 1) * outputs + n, outputs - n, 0);
    to->moments[(long)to->momentGroups * 2 * outputs + group] = before;
  }
#endif

#pragma unroll
  for (int h = 0; h < RN; h++) {
    const int n = n0 + 4 * (h * COLUMNS + tx);
    const int count = outputs - n;
#if !SPLIT
    const float4 start = load_quad(to->bias + n, to->hasBias ? count : 0, 0);
#endif
#if EPILOGUE && EAFFINE
    const float4 centre = load_quad(to->eaffine + n, count, VY);
    const float4 scale = load_quad(to->eaffine + outputs + n, count, VY);
    const float4 shift = load_quad(to->eaffine + 2 * outputs + n, count, VY);
    float4 sumShift = 0.0f, sumScale = 0.0f;
#endif
#pragma unroll
    for (int i = 0; i < 4 * RM; i++) {
      const int m = m0 + ROW_OF(ty, i);
      if (m < pixels && count > 0) {
        const long pixel = pixel_of(grid, m);
#if SPLIT
        const long first = to->split * (long)grid->images * grid->height * grid->width;
        store_quad(acc[i][h], to->partials + (first + pixel) * outputs + n, count, VY);
#else
        global stored *target = to->y + pixel * to->yStride + n;
        float4 value = acc[i][h] + start;
#if EPILOGUE
        const float4 input = load_stored_quad(to->ex + pixel * to->exStride + n, count, VY);
        EPILOGUE_GRADIENT(value, input, centre, scale, shift, to->ePreSlope, to->ePostSlope, sumShift, sumScale);
#endif
        if (to->accumulate)
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
  const long group = (long)grid->phase * get_num_groups(0) + get_group_id(0);
  for (int i = item; i < 2 * RN * COLUMNS; i += ITEMS) {
    const int part = i / COLUMNS; // of RN for each of the two sums
    float4 sum = 0.0f;
    for (int r = 0; r < ROWS; r++)
      sum += tiles[(part * ROWS + r) * COLUMNS + i % COLUMNS];
    const int n = n0 + 4 * (part % RN * COLUMNS + i % COLUMNS);
    store_quad(sum, to->sums + (group * 2 + part / RN) * outputs + n, outputs - n, VY);
  }
#endif
}
