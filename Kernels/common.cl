// Shared by all kernels; put in front of each source.
//
// Tensors are passed as (buffer, element offset, row stride): rows are pixels, the values of a row are its channels.
// Index arithmetic on whole tensors is 64-bit ("long"), within a row 32-bit.
//
// A prologue is y = post((pre(x) - centre) * scale + shift). Which parts exist is baked into the program:
//   PRE, AFFINE, POST    0 or 1
// pre and post are leaky rectifiers with a slope given at launch (0: ReLU). The affine buffer holds three rows of
// `channels` values: centre, scale, shift.

#ifndef VEC
#define VEC 1
#endif

#if VEC == 16
typedef float16 vfloat;
typedef int16 vint;
#define VLOAD(p) vload16(0, p)
#define VSTORE(v, p) vstore16(v, 0, p)
#elif VEC == 8
typedef float8 vfloat;
typedef int8 vint;
#define VLOAD(p) vload8(0, p)
#define VSTORE(v, p) vstore8(v, 0, p)
#elif VEC == 4
typedef float4 vfloat;
typedef int4 vint;
#define VLOAD(p) vload4(0, p)
#define VSTORE(v, p) vstore4(v, 0, p)
#else
typedef float vfloat;
typedef int vint;
#define VLOAD(p) (*(p))
#define VSTORE(v, p) (*(p) = (v))
#endif

// POCL and other CPU compilers prefer 256-bit code unless told otherwise.
#if defined(__has_attribute)
#if __has_attribute(min_vector_width)
#define WIDE __attribute__((min_vector_width(512)))
#endif
#endif
#ifndef WIDE
#define WIDE
#endif

#ifndef PRE
#define PRE 0
#endif
#ifndef AFFINE
#define AFFINE 0
#endif
#ifndef POST
#define POST 0
#endif

// Leaky rectifier and its derivative. The derivative at 0 is the slope, as in Keras.
#define ACTIVATE(v, slope) select((v) * (slope), (v), (v) > 0.0f)
#define ACTIVATE_GRADIENT(v, slope, g) select((g) * (slope), (g), (v) > 0.0f)

#if PRE
#define APPLY_PRE(v, slope) ACTIVATE(v, slope)
#else
#define APPLY_PRE(v, slope) (v)
#endif
#if AFFINE
#define APPLY_AFFINE(v, centre, scale, shift) (((v) - (centre)) * (scale) + (shift))
#else
#define APPLY_AFFINE(v, centre, scale, shift) (v)
#endif
#if POST
#define APPLY_POST(v, slope) ACTIVATE(v, slope)
#else
#define APPLY_POST(v, slope) (v)
#endif

// Declares the vectors at channel c of an affine's three rows; where there is no affine, what changes nothing.
#define DECLARE_AFFINE(affine, channels, c, centre, scale, shift)                                                      \
  const vfloat centre = VLOAD((affine) + (c));                                                                         \
  const vfloat scale = VLOAD((affine) + (channels) + (c));                                                             \
  const vfloat shift = VLOAD((affine) + 2 * (channels) + (c))
#define DECLARE_IDENTITY(centre, scale, shift) const vfloat centre = 0.0f, scale = 1.0f, shift = 0.0f
#if AFFINE
#define DECLARE_PROLOGUE(affine, channels, c) DECLARE_AFFINE(affine, channels, c, centre, scale, shift)
#else
#define DECLARE_PROLOGUE(affine, channels, c) DECLARE_IDENTITY(centre, scale, shift)
#endif

#define APPLY_PROLOGUE(v, centre, scale, shift, preSlope, postSlope)                                                   \
  APPLY_POST(APPLY_AFFINE(APPLY_PRE(v, preSlope), centre, scale, shift), postSlope)

// y = old + v or v.
#define COMBINE(accumulate, old, v) ((accumulate) ? (old) + (v) : (v))

// Epilogue of a kernel that computes the gradient g with respect to a prologue's value: g becomes the gradient with
// respect to `input`, and what the affine's gradient is made of is added to the sums of h and of h (pre(input) -
// centre), with h the gradient before the affine's output. EPRE, EAFFINE and EPOST bake the prologue's structure.
#ifndef EPILOGUE
#define EPILOGUE 0
#endif
#ifndef EPRE
#define EPRE 0
#endif
#ifndef EAFFINE
#define EAFFINE 0
#endif
#ifndef EPOST
#define EPOST 0
#endif

#if EPRE
#define EPILOGUE_PRE(input, slope) ACTIVATE(input, slope)
#define EPILOGUE_PRE_GRADIENT(input, slope, g) ACTIVATE_GRADIENT(input, slope, g)
#else
#define EPILOGUE_PRE(input, slope) (input)
#define EPILOGUE_PRE_GRADIENT(input, slope, g) (g)
#endif
#if EPOST
#define EPILOGUE_POST_GRADIENT(value, slope, g) ACTIVATE_GRADIENT(value, slope, g)
#else
#define EPILOGUE_POST_GRADIENT(value, slope, g) (g)
#endif

#if EAFFINE
#define DECLARE_EPILOGUE(affine, channels, c) DECLARE_AFFINE(affine, channels, c, ecentre, escale, eshift)
#else
#define DECLARE_EPILOGUE(affine, channels, c) DECLARE_IDENTITY(ecentre, escale, eshift)
#endif

#if EAFFINE
#define EPILOGUE_GRADIENT(g, input, centre, scale, shift, preSlope, postSlope, sumShift, sumScale)                     \
  {                                                                                                                    \
    const vfloat centred = EPILOGUE_PRE(input, preSlope) - centre;                                                     \
    g = EPILOGUE_POST_GRADIENT(centred * scale + shift, postSlope, g);                                                 \
    sumShift += g;                                                                                                     \
    sumScale += g * centred;                                                                                           \
    g *= scale;                                                                                                        \
    g = EPILOGUE_PRE_GRADIENT(input, preSlope, g);                                                                     \
  }
#else
#define EPILOGUE_GRADIENT(g, input, centre, scale, shift, preSlope, postSlope, sumShift, sumScale)                     \
  {                                                                                                                    \
    g = EPILOGUE_POST_GRADIENT(EPILOGUE_PRE(input, preSlope), postSlope, g);                                           \
    g = EPILOGUE_PRE_GRADIENT(input, preSlope, g);                                                                     \
  }
#endif
