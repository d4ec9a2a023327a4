// Packing of a convolution's input window for CPU kernels: through the prologue and with zero padding (a padded pixel
// is 0, not relu(shift)) into private memory laid out [window row][window column][LD].

#ifndef LD
#define LD 272
#endif

// One window pixel of `channels` values, through the prologue.
inline void pack_pixel(float *target, global const float *source, int channels, global const float *affine,
                       int affineStride, float preSlope, float postSlope) {
  int c = 0;
  for (; c + 16 <= channels; c += 16) {
    float16 v = vload16(0, source + c);
#if AFFINE
    v = APPLY_PROLOGUE(v, vload16(0, affine + c), vload16(0, affine + affineStride + c),
                       vload16(0, affine + 2 * affineStride + c), preSlope, postSlope);
#else
    v = APPLY_PROLOGUE(v, 0.0f, 1.0f, 0.0f, preSlope, postSlope);
#endif
    vstore16(v, 0, target + c);
  }
  for (; c < channels; c++) {
    float v = source[c];
#if AFFINE
    v = APPLY_PROLOGUE(v, affine[c], affine[affineStride + c], affine[2 * affineStride + c], preSlope, postSlope);
#else
    v = APPLY_PROLOGUE(v, 0.0f, 1.0f, 0.0f, preSlope, postSlope);
#endif
    target[c] = v;
  }
}

inline void zero_floats(float *target, int count) {
  int i = 0;
  for (; i + 16 <= count; i += 16)
    vstore16((float16)(0.0f), 0, target + i);
  for (; i < count; i++)
    target[i] = 0.0f;
}

// `columns` window pixels of one input row from column `first` on, zero where they lie outside 0..<width.
inline void pack_row(float *target, global const float *row, int stride, int first, int columns, int width,
                     int channels, int affineStride, global const float *affine, float preSlope, float postSlope) {
  const int low = clamp(-first, 0, columns);
  const int high = clamp(width - first, low, columns);
  if (low > 0)
    zero_floats(target, low * LD);
#if !AFFINE
  if (stride == channels && LD == channels) {
    pack_pixel(target + low * LD, row + (long)(first + low) * stride, (high - low) * channels, affine, affineStride,
               preSlope, postSlope);
  } else
#endif
    for (int i = low; i < high; i++)
      pack_pixel(target + i * LD, row + (long)(first + i) * stride, channels, affine, affineStride, preSlope,
                 postSlope);
  if (high < columns)
    zero_floats(target + high * LD, (columns - high) * LD);
}

// First `count` (at most 16) lanes of v.
inline void store_lanes(float16 v, global float *target, int count) {
  if (count >= 16) {
    vstore16(v, 0, target);
  } else {
    float lanes[16];
    vstore16(v, 0, lanes);
    for (int i = 0; i < count; i++)
      target[i] = lanes[i];
  }
}

inline float16 load_lanes(global const float *source, int count) {
  if (count >= 16)
    return vload16(0, source);
  float lanes[16];
  for (int i = 0; i < 16; i++)
    lanes[i] = i < count ? source[i] : 0.0f;
  return vload16(0, lanes);
}

// The window of one unit of the filter gradient: `rows` rows of `columns` pixels from (row, column) on, channels from
// `firstChannel` on, row stride `windowStride`.
inline void pack_unit(float *window, int windowStride, int rows, int columns, global const float *x, long image,
                      int xStride, int height, int width, int row, int column, int channels, int allChannels,
                      global const float *affine, float preSlope, float postSlope) {
  for (int r = 0; r < rows; r++) {
    const int ih = row + r;
    float *target = window + r * windowStride;
    if (ih < 0 || ih >= height)
      zero_floats(target, columns * LD);
    else
      pack_row(target, x + (image * height + ih) * width * xStride, xStride, column, columns, width, channels,
               allChannels, affine, preSlope, postSlope);
  }
}

// Asks for memory that is needed soon, where the compiler offers it: the hardware does not foresee rows far apart.
#if defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
#define PREFETCH(p) __builtin_prefetch((const void *)(size_t)(p))
#endif
#endif
#ifndef PREFETCH
#define PREFETCH(p)
#endif

// Part `part` of `parts` of a window of `rows` by `columns` pixels, to be called between pieces of arithmetic.
inline void prefetch_window(global const float *image, int xStride, int height, int width, int row, int column,
                            int rows, int columns, int channels, int part, int parts) {
  const int total = rows * columns;
  const int end = total * (part + 1) / parts;
  for (int i = total * part / parts; i < end; i++) {
    const int ih = row + i / columns;
    const int iw = column + i % columns;
    if (ih >= 0 && ih < height && iw >= 0 && iw < width)
      for (int c = 0; c < channels; c += 16)
        PREFETCH(image + ((long)ih * width + iw) * xStride + c);
  }
}
