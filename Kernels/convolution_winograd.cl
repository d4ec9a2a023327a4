// 3x3 convolution of stride 1 for CPUs; the scheme and what is baked are in winograd.cl. Baked besides: EPILOGUE with
// EPRE/EAFFINE/EPOST, as in convolution_vector.cl; so are `moments`.

// Steps of the summed index between requests for memory.
#define PREFETCH_STEP 32

// y[n, oh, ow, :] (+)= bias + sum over taps of prologue(x) * filter. Work-items: groups of TILES tiles.
kernel WIDE void winograd_forward(global const stored *x, int xOffset, int xStride, int height, int width,
                                  global const float *affine, int affineOffset, float preSlope, float postSlope,
                                  global const float *packed, global stored *y, int yOffset, int yStride, int images,
                                  int outHeight, int outWidth, int outChannels, int padTop, int padLeft, int accumulate,
                                  int streaming, global const float *bias, int biasOffset, int hasBias
#if EPILOGUE
                                  ,
                                  global const stored *ex, int exOffset, int exStride, global const float *eaffine,
                                  int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
#else
                                  ,
                                  global float *moments, int momentGroups
#endif
) {
  const int tilesAcross = (outWidth + 1) / 2;
  const int tilesDown = (outHeight + 1) / 2;
  const int group = get_global_id(0);
  const int first = group * TILES;
  const int tiles = images * tilesDown * tilesAcross;
  const int count = min(TILES, tiles - first);
  const int next = clamp(tiles - first - TILES, 0, TILES);

  float input[16 * INPUT_STRIDE] LINES;
  transform_input(input, x + xOffset, xStride, height, width, CHANNELS, affine + affineOffset, CHANNELS, preSlope,
                  postSlope, padTop, padLeft, tilesDown, tilesAcross, first, count);

  // The pixels of the next work-item's tiles that neither those above nor those to the left have.
  const int shares = 16 * ((CHANNELS + PREFETCH_STEP - 1) / PREFETCH_STEP);
  TileWalk nextInput = begin_tile_walk(x + xOffset, xStride, height, width, 2 - padTop, 2 - padLeft, tilesDown,
                                       tilesAcross, first + TILES, next, CHANNELS, outChannels / NB * shares);

  for (int n0 = 0; n0 < outChannels; n0 += NB) {
#if EPILOGUE
    TileWalk inputs = begin_tile_walk(ex + exOffset + n0, exStride, outHeight, outWidth, 0, 0, tilesDown, tilesAcross,
                                      first, count, NB, shares);
#endif
    TileWalk old = begin_tile_walk(y + yOffset + n0, yStride, outHeight, outWidth, 0, 0, tilesDown, tilesAcross, first,
                                   accumulate ? count : 0, NB, shares);
    // The 16 matrix products. Tiles behind `count` hold nothing; what comes of them is not stored below.
    float output[16 * OUTPUT_STRIDE] LINES;
    for (int position = 0; position < 16; position++) {
      const float *a = input + position * INPUT_STRIDE;
      global const float *b = packed + ((long)n0 * 16 + position * NB) * CHANNELS;
      float16 acc[TILES][NV];
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          acc[t][v] = 0.0f;
      for (int k0 = 0; k0 < CHANNELS; k0 += PREFETCH_STEP) {
        // While these products are computed: what the epilogue reads, and the next work-item's pixels.
#if EPILOGUE
        walk_tiles(&inputs);
#endif
        walk_tiles(&old);
        walk_tiles(&nextInput);
        for (int k = k0; k < min(k0 + PREFETCH_STEP, CHANNELS); k++) {
          float16 weights[NV];
#pragma unroll
          for (int v = 0; v < NV; v++)
            weights[v] = vload16(v, b + k * NB);
#pragma unroll
          for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int v = 0; v < NV; v++)
              acc[t][v] = fma((float16)(a[t * TILE_STRIDE + k]), weights[v], acc[t][v]);
        }
      }
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          store16(acc[t][v], v, output + position * OUTPUT_STRIDE + t * NB);
    }

#pragma unroll
    for (int v = 0; v < NV; v++) {
      const int c = n0 + v * 16;
      const float16 start = hasBias ? vload16(0, bias + biasOffset + c) : (float16)(0.0f);
#if EPILOGUE
      float16 sumShift = 0.0f, sumScale = 0.0f;
      DECLARE_EPILOGUE(eaffine + eaffineOffset, outChannels, c);
#else
      // Sums of deviations from the first tile's mean, and of their squares: not far from the mean of all.
      float16 anchor = 0.0f, deviations = 0.0f, squares = 0.0f;
      int pixels = 0;
#endif
      Tile tile = tile_at(first, tilesDown, tilesAcross);
      for (int t = 0; t < count; t++, tile = next_tile(tile, tilesDown, tilesAcross)) {
        const float *m = output + t * NB + v * 16;
        float16 rows[2][4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const float16 m0 = vload16(0, m + (0 + j) * OUTPUT_STRIDE);
          const float16 m1 = vload16(0, m + (4 + j) * OUTPUT_STRIDE);
          const float16 m2 = vload16(0, m + (8 + j) * OUTPUT_STRIDE);
          const float16 m3 = vload16(0, m + (12 + j) * OUTPUT_STRIDE);
          rows[0][j] = m0 + m1 + m2;
          rows[1][j] = m1 - m2 - m3;
        }
#if !EPILOGUE
        const int inside = min(2, outHeight - tile.row * 2) * min(2, outWidth - tile.column * 2);
        float16 values[4];
        float16 total = 0.0f;
#endif
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) {
            const int oh = tile.row * 2 + i;
            const int ow = tile.column * 2 + j;
            if (oh < outHeight && ow < outWidth) {
              const long pixel = (tile.image * outHeight + oh) * outWidth + ow;
              global stored *target = y + yOffset + pixel * yStride + c;
              float16 value =
                  start + (j == 0 ? rows[i][0] + rows[i][1] + rows[i][2] : rows[i][1] - rows[i][2] - rows[i][3]);
#if EPILOGUE
              const float16 given = LOAD_AS(STORE, 16, ex + exOffset + pixel * exStride + c);
              EPILOGUE_GRADIENT(value, given, ecentre, escale, eshift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
#if !EPILOGUE
              values[i * 2 + j] = value;
              total += value;
#endif
              if (accumulate)
                value += LOAD_AS(STORE, 16, target);
              if (streaming)
                STREAM(value, target);
              else
                STORE_AS(STORE, 16, value, target);
            }
          }
#if !EPILOGUE
        if (momentGroups) {
          if (t == 0)
            anchor = total * (1.0f / (float)inside);
#pragma unroll
          for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
              if (tile.row * 2 + i < outHeight && tile.column * 2 + j < outWidth) {
                const float16 d = ROUND_AS(STORE, 16, values[i * 2 + j]) - anchor;
                deviations += d;
                squares = fma(d, d, squares);
              }
          pixels += inside;
        }
#endif
      }
#if !EPILOGUE
      if (momentGroups) {
        const float16 offset = deviations * (1.0f / (float)pixels);
        store16(anchor + offset, 0, moments + (long)group * 2 * outChannels + c);
        store16(max(squares - deviations * offset, 0.0f), 0, moments + ((long)group * 2 + 1) * outChannels + c);
        moments[(long)momentGroups * 2 * outChannels + group] = pixels;
      }
#endif
#if EPILOGUE && EAFFINE
      store16(sumShift, 0, sums + (long)group * 2 * outChannels + c);
      store16(sumScale, 0, sums + ((long)group * 2 + 1) * outChannels + c);
#endif
    }
  }
}
