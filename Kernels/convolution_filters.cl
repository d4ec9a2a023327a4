// What is done to filters before and after the convolutions for CPUs. The packing kernels take 16 steps of the summed
// index in a work-item: one alone is less work than it takes to start a work-item.

// Filters to panels [block of NB outputs][kernel row][kernel column][input channel][NB], zero beyond the last output
// channel. With `transposed`, the filter of the data gradient: input and output channels exchanged, taps mirrored.
kernel void pack_filter(global const float *w, int wOffset, int kh, int kw, int inputs, int outputs, int transposed,
                        int nb, global float *packed) {
  const int ks = transposed ? outputs : inputs; // channels summed over
  const int ns = transposed ? inputs : outputs; // channels produced
  const int summed = kh * kw * ks;              // (row, column, summed channel)
  const int first = get_global_id(0) * 16;
  const int block = get_global_id(1);
  const int count = min(nb, ns - block * nb);
  for (int k = first; k < min(first + 16, summed); k++) {
    const int c = k % ks;
    const int tap = k / ks;
    const int source = transposed ? kh * kw - 1 - tap : tap;
    global const float *from = w + wOffset +
                               (transposed ? ((long)source * inputs + block * nb) * outputs + c
                                           : ((long)source * inputs + c) * outputs + block * nb);
    const int step = transposed ? outputs : 1;
    global float *target = packed + ((long)block * summed + k) * nb;
    for (int j = 0; j < count; j++)
      target[j] = from[(long)j * step];
    for (int j = count; j < nb; j++)
      target[j] = 0.0f;
  }
}

// G g Gt to panels [block of nb outputs][position][input channel][nb]. With `transposed`, the filter of the data
// gradient: input and output channels exchanged, taps mirrored. Work-items: (16 summed channels, vector of produced
// ones).
kernel WIDE void winograd_pack_filter(global const float *w, int wOffset, int inputs, int outputs, int transposed,
                                      int nb, global float *packed) {
  const int ks = transposed ? outputs : inputs; // channels summed over
  const int n = get_global_id(1) * 16;
  for (int k = get_global_id(0) * 16; k < (int)(get_global_id(0) + 1) * 16; k++) {
    float16 g[3][3];
#pragma unroll
    for (int i = 0; i < 3; i++)
#pragma unroll
      for (int j = 0; j < 3; j++)
        if (transposed) {
          float lanes[16];
          for (int l = 0; l < 16; l++)
            lanes[l] = w[wOffset + ((long)(8 - i * 3 - j) * inputs + n + l) * outputs + k];
          g[i][j] = vload16(0, lanes);
        } else {
          g[i][j] = vload16(0, w + wOffset + ((long)(i * 3 + j) * inputs + k) * outputs + n);
        }
    float16 rows[4][3];
#pragma unroll
    for (int j = 0; j < 3; j++) {
      rows[0][j] = g[0][j];
      rows[1][j] = 0.5f * ((g[0][j] + g[2][j]) + g[1][j]);
      rows[2][j] = 0.5f * ((g[0][j] + g[2][j]) - g[1][j]);
      rows[3][j] = g[2][j];
    }
    global float *target = packed + ((long)(n / nb) * 16 * ks + k) * nb + n % nb;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float16 u[4] = {rows[i][0], 0.5f * ((rows[i][0] + rows[i][2]) + rows[i][1]),
                            0.5f * ((rows[i][0] + rows[i][2]) - rows[i][1]), rows[i][2]};
#pragma unroll
      for (int j = 0; j < 4; j++)
        store16(u[j], 0, target + (long)(i * 4 + j) * ks * nb);
    }
  }
}

// dw (+)= Gt [sum over splits of partials] G, in order and compensated. Work-items: vectors of `filters` = inputs *
// outputs values.
kernel WIDE void winograd_finish_filter_gradient(global const float *partials, int splits, int filters,
                                                 global float *dw, int dwOffset, int accumulate) {
  const int f = get_global_id(0) * 16;
  float16 s[4][4];
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      float16 sum = 0.0f, rest = 0.0f;
      for (int split = 0; split < splits; split++) {
        const float16 term = vload16(0, partials + ((long)split * 16 + i * 4 + j) * filters + f) - rest;
        const float16 next = sum + term;
        rest = (next - sum) - term;
        sum = next;
      }
      s[i][j] = sum;
    }
  float16 rows[3][4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float16 even = 0.5f * (s[1][j] + s[2][j]);
    rows[0][j] = s[0][j] + even;
    rows[1][j] = 0.5f * (s[1][j] - s[2][j]);
    rows[2][j] = even + s[3][j];
  }
#pragma unroll
  for (int i = 0; i < 3; i++) {
    const float16 even = 0.5f * (rows[i][1] + rows[i][2]);
    const float16 g[3] = {rows[i][0] + even, 0.5f * (rows[i][1] - rows[i][2]), even + rows[i][3]};
#pragma unroll
    for (int j = 0; j < 3; j++) {
      global float *target = dw + dwOffset + (long)(i * 3 + j) * filters + f;
      store16(COMBINE(accumulate, vload16(0, target), g[j]), 0, target);
    }
  }
}
