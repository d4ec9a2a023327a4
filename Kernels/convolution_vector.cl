// Convolution for CPUs: one work-item per work-group, explicit 16-wide registers, no barriers.
//
// A tile of TILE output pixels of one output row is computed against blocks of 16 * NV output channels. The input
// window of the tile is packed once, through the prologue and with zero padding (a padded pixel is 0, not relu(shift)),
// into private memory laid out [kernel row][window column][channel]. For one kernel row the values that a pixel needs
// are then one contiguous run of KW * channels floats, and the inner loop is: load NV weight vectors, broadcast TILE
// input values, TILE * NV fused multiply-adds into registers.
//
// Baked: KH KW SH SW (kernel and stride), LD (channels of the packed window; for KW = 1 at least the channels), TILE,
// NV, TILES (tiles per work-item), PARTIAL (0 where outputs are a multiple of 16), PRE/AFFINE/POST (prologue on
// load) and for the data gradient EPILOGUE with EPRE/EAFFINE/EPOST: the prologue through which the forward pass had
// read, whose gradient is applied on store.
//
// Without an epilogue, where `momentGroups` is not 0, each work-item leaves mean and summed squared deviations of what
// it stores, rounded as it is stored, as `moments_partial` does for its rows, and behind those of all work-items the
// number of its pixels. Nothing is then added to what is there.

#define NB (16 * NV)
// Outputs from channel c on; of a vector at most 16 are used.
#define OUTPUTS_FROM(c) (PARTIAL || (c) >= outChannels ? outChannels - (c) : 16)
#define WINDOW ((TILE - 1) * SW + KW)
// Steps of the summed index between requests for memory.
#define PREFETCH_STEP 32

// y[n, oh, ow, :] (+)= bias + sum over taps of prologue(x) * filter.
// Work-items: (groups of TILES tiles along a row, output rows, images).
kernel WIDE void conv_forward(global const stored *x, int xOffset, int xStride, int height, int width, int channels,
                              global const float *affine, int affineOffset, float preSlope, float postSlope,
                              global const float *packed, global stored *y, int yOffset, int yStride, int outHeight,
                              int outWidth, int outChannels, int padTop, int padLeft, int accumulate, int streaming,
                              global const float *bias, int biasOffset, int hasBias
#if EPILOGUE
                              ,
                              global const stored *ex, int exOffset, int exStride, global const float *eaffine,
                              int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
#else
                              ,
                              global float *moments, int momentGroups
#endif
) {
  const int oh = get_global_id(1);
  const int n = get_global_id(2);
  const int ow0 = get_global_id(0) * TILE * TILES;
  const int tiles = min(TILES, (outWidth - ow0 + TILE - 1) / TILE);
  const int run = KW == 1 ? channels : KW * LD; // floats per kernel row
  affine += affineOffset;

  float window[TILES * KH * WINDOW * LD] LINES;
  for (int t = 0; t < tiles; t++)
    for (int kh = 0; kh < KH; kh++) {
      const int ih = oh * SH - padTop + kh;
      float *target = window + (t * KH + kh) * WINDOW * LD;
      if (ih < 0 || ih >= height)
        zero_floats(target, WINDOW * LD);
      else
        pack_row(target, x + xOffset + ((long)n * height + ih) * width * xStride, xStride,
                 (ow0 + t * TILE) * SW - padLeft, WINDOW, width, channels, channels, affine, preSlope, postSlope);
    }

  const long firstPixel = ((long)n * outHeight + oh) * outWidth + ow0;
  const int shares = KH * ((run + PREFETCH_STEP - 1) / PREFETCH_STEP);
#if KH * KW == 1
  const int nextPixels = min(TILE * TILES, width - ow0 - TILE * TILES);
  Walk next = begin_walk(x + xOffset + (firstPixel + TILE * TILES) * xStride, xStride, 0, 1, nextPixels, channels,
                         (outChannels + NB - 1) / NB * tiles * shares);
#endif
  for (int n0 = 0; n0 < outChannels; n0 += NB) {
    global const float *panel = packed + (long)n0 * KH * run;
#if EPILOGUE && EAFFINE
    float sumsShift[NB] LINES, sumsScale[NB] LINES;
#elif !EPILOGUE
    float means[NB] LINES, squares[NB] LINES;
#endif
    for (int t = 0; t < tiles; t++) {
      float16 acc[TILE][NV];
#pragma unroll
      for (int p = 0; p < TILE; p++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          acc[p][v] = 0.0f;
      const long pixel0 = firstPixel + t * TILE;
      const int pixels = min(TILE, outWidth - ow0 - t * TILE);
      const int outputs = min(NB, outChannels - n0);
#if EPILOGUE
      Walk inputs = begin_walk(ex + exOffset + pixel0 * exStride + n0, exStride, 0, 1, pixels, outputs, shares);
#endif
      Walk old =
          begin_walk(y + yOffset + pixel0 * yStride + n0, yStride, 0, 1, accumulate ? pixels : 0, outputs, shares);
      for (int kh = 0; kh < KH; kh++) {
        const float *a = window + (t * KH + kh) * WINDOW * LD;
        global const float *b = panel + (long)kh * run * NB;
        for (int k0 = 0; k0 < run; k0 += PREFETCH_STEP) {
          // While these products are computed: what the epilogue reads, and the next work-item's pixels.
#if EPILOGUE
          walk_on(&inputs);
#endif
          walk_on(&old);
#if KH * KW == 1
          walk_on(&next);
#endif
          const int end = min(k0 + PREFETCH_STEP, run);
          for (int k = k0; k < end; k++) {
            float16 weights[NV];
#pragma unroll
            for (int v = 0; v < NV; v++)
              weights[v] = vload16(v, b + k * NB);
#pragma unroll
            for (int p = 0; p < TILE; p++)
#pragma unroll
              for (int v = 0; v < NV; v++)
                acc[p][v] = fma((float16)(a[p * SW * LD + k]), weights[v], acc[p][v]);
          }
        }
      }

      if (pixels == TILE && outputs == NB) {
#pragma unroll
        for (int v = 0; v < NV; v++) {
          const int c = n0 + v * 16;
          global stored *target = y + yOffset + pixel0 * yStride + c;
#if EPILOGUE
          global const stored *input = ex + exOffset + pixel0 * exStride + c;
          float16 sumShift = 0.0f, sumScale = 0.0f;
          DECLARE_EPILOGUE(eaffine + eaffineOffset, outChannels, c);
#pragma unroll
          for (int p = 0; p < TILE; p++) {
            const float16 given = LOAD_AS(STORE, 16, input + (long)p * exStride);
            EPILOGUE_GRADIENT(acc[p][v], given, ecentre, escale, eshift, ePreSlope, ePostSlope, sumShift, sumScale);
          }
#if EAFFINE
          store16(t == 0 ? sumShift : sumShift + vload16(v, sumsShift), v, sumsShift);
          store16(t == 0 ? sumScale : sumScale + vload16(v, sumsScale), v, sumsScale);
#endif
#else
          if (hasBias) {
            const float16 start = vload16(0, bias + biasOffset + c);
#pragma unroll
            for (int p = 0; p < TILE; p++)
              acc[p][v] += start;
          }
          if (momentGroups) {
            float16 total = 0.0f, square = 0.0f;
#pragma unroll
            for (int p = 0; p < TILE; p++) {
              acc[p][v] = ROUND_AS(STORE, 16, acc[p][v]);
              total += acc[p][v];
            }
            const float16 mean = total * (1.0f / TILE);
#pragma unroll
            for (int p = 0; p < TILE; p++) {
              const float16 d = acc[p][v] - mean;
              square = fma(d, d, square);
            }
            join_moments(means, squares, v, t * TILE, mean, square, TILE);
          }
#endif
          if (accumulate)
#pragma unroll
            for (int p = 0; p < TILE; p++)
              acc[p][v] += LOAD_AS(STORE, 16, target + (long)p * yStride);
          if (streaming)
#pragma unroll
            for (int p = 0; p < TILE; p++)
              STREAM(acc[p][v], target + (long)p * yStride);
          else
#pragma unroll
            for (int p = 0; p < TILE; p++)
              STORE_AS(STORE, 16, acc[p][v], target + (long)p * yStride);
        }
        continue;
      }

      // The edges, through memory: the compiler would otherwise write all that follows once for every register.
      float results[TILE * NB] LINES;
#pragma unroll
      for (int p = 0; p < TILE; p++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          store16(acc[p][v], p * NV + v, results);
      for (int v = 0; v < NV; v++) {
        const int c = n0 + v * 16;
        const int lanes = OUTPUTS_FROM(c);
        if (lanes <= 0)
          break;
#if EPILOGUE
        float16 sumShift = 0.0f, sumScale = 0.0f;
#if EAFFINE
        const float16 centre = load_lanes(eaffine + eaffineOffset + c, lanes);
        const float16 scale = load_lanes(eaffine + eaffineOffset + outChannels + c, lanes);
        const float16 shift = load_lanes(eaffine + eaffineOffset + 2 * outChannels + c, lanes);
#endif
#endif
        const float16 start = hasBias ? load_lanes(bias + biasOffset + c, lanes) : (float16)(0.0f);
#if !EPILOGUE
        if (momentGroups) {
          float16 total = 0.0f, square = 0.0f;
          for (int p = 0; p < pixels; p++)
            total += ROUND_AS(STORE, 16, vload16(p * NV + v, results) + start);
          const float16 mean = total / (float)pixels;
          for (int p = 0; p < pixels; p++) {
            const float16 d = ROUND_AS(STORE, 16, vload16(p * NV + v, results) + start) - mean;
            square += d * d;
          }
          join_moments(means, squares, v, t * TILE, mean, square, pixels);
        }
#endif
        for (int p = 0; p < pixels; p++) {
          const long pixel = pixel0 + p;
          global stored *target = y + yOffset + pixel * yStride + c;
          float16 value = vload16(p * NV + v, results) + start;
#if EPILOGUE
          const float16 input = load_stored_lanes(ex + exOffset + pixel * exStride + c, lanes);
          EPILOGUE_GRADIENT(value, input, centre, scale, shift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
          if (accumulate)
            value += load_stored_lanes(target, lanes);
          if (streaming)
            STREAM(value, target);
          else
            store_stored_lanes(value, target, lanes);
        }
#if EPILOGUE && EAFFINE
        store16(t == 0 ? sumShift : sumShift + vload16(v, sumsShift), v, sumsShift);
        store16(t == 0 ? sumScale : sumScale + vload16(v, sumsScale), v, sumsScale);
#endif
      }
    }
    const long group = ((long)n * get_global_size(1) + oh) * get_global_size(0) + get_global_id(0);
#if EPILOGUE && EAFFINE
    for (int v = 0; v < NV && OUTPUTS_FROM(n0 + v * 16) > 0; v++) {
      const int c = n0 + v * 16;
      store_lanes(vload16(v, sumsShift), sums + group * 2 * outChannels + c, OUTPUTS_FROM(c));
      store_lanes(vload16(v, sumsScale), sums + (group * 2 + 1) * outChannels + c, OUTPUTS_FROM(c));
    }
#elif !EPILOGUE
    if (momentGroups) {
      for (int v = 0; v < NV && OUTPUTS_FROM(n0 + v * 16) > 0; v++) {
        const int c = n0 + v * 16;
        store_lanes(vload16(v, means), moments + group * 2 * outChannels + c, OUTPUTS_FROM(c));
        store_lanes(vload16(v, squares), moments + (group * 2 + 1) * outChannels + c, OUTPUTS_FROM(c));
      }
      moments[(long)momentGroups * 2 * outChannels + group] = min(TILE * TILES, outWidth - ow0);
    }
#endif
  }
}
