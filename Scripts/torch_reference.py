#!/usr/bin/env python3
"""The same model and training step in PyTorch: a second clock, on CPU or CUDA.

    PYTHON Scripts/torch_reference.py --time [--mode eager|channels-last|compile] [--precision float32|tf32|amp] [--inference] [--json]
    PYTHON Scripts/torch_reference.py --verify ref.safetensors     # against a file of Scripts/keras_reference.py

The learnable resizer and DenseNet-121 exactly as in Keras (written by hand, no torchvision): epsilon 1e-3 in the resizer
and 1.001e-5 in DenseNet, momentum 0.99 in Keras's sense (0.01 in PyTorch's), the stem padded with zeros before valid
convolution and pooling, cross-entropy from logits with label smoothing 0.1, plain SGD. One difference cannot be had
from nn.BatchNorm2d: it puts the unbiased batch variance in the moving variance, Keras the biased one. Losses and
gradients of training do not see it, so --verify checks those: the loss and every gradient of step 1.

Modes: eager (contiguous NCHW), channels-last (NHWC memory), compile (torch.compile and channels-last). Precisions:
float32 (no TF32 anywhere), tf32 (CUDA), amp (CUDA: float16 autocast with gradient scaling; CPU: bfloat16 autocast).
On CUDA steps are timed with CUDA events and peak memory is the allocator's; on the CPU wall clock and ru_maxrss.
"""
import argparse
import json
import resource
import statistics
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    sys.exit(f"torch_reference: error: package '{error.name}' is missing; install it with: {sys.executable} -m pip install torch")

MODELS = ("resizer+densenet121", "densenet121", "resizer")


def fail(message):
    sys.exit(f"torch_reference: error: {message}")


def resize(x, size, interpolation):
    if interpolation == "nearest":
        return F.interpolate(x, size, mode="nearest-exact")
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)


def norm(channels, epsilon):
    return nn.BatchNorm2d(channels, eps=epsilon, momentum=0.01)


class Resizer(nn.Module):
    def __init__(self, size, n=16, r=1, interpolation="bilinear"):
        super().__init__()
        self.size, self.interpolation = size, interpolation
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()  # in Keras's order of creation
        self.convs += [nn.Conv2d(3, n, 7, padding=3), nn.Conv2d(n, n, 1)]
        self.convs += [nn.Conv2d(n, n, 3, padding=1, bias=False) for _ in range(2 * r + 1)]
        self.convs.append(nn.Conv2d(n, 3, 7, padding=3))
        self.norms += [norm(n, 1e-3) for _ in range(2 * r + 2)]
        self.r = r

    def forward(self, inputs):
        slope = torch.tensor(0.2, dtype=torch.float32).item()  # TensorFlow's operation keeps its slope in float32
        leaky = lambda x: F.leaky_relu(x, slope)  # noqa: E731
        convs, norms = iter(self.convs), iter(self.norms)
        naive = resize(inputs, self.size, self.interpolation)
        x = leaky(next(convs)(inputs))
        x = next(norms)(leaky(next(convs)(x)))
        bottleneck = x = resize(x, self.size, self.interpolation)
        for _ in range(self.r):
            y = leaky(next(norms)(next(convs)(x)))
            x = x + next(norms)(next(convs)(y))
        x = bottleneck + next(norms)(next(convs)(x))
        return naive + next(convs)(x)

    def named_twins(self):
        """(Keras layer name, module) in Keras's order."""
        for kind, modules in (("conv2d", self.convs), ("batch_normalization", self.norms)):
            for i, module in enumerate(modules):
                yield f"learnable_resizer/{kind}" + (f"_{i}" if i else ""), module


class DenseNet121(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.layers = nn.ModuleDict()
        eps, channels = 1.001e-5, 64
        self.layers["conv1_conv"] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.layers["conv1_bn"] = norm(64, eps)
        self.blocks = {2: 6, 3: 12, 4: 24, 5: 16}
        for b, count in self.blocks.items():
            for i in range(1, count + 1):
                name = f"conv{b}_block{i}"
                self.layers[f"{name}_0_bn"] = norm(channels, eps)
                self.layers[f"{name}_1_conv"] = nn.Conv2d(channels, 128, 1, bias=False)
                self.layers[f"{name}_1_bn"] = norm(128, eps)
                self.layers[f"{name}_2_conv"] = nn.Conv2d(128, 32, 3, padding=1, bias=False)
                channels += 32
            if b < 5:
                self.layers[f"pool{b}_bn"] = norm(channels, eps)
                self.layers[f"pool{b}_conv"] = nn.Conv2d(channels, channels // 2, 1, bias=False)
                channels //= 2
        self.layers["bn"] = norm(channels, eps)
        self.layers["predictions"] = nn.Linear(channels, classes)

    def forward(self, x):
        layer = self.layers
        x = F.relu(layer["conv1_bn"](layer["conv1_conv"](x)))
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=2)  # Keras pads with zeros, not minus infinity
        for b, count in self.blocks.items():
            for i in range(1, count + 1):
                name = f"conv{b}_block{i}"
                y = layer[f"{name}_1_conv"](F.relu(layer[f"{name}_0_bn"](x)))
                y = layer[f"{name}_2_conv"](F.relu(layer[f"{name}_1_bn"](y)))
                x = torch.cat([x, y], 1)
            if b < 5:
                x = F.avg_pool2d(layer[f"pool{b}_conv"](F.relu(layer[f"pool{b}_bn"](x))), 2)
        return layer["predictions"](F.relu(layer["bn"](x)).mean((2, 3)))

    def named_twins(self):
        for name, module in self.layers.items():
            yield f"densenet121/{name}", module


class Model(nn.Module):
    """0…255 to logits (or, for `resizer`, to the resized image)."""

    def __init__(self, model, target, n, r, interpolation, classes):
        super().__init__()
        if interpolation not in ("nearest", "bilinear"):
            fail(f"interpolation '{interpolation}' differs between PyTorch and Keras; only nearest and bilinear are built here")
        self.target, self.interpolation = target, interpolation
        self.resizer = Resizer(target, n, r, interpolation) if "resizer" in model else None
        self.backbone = DenseNet121(classes) if "densenet121" in model else None
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        x = x * (1 / 255)
        x = self.resizer(x) if self.resizer is not None else resize(x, self.target, self.interpolation)
        return x if self.backbone is None else self.backbone(x)

    def named_twins(self):
        for part in (self.resizer, self.backbone):
            if part is not None:
                yield from part.named_twins()


def loss_function(model, smoothing):
    if model == "resizer":
        return F.mse_loss
    return lambda y, target: F.cross_entropy(y, target, label_smoothing=smoothing)


# --- against a reference file ---------------------------------------------------------------------------------------


def to_torch(value, dtype):
    value = torch.from_numpy(value).to(dtype)
    if value.dim() == 4:
        return value.permute(3, 2, 0, 1).contiguous()  # HWIO to OIHW
    return value.T.contiguous() if value.dim() == 2 else value


def verify(path, dtype=torch.float64):
    try:
        from safetensors import safe_open
        import numpy  # noqa: F401
    except ImportError as error:
        fail(f"package '{error.name}' is missing; install it with: {sys.executable} -m pip install safetensors numpy")
    try:
        with safe_open(path, "numpy") as file:
            tensors, meta = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    except Exception as error:
        fail(f"cannot read {path}: {error}")
    target = tuple(int(part) for part in meta["target_size"].split("x"))
    model = Model(meta["model"], target, int(meta["filters"]), int(meta["blocks"]), meta["interpolation"], int(meta["classes"]))
    model = model.to(dtype)
    names = {"weight": "kernel", "bias": "bias"}
    norms = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    slots = {}
    for name, module in model.named_twins():
        for ours, keras in (norms if isinstance(module, nn.BatchNorm2d) else names).items():
            if getattr(module, ours, None) is not None:
                slots[f"{name}/{keras}"] = getattr(module, ours)
    wanted = {key[len("weights/"):] for key in tensors if key.startswith("weights/")}
    if wanted != set(slots):
        fail(f"weight names differ: {sorted(wanted ^ set(slots))[:4]}")
    with torch.no_grad():
        for name, slot in slots.items():
            slot.copy_(to_torch(tensors[f"weights/{name}"], dtype))
    answer = "target" if meta["model"] == "resizer" else "labels"
    x = torch.from_numpy(tensors["input/1"]).to(dtype).permute(0, 3, 1, 2).contiguous().requires_grad_()
    y = torch.from_numpy(tensors[f"{answer}/1"]).to(dtype)
    y = y.permute(0, 3, 1, 2) if answer == "target" else y
    loss = loss_function(meta["model"], float(meta["label_smoothing"]))(model.train()(x), y)
    loss.backward()
    rows = [("loss", abs(float(loss.detach()) / float(tensors["expected/loss"].ravel()[0]) - 1))]

    def relative(name, ours, key):
        if key in tensors:
            reference = to_torch(tensors[key], torch.float64) if "input" not in key else torch.from_numpy(tensors[key]).double().permute(0, 3, 1, 2)
            rows.append((name, float((ours.detach().double() - reference).norm() / reference.norm())))

    relative("input_gradient", x.grad, "expected/input_gradient")
    for name, slot in slots.items():
        if slot.requires_grad:
            relative(name, slot.grad, f"expected/gradient/{name}")
    gradients = sorted(e for _, e in rows[2:])
    for name, error in sorted(rows[2:], key=lambda row: row[1])[-3:]:
        print(f"{error:.2e}  {name}")
    print(f"loss {rows[0][1]:.2e}" + (f", input gradient {rows[1][1]:.2e}, {len(gradients)} gradients: median "
          f"{statistics.median(gradients):.2e}, worst {gradients[-1]:.2e}" if gradients else ""))


# --- timing ---------------------------------------------------------------------------------------------------------


def time_step(o):
    cuda = o.device == "cuda"
    tf32 = o.precision == "tf32"
    if tf32 and not cuda:
        fail("--precision tf32 needs CUDA")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(o.seed)
    layout = torch.contiguous_format if o.mode == "eager" else torch.channels_last
    model = Model(o.model, o.target_size, o.filters, o.blocks, "bilinear", 2).to(o.device, memory_format=layout).train(not o.inference)
    run = torch.compile(model) if o.mode == "compile" else model
    x = (255 * torch.rand(o.batch, 3, *o.input_size)).to(o.device, memory_format=layout)
    if o.model == "resizer":
        y = torch.rand(o.batch, 3, *o.target_size).to(o.device, memory_format=layout)
    else:
        y = F.one_hot(torch.arange(o.batch) % 2, 2).float().to(o.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_of = loss_function(o.model, 0.1)
    amp = o.precision == "amp"
    scaler = torch.amp.GradScaler(o.device, enabled=amp and cuda)
    half = torch.float16 if cuda else torch.bfloat16

    def infer():
        with torch.inference_mode(), torch.autocast(o.device, half, enabled=amp):
            return run(x).float()

    def step():
        if o.inference:
            return infer()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(o.device, half, enabled=amp):
            out = run(x)
            loss = loss_of(out.float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    def timed():
        if not cuda:
            start = time.perf_counter()
            return step(), time.perf_counter() - start
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        loss = step()
        last.record()
        torch.cuda.synchronize()
        return loss, first.elapsed_time(last) / 1e3

    start = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    first_seconds, seconds = time.perf_counter() - start, []
    for _ in range(o.warmup):
        timed()
    for _ in range(o.steps):
        loss, passed = timed()
        seconds.append(passed)
    median = statistics.median(seconds)
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024)
    result = {
        "framework": f"torch {torch.__version__}", "device": torch.cuda.get_device_name() if cuda else "cpu",
        "model": o.model, "batch": o.batch, "input_size": "x".join(map(str, o.input_size)),
        "target_size": "x".join(map(str, o.target_size)), "mode": o.mode, "precision": o.precision,
        "first_seconds": first_seconds, "median_seconds": median, "seconds": seconds,
        "images_per_second": o.batch / median, "peak_bytes": peak, "what": "inference" if o.inference else "training step",
    }
    if not o.inference:
        result["last_loss"] = float(loss.detach())
    if o.json:
        print(json.dumps(result))
    else:
        print(f"{o.model}, batch {o.batch}, {o.mode}, {o.precision}, {result['device']}: first {first_seconds:.2f} s, median of "
              f"{o.steps} {median:.4f} s, {o.batch / median:.1f} images/s, peak {peak / 2**30:.2f} GiB")


def parse_size(text):
    try:
        size = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        size = ()
    size = size * 2 if len(size) == 1 else size
    if len(size) != 2 or min(size) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size: write HxW, for example 300x200")
    return size


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def main():
    p = argparse.ArgumentParser(description="The learnable resizer and DenseNet-121 in PyTorch: timing and a check against Keras.")
    task = p.add_mutually_exclusive_group(required=True)
    task.add_argument("--time", action="store_true", help="time the training step")
    task.add_argument("--verify", metavar="FILE", help="loss and gradients against a reference file, in float64")
    p.add_argument("--model", choices=MODELS, default=MODELS[0])
    p.add_argument("--mode", choices=("eager", "channels-last", "compile"), default="eager")
    p.add_argument("--precision", choices=("float32", "tf32", "amp"), default="float32")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--input-size", type=parse_size, default=(300, 300), metavar="HxW")
    p.add_argument("--target-size", type=parse_size, default=(150, 150), metavar="HxW")
    p.add_argument("--filters", "-n", type=positive, default=16)
    p.add_argument("--blocks", "-r", type=int, default=1)
    p.add_argument("--batch", type=positive, default=64)
    p.add_argument("--steps", type=positive, default=5, help="timed steps")
    p.add_argument("--warmup", type=int, default=1, help="steps after the first that are not timed")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--inference", action="store_true", help="with --time: the forward pass with moving statistics instead")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        fail("no CUDA device")
    verify(o.verify) if o.verify else time_step(o)


if __name__ == "__main__":
    main()
