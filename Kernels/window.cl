// Packing of a convolution's input window for CPU kernels: through the prologue and with zero padding (a padded pixel
// is 0, not relu(shift)) into private memory laid out [window row][window column][LD].

#ifndef LD
#define LD 272
#endif

// Private memory that starts with a cache line, so that vectors do not lie in two.
#define LINES __attribute__((aligned(64)))

// One window pixel of `channels` values, through the prologue.
inline void pack_pixel(float *target, global const stored *source, int channels, global const float *affine,
                       int affineStride, float preSlope, float postSlope) {
  int c = 0;
  for (; c + 16 <= channels; c += 16) {
    float16 v = LOAD_AS(STORE, 16, source + c);
#if AFFINE
    v = APPLY_PROLOGUE(v, vload16(0, affine + c), vload16(0, affine + affineStride + c),
                       vload16(0, affine + 2 * affineStride + c), preSlope, postSlope);
#else
    v = APPLY_PROLOGUE(v, 0.0f, 1.0f, 0.0f, preSlope, postSlope);
#endif
    store16(v, 0, target + c);
  }
  for (; c < channels; c++) {
    float v = LOAD_AS(STORE, 1, source + c);
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
    store16((float16)(0.0f), 0, target + i);
  for (; i < count; i++)
    target[i] = 0.0f;
}

// `columns` window pixels of one input row from column `first` on, zero where they lie outside 0..<width.
inline void pack_row(float *target, global const stored *row, int stride, int first, int columns, int width,
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
    store16(v, 0, target);
  } else {
    float lanes[16];
    store16(v, 0, lanes);
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

// The same for elements of a tensor.
inline void store_stored_lanes(float16 v, global stored *target, int count) {
  if (count >= 16) {
    STORE_AS(STORE, 16, v, target);
  } else {
    float lanes[16];
    store16(v, 0, lanes);
    for (int i = 0; i < count; i++)
      STORE_AS(STORE, 1, lanes[i], target + i);
  }
}

inline float16 load_stored_lanes(global const stored *source, int count) {
  if (count >= 16)
    return LOAD_AS(STORE, 16, source);
  float lanes[16];
  for (int i = 0; i < 16; i++)
    lanes[i] = i < count ? LOAD_AS(STORE, 1, source + i) : 0.0f;
  return vload16(0, lanes);
}

// The window of one unit of the filter gradient: `rows` rows of `columns` pixels from (row, column) on, channels from
// `firstChannel` on, row stride `windowStride`.
inline void pack_unit(float *window, int windowStride, int rows, int columns, global const stored *x, long image,
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

// Joins mean and summed squared deviations of `count` values to those of the `before` values already in vector v of
// `means` and `squares` (Chan, Golub & LeVeque 1983).
inline void join_moments(float *means, float *squares, int v, int before, float16 mean, float16 square, int count) {
  if (before > 0) {
    const float16 old = vload16(v, means);
    const float16 delta = mean - old;
    const float share = (float)count / (float)(before + count);
    mean = old + delta * share;
    square += vload16(v, squares) + delta * delta * ((float)before * share);
  }
  store16(mean, v, means);
  store16(square, v, squares);
}

// Asks for memory that is needed soon, where the compiler offers it: the hardware does not foresee rows far apart. Few
// lines at a time, between pieces of arithmetic: a core has only so many loads under way, and others wait behind them.
#if defined(__has_builtin)
// By name, because Mesa's compiler says that it has the builtin, and then its translator to SPIR-V stops the process.
#if __has_builtin(__builtin_prefetch) && (defined(__x86_64__) || defined(__aarch64__) || defined(__INTEL_LLVM_COMPILER))
#define PREFETCH(p) __builtin_prefetch((const void *)(size_t)(p), 0, 2)
#endif
#endif
#ifndef PREFETCH
#define PREFETCH(p)
#endif

// Elements of a cache line.
#define LINE (64 / (int)sizeof(stored))

// A walk over `rows` rows of `columns` pixels of `channels` values, that asks for a share of their cache lines at each
// of `shares` steps. Pixels without gaps between them are walked as one.
typedef struct {
  global const stored *pixel;
  int channel, channels;
  int column, columns, stride;
  long toNextRow; // from the pixel behind a row
  int lines, shares, owed;
} Walk;

INLINE Walk begin_walk(global const stored *first, int stride, long rowStride, int rows, int columns, int channels,
                       int shares) {
  Walk walk;
  if (stride == channels) {
    channels *= columns;
    stride = channels;
    columns = 1;
  }
  walk.pixel = first;
  walk.channel = walk.column = walk.owed = 0;
  walk.channels = channels;
  walk.columns = columns;
  walk.stride = stride;
  walk.toNextRow = rowStride - (long)columns * stride;
  walk.lines = max(rows, 0) * max(columns, 0) * ((channels + LINE - 1) / LINE);
  walk.shares = shares;
  return walk;
}

INLINE void walk_on(Walk *walk) {
  for (walk->owed += walk->lines; walk->owed >= walk->shares; walk->owed -= walk->shares) {
    PREFETCH(walk->pixel + walk->channel);
    walk->channel += LINE;
    if (walk->channel >= walk->channels) {
      walk->channel = 0;
      walk->pixel += walk->stride;
      if (++walk->column == walk->columns) {
        walk->column = 0;
        walk->pixel += walk->toNextRow;
      }
    }
  }
}

// The same over what lies inside the image of a window of `rows` by `columns` pixels from (row, column) on.
INLINE Walk begin_window_walk(global const stored *image, int stride, int height, int width, int row, int column,
                              int rows, int columns, int channels, int shares) {
  const int top = max(row, 0);
  const int left = max(column, 0);
  return begin_walk(image + ((long)top * width + left) * stride, stride, (long)width * stride,
                    min(row + rows, height) - top, min(column + columns, width) - left, channels, shares);
}
