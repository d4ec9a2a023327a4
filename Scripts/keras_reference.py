#!/usr/bin/env python3
"""The Keras twin: builds the same models in Keras, writes reference files for `fovea verify`, times Keras.

Set-up (Python 3.10 or later; keep the environment outside the repository):

    python3 -m venv ~/keras && ~/keras/bin/pip install tensorflow-cpu keras safetensors

Usage (`PYTHON` is that environment's python):

    PYTHON Scripts/keras_reference.py --output ref.safetensors --input-size 64x48 --target-size 32x40 --batch 3 --smooth
    PYTHON Scripts/keras_reference.py --output tf.safetensors --like ref.safetensors --dtype float32
    PYTHON Scripts/keras_reference.py --compare tf.safetensors ref.safetensors   # TensorFlow's own float32 error
    PYTHON Scripts/keras_reference.py --time [--model densenet121] [--batch 64] [--json]
    PYTHON Scripts/keras_reference.py --names                                    # every weight's name and shape
    PYTHON Scripts/keras_reference.py --check                                    # parameter counts and self-tests

Models (`--model`); all take pixels in 0…255, which are first multiplied by 1/255:

    resizer+densenet121   learnable resizer, then keras.applications.DenseNet121(weights=None); the default
    densenet121           the baseline: a plain resize to the target size, then DenseNet-121
    resizer               the learnable resizer alone; its loss is the mean squared error against target/<k>

The loss of the other two is categorical cross-entropy with label smoothing, from logits; the optimiser is plain SGD.

Weight names
    Keras's own variable paths, with the model's name in front. Kernels are HWIO (dense: IO).

    The resizer's layers carry Keras's default names in the order of creation. With r = --blocks:
      learnable_resizer/conv2d/{kernel,bias}                                        7x7, 3 -> n
      learnable_resizer/conv2d_1/{kernel,bias}                                      1x1
      learnable_resizer/batch_normalization/{gamma,beta,moving_mean,moving_variance}
      for block i = 0 ... r-1:
        learnable_resizer/conv2d_<2+2i>/kernel                                      3x3
        learnable_resizer/batch_normalization_<1+2i>/{gamma,beta,moving_mean,moving_variance}
        learnable_resizer/conv2d_<3+2i>/kernel                                      3x3
        learnable_resizer/batch_normalization_<2+2i>/{gamma,beta,moving_mean,moving_variance}
      learnable_resizer/conv2d_<2+2r>/kernel                                        3x3
      learnable_resizer/batch_normalization_<1+2r>/{gamma,beta,moving_mean,moving_variance}
      learnable_resizer/conv2d_<3+2r>/{kernel,bias}                                 7x7, n -> 3
    so with r = 1: conv2d ... conv2d_5 and batch_normalization ... batch_normalization_3.

    DenseNet-121's (blocks b = 2, 3, 4, 5 of 6, 12, 24, 16 layers i = 1, 2, ...; "bn" has the same four variables):
      densenet121/conv1_conv/kernel                 densenet121/conv1_bn/...
      densenet121/conv<b>_block<i>_0_bn/...         densenet121/conv<b>_block<i>_1_conv/kernel        1x1
      densenet121/conv<b>_block<i>_1_bn/...         densenet121/conv<b>_block<i>_2_conv/kernel        3x3
      densenet121/pool<b>_bn/...                    densenet121/pool<b>_conv/kernel                   b = 2, 3, 4
      densenet121/bn/...                            densenet121/predictions/{kernel,bias}

Reference file (safetensors; every tensor float32, whatever it was computed in)
    input/<k> (N,H,W,3 in 0…255), labels/<k> (N,classes one-hot) or target/<k> (N,h,w,3; resizer alone) for step
    k = 1, 2, ...; with only k = 1 (--same-batch) every step uses that batch;
    weights/<name>                        before training, moving statistics included
    expected/loss                         one per step
    expected/resized, expected/probabilities                       step 1, training mode (batch statistics)
    expected/resized_inference, expected/probabilities_inference   before training (moving statistics)
    expected/gradient/<name>, expected/input_gradient              step 1; the latter with respect to the 0…255 input
    expected/after_step_<k>/<name>        weights and moving statistics after step k
    metadata (strings): model, input_size and target_size (HxW), filters, blocks, interpolation, classes,
    label_smoothing, learning_rate, steps; and, for the reader only: batch, seed, dtype, resize, smooth, versions.

Starting values
    Glorot-uniform kernels, zero biases, gamma 1, beta 0, moving mean 0 and variance 1, drawn with NumPy from --seed in
    float32 and then widened, so that float32 and float64 start from the same numbers; kernels do not depend on --smooth.
    --smooth: every DenseNet beta is 3 + 0.1·normal and gamma 1 + 0.05·normal, so that few ReLU inputs are near the kink
    at 0 and gradients can be compared tightly; in the resizer gamma is 1 + 0.05·normal, beta and biases 0.1·normal.
    A handful of inputs would still be near enough to change sides between two correct float32 programs, and one such
    flip moves gradients by 1e-3. So the values are then settled in float64: wherever step 1 has a ReLU or LeakyReLU
    input within a margin of 0, or two first places in a max-pool window within a margin of each other, that channel's
    beta, bias or (pooling) kernel is nudged by a few margins, until none is left. The margin is 3e-5 in DenseNet (1e-5
    in its max pooling) and min(1e-5, 0.1/pixels) in the resizer; what was reached is printed and stored as metadata `margin`, in units of it.
    --like FILE takes the case (metadata, inputs, labels, starting weights) from a reference file: the way to a twin.
    --random-moving-statistics: mean 0.1·normal, variance uniform in 0.5…1.5, for inference that shows mistakes.

Precision
    --dtype float64 (default) runs the whole model in float64. `tf.image.resize` works in float32 only, therefore the
    resize is then two exact matrix products (one an axis) with float64 weights at half-pixel positions
    (i + 1/2)·in/out − 1/2: nearest is floor((i + 1/2)·in/out) in integers, bilinear the triangle, bicubic Keys with
    a = −0.5, lanczos3/5 the windowed sinc; no antialiasing; taps outside the image are dropped and the rest renormalised.
    That is what TensorFlow means to compute. TensorFlow's positions are float32 (weights move by up to 2e-5), and its
    bicubic reads a table of 1,024 entries (2–4e-4 away from exact Keys).
    --dtype float32 uses keras.ops.image.resize. `--resize exact|tensorflow` overrides either; for a float32 twin that
    measures rounding alone with bicubic, use `--dtype float32 --resize exact`.
    TensorFlow keeps LeakyReLU's slope in float32 even then: it is 0.2 + 3e-9 in every reference.
    Reference steps run as a tf.function without XLA. `--time` runs train_on_batch of a compiled model; `--jit` chooses
    XLA, by default as Keras does (off on a machine with CPUs only).
"""
import argparse
import json
import os
import resource
import signal
import statistics
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = ("resizer+densenet121", "densenet121", "resizer")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
RESIZER, DENSENET = "learnable_resizer", "densenet121"


def fail(message):
    sys.exit(f"keras_reference: error: {message}")


def import_numpy():
    global np
    try:
        import numpy as np
        import safetensors.numpy  # noqa: F401
    except ImportError as error:
        fail(f"package '{error.name}' is missing; install it with: {sys.executable} -m pip install "
             "tensorflow-cpu keras safetensors")


def import_keras(dtype):
    global tf, keras
    stderr = os.dup(2)  # TensorFlow greets on standard error before its log level applies
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        import tensorflow as tf
        import keras
        tf.constant(0)
    except ImportError as error:
        os.dup2(stderr, 2)
        fail(f"package '{error.name}' is missing; install it with: {sys.executable} -m pip install "
             "tensorflow-cpu keras safetensors")
    finally:
        os.dup2(stderr, 2)
    if keras.config.backend() != "tensorflow":
        fail(f"needs Keras's TensorFlow backend, found '{keras.config.backend()}': set KERAS_BACKEND=tensorflow")
    keras.config.set_floatx(dtype)
    keras.config.set_image_data_format("channels_last")


# --- resize ---------------------------------------------------------------------------------------------------------


def resize_matrix(size_in, size_out, interpolation):
    """The (out, in) float64 matrix of one axis: half-pixel centres, no antialiasing, edges renormalised."""
    matrix = np.zeros((size_out, size_in))
    if interpolation == "nearest":
        for i in range(size_out):
            matrix[i, min((2 * i + 1) * size_in // (2 * size_out), size_in - 1)] = 1
        return matrix

    def lanczos(radius):
        return lambda d: np.where(np.abs(d) < radius, np.sinc(d) * np.sinc(d / radius), 0.0)

    def keys(d, a=-0.5):
        d = np.abs(d)
        return np.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1,
                        np.where(d < 2, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a, 0.0))

    kernel = {"bilinear": lambda d: np.maximum(0.0, 1 - np.abs(d)), "bicubic": keys,
              "lanczos3": lanczos(3), "lanczos5": lanczos(5)}[interpolation]
    for i in range(size_out):
        position = ((2 * i + 1) * size_in - size_out) / (2 * size_out)
        weights = kernel(np.arange(size_in) - position)
        matrix[i] = weights / weights.sum()
    return matrix


def resize(x, size, interpolation, how):
    """(N,H,W,C) to (N,*size,C)."""
    if how == "tensorflow":
        y = keras.ops.image.resize(x, size, interpolation=interpolation, antialias=False)
        return keras.ops.cast(y, x.dtype)
    rows = tf.constant(resize_matrix(x.shape[1], size[0], interpolation), x.dtype)
    columns = tf.constant(resize_matrix(x.shape[2], size[1], interpolation), x.dtype)
    return tf.einsum("pw,nowc->nopc", columns, tf.einsum("oh,nhwc->nowc", rows, x))


# --- models ---------------------------------------------------------------------------------------------------------


def make_resizing_layer():
    class PlainResize(keras.layers.Layer):
        def __init__(self, size, interpolation, how, **arguments):
            super().__init__(**arguments)
            self.size, self.interpolation, self.how = tuple(size), interpolation, how

        def call(self, x):
            return resize(x, self.size, self.interpolation, self.how)

        def compute_output_shape(self, shape):
            return (shape[0], *self.size, shape[3])

    return PlainResize


def learnable_resizer(o):
    """Steps 1 to 7 of the learnable resizer. Names are Keras's defaults in the order of creation, given explicitly so
    that they do not depend on what was built before."""
    layers, resizing = keras.layers, make_resizing_layer()
    count = {"conv2d": 0, "batch_normalization": 0}

    def name(kind):
        count[kind] += 1
        return kind if count[kind] == 1 else f"{kind}_{count[kind] - 1}"

    def conv(x, filters, size, bias):
        return layers.Conv2D(filters, size, padding="same", use_bias=bias, name=name("conv2d"))(x)

    def norm(x):
        return layers.BatchNormalization(name=name("batch_normalization"))(x)

    def leaky(x):
        return layers.LeakyReLU(negative_slope=0.2)(x)

    def shrink(x):
        return resizing(o.target_size, o.interpolation, o.resize)(x)

    inputs = keras.Input((*o.input_size, 3))
    naive = shrink(inputs)
    x = leaky(conv(inputs, o.filters, 7, True))
    x = norm(leaky(conv(x, o.filters, 1, True)))
    bottleneck = x = shrink(x)
    for _ in range(o.blocks):
        y = leaky(norm(conv(x, o.filters, 3, False)))
        x = layers.Add()([x, norm(conv(y, o.filters, 3, False))])
    x = layers.Add()([bottleneck, norm(conv(x, o.filters, 3, False))])
    outputs = layers.Add()([naive, conv(x, 3, 7, True)])
    return keras.Model(inputs, outputs, name=RESIZER)


class Twin:
    """The parts of one model: `resizer` (or None), `backbone` giving logits (or None), and all weights by name."""

    def __init__(self, o, softmax=False):
        self.options = o
        self.resizer = learnable_resizer(o) if "resizer" in o.model else None
        self.backbone = None
        if DENSENET in o.model:
            if min(o.target_size) < 32:
                fail(f"DenseNet-121 needs a target of at least 32x32, not {show_size(o.target_size)}")
            self.backbone = keras.applications.DenseNet121(
                weights=None, classes=o.classes, input_shape=(*o.target_size, 3),
                classifier_activation="softmax" if softmax else None, name=DENSENET)
        self.parts = [p for p in (self.resizer, self.backbone) if p is not None]
        self.weights = {f"{p.name}/{w.path}": w for p in self.parts for w in p.weights}
        self.trainable = {f"{p.name}/{w.path}": w for p in self.parts for w in p.trainable_weights}

    def resized(self, x, training):
        x = x * (1 / 255)
        if self.resizer is not None:
            return self.resizer(x, training=training)
        return resize(x, self.options.target_size, self.options.interpolation, self.options.resize)

    def keras_model(self):
        """One ordinary Keras model, for timing; built with softmax=True."""
        inputs = keras.Input((*self.options.input_size, 3))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        if self.resizer is not None:
            x = self.resizer(x)
        else:
            x = make_resizing_layer()(self.options.target_size, self.options.interpolation, self.options.resize)(x)
        if self.backbone is not None:
            x = self.backbone(x)
        return keras.Model(inputs, x)


# --- starting values and data, the same for every dtype -----------------------------------------------------------


def initial_weights(twin, o):
    kernels, noise, moving = (np.random.default_rng([o.seed, stream]) for stream in (0, 1, 2))
    values = {}
    for name, variable in twin.weights.items():
        shape, kind = tuple(variable.shape), name.rsplit("/", 1)[1]
        backbone = name.startswith(DENSENET)
        if kind == "kernel":
            area = int(np.prod(shape[:-2]))
            limit = np.sqrt(6 / (area * (shape[-2] + shape[-1])))
            value = kernels.uniform(-limit, limit, shape)
        elif kind in ("beta", "bias"):
            value = 0.1 * noise.standard_normal(shape)
            if kind == "beta" and backbone:
                value = value + 3
        elif kind == "gamma":
            value = 1 + 0.05 * noise.standard_normal(shape)
        elif kind == "moving_mean":
            value = 0.1 * moving.standard_normal(shape)
        else:
            value = moving.uniform(0.5, 1.5, shape)
        if kind in ("beta", "bias", "gamma") and not o.smooth:
            value = np.full(shape, float(kind == "gamma"))
        if kind.startswith("moving") and not o.random_moving_statistics:
            value = np.full(shape, float(kind == "moving_variance"))
        values[name] = value.astype(np.float32)
    return values


def photo(generator, count, size, grain):
    """Smooth coloured fields plus grain, in 0…255."""
    field = generator.uniform(40, 215, (count, 5, 5, 3))
    rows, columns = resize_matrix(5, size[0], "bilinear"), resize_matrix(5, size[1], "bilinear")
    field = np.einsum("oh,pw,nhwc->nopc", rows, columns, field, optimize=True)
    return (field + generator.uniform(-grain, grain, field.shape)).astype(np.float32)


def batches(o):
    generator = np.random.default_rng([o.seed, 3])
    for k in range(1 if o.same_batch else o.steps):
        x = photo(generator, o.batch, o.input_size, 40)
        if o.model == "resizer":
            yield x, (photo(generator, o.batch, o.target_size, 10) / np.float32(255)).astype(np.float32)
        else:
            classes = (np.arange(o.batch) + generator.integers(o.classes)) % o.classes
            yield x, np.eye(o.classes, dtype=np.float32)[generator.permutation(classes)]


# --- smooth cases ---------------------------------------------------------------------------------------------------


def settle(twin, o, values, x):
    """Nudges starting values (in place) until step 1 has no input near a kink. Returns the smallest distance to a
    kink, in margins. Part by part and front to back, because every nudge moves all that follows a little."""
    generator = np.random.default_rng([o.seed, 4])

    def nudged(part, layer):
        if isinstance(layer, keras.layers.MaxPooling2D):
            return f"{part.name}/conv1_conv/kernel"
        producer = layer.input._keras_history.operation
        return f"{part.name}/{producer.name}/{'beta' if hasattr(producer, 'beta') else 'bias'}"

    def margin(part, layer):
        pixels = o.batch * int(np.prod(layer.input.shape[1:3]))
        return min(1e-5, 0.1 / pixels) if part is twin.resizer else 3e-5 if "relu" in layer.name else 1e-5

    def distance(layer, v):
        """Per channel, the smallest distance of a layer's input to its kinks."""
        if isinstance(layer, keras.layers.MaxPooling2D):
            height, width = ((n - 3) // 2 + 1 for n in v.shape[1:3])
            window = [v[:, r:r + 2 * height - 1:2, c:c + 2 * width - 1:2] for r in range(3) for c in range(3)]
            first, second = tf.unstack(tf.math.top_k(tf.stack(window, -1), 2).values, axis=-1)
            v = tf.where(first > 0, first - second, np.inf)  # a window of zeros passes no gradient on
        return tf.reduce_min(tf.abs(v), axis=(0, 1, 2))

    def settle_part(part, x):
        kinked = (keras.layers.LeakyReLU, keras.layers.Activation, keras.layers.MaxPooling2D)
        layers = [layer for layer in part.layers if isinstance(layer, kinked)]
        probe = keras.Model(part.inputs, [part.outputs, [layer.input for layer in layers]])
        names, margins = [nudged(part, layer) for layer in layers], [margin(part, layer) for layer in layers]

        @tf.function(jit_compile=False)
        def look(x):
            (y,), inputs = probe(x, training=True)
            return y, [distance(layer, v) for layer, v in zip(layers, inputs)]

        best = (-1.0, None, None)
        for _ in range(80):
            for name in twin.weights:
                if name.startswith(part.name):
                    twin.weights[name].assign(values[name].astype(o.dtype))
            y, distances = look(x)
            relative = [d.numpy() / m for d, m in zip(distances, margins)]
            smallest = min(float(r.min()) for r in relative)
            if smallest > best[0]:
                best = smallest, {name: value.copy() for name, value in values.items()}, y
            if smallest >= 1:
                break
            near = [i for i, r in enumerate(relative) if r.min() < 1]
            if part is twin.resizer or near[0] <= 1:  # DenseNet's stem: conv1_relu and pool1
                near = near[:1]
            for i in near:
                for channel in np.flatnonzero(relative[i] < 1):
                    if names[i].endswith("kernel"):
                        kernel = values[names[i]][..., channel]
                        kernel *= (1 + 1e-3 * generator.standard_normal(kernel.shape)).astype(np.float32)
                    else:
                        values[names[i]][channel] += generator.choice((-1, 1)) * generator.uniform(2, 6) * margins[i]
        values.update(best[1])
        return best[0], best[2]

    smallest, x = float("inf"), tf.constant(x, o.dtype) * (1 / 255)
    if twin.resizer is None:
        x = resize(x, o.target_size, o.interpolation, o.resize)
    for part in twin.parts:
        reached, x = settle_part(part, x)
        smallest = min(smallest, reached)
    return smallest


# --- reference file -------------------------------------------------------------------------------------------------


def loss_function(o):
    if o.model == "resizer":
        return keras.losses.MeanSquaredError()
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=o.label_smoothing)


def write_reference(o):
    from safetensors.numpy import save_file
    twin, loss_of = Twin(o), loss_function(o)
    tensors = {}

    def put(name, value):
        value = np.ascontiguousarray(np.asarray(value), dtype=np.float32)
        if not np.isfinite(value).all():
            fail(f"{name} is not finite")
        tensors[name] = value

    answer = "target" if o.model == "resizer" else "labels"
    margin = None
    if o.like:
        values = {name: o.like[f"weights/{name}"] for name in twin.weights}
        data = [(o.like[f"input/{k}"], o.like[f"{answer}/{k}"]) for k in range(1, o.steps + 1) if f"input/{k}" in o.like]
        o.same_batch = len(data) == 1
    else:
        values, data = initial_weights(twin, o), list(batches(o))
        if o.smooth:
            if o.dtype != "float64":
                fail("--smooth settles its values in float64; for a float32 twin use --like FILE --dtype float32")
            margin = settle(twin, o, values, data[0][0])
    for name, value in values.items():
        twin.weights[name].assign(value.astype(o.dtype))
        put(f"weights/{name}", value)
    for k, (x, y) in enumerate(data, 1):
        put(f"input/{k}", x)
        put(f"{answer}/{k}", y)

    @tf.function(jit_compile=False)
    def infer(x):
        resized = twin.resized(x, training=False)
        return resized, None if twin.backbone is None else tf.nn.softmax(twin.backbone(resized, training=False))

    @tf.function(jit_compile=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            resized = twin.resized(x, training=True)
            if twin.backbone is None:
                probabilities, loss = None, loss_of(y, resized)
            else:
                logits = twin.backbone(resized, training=True)
                probabilities, loss = tf.nn.softmax(logits), loss_of(y, logits)
        sources = [v.value for v in twin.trainable.values()]
        input_gradient, *gradients = tape.gradient(loss, [x, *sources])
        for variable, gradient in zip(sources, gradients):
            variable.assign_sub(tf.cast(o.learning_rate, gradient.dtype) * gradient)
        return loss, resized, probabilities, input_gradient, gradients

    resized, probabilities = infer(tf.constant(data[0][0], o.dtype))
    put("expected/resized_inference", resized)
    if probabilities is not None:
        put("expected/probabilities_inference", probabilities)

    losses = []
    for k in range(1, o.steps + 1):
        x, y = data[0 if o.same_batch else k - 1]
        loss, resized, probabilities, input_gradient, gradients = step(tf.constant(x, o.dtype), tf.constant(y, o.dtype))
        if str(loss.dtype.name) != o.dtype or any(g.dtype.name != o.dtype for g in gradients):
            fail(f"the model did not stay in {o.dtype}")
        losses.append(float(loss))
        if k == 1:
            put("expected/resized", resized)
            if probabilities is not None:
                put("expected/probabilities", probabilities)
            if o.gradients:
                put("expected/input_gradient", input_gradient)
                for name, gradient in zip(twin.trainable, gradients):
                    put(f"expected/gradient/{name}", gradient)
        if o.after == "all" or (o.after == "last" and k == o.steps):
            for name, variable in twin.weights.items():
                put(f"expected/after_step_{k}/{name}", variable.numpy())
    put("expected/loss", np.array(losses))

    metadata = {
        "model": o.model, "input_size": show_size(o.input_size), "target_size": show_size(o.target_size),
        "filters": o.filters, "blocks": o.blocks, "interpolation": o.interpolation, "classes": o.classes,
        "label_smoothing": o.label_smoothing, "learning_rate": o.learning_rate, "steps": o.steps,
        "batch": o.batch, "seed": o.seed, "dtype": o.dtype, "resize": o.resize, "smooth": str(o.smooth).lower(),
        "margin": "" if margin is None else f"{margin:.3g}", "versions": f"keras {keras.__version__}, tensorflow {tf.__version__}",
    }
    try:
        os.makedirs(os.path.dirname(os.path.abspath(o.output)), exist_ok=True)
        save_file(tensors, o.output, {key: str(value) for key, value in metadata.items()})
    except Exception as error:
        fail(f"cannot write {o.output}: {error}")
    print(f"{o.output}: {len(tensors)} tensors, {os.path.getsize(o.output) / 1e6:.2f} MB, losses "
          + " ".join(f"{loss:.9g}" for loss in losses)
          + ("" if margin is None else f", nearest kink {margin:.2g} margins away"))


# --- comparing two files --------------------------------------------------------------------------------------------


def load(path):
    from safetensors import safe_open
    try:
        with safe_open(path, "numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except Exception as error:
        fail(f"cannot read {path}: {error}")


def take_case(o):
    """--like: the case of a reference file."""
    o.like, metadata = load(o.like)
    try:
        o.model, o.interpolation = metadata["model"], metadata["interpolation"]
        o.input_size, o.target_size = parse_size(metadata["input_size"]), parse_size(metadata["target_size"])
        o.filters, o.blocks, o.classes, o.steps = (int(metadata[k]) for k in ("filters", "blocks", "classes", "steps"))
        o.label_smoothing, o.learning_rate = float(metadata["label_smoothing"]), float(metadata["learning_rate"])
        o.batch, o.seed = len(o.like["input/1"]), int(metadata.get("seed", 0))
        o.smooth = metadata.get("smooth") == "true"
    except (KeyError, ValueError, argparse.ArgumentTypeError) as error:
        fail(f"--like: not a reference file: {error}")


def relative_l2(value, reference):
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    difference, norm = np.linalg.norm(value - reference), np.linalg.norm(reference)
    return 0.0 if difference == 0 else float(difference / norm) if norm > 0 else float("inf")


def compare(path, reference_path, as_json, quiet):
    """Relative L2 of every expected tensor of `path` against `reference_path`."""
    (ours, _), (reference, _) = load(path), load(reference_path)
    for key in reference:
        if not key.startswith("expected/") and (key not in ours or not np.array_equal(ours[key], reference[key])):
            fail(f"the files do not describe the same case: '{key}' differs")
    names = sorted(key for key in reference if key.startswith("expected/") and key in ours)
    if not names:
        fail("the files have no expected tensor in common")
    rows = []
    for name in names:
        if ours[name].shape != reference[name].shape:
            fail(f"{name}: shapes {ours[name].shape} and {reference[name].shape} differ")
        rows.append((name, relative_l2(ours[name], reference[name]),
                     float(np.abs(ours[name].astype(np.float64) - reference[name]).max())))
    # A beta whose channels all stay above 0 is taken out again by the next BN, conv1_bn's gamma nearly so: their
    # gradients are 0 but for epsilon and rounding.
    norms = {n: float(np.linalg.norm(reference[n].astype(np.float64))) for n in names if n.startswith("expected/gradient/")}
    vanishing = {n for n in norms if norms[n] < 1e-3 * statistics.median(norms.values())}
    groups = {"gradients": "expected/gradient/"}
    steps = sorted({int(n.split("/")[1][len("after_step_"):]) for n in names if n.startswith("expected/after_step_")})
    groups.update({f"after step {k}": f"expected/after_step_{k}/" for k in steps})
    summary = {}
    for title, prefix in groups.items():
        group = sorted((e, n) for n, e, _ in rows if n.startswith(prefix) and n not in vanishing)
        if group:
            summary[title] = {"tensors": len(group), "median": statistics.median(e for e, _ in group),
                              "worst": group[-1][0], "worst_tensor": group[-1][1]}
    losses = [abs(float(a) - float(b)) / abs(float(b)) for a, b in
              zip(ours["expected/loss"].ravel(), reference["expected/loss"].ravel())]
    if as_json:
        print(json.dumps({"tensors": [{"name": n, "relative_l2": e, "max_abs": m} for n, e, m in rows],
                          "relative_loss": losses, "vanishing": sorted(vanishing), "summary": summary}))
        return
    if not quiet:
        for name, error, largest in rows:
            print(f"{error:10.3e}  {largest:10.3e}  {name}")
    for name, error, _ in rows:
        if not name.startswith(tuple(groups.values())) and name != "expected/loss":
            print(f"{name[len('expected/'):]:28} {error:.2e}")
    print(f"{'loss of each step':28} " + " ".join(f"{e:.1e}" for e in losses))
    for title, s in summary.items():
        print(f"{title:28} median {s['median']:.2e}  worst {s['worst']:.2e}  ({s['worst_tensor']}; {s['tensors']} tensors)")
    if vanishing:
        print(f"{len(vanishing)} gradients cancel (norm below 1e-3 of the median norm) and are not counted: "
              + ", ".join(sorted(n[len("expected/gradient/"):] for n in vanishing)[:4]) + (" ..." if len(vanishing) > 4 else ""))


# --- timing ---------------------------------------------------------------------------------------------------------


def time_model(o):
    """Keras as its user runs it: one compiled model, fit's own train step, float32."""
    twin = Twin(o, softmax=True)
    for name, value in initial_weights(twin, o).items():
        twin.weights[name].assign(value)
    model = twin.keras_model()
    jit = {"auto": "auto", "on": True, "off": False}[o.jit]
    loss = (keras.losses.MeanSquaredError() if o.model == "resizer"
            else keras.losses.CategoricalCrossentropy(label_smoothing=o.label_smoothing))
    model.compile(optimizer=keras.optimizers.SGD(o.learning_rate), loss=loss,
                  metrics=[] if o.model == "resizer" else ["accuracy"], jit_compile=jit)
    o.same_batch = True
    (x, y), = batches(o)
    x, y = tf.constant(x), tf.constant(y)
    runs = o.steps
    seconds, value = [], None
    for _ in range(runs + 1):
        start = time.perf_counter()
        value = (model.predict_on_batch(x) if o.time_inference else model.train_on_batch(x, y))
        seconds.append(time.perf_counter() - start)
        if not o.json:
            print(f"{'first' if len(seconds) == 1 else 'step'} {seconds[-1]:.3f} s", flush=True)
    median = statistics.median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {
        "framework": f"keras {keras.__version__}, tensorflow {tf.__version__}", "what": "inference" if o.time_inference
        else "training step", "model": o.model, "batch": o.batch, "input_size": show_size(o.input_size),
        "target_size": show_size(o.target_size), "filters": o.filters, "blocks": o.blocks, "dtype": o.dtype,
        "jit_compile": bool(model.jit_compile), "devices": [d.device_type for d in tf.config.list_physical_devices()],
        "first_seconds": seconds[0], "median_seconds": median, "seconds": seconds[1:],
        "images_per_second": o.batch / median, "peak_rss_bytes": peak,
    }
    if not o.time_inference:
        result["last_loss"] = float(np.ravel(value)[0])
    if o.json:
        print(json.dumps(result))
    else:
        print(f"{result['what']}, {o.model}, batch {o.batch}, {result['input_size']} -> {result['target_size']}, XLA "
              f"{'on' if result['jit_compile'] else 'off'}: first {seconds[0]:.2f} s, median of {runs} {median:.3f} s, "
              f"{result['images_per_second']:.2f} images/s, peak {peak / 2**30:.2f} GiB")


# --- names and self-test --------------------------------------------------------------------------------------------


def print_names(o):
    twin = Twin(o)
    for name, variable in twin.weights.items():
        print(f"{name:56} {'x'.join(map(str, variable.shape)):14} {'' if name in twin.trainable else 'not trained'}".rstrip())


def self_test(o):
    def count(weights):
        return sum(int(np.prod(w.shape)) for w in weights)

    def require(what, found, wanted):
        print(f"{'ok ' if found == wanted else 'BAD'} {what}: {found:,}")
        if found != wanted:
            fail(f"{what} should be {wanted:,}")

    o.filters, o.blocks, o.classes, o.input_size, o.target_size, o.interpolation = 16, 1, 2, (300, 300), (150, 150), "bilinear"
    o.model, o.resize = "resizer+densenet121", "tensorflow"
    twin = Twin(o)
    require("resizer parameters", count(twin.resizer.weights), 12_163)
    require("DenseNet-121 parameters", count(twin.backbone.weights), 7_039_554)
    require("DenseNet-121 trainable parameters", count(twin.backbone.trainable_weights), 6_955_906)
    require("parameters together", count(twin.weights.values()), 7_051_717)

    # The exact resize is the function that TensorFlow approximates.
    generator = np.random.default_rng(1)
    for interpolation, limit in zip(INTERPOLATIONS, (0, 3e-5, 2e-3, 1e-4, 1e-4)):
        worst = 0.0
        for size_in, size_out in (((37, 29), (20, 23)), ((12, 9), (25, 30)), ((32, 24), (16, 12)), ((7, 31), (7, 5))):
            x = tf.constant(generator.uniform(0, 1, (1, *size_in, 2)), "float64")
            difference = resize(x, size_out, interpolation, "exact") - resize(x, size_out, interpolation, "tensorflow")
            worst = max(worst, float(tf.reduce_max(tf.abs(difference))))
        print(f"{'ok ' if worst <= limit else 'BAD'} {interpolation}: exact against TensorFlow's, largest difference {worst:.1e}")
        if worst > limit:
            fail(f"{interpolation} differs from keras.ops.image.resize by {worst:.1e}")

    # Our step is Keras's train_on_batch: same loss, same weights afterwards.
    o.input_size, o.target_size, o.batch, o.steps, o.same_batch = (48, 40), (36, 33), 4, 1, True
    o.smooth, o.random_moving_statistics = True, False
    start = initial_weights(twin := Twin(o), o)
    plain = Twin(o, softmax=True)
    for t in (twin, plain):
        for name, value in start.items():
            t.weights[name].assign(value)
    (x, y), = batches(o)
    x, y = tf.constant(x, o.dtype), tf.constant(y, o.dtype)
    model = plain.keras_model()
    model.compile(optimizer=keras.optimizers.SGD(o.learning_rate), jit_compile=False,
                  loss=keras.losses.CategoricalCrossentropy(label_smoothing=o.label_smoothing))
    with tf.GradientTape() as tape:
        loss = loss_function(o)(y, twin.backbone(twin.resized(x, True), training=True))
    variables = [v.value for v in twin.trainable.values()]
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        variable.assign_sub(tf.cast(o.learning_rate, gradient.dtype) * gradient)
    theirs = float(np.ravel(model.train_on_batch(x, y))[0])
    worst = max(relative_l2(twin.weights[n].numpy(), plain.weights[n].numpy()) for n in start)
    good = abs(float(loss) - theirs) < 1e-6 * theirs and worst < 1e-6
    print(f"{'ok ' if good else 'BAD'} one step against train_on_batch: losses {float(loss):.8f} and {theirs:.8f}, worst weight {worst:.1e}")
    if not good:
        fail("the step is not train_on_batch's")


# --- command line ---------------------------------------------------------------------------------------------------


def show_size(size):
    return f"{size[0]}x{size[1]}"


def parse_size(text):
    try:
        height, width = (int(part) for part in text.lower().split("x")) if "x" in text.lower() else (int(text),) * 2
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size: write HxW, for example 300x200")
    if min(height, width) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': height and width must be at least 1")
    return height, width


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def parse_arguments():
    p = argparse.ArgumentParser(
        description="Builds the learnable resizer and DenseNet-121 in Keras, writes reference files, compares and times.",
        epilog="The file's docstring documents weight names, the file format and the precision of everything.")
    task = p.add_argument_group("what to do (one of)").add_mutually_exclusive_group(required=True)
    task.add_argument("--output", metavar="FILE", help="write a reference file")
    task.add_argument("--compare", nargs=2, metavar=("FILE", "REFERENCE"), help="relative L2 of FILE's tensors against REFERENCE's")
    task.add_argument("--time", action="store_true", help="time Keras's training step in float32")
    task.add_argument("--time-inference", action="store_true", help="time Keras's inference in float32")
    task.add_argument("--names", action="store_true", help="print every weight's name and shape")
    task.add_argument("--check", action="store_true", help="check parameter counts, the resize and the step against Keras")
    m = p.add_argument_group("model")
    m.add_argument("--model", choices=MODELS, default=MODELS[0])
    m.add_argument("--input-size", type=parse_size, default=(300, 300), metavar="HxW")
    m.add_argument("--target-size", type=parse_size, default=(150, 150), metavar="HxW")
    m.add_argument("--filters", "-n", type=positive, default=16)
    m.add_argument("--blocks", "-r", type=int, default=1)
    m.add_argument("--interpolation", choices=INTERPOLATIONS, default="bilinear")
    m.add_argument("--classes", type=positive, default=2)
    m.add_argument("--label-smoothing", type=float, default=0.1)
    m.add_argument("--learning-rate", type=float, default=0.01)
    r = p.add_argument_group("reference and timing")
    r.add_argument("--like", metavar="FILE", help="take the case from a reference file; only --dtype, --resize and what to write apply")
    r.add_argument("--seed", type=int, default=1)
    r.add_argument("--batch", type=positive, help="default: 2, for timing 64")
    r.add_argument("--steps", type=positive, help="default: 3, for timing 5 after the first")
    r.add_argument("--dtype", choices=("float64", "float32"), help="default: float64, for timing float32")
    r.add_argument("--resize", choices=("exact", "tensorflow"), help="default: exact in float64, tensorflow in float32")
    r.add_argument("--smooth", action="store_true", help="keep activations away from ReLU's kink (see the docstring)")
    r.add_argument("--random-moving-statistics", action="store_true")
    r.add_argument("--same-batch", action="store_true", help="every step uses batch 1")
    r.add_argument("--no-gradients", dest="gradients", action="store_false")
    r.add_argument("--after", choices=("all", "last", "none"), default="all", help="which steps' weights to write")
    r.add_argument("--no-after", dest="after", action="store_const", const="none", help="the same as --after none")
    r.add_argument("--jit", choices=("auto", "on", "off"), default="auto", help="XLA while timing; auto is Keras's choice")
    r.add_argument("--threads", type=positive, help="TensorFlow's threads; default: all cores")
    p.add_argument("--json", action="store_true", help="with --time, --time-inference, --compare")
    p.add_argument("--quiet", "-q", action="store_true", help="with --compare: only the summary")
    o = p.parse_args()
    if o.blocks < 0:
        p.error("--blocks must be 0 or more")
    if o.seed < 0:
        p.error("--seed must be 0 or more")
    timing = o.time or o.time_inference
    if timing and o.dtype == "float64":
        p.error("timing is float32 only")
    o.batch = o.batch or (64 if timing else 2)
    o.steps = o.steps or (5 if timing else 3)
    o.dtype = o.dtype or ("float32" if timing else "float64")
    o.resize = o.resize or ("exact" if o.dtype == "float64" else "tensorflow")
    return o


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    o = parse_arguments()
    import_numpy()
    if o.compare:
        return compare(*o.compare, o.json, o.quiet)
    if o.like:
        if not o.output:
            fail("--like needs --output")
        take_case(o)
    import_keras(o.dtype)
    if o.threads:
        tf.config.threading.set_intra_op_parallelism_threads(o.threads)
        tf.config.threading.set_inter_op_parallelism_threads(o.threads)
    if o.time or o.time_inference:
        time_model(o)
    elif o.names:
        print_names(o)
    elif o.check:
        self_test(o)
    else:
        write_reference(o)


if __name__ == "__main__":
    main()
