// Convolution for CPUs: one work-item per work-group, explicit 16-wide registers, no barriers.
//
// A tile of TILE output pixels of one output row is computed against blocks of 16 * NV output channels. The input
// window of the tile is packed once, through the prologue and with zero padding (a padded pixel is 0, not relu(shift)),
// into private memory laid out [kernel row][window column][channel]. For one kernel row the values that a pixel needs
// are then one contiguous run of KW * channels floats, and the inner loop is: load NV weight vectors, broadcast TILE
// input values, TILE * NV fused multiply-adds into registers.
//
// Baked: KH KW SH SW (kernel and stride), LD (channels of the packed window; for KW = 1 at least the channels), TILE,
// NV, TILES (tiles per work-item), PRE/AFFINE/POST (prologue on load) and for the data gradient EPILOGUE with
// EPRE/EAFFINE/EPOST: the prologue through which the forward pass had read, whose gradient is applied on store.

#ifndef KH
#define KH 1
#define KW 1
#endif
#ifndef SH
#define SH 1
#define SW 1
#endif
#ifndef TILE
#define TILE 12
#endif
#ifndef NV
#define NV 2
#endif
#ifndef TILES
#define TILES 1
#endif
#ifndef INPUTS
#define INPUTS 4
#endif
#define NB (16 * NV)
#define WINDOW ((TILE - 1) * SW + KW)
// Steps of the summed index between requests for memory.
#define PREFETCH_STEP 32

// Filters to panels [block of NB outputs][kernel row][kernel column][input channel][NB], zero beyond the last output
// channel. With `transposed`, the filter of the data gradient: input and output channels exchanged, taps mirrored.
kernel void pack_filter(global const float *w, int wOffset, int kh, int kw, int inputs, int outputs, int transposed,
                        int nb, global float *packed) {
  const int ks = transposed ? outputs : inputs; // channels summed over
  const int ns = transposed ? inputs : outputs; // channels produced
  const int k = get_global_id(0);               // (row, column, summed channel)
  const int block = get_global_id(1);
  const int c = k % ks;
  const int tap = k / ks;
  const int source = transposed ? kh * kw - 1 - tap : tap;
  global float *target = packed + ((long)block * kh * kw * ks + k) * nb;
  for (int j = 0; j < nb; j++) {
    const int n = block * nb + j;
    float v = 0.0f;
    if (n < ns)
      v = transposed ? w[wOffset + ((long)source * inputs + n) * outputs + c]
                     : w[wOffset + ((long)source * inputs + c) * outputs + n];
    target[j] = v;
  }
}

// y[n, oh, ow, :] (+)= bias + sum over taps of prologue(x) * filter.
// Work-items: (groups of TILES tiles along a row, output rows, images).
kernel WIDE void conv_forward(global const float *x, int xOffset, int xStride, int height, int width, int channels,
                              global const float *affine, int affineOffset, float preSlope, float postSlope,
                              global const float *packed, global float *y, int yOffset, int yStride, int outHeight,
                              int outWidth, int outChannels, int padTop, int padLeft, int accumulate, int streaming,
                              global const float *bias, int biasOffset, int hasBias
#if EPILOGUE
                              ,
                              global const float *ex, int exOffset, int exStride, global const float *eaffine,
                              int eaffineOffset, float ePreSlope, float ePostSlope, global float *sums
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
  for (int n0 = 0; n0 < outChannels; n0 += NB) {
    global const float *panel = packed + (long)n0 * KH * run;
#if EPILOGUE && EAFFINE
    float sumsShift[NB] LINES, sumsScale[NB] LINES;
#endif
    for (int t = 0; t < tiles; t++) {
      float16 acc[TILE][NV];
#pragma unroll
      for (int p = 0; p < TILE; p++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          acc[p][v] = 0.0f;
      const int pixels = min(TILE, outWidth - ow0 - t * TILE);
      const int shares = KH * ((run + PREFETCH_STEP - 1) / PREFETCH_STEP);
      int share = 0;
      for (int kh = 0; kh < KH; kh++) {
        const float *a = window + (t * KH + kh) * WINDOW * LD;
        global const float *b = panel + (long)kh * run * NB;
        for (int k0 = 0; k0 < run; k0 += PREFETCH_STEP, share++) {
          // While these products are computed: what the epilogue reads, and the next work-item's pixels.
          const long pixel = firstPixel + t * TILE;
#if EPILOGUE
          prefetch_pixels(ex + exOffset + pixel * exStride + n0, exStride, pixels, NB, share, shares);
#endif
          if (accumulate)
            prefetch_pixels(y + yOffset + pixel * yStride + n0, yStride, pixels, NB, share, shares);
          if (KW == 1 && KH == 1)
            prefetch_pixels(x + xOffset + (((long)n * height + oh) * width + ow0 + TILE * TILES) * xStride, xStride,
                            min(TILE * TILES, width - ow0 - TILE * TILES), channels,
                            (n0 / NB * TILES + t) * shares + share, (outChannels + NB - 1) / NB * TILES * shares);
          const int end = min(k0 + PREFETCH_STEP, run);
#pragma unroll 2
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

      // Through memory, as the compiler would otherwise write all that follows once for every register.
      float results[TILE * NB] LINES;
#pragma unroll
      for (int p = 0; p < TILE; p++)
#pragma unroll
        for (int v = 0; v < NV; v++)
          vstore16(acc[p][v], p * NV + v, results);
      for (int v = 0; v < NV; v++) {
        const int c = n0 + v * 16;
        const int lanes = outChannels - c;
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
        for (int p = 0; p < pixels; p++) {
          const long pixel = firstPixel + t * TILE + p;
          global float *target = y + yOffset + pixel * yStride + c;
          float16 value = vload16(p * NV + v, results) + start;
#if EPILOGUE
          const float16 input = load_lanes(ex + exOffset + pixel * exStride + c, lanes);
          EPILOGUE_GRADIENT(value, input, centre, scale, shift, ePreSlope, ePostSlope, sumShift, sumScale);
#endif
          if (accumulate)
            value += load_lanes(target, lanes);
          if (streaming)
            STREAM(value, target);
          else
            store_lanes(value, target, lanes);
        }
#if EPILOGUE && EAFFINE
        vstore16(t == 0 ? sumShift : sumShift + vload16(v, sumsShift), v, sumsShift);
        vstore16(t == 0 ? sumScale : sumScale + vload16(v, sumsScale), v, sumsScale);
#endif
      }
    }
#if EPILOGUE && EAFFINE
    const long group = ((long)n * get_global_size(1) + oh) * get_global_size(0) + get_global_id(0);
    for (int v = 0; v < NV && n0 + v * 16 < outChannels; v++) {
      const int c = n0 + v * 16;
      store_lanes(vload16(v, sumsShift), sums + group * 2 * outChannels + c, outChannels - c);
      store_lanes(vload16(v, sumsScale), sums + (group * 2 + 1) * outChannels + c, outChannels - c);
    }
#endif
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Filter gradient: dw[kh, kw, ci, co] = sum over pixels of prologue(x) * dy.
//
// A work-item takes every `splits`-th unit of unitRows output rows by unitColumns output columns of one image, packs
// the input window of the unit for the channels from `firstChannel` on (at most LD of them), and adds outer products
// into its own partial gradient: blocks of KB consecutive floats of a run by NB output channels are held in registers
// over all pixels of the unit. `sum_partials` adds the splits in order.
//
// The unit's dy is packed for each block of output channels, so that the inner loop reads it and the window from the
// first-level cache whatever their strides in memory.
//
// Baked besides the above: KB, CAPACITY (floats of the window) and PIXELS (most pixels of a unit). For KW > 1, LD
// equals the channels. For KW = 1 a work-item takes `itemChannels` of them, at most LD.
#ifdef KB

kernel WIDE void conv_filter_gradient(global const float *x, int xOffset, int xStride, int height, int width,
                                      int channels, global const float *affine, int affineOffset, float preSlope,
                                      float postSlope, global const float *dy, int dyOffset, int dyStride,
                                      int outHeight, int outWidth, int outChannels, int padTop, int padLeft, int images,
                                      int unitRows, int unitColumns, int itemChannels, int splits,
                                      global float *partials) {
  const int split = get_global_id(0);
  const int firstChannel = get_global_id(1) * itemChannels;
  const int blockChannels = min(itemChannels, channels - firstChannel);
  const int rowGroups = (outHeight + unitRows - 1) / unitRows;
  const int columnGroups = (outWidth + unitColumns - 1) / unitColumns;
  const int units = images * rowGroups * columnGroups;
  const int run = KW == 1 ? blockChannels : KW * LD;
  global float *partial = partials + (long)split * KH * KW * channels * outChannels;

  // Reads of the last block of a run may go up to KB floats beyond it; their products are not stored.
  float window[CAPACITY + 16] LINES;
  float panel[PIXELS * NB] LINES;
  const int windowStride = ((unitColumns - 1) * SW + KW) * LD;
  for (int unit = split, first = 1; unit < units; unit += splits, first = 0) {
    const int column = (unit % columnGroups) * unitColumns;
    const int row = (unit / columnGroups) % rowGroups * unitRows;
    const int n = unit / columnGroups / rowGroups;
    const int rows = min(unitRows, outHeight - row);
    const int columns = min(unitColumns, outWidth - column);
    const int windowRows = (rows - 1) * SH + KH;
    const int windowColumns = (columns - 1) * SW + KW;
    pack_unit(window, windowStride, windowRows, windowColumns, x + xOffset + firstChannel, n, xStride, height, width,
              row * SH - padTop, column * SW - padLeft, blockChannels, channels, affine + affineOffset + firstChannel,
              preSlope, postSlope);

    const int next = min(unit + splits, units - 1);
    const int nextColumn = (next % columnGroups) * unitColumns;
    const int nextRow = (next / columnGroups) % rowGroups * unitRows;
    const int nextImage = next / columnGroups / rowGroups;
    const int blocks = (run + KB - 1) / KB;
    const int parts = (outChannels + NB - 1) / NB * KH * blocks;

    global const float *dyUnit = dy + dyOffset + (((long)n * outHeight + row) * outWidth + column) * dyStride;
    for (int n0 = 0; n0 < outChannels; n0 += NB) {
      const int lanes = outChannels - n0;
      for (int r = 0; r < rows; r++)
        for (int p = 0; p < columns; p++) {
          global const float *d = dyUnit + ((long)r * outWidth + p) * dyStride + n0;
#pragma unroll
          for (int v = 0; v < NV; v++)
            vstore16(lanes > v * 16 ? load_lanes(d + v * 16, lanes - v * 16) : (float16)(0.0f), v,
                     panel + (r * columns + p) * NB);
        }
      for (int kh = 0; kh < KH; kh++)
        for (int k0 = 0; k0 < run; k0 += KB) {
          // While this block computes: a share of the next unit.
          const int part = (n0 / NB * KH + kh) * blocks + k0 / KB;
          prefetch_window(x + xOffset + firstChannel + (long)nextImage * height * width * xStride, xStride, height,
                          width, nextRow * SH - padTop, nextColumn * SW - padLeft, windowRows, windowColumns,
                          blockChannels, part, parts);
          prefetch_window(dy + dyOffset + (long)nextImage * outHeight * outWidth * dyStride, dyStride, outHeight,
                          outWidth, nextRow, nextColumn, rows, columns, outChannels, part, parts);
          float16 acc[KB][NV];
#pragma unroll
          for (int k = 0; k < KB; k++)
#pragma unroll
            for (int v = 0; v < NV; v++)
              acc[k][v] = 0.0f;
          for (int r = 0; r < rows; r++) {
            const float *a = window + (r * SH + kh) * windowStride + k0;
            const float *d = panel + r * columns * NB;
            for (int p = 0; p < columns; p++) {
              float16 g[NV];
#pragma unroll
              for (int v = 0; v < NV; v++)
                g[v] = vload16(v, d + p * NB);
#pragma unroll
              for (int k = 0; k < KB; k++)
#pragma unroll
                for (int v = 0; v < NV; v++)
                  acc[k][v] = fma((float16)(a[p * SW * LD + k]), g[v], acc[k][v]);
            }
          }
          float results[KB * NB] LINES;
#pragma unroll
          for (int k = 0; k < KB; k++)
#pragma unroll
            for (int v = 0; v < NV; v++)
              vstore16(acc[k][v], k * NV + v, results);
          for (int k = 0; k < min(KB, run - k0); k++) {
            // Row of dw: (kh, kw, channel) with the run's index split for KW = 1 by channel block.
            const int rowIndex = KW == 1 ? kh * channels + firstChannel + k0 + k : kh * run + k0 + k;
            for (int v = 0; v < NV && lanes > v * 16; v++) {
              global float *target = partial + (long)rowIndex * outChannels + n0 + v * 16;
              const float16 value = vload16(k * NV + v, results);
              store_lanes(first ? value : value + load_lanes(target, lanes - v * 16), target, lanes - v * 16);
            }
          }
        }
    }
  }
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Data gradient for any stride, gathered: g[n, ih, iw, ci] = sum over taps that reach it, and output channels, of
// dy * filter. Sixteen output channels at a time, for blocks of COLUMNS columns that lie a stride apart and so meet the
// same taps; meant for few input channels, as in a net's first convolution.
// Work-items: (groups of COLUMNS * sw columns, input rows, images).
#define COLUMNS 4
kernel WIDE void conv_input_gradient_gather(global const float *dy, int dyOffset, int dyStride, int outHeight,
                                            int outWidth, int outChannels, global const float *w, int wOffset, int kh,
                                            int kw, int sh, int sw, int padTop, int padLeft, int height, int width,
                                            int channels, global float *g, int gOffset, int gStride, int accumulate) {
  const int ih = get_global_id(1);
  const int n = get_global_id(2);
  for (int phase = 0; phase < sw; phase++) {
    const int iw = get_global_id(0) * COLUMNS * sw + phase;
    for (int c = 0; c < channels; c += INPUTS) {
      float16 acc[COLUMNS][INPUTS];
      float rest[COLUMNS][INPUTS];
#pragma unroll
      for (int p = 0; p < COLUMNS; p++)
#pragma unroll
        for (int b = 0; b < INPUTS; b++) {
          acc[p][b] = 0.0f;
          rest[p][b] = 0.0f;
        }
      for (int i = (ih + padTop) % sh; i < kh && i <= ih + padTop; i += sh) {
        const int oh = (ih + padTop - i) / sh;
        if (oh >= outHeight)
          continue;
        for (int j = (iw + padLeft) % sw; j < kw && j <= iw + padLeft + (COLUMNS - 1) * sw; j += sw) {
          // Column p meets tap j at output column ow + p.
          const int ow = (iw + padLeft - j) / sw;
          global const float *d = dy + dyOffset + (((long)n * outHeight + oh) * outWidth + ow) * dyStride;
          global const float *f = w + wOffset + ((long)(i * kw + j) * channels + c) * outChannels;
          int o = 0;
          for (; o + 16 <= outChannels; o += 16) {
            float16 weights[INPUTS];
#pragma unroll
            for (int b = 0; b < INPUTS; b++)
              weights[b] = c + b < channels ? vload16(0, f + b * outChannels + o) : (float16)(0.0f);
#pragma unroll
            for (int p = 0; p < COLUMNS; p++)
              if (ow + p >= 0 && ow + p < outWidth) {
                const float16 v = vload16(0, d + (long)p * dyStride + o);
#pragma unroll
                for (int b = 0; b < INPUTS; b++)
                  acc[p][b] = fma(v, weights[b], acc[p][b]);
              }
          }
          for (; o < outChannels; o++)
            for (int p = 0; p < COLUMNS; p++)
              if (ow + p >= 0 && ow + p < outWidth)
                for (int b = 0; b < INPUTS; b++)
                  if (c + b < channels)
                    rest[p][b] += d[(long)p * dyStride + o] * f[b * outChannels + o];
        }
      }
#pragma unroll
      for (int p = 0; p < COLUMNS; p++)
#pragma unroll
        for (int b = 0; b < INPUTS; b++)
          if (iw + p * sw < width && c + b < channels) {
            const float8 e = acc[p][b].lo + acc[p][b].hi;
            const float4 q = e.lo + e.hi;
            const float v = rest[p][b] + ((q.x + q.y) + (q.z + q.w));
            global float *target = g + gOffset + (((long)n * height + ih) * width + iw + p * sw) * gStride + c + b;
            *target = COMBINE(accumulate, *target, v);
          }
    }
  }
}
