// Data gradient of a convolution for CPUs, for any stride, gathered: g[n, ih, iw, ci] = sum over taps that reach it,
// and output channels, of dy * filter. Sixteen output channels at a time, for blocks of COLUMNS columns that lie a
// stride apart and so meet the same taps; meant for few input channels, as in a net's first convolution. Baked: INPUTS
// (input channels at a time), COLUMNS. Work-items: (groups of COLUMNS * sw columns, input rows, images).

kernel WIDE void conv_input_gradient_gather(global const stored *dy, int dyOffset, int dyStride, int outHeight,
                                            int outWidth, int outChannels, global const float *w, int wOffset, int kh,
                                            int kw, int sh, int sw, int padTop, int padLeft, int height, int width,
                                            int channels, global stored *g, int gOffset, int gStride, int accumulate) {
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
      // From one tap that meets a pixel to the next the output row or column falls by one.
      const int firstRow = (ih + padTop) % sh;
      const int firstColumn = (iw + padLeft) % sw;
      for (int i = firstRow, oh = (ih + padTop) / sh; i < kh && oh >= 0; i += sh, oh--) {
        if (oh >= outHeight)
          continue;
        // Column p meets tap j at output column ow + p.
        for (int j = firstColumn, ow = (iw + padLeft) / sw; j < kw && ow > -COLUMNS; j += sw, ow--) {
          global const stored *d = dy + dyOffset + (((long)n * outHeight + oh) * outWidth + ow) * dyStride;
          global const float *f = w + wOffset + ((long)(i * kw + j) * channels + c) * outChannels;
          int o = 0;
          if (ow >= 0 && ow + COLUMNS <= outWidth && c + INPUTS <= channels)
            for (; o + 16 <= outChannels; o += 16) {
              float16 weights[INPUTS];
#pragma unroll
              for (int b = 0; b < INPUTS; b++)
                weights[b] = vload16(0, f + b * outChannels + o);
#pragma unroll
              for (int p = 0; p < COLUMNS; p++) {
                const float16 v = LOAD_AS(STORE, 16, d + (long)p * dyStride + o);
#pragma unroll
                for (int b = 0; b < INPUTS; b++)
                  acc[p][b] = fma(v, weights[b], acc[p][b]);
              }
            }
          for (; o + 16 <= outChannels; o += 16) {
            float16 weights[INPUTS];
#pragma unroll
            for (int b = 0; b < INPUTS; b++)
              weights[b] = c + b < channels ? vload16(0, f + b * outChannels + o) : (float16)(0.0f);
#pragma unroll
            for (int p = 0; p < COLUMNS; p++)
              if (ow + p >= 0 && ow + p < outWidth) {
                const float16 v = LOAD_AS(STORE, 16, d + (long)p * dyStride + o);
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
                    rest[p][b] += LOAD_AS(STORE, 1, d + (long)p * dyStride + o) * f[b * outChannels + o];
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
            global stored *target = g + gOffset + (((long)n * height + ih) * width + iw + p * sw) * gStride + c + b;
            STORE_AS(STORE, 1, COMBINE(accumulate, LOAD_AS(STORE, 1, target), v), target);
          }
    }
  }
}
