// Softmax and cross-entropy over rows of classes. One work-item per row; rows are few.

kernel void softmax(global const float *x, int xOffset, int xStride, int classes, global float *y, int yOffset,
                    int yStride) {
  global const float *row = x + xOffset + (long)get_global_id(0) * xStride;
  global float *target = y + yOffset + (long)get_global_id(0) * yStride;
  float largest = row[0];
  for (int c = 1; c < classes; c++)
    largest = fmax(largest, row[c]);
  float sum = 0.0f;
  for (int c = 0; c < classes; c++)
    sum += exp(row[c] - largest);
  for (int c = 0; c < classes; c++)
    target[c] = exp(row[c] - largest) / sum;
}

// dx (+)= y * (dy - sum of dy * y).
kernel void softmax_gradient(global const float *y, int yOffset, int yStride, global const float *dy, int dyOffset,
                             int dyStride, int classes, global float *dx, int dxOffset, int dxStride, int accumulate) {
  global const float *row = y + yOffset + (long)get_global_id(0) * yStride;
  global const float *gradient = dy + dyOffset + (long)get_global_id(0) * dyStride;
  global float *target = dx + dxOffset + (long)get_global_id(0) * dxStride;
  float dot = 0.0f;
  for (int c = 0; c < classes; c++)
    dot += row[c] * gradient[c];
  for (int c = 0; c < classes; c++)
    target[c] = COMBINE(accumulate, target[c], row[c] * (gradient[c] - dot));
}

// losses[row] = -sum over classes of t log softmax(x), with t = target (1 - smoothing) + smoothing / classes.
// hits[row] = 1 where the largest logit is the largest target.
kernel void cross_entropy(global const float *x, int xOffset, int xStride, global const float *targets,
                          int targetsOffset, int classes, float smoothing, global float *losses, global float *hits) {
  const int i = get_global_id(0);
  global const float *row = x + xOffset + (long)i * xStride;
  global const float *target = targets + targetsOffset + (long)i * classes;
  int best = 0, wanted = 0;
  for (int c = 1; c < classes; c++) {
    best = row[c] > row[best] ? c : best;
    wanted = target[c] > target[wanted] ? c : wanted;
  }
  float sum = 0.0f;
  for (int c = 0; c < classes; c++)
    sum += exp(row[c] - row[best]);
  const float logSum = log(sum);
  float loss = 0.0f;
  for (int c = 0; c < classes; c++) {
    const float t = target[c] * (1.0f - smoothing) + smoothing / classes;
    loss -= t * (row[c] - row[best] - logSum);
  }
  losses[i] = loss;
  hits[i] = best == wanted ? 1.0f : 0.0f;
}

// dx (+)= dloss / rows * (softmax(x) * sum of t - t).
kernel void cross_entropy_gradient(global const float *x, int xOffset, int xStride, global const float *targets,
                                   int targetsOffset, int classes, float smoothing, int rows, global const float *dloss,
                                   int dlossOffset, global float *dx, int dxOffset, int dxStride, int accumulate) {
  const int i = get_global_id(0);
  global const float *row = x + xOffset + (long)i * xStride;
  global const float *target = targets + targetsOffset + (long)i * classes;
  global float *result = dx + dxOffset + (long)i * dxStride;
  float largest = row[0];
  for (int c = 1; c < classes; c++)
    largest = fmax(largest, row[c]);
  float sum = 0.0f, targetSum = 0.0f;
  for (int c = 0; c < classes; c++) {
    sum += exp(row[c] - largest);
    targetSum += target[c] * (1.0f - smoothing) + smoothing / classes;
  }
  const float factor = dloss[dlossOffset] / rows;
  for (int c = 0; c < classes; c++) {
    const float t = target[c] * (1.0f - smoothing) + smoothing / classes;
    result[c] = COMBINE(accumulate, result[c], factor * (exp(row[c] - largest) / sum * targetSum - t));
  }
}
