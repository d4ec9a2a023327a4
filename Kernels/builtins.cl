// What the library's kernels use of OpenCL C's own functions, for POCL 3, which declares them by parsing a header of
// 900 kilobytes for each program: 0.12 s, as much as for many a kernel. Declared as that header, Clang's opencl-c.h,
// declares them: the attributes matter to the optimiser. Put in front of all else; `_OPENCL_H_`, the header's guard,
// then keeps it out.
//
// A kernel that uses a function which is missing here does not compile with POCL; add it.

#define CONST_BUILTIN __attribute__((overloadable, const))
#define PURE_BUILTIN __attribute__((overloadable, pure))
#define BUILTIN __attribute__((overloadable))

// Work-items.
size_t CONST_BUILTIN get_global_id(uint);
size_t CONST_BUILTIN get_global_size(uint);
size_t CONST_BUILTIN get_local_id(uint);
size_t CONST_BUILTIN get_local_size(uint);
size_t CONST_BUILTIN get_group_id(uint);
size_t CONST_BUILTIN get_num_groups(uint);

void __attribute__((overloadable, convergent)) barrier(cl_mem_fence_flags);

// Arithmetic.
int CONST_BUILTIN min(int, int);
int CONST_BUILTIN max(int, int);
int CONST_BUILTIN clamp(int, int, int);
long CONST_BUILTIN min(long, long);
long CONST_BUILTIN max(long, long);
uint CONST_BUILTIN select(uint, uint, int);
int CONST_BUILTIN isfinite(float);
float CONST_BUILTIN log(float);
float CONST_BUILTIN expm1(float);

#define DECLARE_ARITHMETIC(n)                                                                                          \
  float##n CONST_BUILTIN fma(float##n, float##n, float##n);                                                            \
  float##n CONST_BUILTIN fmax(float##n, float##n);                                                                     \
  float##n CONST_BUILTIN max(float##n, float);                                                                         \
  float##n CONST_BUILTIN sqrt(float##n);                                                                               \
  float##n CONST_BUILTIN exp(float##n);                                                                                \
  float##n CONST_BUILTIN tanh(float##n);                                                                               \
  float##n CONST_BUILTIN select(float##n, float##n, int##n);                                                           \
  int##n CONST_BUILTIN select(int##n, int##n, int##n);
DECLARE_ARITHMETIC()
DECLARE_ARITHMETIC(4)
DECLARE_ARITHMETIC(8)
DECLARE_ARITHMETIC(16)

// Other types.
ushort CONST_BUILTIN convert_ushort(uint);
#define DECLARE_CONVERSIONS(n)                                                                                         \
  uchar##n CONST_BUILTIN convert_uchar##n(int##n);                                                                     \
  ushort##n CONST_BUILTIN convert_ushort##n(uint##n);                                                                  \
  int##n CONST_BUILTIN convert_int##n(uchar##n);                                                                       \
  uint##n CONST_BUILTIN convert_uint##n(ushort##n);                                                                    \
  float##n CONST_BUILTIN convert_float##n(uchar##n);                                                                   \
  uint##n CONST_BUILTIN select(uint##n, uint##n, int##n);
DECLARE_CONVERSIONS(2)
DECLARE_CONVERSIONS(4)
DECLARE_CONVERSIONS(8)
DECLARE_CONVERSIONS(16)

// Memory.
#define DECLARE_VECTOR_MEMORY(type, n, space)                                                                          \
  type##n PURE_BUILTIN vload##n(size_t, const space type *);                                                           \
  void BUILTIN vstore##n(type##n, size_t, space type *);
#define DECLARE_MEMORY(type, space)                                                                                    \
  DECLARE_VECTOR_MEMORY(type, 2, space)                                                                                \
  DECLARE_VECTOR_MEMORY(type, 4, space)                                                                                \
  DECLARE_VECTOR_MEMORY(type, 8, space)                                                                                \
  DECLARE_VECTOR_MEMORY(type, 16, space)
#define DECLARE_HALF_MEMORY(n, space)                                                                                  \
  float##n PURE_BUILTIN vload_half##n(size_t, const space half *);                                                     \
  void BUILTIN vstore_half##n##_rte(float##n, size_t, space half *);
#define DECLARE_SPACE(space)                                                                                           \
  DECLARE_MEMORY(uchar, space)                                                                                         \
  DECLARE_MEMORY(ushort, space)                                                                                        \
  DECLARE_MEMORY(uint, space)                                                                                          \
  DECLARE_MEMORY(float, space)                                                                                         \
  DECLARE_HALF_MEMORY(, space)                                                                                         \
  DECLARE_HALF_MEMORY(2, space)                                                                                        \
  DECLARE_HALF_MEMORY(4, space)                                                                                        \
  DECLARE_HALF_MEMORY(8, space)                                                                                        \
  DECLARE_HALF_MEMORY(16, space)
DECLARE_SPACE(global)
DECLARE_SPACE(local)
DECLARE_SPACE(private)
