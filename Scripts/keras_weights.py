#!/usr/bin/env python3
"""Weights between Fovea's safetensors and real Keras models, and a check that both give the same probabilities.

Set-up as for Scripts/keras_reference.py:

    python3 -m venv ~/keras && ~/keras/bin/pip install tensorflow-cpu keras safetensors

Usage (`PYTHON` is that environment's python):

    PYTHON Scripts/keras_weights.py check --run runs/pets PHOTO...          # the run's weights, in Keras and in Fovea
    PYTHON Scripts/keras_weights.py export --run runs/pets pets.keras       # or .weights.h5: the run as a Keras file
    PYTHON Scripts/keras_weights.py import densenet.weights.h5 densenet.safetensors         # Keras's file for Fovea

`check` loads the run's best.safetensors into the model of Scripts/keras_reference.py, by name, and compares `resized`,
logits and probabilities on the photos as `fovea predict --save` read them; it writes the weights to .weights.h5 and reads
them back on the way. Exits 1 when a value is further off than --limit (1e-5): the largest absolute difference over the
larger of 1 and the largest value.

`export` to .keras needs Scripts/keras_reference.py beside the program that reads it, for the layer of the plain resize.
`import` builds the Keras model, lets Keras read the file (any that its load_weights reads), and writes Keras's names, which
`fovea import` and `train --weights` understand. Which DenseNet it is, with how many classes or without its last layer
(include_top=False), the file tells by its shapes; models with a resizer are named by --model and its options. Keras's own
ImageNet weights expect normalised photos: take the result through `fovea import --normalization imagenet`.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import warnings

import keras_reference as reference


def fail(message):
    sys.exit(f"keras_weights: error: {message}")


def options_of_run(run):
    path = os.path.join(run, "config.json")
    try:
        with open(path) as file:
            model = json.load(file)["model"]
    except (OSError, KeyError, ValueError) as error:
        fail(f"{path} is not the configuration of a run: {error}")
    return types.SimpleNamespace(
        model=model["model"], input_size=(model["input_height"], model["input_width"]),
        target_size=(model["target_height"], model["target_width"]), filters=model["filters"],
        blocks=model["blocks"], interpolation=model["interpolation"], classes=model["classes"], resize="exact")


def twin_of(o, softmax):
    if o.model not in reference.MODELS:
        fail(f"{o.model} has no Keras twin; there are {', '.join(reference.MODELS)}")
    return reference.Twin(o, softmax=softmax)


def load_into(twin, path):
    from safetensors.numpy import load_file
    tensors = load_file(path)
    missing = sorted(set(twin.weights) - set(tensors))
    unknown = sorted(set(tensors) - set(twin.weights))
    if missing or unknown:
        fail(f"{path}: missing in the file {missing[:3]}, unknown to Keras {unknown[:3]}")
    for name, variable in twin.weights.items():
        if tuple(variable.shape) != tensors[name].shape:
            fail(f"{path}: {name} has shape {tensors[name].shape}, in Keras {tuple(variable.shape)}")
        variable.assign(tensors[name])


def weights_of(o):
    return o.weights or os.path.join(o.run, "best.safetensors")


def program(o):
    builds = [build for build in (".build/release/fovea", ".build/debug/fovea") if os.path.exists(build)]
    path = shutil.which(o.fovea or max(builds, key=os.path.getmtime, default="fovea"))
    if path is None:
        fail(f"there is no {o.fovea or 'fovea'}: build it with swift build -c release, or name it by --fovea")
    return path


def check(o):
    import numpy as np
    from safetensors.numpy import load_file
    fovea = program(o)
    case = options_of_run(o.run)
    twin = twin_of(case, softmax=False)
    load_into(twin, weights_of(o))
    with tempfile.TemporaryDirectory() as folder:
        # Through Keras's own file and into a fresh model: what is compared is what a Keras user gets.
        again = twin_of(case, softmax=False)
        for index, (part, fresh) in enumerate(zip(twin.parts, again.parts)):
            path = os.path.join(folder, f"{index}.weights.h5")
            part.save_weights(path)
            fresh.load_weights(path)
        path = os.path.join(folder, "ours.safetensors")
        command = [fovea, "predict", "--run", o.run, "--weights", weights_of(o), "--save", path, "--csv", *o.photos]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            fail("fovea predict failed")
        ours = load_file(path)
    theirs = {"resized": [], "logits": [], "probabilities": []}
    for start in range(0, len(ours["photos"]), 16):
        resized = again.resized(reference.tf.constant(ours["photos"][start:start + 16]), training=False)
        logits = again.backbone(resized, training=False)
        for name, value in (("resized", resized), ("logits", logits),
                            ("probabilities", reference.keras.ops.softmax(logits))):
            theirs[name].append(np.asarray(value))
    failed = False
    print(f"Keras {reference.keras.__version__}, {len(ours['photos'])} photos, {len(twin.weights)} weights, "
          f"limit {o.limit:g}")
    for name, values in theirs.items():
        value = np.concatenate(values)
        largest = max(1.0, float(np.abs(value).max()))
        error = float(np.abs(ours[name] - value).max()) / largest
        failed |= not error <= o.limit
        print(f"{name:14} {str(value.shape):20} largest {largest:7.2f}  error {error:.1e}"
              + ("" if error <= o.limit else "   BEYOND THE LIMIT"))
    sys.exit(1 if failed else 0)


def export(o):
    twin = twin_of(options_of_run(o.run), softmax=True)
    load_into(twin, weights_of(o))
    model = twin.keras_model()
    if o.file.endswith(".weights.h5"):
        model.save_weights(o.file)
    elif o.file.endswith(".keras"):
        model.save(o.file)
    else:
        fail(f"{o.file} must end in .weights.h5 or .keras")
    print(f"Wrote {o.file}")


# By their number of convolutions.
DENSENETS = {120: "DenseNet121", 168: "DenseNet169", 200: "DenseNet201"}


def kernel_shapes(path):
    """The shapes of all kernels in one of Keras's files: .weights.h5, .keras or the older .h5."""
    import io
    import zipfile
    import h5py
    shapes = []

    def note(name, item):
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 4) and not name.startswith("optimizer"):
            shapes.append(item.shape)

    try:
        file = path
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                file = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(file) as weights:
            weights.visititems(note)
    except FileNotFoundError:
        fail(f"there is no file {path}")
    except (OSError, KeyError) as error:
        fail(f"{path} is not a file of Keras's weights: {error}")
    return shapes


def import_weights(o):
    import numpy as np
    from safetensors.numpy import save_file
    shapes = kernel_shapes(o.source)
    found = [shape[1] for shape in shapes if len(shape) == 2]
    if o.model is None:
        convolutions = sum(len(shape) == 4 for shape in shapes)
        if convolutions not in DENSENETS or len(found) > 1:
            fail(f"{o.source} holds {convolutions} convolutions and {len(found)} dense layers, which is no DenseNet by "
                 "itself: name a model with a resizer by --model")
        name = DENSENETS[convolutions]
        o.model = name.lower()
        target = getattr(reference.keras.applications, name)(
            weights=None, include_top=bool(found), classes=found[0] if found else 1000, input_shape=(224, 224, 3),
            name=o.model)
        weights = {f"{o.model}/{variable.path}": variable for variable in target.weights}
        classes = f"{found[0]} classes" if found else "without its last layer"
    else:
        o.resize, o.classes = "exact", found[0] if found else 2
        twin = twin_of(o, softmax=True)
        target, weights = twin.parts[0] if len(twin.parts) == 1 else twin.keras_model(), twin.weights
        classes = f"{o.classes} classes" if found else "no classes"
    try:
        with warnings.catch_warnings(record=True) as skipped:
            warnings.simplefilter("always")
            target.load_weights(o.source)
        problem = next((str(w.message) for w in skipped if "freshly-initialized" in str(w.message)), None)
    except (OSError, ValueError) as error:
        problem = str(error)
    if problem:
        fail(f"{o.source} does not fit {o.model}: {problem.splitlines()[0]}")
    save_file({name: np.asarray(variable) for name, variable in weights.items()}, o.file, {"model": o.model})
    print(f"Wrote {o.file}: {o.model}, {classes}, {len(weights)} tensors")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = p.add_subparsers(dest="task", required=True)
    for task in ("check", "export"):
        t = tasks.add_parser(task)
        t.add_argument("--run", default="runs/latest", help="folder of the run (default: %(default)s)")
        t.add_argument("--weights", help="other weights than the run's best")
        if task == "check":
            t.add_argument("--fovea", help="the program (default: the newest build, else that in PATH)")
            t.add_argument("--limit", type=float, default=1e-5, help="largest error (default: %(default)s)")
            t.add_argument("photos", nargs="+", metavar="PHOTO")
        else:
            t.add_argument("file", help=".keras or .weights.h5")
    t = tasks.add_parser("import")
    t.add_argument("source", help="Keras's file")
    t.add_argument("file", help="safetensors to write")
    t.add_argument("--model", choices=[m for m in reference.MODELS if "resizer" in m],
                   help="a model with a resizer; otherwise it is a DenseNet, which the file tells")
    t.add_argument("--input-size", type=reference.parse_size, default=(300, 300), metavar="HxW")
    t.add_argument("--target-size", type=reference.parse_size, default=(150, 150), metavar="HxW")
    t.add_argument("--filters", type=reference.positive, default=16)
    t.add_argument("--blocks", type=int, default=1)
    t.add_argument("--interpolation", choices=reference.INTERPOLATIONS, default="bilinear")
    o = p.parse_args()
    reference.import_numpy()
    reference.import_keras("float32")
    {"check": check, "export": export, "import": import_weights}[o.task](o)


if __name__ == "__main__":
    main()
