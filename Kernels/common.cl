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

// On processors without vectors of 16 floats Clang warns of functions that return them. Only POCL's built-in functions
// do once all is inlined, and they were compiled for the same processor.
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpsabi"
#endif

// For functions that work on registers: a call would put them in memory, and C's plain inline leaves none to call. But
// Intel's compiler for GPUs (IGC 1.0.12504) forgets to unroll loops that stand before the first call to a function
// which comes after them in the module, as static ones do, and then keeps the arrays that such loops index in memory.
#ifdef cl_intel_required_subgroup_size
#define INLINE inline __attribute__((always_inline))
#else
#define INLINE static inline __attribute__((always_inline))
#endif

// What vstore16 does, vector i behind p. POCL 3.1 puts its vstore16 together from parts, each a shuffle and a store; a
// pointer to vectors that are aligned as their elements is one store. Only programs for CPUs have wide vectors.
#if defined(__clang__) && VEC == 16
#define DEFINE_STORE16(element, space)                                                                                 \
  INLINE void __attribute__((overloadable)) store16(element##16 v, long i, space element *p) {                         \
    ((space loose_##element##16 *)p)[i] = v;                                                                           \
  }
#define DEFINE_STORES16(element)                                                                                       \
  typedef element##16 __attribute__((aligned(sizeof(element)))) loose_##element##16;                                   \
  DEFINE_STORE16(element, global)                                                                                      \
  DEFINE_STORE16(element, private)
DEFINE_STORES16(float)
DEFINE_STORES16(ushort)
DEFINE_STORES16(uchar)
#else
#define store16 vstore16
#endif

#if VEC == 16
typedef float16 vfloat;
typedef int16 vint;
#define VLOAD(p) vload16(0, p)
#define VSTORE(v, p) store16(v, 0, p)
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

// How tensors lie in memory, whatever they lie in: arithmetic is in float. STORE is float, half or bfloat (the upper
// half of a float); RESULT, the same unless it is given, is for results of another type than what a kernel reads.
// Weights, affines, statistics, sums and losses are always float: VLOAD and VSTORE.
//   stored, result        the elements that pointers point to
//   SLOAD(p), SSTORE(v, p), RLOAD(p), RSTORE(v, p)   VEC values
//   LOAD_AS(STORE, n, p), STORE_AS(STORE, n, v, p)   n values: 1, 4, 8 or 16
//   ROUND_AS(STORE, n, v)   n values, 4 or 16, as they are read again once they are stored
// Numbers are rounded to the nearest, ties to even, once on each store.
#ifndef STORE
#define STORE float
#endif
#ifndef RESULT
#define RESULT STORE
#endif

typedef float memory_float;
typedef ushort memory_half;
typedef ushort memory_bfloat;
#define MEMORY_AS_(type) memory_##type
#define MEMORY_AS(type) MEMORY_AS_(type)
typedef MEMORY_AS(STORE) stored;
typedef MEMORY_AS(RESULT) result;

#define LOAD_AS_(type, n, p) load_##type##_##n(p)
#define LOAD_AS(type, n, p) LOAD_AS_(type, n, p)
#define STORE_AS_(type, n, v, p) store_##type##_##n(v, p)
#define STORE_AS(type, n, v, p) STORE_AS_(type, n, v, p)
#define ROUND_AS_(type, n, v) round_##type##_##n(v)
#define ROUND_AS(type, n, v) ROUND_AS_(type, n, v)
#define SLOAD(p) LOAD_AS(STORE, VEC, p)
#define SSTORE(v, p) STORE_AS(STORE, VEC, v, p)
#define RLOAD(p) LOAD_AS(RESULT, VEC, p)
#define RSTORE(v, p) STORE_AS(RESULT, VEC, v, p)

#define load_float_1(p) (*(p))
#define load_float_4(p) vload4(0, p)
#define load_float_8(p) vload8(0, p)
#define load_float_16(p) vload16(0, p)
#define store_float_1(v, p) (*(p) = (v))
#define store_float_4(v, p) vstore4(v, 0, p)
#define store_float_8(v, p) vstore8(v, 0, p)
#define store_float_16(v, p) store16(v, 0, p)
#define round_float_4(v) (v)
#define round_float_16(v) (v)

// In the core of OpenCL, without cl_khr_fp16. Eight and sixteen go through a private vector: POCL 3.1 takes it that
// vstore_half16 gets pointers to whole vectors, where the core asks for no more than those to half.
#define load_half_1(p) vload_half(0, (global const half *)(p))
#define load_half_4(p) vload_half4(0, (global const half *)(p))
#define store_half_1(v, p) vstore_half_rte(v, 0, (global half *)(p))
#define store_half_4(v, p) vstore_half4_rte(v, 0, (global half *)(p))
inline float8 load_half_8(global const ushort *p) {
  const ushort8 bits = vload8(0, p);
  return vload_half8(0, (const half *)&bits);
}
inline float16 load_half_16(global const ushort *p) {
  const ushort16 bits = vload16(0, p);
  return vload_half16(0, (const half *)&bits);
}
inline void store_half_8(float8 v, global ushort *p) {
  ushort8 bits;
  vstore_half8_rte(v, 0, (half *)&bits);
  vstore8(bits, 0, p);
}
inline void store_half_16(float16 v, global ushort *p) {
  ushort16 bits;
  vstore_half16_rte(v, 0, (half *)&bits);
  store16(bits, 0, p);
}
INLINE float4 round_half_4(float4 v) {
  ushort4 bits;
  vstore_half4_rte(v, 0, (half *)&bits);
  return vload_half4(0, (const half *)&bits);
}
INLINE float16 round_half_16(float16 v) {
  ushort16 bits;
  vstore_half16_rte(v, 0, (half *)&bits);
  return vload_half16(0, (const half *)&bits);
}

#define load_bfloat_1(p) as_float((uint)(*(p)) << 16)
#define load_bfloat_4(p) as_float4(convert_uint4(vload4(0, p)) << 16)
#define load_bfloat_8(p) as_float8(convert_uint8(vload8(0, p)) << 16)
#define load_bfloat_16(p) as_float16(convert_uint16(vload16(0, p)) << 16)
// Half a unit is added, less the smallest part of it where the upper half is even, and the rest cut off; infinities
// stay what they are. A NaN stays one, though only its lower half were not zero.
#define BFLOAT_BITS(b)                                                                                                 \
  (select((b) + 0x7fffu + (((b) >> 16) & 1u), (b) | 0x400000u, (0x7fffffffu & (b)) > 0x7f800000u) >> 16)
inline void store_bfloat_1(float v, global ushort *p) {
  const uint b = as_uint(v);
  *p = convert_ushort(BFLOAT_BITS(b));
}
inline void store_bfloat_4(float4 v, global ushort *p) {
  const uint4 b = as_uint4(v);
  vstore4(convert_ushort4(BFLOAT_BITS(b)), 0, p);
}
inline void store_bfloat_8(float8 v, global ushort *p) {
  const uint8 b = as_uint8(v);
  vstore8(convert_ushort8(BFLOAT_BITS(b)), 0, p);
}
inline void store_bfloat_16(float16 v, global ushort *p) {
  const uint16 b = as_uint16(v);
  store16(convert_ushort16(BFLOAT_BITS(b)), 0, p);
}
INLINE float4 round_bfloat_4(float4 v) {
  const uint4 b = as_uint4(v);
  return as_float4(BFLOAT_BITS(b) << 16);
}
INLINE float16 round_bfloat_16(float16 v) {
  const uint16 b = as_uint16(v);
  return as_float16(BFLOAT_BITS(b) << 16);
}

// Stores a whole, aligned cache line past the caches, which saves reading it first: for results too large to be found
// in a cache by whoever reads them. Sixteen shorter elements are half a line, for which it does not pay.
#if defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
#define stream_float_16(v, p) __builtin_nontemporal_store(v, (global float16 *)(p))
#endif
#endif
#ifndef stream_float_16
#define stream_float_16(v, p) store_float_16(v, p)
#endif
#define stream_half_16(v, p) store_half_16(v, p)
#define stream_bfloat_16(v, p) store_bfloat_16(v, p)
#define STREAM_AS_(type, v, p) stream_##type##_16(v, p)
#define STREAM_AS(type, v, p) STREAM_AS_(type, v, p)
#define STREAM(v, p) STREAM_AS(STORE, v, p)

// What an argument `manner` says of the values that a result has: OVERWRITE, ACCUMULATE (add to them) or, only for VEC
// = 16 and aligned results, OVERWRITE_STREAMING.
#define ACCUMULATE 1
#define OVERWRITE_STREAMING 2
//   SPUT(manner, v, p), RPUT(manner, v, p)   VEC values
#define SPUT(manner, v, p) PUT_AS(STORE, manner, v, p)
#define RPUT(manner, v, p) PUT_AS(RESULT, manner, v, p)
#if VEC == 16
#define PUT_AS(type, manner, v, p)                                                                                     \
  {                                                                                                                    \
    if ((manner) == OVERWRITE_STREAMING)                                                                               \
      STREAM_AS(type, v, p);                                                                                           \
    else if ((manner) == ACCUMULATE)                                                                                   \
      STORE_AS(type, VEC, (v) + LOAD_AS(type, VEC, p), p);                                                             \
    else                                                                                                               \
      STORE_AS(type, VEC, v, p);                                                                                       \
  }
#else
#define PUT_AS(type, manner, v, p)                                                                                     \
  {                                                                                                                    \
    if ((manner) == ACCUMULATE)                                                                                        \
      STORE_AS(type, VEC, (v) + LOAD_AS(type, VEC, p), p);                                                             \
    else                                                                                                               \
      STORE_AS(type, VEC, v, p);                                                                                       \
  }
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

// sum += v, with what rounding loses of it carried over in `rest` (Kahan 1965).
INLINE void add_compensated(vfloat v, vfloat *sum, vfloat *rest) {
  const vfloat term = v - *rest;
  const vfloat next = *sum + term;
  *rest = (next - *sum) - term;
  *sum = next;
}

// The last stage of a reduction, of few values by many chunks: SHARE work-items of a group (the second dimension) take
// every SHARE-th chunk each, and their sums are added in order. GPUs would otherwise have a handful of work-items wait
// for memory chunk after chunk. One work-item alone on CPUs.
//   TOGETHER             the kernel's attribute; SHARED_SUMS declares its local memory
//   FIRST_CHUNK          the work-item's first
//   GROUP_SUM(v)         the sum of v over the work-items, for each of them; all must come by
#ifndef SHARE
#define SHARE 1
#endif
#if SHARE > 1
#define TOGETHER __attribute__((reqd_work_group_size(1, SHARE, 1)))
#define SHARED_SUMS local vfloat sharedSums[SHARE]
#define FIRST_CHUNK ((int)get_local_id(1))
#define GROUP_SUM(v) sum_of_group(v, sharedSums)
inline vfloat sum_of_group(vfloat v, local vfloat *sums) {
  sums[get_local_id(1)] = v;
  barrier(CLK_LOCAL_MEM_FENCE);
  vfloat sum = sums[0];
// All at once, as compilers like to, they would take all registers.
#pragma unroll 4
  for (int i = 1; i < SHARE; i++)
    sum += sums[i];
  barrier(CLK_LOCAL_MEM_FENCE);
  return sum;
}
#else
#define TOGETHER
#define SHARED_SUMS
#define FIRST_CHUNK 0
#define GROUP_SUM(v) (v)
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
