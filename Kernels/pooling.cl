// Pooling over windows, NHWC. Work-items: (groups of channel vectors, groups of `group` columns, images * rows), of the
// output in the forward and of the input in the gradient kernels. On CPUs one work-item of the max pool has all
// channels of its pixels, as it would otherwise read memory in steps.

// Largest value of each window of prologue(x), and which tap it was: the first maximum in row-major order, as in
// TensorFlow. Padded pixels count as zero with `padZero`, else they are left out.
kernel WIDE void max_pool(global const stored *x, int xOffset, int xStride, int height, int width, int channels,
                          global const float *affine, int affineOffset, float preSlope, float postSlope,
                          global stored *y, int yOffset, int yStride, global uchar *taps, int outHeight, int outWidth,
                          int kh, int kw, int sh, int sw, int padTop, int padLeft, int padZero, int group) {
  const int oh = get_global_id(2) % outHeight;
  const int n = get_global_id(2) / outHeight;
  const int last = min(outWidth, ((int)get_global_id(1) + 1) * group);
  for (int ow = get_global_id(1) * group; ow < last; ow++) {
    const long pixel = ((long)n * outHeight + oh) * outWidth + ow;
    for (int c = get_global_id(0) * VEC; c < channels; c += get_global_size(0) * VEC) {
      DECLARE_PROLOGUE(affine + affineOffset, channels, c);
      vfloat best = -INFINITY;
      vint tap = 0;
      for (int i = 0; i < kh; i++)
        for (int j = 0; j < kw; j++) {
          const int ih = oh * sh - padTop + i;
          const int iw = ow * sw - padLeft + j;
          vfloat v = 0.0f;
          if (ih >= 0 && ih < height && iw >= 0 && iw < width) {
            v = SLOAD(x + xOffset + (((long)n * height + ih) * width + iw) * xStride + c);
            v = APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope);
          } else if (!padZero) {
            continue;
          }
#if VEC == 1
          // A NaN wins and stays, so that it is seen.
          const int better = !(v <= best) && best == best;
          best = better ? v : best;
          tap = better ? i * kw + j : tap;
#else
          const vint better = ~(v <= best) & (best == best);
          best = select(best, v, better);
          tap = select(tap, (vint)(i * kw + j), better);
#endif
        }
      SSTORE(best, y + yOffset + pixel * yStride + c);
      global uchar *target = taps + pixel * channels + c;
#if VEC == 16
      store16(convert_uchar16(tap), 0, target);
#elif VEC == 8
      vstore8(convert_uchar8(tap), 0, target);
#elif VEC == 4
      vstore4(convert_uchar4(tap), 0, target);
#else
      *target = tap;
#endif
    }
  }
}

#if VEC == 16
#define LOAD_TAPS(p) convert_int16(vload16(0, p))
#elif VEC == 8
#define LOAD_TAPS(p) convert_int8(vload8(0, p))
#elif VEC == 4
#define LOAD_TAPS(p) convert_int4(vload4(0, p))
#else
#define LOAD_TAPS(p) ((int)*(p))
#endif

// Gradient with respect to prologue(x), gathered: each input pixel adds up the windows whose maximum it was.
kernel WIDE void max_pool_gradient(global const stored *dy, int dyOffset, int dyStride, global const uchar *taps,
                                   int outHeight, int outWidth, int height, int width, int channels, int kh, int kw,
                                   int sh, int sw, int padTop, int padLeft, global stored *dx, int dxOffset,
                                   int dxStride, int accumulate, int group) {
  // Windows with oh * sh <= top < oh * sh + kh, and likewise for columns.
  const int top = get_global_id(2) % height + padTop;
  const int n = get_global_id(2) / height;
  const int oh0 = max((top - kh + sh) / sh, 0), oh1 = min(top / sh, outHeight - 1);
  const int last = min(width, ((int)get_global_id(1) + 1) * group);
  for (int iw = get_global_id(1) * group; iw < last; iw++) {
    const int left = iw + padLeft;
    const int ow0 = max((left - kw + sw) / sw, 0), ow1 = min(left / sw, outWidth - 1);
    for (int c = get_global_id(0) * VEC; c < channels; c += get_global_size(0) * VEC) {
      vfloat sum = 0.0f;
      for (int oh = oh0; oh <= oh1; oh++)
        for (int ow = ow0; ow <= ow1; ow++) {
          const int i = top - oh * sh, j = left - ow * sw;
          if (i >= kh || j >= kw)
            continue;
          const long pixel = ((long)n * outHeight + oh) * outWidth + ow;
          const vint tap = LOAD_TAPS(taps + pixel * channels + c);
          const vfloat g = SLOAD(dy + dyOffset + pixel * dyStride + c);
#if VEC == 1
          sum += tap == i * kw + j ? g : 0.0f;
#else
          sum += select((vfloat)(0.0f), g, tap == (vint)(i * kw + j));
#endif
        }
      global stored *target = dx + dxOffset + ((long)get_global_id(2) * width + iw) * dxStride + c;
      if (accumulate)
        sum += SLOAD(target);
      SSTORE(sum, target);
    }
  }
}

// Mean of each window of prologue(x), no padding; rows and columns that fill no window are dropped.
kernel WIDE void average_pool(global const stored *x, int xOffset, int xStride, int height, int width, int channels,
                              global const float *affine, int affineOffset, float preSlope, float postSlope,
                              global result *y, int yOffset, int yStride, int outHeight, int outWidth, int kh, int kw,
                              int sh, int sw, int group) {
  const int c = get_global_id(0) * VEC;
  const int oh = get_global_id(2) % outHeight;
  const int n = get_global_id(2) / outHeight;
  DECLARE_PROLOGUE(affine + affineOffset, channels, c);
  const int last = min(outWidth, ((int)get_global_id(1) + 1) * group);
  for (int ow = get_global_id(1) * group; ow < last; ow++) {
    vfloat sum = 0.0f;
    for (int i = 0; i < kh; i++)
      for (int j = 0; j < kw; j++) {
        const long pixel = ((long)n * height + oh * sh + i) * width + ow * sw + j;
        const vfloat v = SLOAD(x + xOffset + pixel * xStride + c);
        sum += APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope);
      }
    RSTORE(sum * (1.0f / (kh * kw)), y + yOffset + (((long)n * outHeight + oh) * outWidth + ow) * yStride + c);
  }
}

// Gradient with respect to prologue(x), gathered.
kernel WIDE void average_pool_gradient(global const result *dy, int dyOffset, int dyStride, int outHeight, int outWidth,
                                       int height, int width, int kh, int kw, int sh, int sw, global stored *dx,
                                       int dxOffset, int dxStride, int accumulate, int group) {
  const int c = get_global_id(0) * VEC;
  const int ih = get_global_id(2) % height;
  const int n = get_global_id(2) / height;
  const int last = min(width, ((int)get_global_id(1) + 1) * group);
  for (int iw = get_global_id(1) * group; iw < last; iw++) {
    // Windows with oh * sh <= ih < oh * sh + kh, and likewise for columns.
    const int oh1 = min(ih / sh, outHeight - 1), ow1 = min(iw / sw, outWidth - 1);
    const int oh0 = max((ih - kh + sh) / sh, 0), ow0 = max((iw - kw + sw) / sw, 0);
    vfloat sum = 0.0f;
    for (int oh = oh0; oh <= oh1; oh++)
      for (int ow = ow0; ow <= ow1; ow++)
        if (ih < oh * sh + kh && iw < ow * sw + kw)
          sum += RLOAD(dy + dyOffset + (((long)n * outHeight + oh) * outWidth + ow) * dyStride + c);
    sum *= 1.0f / (kh * kw);
    global stored *target = dx + dxOffset + (((long)n * height + ih) * width + iw) * dxStride + c;
    if (accumulate)
      sum += SLOAD(target);
    SSTORE(sum, target);
  }
}
