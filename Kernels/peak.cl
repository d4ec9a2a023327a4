// What a device can do at most, for the shares that benchmarks print.

// Chains of fused multiply-adds in registers, as many as a convolution tile has. `iterations` * CHAINS * VEC
// multiply-adds a work-item.
#ifndef CHAINS
#define CHAINS 20
#endif
kernel WIDE void peak_fma(global float *y, int iterations) {
  vfloat a[CHAINS];
#pragma unroll
  for (int i = 0; i < CHAINS; i++)
    a[i] = (vfloat)((float)(i + get_global_id(0)));
  const vfloat b = (vfloat)(0.999f);
  const vfloat c = (vfloat)(0.001f);
  for (int k = 0; k < iterations; k++) {
#pragma unroll
    for (int i = 0; i < CHAINS; i++)
      a[i] = fma(a[i], b, c);
  }
  vfloat sum = (vfloat)(0.0f);
#pragma unroll
  for (int i = 0; i < CHAINS; i++)
    sum += a[i];
  VSTORE(sum, y + (long)get_global_id(0) * VEC);
}

// y = x, `count` vectors a work-item, `step` vectors apart. As kernels do with large results, past the caches on CPUs:
// otherwise each line is read before it is written.
kernel WIDE void peak_copy(global const float *x, global float *y, int manner, int count, int step, int span) {
  global const float *source = x + (long)get_global_id(0) * span * VEC;
  global float *target = y + (long)get_global_id(0) * span * VEC;
  for (int i = 0; i < count; i++)
    SPUT(manner, VLOAD(source + (long)i * step * VEC), target + (long)i * step * VEC);
}
