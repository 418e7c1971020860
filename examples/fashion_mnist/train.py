"""Train the small Fashion-MNIST network of this example, export it to ONNX and write its two .npz files.

    apt-get install dataset-fashion-mnist
    python -m examples.fashion_mnist.train

Plain PyTorch on the CPU, a few minutes on one core. The network takes pixels/255; the input normalisation is part of
it.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.torch_export import export

MEAN, STD = 0.2860, 0.3530


class Residual(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


class Network(nn.Module):
    """Three convolutions, two max-poolings and a residual block; mean over the image; classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            Residual(64),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers((image - MEAN) / STD).mean((2, 3)))


def idx(path: Path) -> np.ndarray:
    """uint8 array of a gzip-compressed IDX file: two zero bytes, type, rank, big-endian sizes, values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 28, 28] → float32 [N, 1, 28, 28] = pixels / 255."""
    return images[:, None].astype(np.float32) / np.float32(255)


def augmented(images: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    """Random 1-pixel shifts and flips of uint8 images [N, 30, 30] (padded) → float32 [N, 1, 28, 28]."""
    count = len(images)
    rows = np.arange(28)[None, :] + generator.integers(0, 3, count)[:, None]
    columns = np.arange(28)[None, :] + generator.integers(0, 3, count)[:, None]
    flips = generator.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    picked = images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return torch.from_numpy(pixels(picked)).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    model.eval()
    hits = 0
    for start in range(0, len(images), 500):
        scores = model(torch.from_numpy(pixels(images[start : start + 500])))
        hits += int((scores.argmax(1).numpy() == labels[start : start + 500]).sum())
    return hits / len(images)


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.1, help="largest learning rate of the one-cycle schedule")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    generator = np.random.default_rng(options.seed)
    train, labels = (idx(options.data / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    test, test_labels = (idx(options.data / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    labels, test_labels = labels.astype(np.int64), test_labels.astype(np.int64)
    indices = np.random.default_rng(0).permutation(len(train))[:512]
    np.savez_compressed(options.out / "calibration.npz", image=pixels(train[indices]))
    np.savez_compressed(options.out / "evaluation.npz", image=pixels(test[:1000]), labels=test_labels[:1000])

    model = Network().to(memory_format=torch.channels_last)
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters")
    padded = np.pad(train, ((0, 0), (1, 1), (1, 1)))
    batch_size, steps = 128, len(train) // 128
    optimiser = torch.optim.SGD(model.parameters(), options.rate, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, options.epochs * steps, pct_start=0.2)
    for epoch in range(options.epochs):
        started, total = time.perf_counter(), 0.0
        model.train()
        order = generator.permutation(len(train))
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(augmented(padded[index], generator))
            loss = functional.cross_entropy(scores.float(), torch.from_numpy(labels[index]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} loss {total / steps:.4f} {time.perf_counter() - started:.0f} s", flush=True)
    print(f"top-1 on the 10,000 test images {accuracy(model, test, test_labels):.4f}")
    print(f"top-1 on evaluation.npz {accuracy(model, test[:1000], test_labels[:1000]):.4f}")
    export(model, (1, 28, 28), options.out / "fashion_mnist.onnx")


if __name__ == "__main__":
    main()
