// Updates over flat arenas of parameters, one launch for all of them. Hyper-parameters that change from step to step
// lie in a small device buffer, which the host writes before the step: settings[0] learning rate, [1] gradient factor
// (clipping), [2] and [3] bias corrections, [4] not 0 once a loss was not finite: nothing is updated from then on, so
// that the weights which gave that loss can be looked at. Work-items: vectors of VEC parameters.

// Keras's SGD. momentum 0: w -= lr * g. Else v = momentum * v - lr * g; w += v, or with Nesterov w += momentum * v -
// lr*g.
kernel WIDE void sgd(global float *w, global const float *g, global float *v, global const float *settings,
                     float momentum, int nesterov, float weightDecay) {
  if (settings[4] != 0.0f)
    return;
  const long i = (long)get_global_id(0) * VEC;
  const float rate = settings[0];
  vfloat weight = VLOAD(w + i);
  const vfloat gradient = VLOAD(g + i) * settings[1];
  weight -= weight * (weightDecay * rate);
  if (momentum == 0.0f) {
    weight -= gradient * rate;
  } else {
    const vfloat velocity = VLOAD(v + i) * momentum - gradient * rate;
    VSTORE(velocity, v + i);
    weight += nesterov ? velocity * momentum - gradient * rate : velocity;
  }
  VSTORE(weight, w + i);
}

// Keras's Adam and, with decay, AdamW: the decay is applied to the weight, not to the gradient.
kernel WIDE void adam(global float *w, global const float *g, global float *m, global float *v,
                      global const float *settings, float beta1, float beta2, float epsilon, float weightDecay) {
  if (settings[4] != 0.0f)
    return;
  const long i = (long)get_global_id(0) * VEC;
  const float rate = settings[0];
  vfloat weight = VLOAD(w + i);
  const vfloat gradient = VLOAD(g + i) * settings[1];
  weight -= weight * (weightDecay * rate);
  const vfloat first = VLOAD(m + i) + (gradient - VLOAD(m + i)) * (1.0f - beta1);
  const vfloat second = VLOAD(v + i) + (gradient * gradient - VLOAD(v + i)) * (1.0f - beta2);
  VSTORE(first, m + i);
  VSTORE(second, v + i);
  const float alpha = rate * sqrt(settings[3]) / settings[2];
  weight -= first * alpha / (sqrt(second) + epsilon);
  VSTORE(weight, w + i);
}

// settings[1] = min(1, limit / norm) with the norm from the sum of squares; one work-item.
kernel void clip_factor(global const float *squares, float limit, global float *settings) {
  const float norm = sqrt(squares[0]);
  settings[1] = norm > limit ? limit / norm : 1.0f;
}

// Stops all updates from now on when the loss is not finite; one work-item.
kernel void check_loss(global float *settings, global const float *loss, int lossOffset) {
  if (!isfinite(loss[lossOffset]))
    settings[4] = 1.0f;
}
