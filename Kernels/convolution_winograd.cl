// 3x3 convolution of stride 1 for CPUs by Winograd's minimal filtering F(2x2, 3x3): 16 products for 4 outputs instead
// of 36. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
//
// The output is cut into tiles of 2x2 pixels, numbered along rows, columns and images; an input tile has 4x4 pixels.
// With d an input tile, g a filter, y and dy an output tile and its gradient, and all of them seen per channel:
//
//   forward           y  = At [sum over inputs of (G g Gt) * (Bt d B)] A
//   filter gradient   dg = Gt [sum over tiles of (Bt d B) * (A dy At)] G
//
//   Bt = 1  0 -1  0     G = 1    0    0     At = 1  1  1  0
//        0  1  1  0         1/2  1/2  1/2        0  1 -1 -1
//        0 -1  1  0         1/2 -1/2  1/2
//        0  1  0 -1         0    0    1
//
// The products are 16 matrix products, one for each position in the transformed tile. The data gradient is the forward
// pass over dy with the filter mirrored. Channels and outputs are multiples of 16.
//
// Baked: NV (vectors of outputs in registers: outputs are a multiple of 16 * NV), CHANNELS (of the transformed input),
// TILES (tiles of a work-item), PRE/AFFINE/POST (prologue on load), EPILOGUE with EPRE/EAFFINE/EPOST as in
// convolution_vector.cl, and KB for the filter gradient.

#ifndef NV
#define NV 2
#endif
#ifndef CHANNELS
#define CHANNELS 16
#endif
#ifndef TILES
#define TILES 12
#endif
#define NB (16 * NV)
// Steps of the summed index between requests for memory.
#define PREFETCH_STEP 32
// Distances in floats between tiles and between positions: odd numbers of cache lines, so that what is used together
// does not compete for the same few lines of the first-level cache.
#define ODD_LINES(floats) (((floats) / 16 | 1) * 16)
#define TILE_STRIDE ODD_LINES(CHANNELS)
#define INPUT_STRIDE ODD_LINES(TILES *TILE_STRIDE)
#define OUTPUT_STRIDE ODD_LINES(TILES *NB)

// Where a tile lies.
typedef struct {
  int row, column; // in tiles
  long image;
} Tile;

inline Tile tile_at(int index, int tilesDown, int tilesAcross) {
  Tile tile;
  tile.column = index % tilesAcross;
  tile.row = index / tilesAcross % tilesDown;
  tile.image = index / tilesAcross / tilesDown;
  return tile;
}

inline Tile next_tile(Tile tile, int tilesDown, int tilesAcross) {
  if (++tile.column == tilesAcross) {
    tile.column = 0;
    if (++tile.row == tilesDown) {
      tile.row = 0;
      tile.image++;
    }
  }
  return tile;
}

// One column of an input tile from row `ih` on, through the prologue, zero outside the image: Bt times it.
inline void transform_column(float16 result[4], global const float *image, int stride, int height, int width, int ih,
                             int iw, float16 centre, float16 scale, float16 shift, float preSlope, float postSlope) {
  float16 d[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    d[i] = 0.0f;
    if (ih + i >= 0 && ih + i < height && iw >= 0 && iw < width)
      d[i] = APPLY_PROLOGUE(vload16(0, image + ((long)(ih + i) * width + iw) * stride), centre, scale, shift, preSlope,
                            postSlope);
  }
  result[0] = d[0] - d[2];
  result[1] = d[1] + d[2];
  result[2] = d[2] - d[1];
  result[3] = d[1] - d[3];
}

// Bt d B of `count` tiles from `first` on, to [position][tile][channel]. Neighbouring tiles share two columns.
inline void transform_input(float *target, global const float *x, int xStride, int height, int width, int channels,
                            global const float *affine, int affineStride, float preSlope, float postSlope, int padTop,
                            int padLeft, int tilesDown, int tilesAcross, int first, int count) {
  for (int c = 0; c < channels; c += 16) {
#if AFFINE
    const float16 centre = vload16(0, affine + c);
    const float16 scale = vload16(0, affine + affineStride + c);
    const float16 shift = vload16(0, affine + 2 * affineStride + c);
#else
    const float16 centre = 0.0f, scale = 1.0f, shift = 0.0f;
#endif
    Tile tile = tile_at(first, tilesDown, tilesAcross);
    float16 column[4][4];
    for (int t = 0; t < count; t++, tile = next_tile(tile, tilesDown, tilesAcross)) {
      global const float *image = x + tile.image * height * width * xStride + c;
      const int ih = tile.row * 2 - padTop;
      const int iw = tile.column * 2 - padLeft;
      if (t == 0 || tile.column == 0) {
        transform_column(column[0], image, xStride, height, width, ih, iw, centre, scale, shift, preSlope, postSlope);
        transform_column(column[1], image, xStride, height, width, ih, iw + 1, centre, scale, shift, preSlope,
                         postSlope);
      }
      transform_column(column[2], image, xStride, height, width, ih, iw + 2, centre, scale, shift, preSlope, postSlope);
      transform_column(column[3], image, xStride, height, width, ih, iw + 3, centre, scale, shift, preSlope, postSlope);
      float *v = target + t * TILE_STRIDE + c;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        vstore16(column[0][i] - column[2][i], 0, v + (i * 4 + 0) * INPUT_STRIDE);
        vstore16(column[1][i] + column[2][i], 0, v + (i * 4 + 1) * INPUT_STRIDE);
        vstore16(column[2][i] - column[1][i], 0, v + (i * 4 + 2) * INPUT_STRIDE);
        vstore16(column[1][i] - column[3][i], 0, v + (i * 4 + 3) * INPUT_STRIDE);
        column[0][i] = column[2][i];
        column[1][i] = column[3][i];
      }
    }
  }
}

// A share of the pixels of `count` tiles from `first` on that their left neighbours do not have, in small pieces.
inline void prefetch_tiles(global const float *x, int xStride, int height, int width, int channels, int padTop,
                           int padLeft, int tilesDown, int tilesAcross, int first, int count, int share, int shares) {
  const int end = SHARE_BEGIN(count * 4, share + 1, shares);
  for (int i = SHARE_BEGIN(count * 4, share, shares); i < end; i++) {
    const Tile tile = tile_at(first + i / 4, tilesDown, tilesAcross);
    const int ih = tile.row * 2 - padTop + i % 4;
    const int iw = tile.column * 2 - padLeft + 2;
    if (ih >= 0 && ih < height && iw >= 0 && iw + 1 < width)
      for (int c = 0; c < 2 * channels; c += 16)
        PREFETCH(x + ((tile.image * height + ih) * width + iw + (c >= channels)) * xStride + c % channels);
  }
}

// A share of the output pixels of `count` tiles from `first` on, in small pieces.
inline void prefetch_output(global const float *y, int yStride, int outHeight, int outWidth, int channels,
                            int tilesDown, int tilesAcross, int first, int count, int share, int shares) {
  const int end = SHARE_BEGIN(count * 2, share + 1, shares);
  for (int i = SHARE_BEGIN(count * 2, share, shares); i < end; i++) {
    const Tile tile = tile_at(first + i / 2, tilesDown, tilesAcross);
    const int oh = tile.row * 2 + i % 2;
    const int ow = tile.column * 2;
    if (oh < outHeight)
      for (int j = 0; j < 2; j++)
        for (int c = 0; c < channels; c += 16)
          PREFETCH(y + ((tile.image * outHeight + oh) * outWidth + min(ow + j, outWidth - 1)) * yStride + c);
  }
}

// G g Gt to panels [block of NB outputs][position][input channel][NB]. With `transposed`, the filter of the data
// gradient: input and output channels exchanged, taps mirrored. Work-items: (summed channel, vector of produced ones).
kernel WIDE void winograd_pack_filter(global const float *w, int wOffset, int inputs, int outputs, int transposed,
                                      global float *packed) {
  const int ks = transposed ? outputs : inputs; // channels summed over
  const int k = get_global_id(0);
  const int n = get_global_id(1) * 16;
  float16 g[3][3];
#pragma unroll
  for (int i = 0; i < 3; i++)
#pragma unroll
    for (int j = 0; j < 3; j++)
      if (transposed) {
        float lanes[16];
        for (int l = 0; l < 16; l++)
          lanes[l] = w[wOffset + ((long)(8 - i * 3 - j) * inputs + n + l) * outputs + k];
        g[i][j] = vload16(0, lanes);
      } else {
        g[i][j] = vload16(0, w + wOffset + ((long)(i * 3 + j) * inputs + k) * outputs + n);
      }
  float16 rows[4][3];
#pragma unroll
  for (int j = 0; j < 3; j++) {
    rows[0][j] = g[0][j];
    rows[1][j] = 0.5f * ((g[0][j] + g[2][j]) + g[1][j]);
    rows[2][j] = 0.5f * ((g[0][j] + g[2][j]) - g[1][j]);
    rows[3][j] = g[2][j];
  }
  global float *target = packed + ((long)(n / NB) * 16 * ks + k) * NB + n % NB;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float16 u[4] = {rows[i][0], 0.5f * ((rows[i][0] + rows[i][2]) + rows[i][1]),
                          0.5f * ((rows[i][0] + rows[i][2]) - rows[i][1]), rows[i][2]};
#pragma unroll
    for (int j = 0; j < 4; j++)
      vstore16(u[j], 0, target + (long)(i * 4 + j) * ks * NB);
  }
}

// y[n, oh, ow, :] (+)= bias + sum over taps of prologue(x) * filter. Work-items: groups of TILES tiles.
kernel WIDE void winograd_forward(global const float *x, int xOffset, int xStride, int height, int width,
                                  global const float *affine, int affineOffset, float preSlope, float postSlope,
                                  global const float *packed, global float *y, int yOffset, int yStride, int images,
                                  int outHeight, int outWidth, int outChannels, int padTop, int padLeft, int accumulate,
                                  int streaming, global const float *bias, int biasOffset, int hasBias
#if EPILOGUE
                                  ,
                                  global const float *ex, int exOffset, int exStride, global const float *eaffine,
                                  int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
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

  for (int n0 = 0; n0 < outChannels; n0 += NB) {
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
        const int steps = (CHANNELS + PREFETCH_STEP - 1) / PREFETCH_STEP;
        const int share = position * steps + k0 / PREFETCH_STEP;
#if EPILOGUE
        prefetch_output(ex + exOffset + n0, exStride, outHeight, outWidth, NB, tilesDown, tilesAcross, first, count,
                        share, 16 * steps);
#endif
        if (accumulate)
          prefetch_output(y + yOffset + n0, yStride, outHeight, outWidth, NB, tilesDown, tilesAcross, first, count,
                          share, 16 * steps);
        prefetch_tiles(x + xOffset, xStride, height, width, CHANNELS, padTop, padLeft, tilesDown, tilesAcross,
                       first + TILES, next, n0 / NB * 16 * steps + share, outChannels / NB * 16 * steps);
#pragma unroll 2
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
          vstore16(acc[t][v], v, output + position * OUTPUT_STRIDE + t * NB);
    }

#pragma unroll
    for (int v = 0; v < NV; v++) {
      const int c = n0 + v * 16;
      const float16 start = hasBias ? vload16(0, bias + biasOffset + c) : (float16)(0.0f);
#if EPILOGUE
      float16 sumShift = 0.0f, sumScale = 0.0f;
#if EAFFINE
      const float16 centre = vload16(0, eaffine + eaffineOffset + c);
      const float16 scale = vload16(0, eaffine + eaffineOffset + outChannels + c);
      const float16 shift = vload16(0, eaffine + eaffineOffset + 2 * outChannels + c);
#endif
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
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) {
            const int oh = tile.row * 2 + i;
            const int ow = tile.column * 2 + j;
            if (oh < outHeight && ow < outWidth) {
              const long pixel = (tile.image * outHeight + oh) * outWidth + ow;
              global float *target = y + yOffset + pixel * yStride + c;
              float16 value =
                  start + (j == 0 ? rows[i][0] + rows[i][1] + rows[i][2] : rows[i][1] - rows[i][2] - rows[i][3]);
#if EPILOGUE
              const float16 given = vload16(0, ex + exOffset + pixel * exStride + c);
              EPILOGUE_GRADIENT(value, given, centre, scale, shift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
              if (accumulate)
                value += vload16(0, target);
              if (streaming)
                STREAM(value, target);
              else
                vstore16(value, 0, target);
            }
          }
      }
#if EPILOGUE && EAFFINE
      vstore16(sumShift, 0, sums + (long)group * 2 * outChannels + c);
      vstore16(sumScale, 0, sums + ((long)group * 2 + 1) * outChannels + c);
#endif
    }
  }
}

#ifdef KB

// A dy At of `count` tiles from `first` on, to [position][tile][NB]; beyond the image's edge dy is zero.
inline void transform_gradient(float *target, global const float *dy, int dyStride, int outHeight, int outWidth,
                               int tilesDown, int tilesAcross, int first, int count) {
  Tile tile = tile_at(first, tilesDown, tilesAcross);
  for (int t = 0; t < count; t++, tile = next_tile(tile, tilesDown, tilesAcross)) {
    const int oh = tile.row * 2;
    const int ow = tile.column * 2;
    const int right = ow + 1 < outWidth;
    const int below = oh + 1 < outHeight;
    global const float *d = dy + ((tile.image * outHeight + oh) * outWidth + ow) * dyStride;
#pragma unroll
    for (int v = 0; v < NV; v++) {
      const float16 d00 = vload16(v, d);
      const float16 d01 = right ? vload16(v, d + dyStride) : (float16)(0.0f);
      const float16 d10 = below ? vload16(v, d + (long)outWidth * dyStride) : (float16)(0.0f);
      const float16 d11 = right && below ? vload16(v, d + (long)(outWidth + 1) * dyStride) : (float16)(0.0f);
      const float16 rows[4][2] = {{d00, d01}, {d00 + d10, d01 + d11}, {d00 - d10, d01 - d11}, {-d10, -d11}};
      float *g = target + t * NB + v * 16;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        vstore16(rows[i][0], 0, g + (i * 4 + 0) * OUTPUT_STRIDE);
        vstore16(rows[i][0] + rows[i][1], 0, g + (i * 4 + 1) * OUTPUT_STRIDE);
        vstore16(rows[i][0] - rows[i][1], 0, g + (i * 4 + 2) * OUTPUT_STRIDE);
        vstore16(-rows[i][1], 0, g + (i * 4 + 3) * OUTPUT_STRIDE);
      }
    }
  }
}

// partials[split][position][input channel][output] = sum over the split's tiles of (Bt d B) * (A dy At). A split takes
// every `splits`-th group of TILES tiles. Work-items: (splits, blocks of CHANNELS input channels).
kernel WIDE void winograd_filter_gradient(global const float *x, int xOffset, int xStride, int height, int width,
                                          int channels, global const float *affine, int affineOffset, float preSlope,
                                          float postSlope, global const float *dy, int dyOffset, int dyStride,
                                          int images, int outHeight, int outWidth, int outChannels, int padTop,
                                          int padLeft, int splits, global float *partials) {
  const int tilesAcross = (outWidth + 1) / 2;
  const int tilesDown = (outHeight + 1) / 2;
  const int tiles = images * tilesDown * tilesAcross;
  const int split = get_global_id(0);
  const int firstChannel = get_global_id(1) * CHANNELS;
  const int blockChannels = min(CHANNELS, channels - firstChannel);
  global float *partial = partials + (long)split * 16 * channels * outChannels;

  float input[16 * INPUT_STRIDE] LINES;
  float gradient[16 * OUTPUT_STRIDE] LINES;
  for (int first = split * TILES, fresh = 1; first < tiles; first += splits * TILES, fresh = 0) {
    const int count = min(TILES, tiles - first);
    const int next = first + splits * TILES;
    const int nextCount = clamp(tiles - next, 0, TILES);
    transform_input(input, x + xOffset + firstChannel, xStride, height, width, blockChannels,
                    affine + affineOffset + firstChannel, channels, preSlope, postSlope, padTop, padLeft, tilesDown,
                    tilesAcross, first, count);
    for (int n0 = 0; n0 < outChannels; n0 += NB) {
      transform_gradient(gradient, dy + dyOffset + n0, dyStride, outHeight, outWidth, tilesDown, tilesAcross, first,
                         count);
      for (int position = 0; position < 16; position++)
        for (int k0 = 0; k0 < blockChannels; k0 += KB) {
          // While this block computes: a share of the next group.
          const int blocks = (blockChannels + KB - 1) / KB;
          const int share = position * blocks + k0 / KB;
          prefetch_output(dy + dyOffset + n0, dyStride, outHeight, outWidth, NB, tilesDown, tilesAcross, next,
                          nextCount, share, 16 * blocks);
          prefetch_tiles(x + xOffset + firstChannel, xStride, height, width, blockChannels, padTop, padLeft, tilesDown,
                         tilesAcross, next, nextCount, n0 / NB * 16 * blocks + share, outChannels / NB * 16 * blocks);
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
              global float *target =
                  partial + ((long)position * channels + firstChannel + k0 + k) * outChannels + n0 + v * 16;
              vstore16(fresh ? acc[k][v] : acc[k][v] + vload16(0, target), 0, target);
            }
        }
    }
  }
}

#endif

// dw (+)= Gt [sum over splits of partials] G, in order and compensated. Work-items: vectors of `filters` = inputs *
// outputs values.
kernel WIDE void winograd_finish_filter_gradient(global const float *partials, int splits, int filters,
                                                 global float *dw, int dwOffset, int accumulate) {
  const int f = get_global_id(0) * 16;
  float16 s[4][4];
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      float16 sum = 0.0f, rest = 0.0f;
      for (int split = 0; split < splits; split++) {
        const float16 term = vload16(0, partials + ((long)split * 16 + i * 4 + j) * filters + f) - rest;
        const float16 next = sum + term;
        rest = (next - sum) - term;
        sum = next;
      }
      s[i][j] = sum;
    }
  float16 rows[3][4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float16 even = 0.5f * (s[1][j] + s[2][j]);
    rows[0][j] = s[0][j] + even;
    rows[1][j] = 0.5f * (s[1][j] - s[2][j]);
    rows[2][j] = even + s[3][j];
  }
#pragma unroll
  for (int i = 0; i < 3; i++) {
    const float16 even = 0.5f * (rows[i][1] + rows[i][2]);
    const float16 g[3] = {rows[i][0] + even, 0.5f * (rows[i][1] - rows[i][2]), even + rows[i][3]};
#pragma unroll
    for (int j = 0; j < 3; j++) {
      global float *target = dw + dwOffset + (long)(i * 3 + j) * filters + f;
      vstore16(COMBINE(accumulate, vload16(0, target), g[j]), 0, target);
    }
  }
}
