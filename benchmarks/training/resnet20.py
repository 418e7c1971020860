"""Train the CIFAR-10 ResNet-20 networks that docs/results.md is measured on, and export them to ONNX.

    python -m benchmarks.training.resnet20 --data CIFAR10.npz --out resnet20.onnx
    python -m benchmarks.training.resnet20 --data CIFAR10.npz --out resnet20_qcfs4.onnx \
        --levels 4 --start resnet20.pt --epochs 8 --rate 0.05
    python -m benchmarks.training.resnet20 --data CIFAR10.npz --out resnet20_silu.onnx \
        --activation silu --start resnet20.onnx --epochs 4 --rate 0.03 --float32

Plain PyTorch on the CPU (bfloat16 autocast, channels last), about a minute an epoch on two cores. With
``--levels`` every ReLU becomes the quantise-clip-floor-shift activation of Bu et al., ICLR 2022 (QCFS),

    y = θ · clip(floor(x·T̃/θ + 1/2) / T̃, 0, 1)

with one trained θ per layer. The network takes pixels/255; the input normalisation is part of it.
CIFAR10.npz holds train, test (uint8, [N, 32, 32, 3]) and train_labels, test_labels.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from benchmarks.torch_export import export

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


class FloorStraightThrough(torch.autograd.Function):
    """floor(x) forward, identity backward."""

    @staticmethod
    def forward(_context, x):
        return x.floor()

    @staticmethod
    def backward(_context, gradient):
        return gradient


class QCFS(nn.Module):
    """y = θ · clip(floor(x·T̃/θ + 1/2) / T̃, 0, 1), θ trained."""

    def __init__(self, levels: int):
        super().__init__()
        self.levels = float(levels)
        self.threshold = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        scaled = x / self.threshold * self.levels + 0.5
        count = torch.floor(scaled) if torch.onnx.is_in_onnx_export() else FloorStraightThrough.apply(scaled)
        return torch.clamp(count / self.levels, 0.0, 1.0) * self.threshold


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.activation1, self.activation2 = activation(), activation()

    def forward(self, x):
        y = self.activation1(self.norm1(self.conv1(x)))
        return self.activation2(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    """He et al., CVPR 2016, section 4.2, n = 3, with projection shortcuts."""

    def __init__(self, activation):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.activation = activation()
        sizes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(ResidualBlock(*size, activation) for size in sizes))
        self.classifier = nn.Linear(64, 10)

    def forward(self, image):
        x = self.activation(self.norm(self.conv((image - self.mean) / self.std)))
        return self.classifier(self.blocks(x).mean((2, 3)))


def augmented(images: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    """Random 4-pixel shifts and flips of uint8 images [N, 3, 40, 40] (padded) → float32 [N, 3, 32, 32]."""
    count = len(images)
    rows = generator.integers(0, 9, count)[:, None, None, None] + np.arange(32)[None, None, :, None]
    columns = np.arange(32)[None, :] + generator.integers(0, 9, count)[:, None]
    flips = generator.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    picked = images[
        np.arange(count)[:, None, None, None],
        np.arange(3)[None, :, None, None],
        rows,
        columns[:, None, None, :],
    ]
    return torch.from_numpy(picked).float().div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def start_from_export(model: ResNet20, path: Path, images: torch.Tensor) -> None:
    """Take the weights of an exported ReLU network, whose convolutions hold the batch normalisations.

    Each normalisation gets the moments that its input has over the images, and the scale and shift that undo them, so
    that with ReLU the network is the exported one.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    folded = [[constants[name] for name in node.input[1:]] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    used: list[nn.Module] = []
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    hooks = [
        module.register_forward_pre_hook(lambda module, _: used.append(module))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    model.eval()
    model(images[:1])
    layers, norms = ([each for each in used if isinstance(each, kind)] for kind in ((nn.Conv2d, nn.Linear), kinds[1]))
    for layer, (weight, bias) in zip(layers, folded, strict=True):
        layer.weight.copy_(weight if weight.shape == layer.weight.shape else weight.T)
        if isinstance(layer, nn.Linear):
            layer.bias.copy_(bias)

    def match(norm: nn.BatchNorm2d, shift: torch.Tensor, x: torch.Tensor) -> None:
        norm.running_mean.copy_(x.mean((0, 2, 3)))
        norm.running_var.copy_(x.var((0, 2, 3)))
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(shift + norm.running_mean)

    for norm, (_, bias) in zip(norms, folded, strict=False):
        hooks.append(norm.register_forward_pre_hook(lambda module, x, bias=bias: match(module, bias, x[0])))
    silu = nn.SiLU.forward
    nn.SiLU.forward = lambda _, x: functional.relu(x)  # the moments are those of the network with ReLU
    model(images)
    nn.SiLU.forward = silu
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    model.eval()
    hits = 0
    for start in range(0, len(images), 500):
        batch = torch.from_numpy(images[start : start + 500]).float().div_(255)
        hits += int((model(batch).argmax(1).numpy() == labels[start : start + 500]).sum())
    return hits / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--levels", type=int, default=0, help="QCFS with this many steps instead of the activation")
    parser.add_argument("--start", type=Path, help="weights (.pt, or the .onnx of a ReLU network) to start from")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.2, help="largest learning rate of the one-cycle schedule")
    parser.add_argument("--float32", action="store_true", help="no bfloat16, for processors without it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    generator = np.random.default_rng(options.seed)
    with np.load(options.data) as data:
        padded = np.pad(data["train"].transpose(0, 3, 1, 2), ((0, 0), (0, 0), (4, 4), (4, 4)))
        labels = data["train_labels"]
        test, test_labels = np.ascontiguousarray(data["test"].transpose(0, 3, 1, 2)), data["test_labels"]

    activation = (lambda: QCFS(options.levels)) if options.levels else ACTIVATIONS[options.activation]
    model = ResNet20(activation).to(memory_format=torch.channels_last)
    if options.start and options.start.suffix == ".onnx":
        start_from_export(model, options.start, augmented(padded[:1500], generator))
    elif options.start:
        model.load_state_dict(torch.load(options.start), strict=False)
    batch_size, steps = 128, len(padded) // 128
    optimiser = torch.optim.SGD(model.parameters(), options.rate, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.rate, total_steps=options.epochs * steps, pct_start=0.2
    )
    for epoch in range(options.epochs):
        started, total = time.perf_counter(), 0.0
        model.train()
        order = generator.permutation(len(padded))
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            with torch.autocast("cpu", torch.bfloat16, enabled=not options.float32):
                scores = model(augmented(padded[index], generator))
            loss = functional.cross_entropy(scores.float(), torch.from_numpy(labels[index]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} loss {total / steps:.4f} {time.perf_counter() - started:.0f} s", flush=True)
        torch.save(model.state_dict(), options.out.with_suffix(".pt"))
    print(f"test top-1 {accuracy(model, test, test_labels):.4f}")
    export(model, (3, 32, 32), options.out)


if __name__ == "__main__":
    main()
