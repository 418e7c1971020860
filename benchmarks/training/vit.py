"""Train the small vision Transformer of the zoo on Fashion-MNIST and export it to ONNX.

    apt-get install dataset-fashion-mnist
    python -m benchmarks.training.vit --out vit.onnx

Plain PyTorch on the CPU, a few minutes. 16 patches of 7 × 7 pixels, 4 pre-norm blocks of width 64 with 4 heads and GELU
(Dosovitskiy et al., ICLR 2021), mean over the patches. The network takes pixels/255; the normalisation is part of it.
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

DATA = Path("/usr/share/datasets/fashion-mnist")
MEAN, STD = 0.2860, 0.3530
PATCH, WIDTH, HEADS, DEPTH, SIDE = 7, 64, 4, 4, 28


class Attention(nn.Module):
    """softmax(Q·Kᵀ/√d)·V for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        heads = [layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        query, key, value = heads
        scores = (query @ key.transpose(2, 3)) * (WIDTH / HEADS) ** -0.5
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.places = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(TransformerBlock() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, 10)

    def forward(self, image):
        x = self.patches((image - MEAN) / STD).flatten(2).transpose(1, 2) + self.places
        return self.classifier(self.norm(self.blocks(x)).mean(1))


def read(name: str) -> np.ndarray:
    """An IDX file of bytes."""
    content = gzip.decompress((DATA / f"{name}-ubyte.gz").read_bytes())
    sizes = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes)


def augmented(images: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    """Shifts by up to two pixels and flips of bytes [N, 28, 28] → float32 [N, 1, 28, 28] = pixels / 255."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    top, left = generator.integers(0, 5, 2)
    cut = padded[:, top : top + SIDE, left : left + SIDE]
    flipped = np.where(generator.random(len(cut))[:, None, None] < 0.5, cut[:, :, ::-1], cut)
    return torch.from_numpy(np.ascontiguousarray(flipped)).float().div_(255)[:, None]


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    model.eval()
    hits = 0
    for start in range(0, len(images), 500):
        batch = torch.from_numpy(images[start : start + 500].copy()).float().div_(255)[:, None]
        hits += int((model(batch).argmax(1).numpy() == labels[start : start + 500]).sum())
    return hits / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate of the one-cycle schedule")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    generator = np.random.default_rng(options.seed)
    images, labels = read("train-images-idx3"), read("train-labels-idx1").astype(np.int64)
    test, test_labels = read("t10k-images-idx3"), read("t10k-labels-idx1").astype(np.int64)
    model = VisionTransformer()
    size, steps = 256, len(images) // 256
    optimiser = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=options.epochs * steps)
    for epoch in range(options.epochs):
        started, total = time.perf_counter(), 0.0
        model.train()
        order = generator.permutation(len(images))
        for step in range(steps):
            index = order[step * size : (step + 1) * size]
            scores = model(augmented(images[index], generator))
            loss = functional.cross_entropy(scores, torch.from_numpy(labels[index]), label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} loss {total / steps:.4f} {time.perf_counter() - started:.0f} s", flush=True)
    print(f"test top-1 {accuracy(model, test, test_labels):.4f}")
    export(model, (1, SIDE, SIDE), options.out)


if __name__ == "__main__":
    main()
