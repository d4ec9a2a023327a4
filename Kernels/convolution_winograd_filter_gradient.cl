// Filter gradient of a 3x3 convolution of stride 1 for CPUs; the scheme and what is baked are in winograd.cl. Baked
// besides: KB (channels of a block in registers, which divides CHANNELS). CHANNELS input channels are transformed at a
// time, few, so that all 16 positions of a group's tiles fit about a first-level cache.

// A dy At of `count` tiles from `first` on, to [position][tile][NB]; beyond the image's edge dy is zero.
inline void transform_gradient(float *target, global const stored *dy, int dyStride, int outHeight, int outWidth,
                               int tilesDown, int tilesAcross, int first, int count) {
  Tile tile = tile_at(first, tilesDown, tilesAcross);
  for (int t = 0; t < count; t++, tile = next_tile(tile, tilesDown, tilesAcross)) {
    const int oh = tile.row * 2;
    const int ow = tile.column * 2;
    const int right = ow + 1 < outWidth;
    const int below = oh + 1 < outHeight;
    global const stored *d = dy + ((tile.image * outHeight + oh) * outWidth + ow) * dyStride;
#pragma unroll
    for (int v = 0; v < NV; v++) {
      global const stored *e = d + v * 16;
      const float16 d00 = LOAD_AS(STORE, 16, e);
      const float16 d01 = right ? LOAD_AS(STORE, 16, e + dyStride) : (float16)(0.0f);
      const float16 d10 = below ? LOAD_AS(STORE, 16, e + (long)outWidth * dyStride) : (float16)(0.0f);
      const float16 d11 = right && below ? LOAD_AS(STORE, 16, e + (long)(outWidth + 1) * dyStride) : (float16)(0.0f);
      const float16 rows[4][2] = {{d00, d01}, {d00 + d10, d01 + d11}, {d00 - d10, d01 - d11}, {-d10, -d11}};
      float *g = target + t * NB + v * 16;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        store16(rows[i][0], 0, g + (i * 4 + 0) * OUTPUT_STRIDE);
        store16(rows[i][0] + rows[i][1], 0, g + (i * 4 + 1) * OUTPUT_STRIDE);
        store16(rows[i][0] - rows[i][1], 0, g + (i * 4 + 2) * OUTPUT_STRIDE);
        store16(-rows[i][1], 0, g + (i * 4 + 3) * OUTPUT_STRIDE);
      }
    }
  }
}

// partials[split][position][input channel][output] = sum over the split's tiles of (Bt d B) * (A dy At). A split takes
// every `splits`-th group of TILES tiles. Work-items: (splits, blocks of itemChannels input channels, a multiple of
// CHANNELS).
kernel WIDE void winograd_filter_gradient(global const stored *x, int xOffset, int xStride, int height, int width,
                                          int channels, global const float *affine, int affineOffset, float preSlope,
                                          float postSlope, global const stored *dy, int dyOffset, int dyStride,
                                          int images, int outHeight, int outWidth, int outChannels, int padTop,
                                          int padLeft, int itemChannels, int splits, global float *partials) {
  const int tilesAcross = (outWidth + 1) / 2;
  const int tilesDown = (outHeight + 1) / 2;
  const int tiles = images * tilesDown * tilesAcross;
  const int split = get_global_id(0);
  const int firstChannel = get_global_id(1) * itemChannels;
  const int endChannel = min(firstChannel + itemChannels, channels);
  global float *partial = partials + (long)split * 16 * channels * outChannels;

  float input[16 * INPUT_STRIDE] LINES;
  float gradient[16 * OUTPUT_STRIDE] LINES;
  for (int first = split * TILES, fresh = 1; first < tiles; first += splits * TILES, fresh = 0) {
    const int count = min(TILES, tiles - first);
    const int next = first + splits * TILES;
    const int nextCount = clamp(tiles - next, 0, TILES);
    const int shares = 16 * ((endChannel - firstChannel + KB - 1) / KB);
    TileWalk nextInput =
        begin_tile_walk(x + xOffset + firstChannel, xStride, height, width, 2 - padTop, 2 - padLeft, tilesDown,
                        tilesAcross, next, nextCount, endChannel - firstChannel, outChannels / NB * shares);
    for (int n0 = 0; n0 < outChannels; n0 += NB) {
      TileWalk nextGradient = begin_tile_walk(dy + dyOffset + n0, dyStride, outHeight, outWidth, 0, 0, tilesDown,
                                              tilesAcross, next, nextCount, NB, shares);
      transform_gradient(gradient, dy + dyOffset + n0, dyStride, outHeight, outWidth, tilesDown, tilesAcross, first,
                         count);
      for (int c0 = firstChannel; c0 < endChannel; c0 += CHANNELS) {
        const int blockChannels = min(CHANNELS, endChannel - c0);
        transform_input(input, x + xOffset + c0, xStride, height, width, blockChannels, affine + affineOffset + c0,
                        channels, preSlope, postSlope, padTop, padLeft, tilesDown, tilesAcross, first, count);
        for (int position = 0; position < 16; position++)
          for (int k0 = 0; k0 < blockChannels; k0 += KB) {
            // While this block computes: a share of the next group.
            walk_tiles(&nextGradient);
            walk_tiles(&nextInput);
            const float *a = input + position * INPUT_STRIDE + k0;
            const float *b = gradient + position * OUTPUT_STRIDE;
            float16 acc[KB][NV];
#pragma unroll
            for (int k = 0; k < KB; k++)
#pragma unroll
              for (int v = 0; v < NV; v++)
                acc[k][v] = 0.0f;
            for (int t = 0; t < count; t++) {
              float16 g[NV];
#pragma unroll
              for (int v = 0; v < NV; v++)
                g[v] = vload16(v, b + t * NB);
#pragma unroll
              for (int k = 0; k < KB; k++)
#pragma unroll
                for (int v = 0; v < NV; v++)
                  acc[k][v] = fma((float16)(a[t * TILE_STRIDE + k]), g[v], acc[k][v]);
            }
#pragma unroll
            for (int k = 0; k < KB; k++)
#pragma unroll
              for (int v = 0; v < NV; v++) {
                global float *target = partial + ((long)position * channels + c0 + k0 + k) * outChannels + n0 + v * 16;
                store16(fresh ? acc[k][v] : acc[k][v] + vload16(0, target), 0, target);
              }
          }
      }
    }
  }
}
