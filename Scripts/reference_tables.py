"""Writes Tests/ReferenceOperationsTests/KerasTables.swift: what TensorFlow and Keras compute for small inputs.

Inputs are a fixed pattern that the tests repeat: pattern(shape)[i] = float32(((i * 37 + offset) % 101) / 50 - 1).
Run from the repository root: python Scripts/reference_tables.py
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf

tables = {}


def pattern(shape, offset=11):
    i = np.arange(int(np.prod(shape)))
    return (((i * 37 + offset) % 101) / 50 - 1).astype(np.float32).reshape(shape)


def record(name, values):
    tables[name] = np.asarray(values, dtype=np.float32).reshape(-1)


def gradients(name, function, inputs, seed_offset=5):
    variables = {key: tf.Variable(value) for key, value in inputs.items()}
    with tf.GradientTape() as tape:
        y = function(**variables)
        loss = tf.reduce_sum(y * pattern(y.shape, seed_offset))
    record(name, y)
    for key, value in tape.gradient(loss, variables).items():
        record(f"{name}.{key}", value)


# Resize: (input height, width) to (output height, width), one image, two channels.
for h, w, oh, ow in [(7, 10, 3, 4), (5, 4, 7, 9), (6, 8, 3, 4), (9, 3, 4, 7)]:
    for method in ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]:
        for antialias in [False, True]:
            y = keras.ops.image.resize(
                pattern((1, h, w, 2)), (oh, ow), interpolation=method, antialias=antialias, data_format="channels_last")
            record(f"resize.{h}x{w}.{oh}x{ow}.{method}.{str(antialias).lower()}", y)

# Convolution: name, image, filter, strides, padding.
for name, image, kernel, strides, padding in [
    ("same2", (2, 5, 6, 2), (3, 3, 2, 3), (2, 2), "SAME"),
    ("same1", (1, 4, 5, 3), (4, 2, 3, 2), (1, 1), "SAME"),
    ("valid", (1, 7, 6, 2), (3, 2, 2, 2), (2, 1), "VALID"),
]:
    gradients(
        f"conv2d.{name}",
        lambda input, filter: tf.nn.conv2d(input, filter, strides, padding),
        {"input": pattern(image), "filter": pattern(kernel, 29)})

# Pooling. The image holds ties: it is rounded to quarters and cut at zero.
ties = np.maximum(np.round(pattern((1, 7, 6, 2)) * 4) / 4, 0).astype(np.float32)
gradients(
    "maxPool.zero",
    lambda input: tf.nn.max_pool2d(tf.pad(input, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID"), {"input": ties})
gradients("maxPool.same", lambda input: tf.nn.max_pool2d(input, 3, 2, "SAME"), {"input": ties})
gradients("averagePool", lambda input: tf.nn.avg_pool2d(input, 2, 2, "VALID"), {"input": pattern((1, 7, 5, 2))})

# Batch normalisation: one training step of the Keras layer.
layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
layer.build((None, 3, 4, 3))
layer.gamma.assign(pattern((3,), 70))
layer.beta.assign(pattern((3,), 20))
image = tf.Variable(pattern((2, 3, 4, 3)))
with tf.GradientTape() as tape:
    y = layer(image, training=True)
    loss = tf.reduce_sum(y * pattern(y.shape, 5))
record("batchNorm", y)
for key, value in zip(["input", "gamma", "beta"], tape.gradient(loss, [image, layer.gamma.value, layer.beta.value])):
    record(f"batchNorm.{key}", value)
record("batchNorm.movingMean", layer.moving_mean)
record("batchNorm.movingVariance", layer.moving_variance)
record("batchNorm.inference", layer(image, training=False))

# Losses.
logits = tf.Variable(pattern((3, 4)) * 5)
labels = np.eye(4, dtype=np.float32)[[2, 0, 3]]
with tf.GradientTape() as tape:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(labels, logits)
record("crossEntropy", loss)
record("crossEntropy.logits", tape.gradient(loss, logits))
record("softmax", tf.nn.softmax(logits))
record("meanSquaredError", keras.losses.MeanSquaredError()(labels, logits))

# Clipping and optimisers: five steps, the gradient of step t is pattern((4,), 5 + t).
clipped, norm = tf.clip_by_global_norm([pattern((4,), 5), pattern((3,), 9)], 0.5)
record("clip", np.concatenate([c.numpy() for c in clipped]))
for name, optimizer in {
    "sgd": keras.optimizers.SGD(0.1),
    "sgd.decay": keras.optimizers.SGD(0.1, weight_decay=0.05),
    "sgd.momentum": keras.optimizers.SGD(0.1, momentum=0.9),
    "sgd.nesterov": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    "adam": keras.optimizers.Adam(0.1),
    "adamW": keras.optimizers.AdamW(0.1, weight_decay=0.05),
}.items():
    variable = keras.Variable(pattern((4,)))
    optimizer.build([variable])
    for step in range(5):
        optimizer.apply([tf.constant(pattern((4,), 5 + step))], [variable])
    record(f"optimizer.{name}", variable)

lines = [
    "// Written by Scripts/reference_tables.py: do not edit.",
    f"// Keras {keras.__version__} on TensorFlow {tf.__version__}, float32 on the CPU.",
    "",
    "let kerasTables: [String: [Double]] = [",
]
for name, values in tables.items():
    lines.append(f'  "{name}": [')
    line = "   "
    for text in (f" {float(v)!r}," for v in map(lambda v: float(f"{v:.8g}"), values)):
        if len(line) + len(text) > 118:
            lines.append(line)
            line = "   "
        line += text
    # One value has no comma: the formatter allows none there.
    lines += [line if values.size > 1 else line.rstrip(","), "  ],"]
lines.append("]")
with open("Tests/ReferenceOperationsTests/KerasTables.swift", "w") as file:
    file.write("\n".join(lines) + "\n")
print(len(tables), "tables,", sum(v.size for v in tables.values()), "values")
