"""Llama-like language models (Touvron et al. 2023) as plain PyTorch, with the weights of a GGUF file.

Written in PyTorch, and exported by it, because that is how users get such networks into ONNX: the graph has the
operators, and the order of them, that their exports have. Nothing but the arithmetic of one pass over whole texts is
here: no cache of keys and values.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import nn

LONGEST = 2048  # tokens: rows of the tables of rotations


@dataclass(frozen=True)
class Sizes:
    """heads of queries share heads of keys and values: heads / groups each. base: of the rotations' frequencies."""

    vocabulary: int
    width: int
    hidden: int
    depth: int
    heads: int
    groups: int
    base: float
    epsilon: float


class RootMeanSquareNorm(nn.Module):
    """x / √(mean x² + ε) · w."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(sizes.width)), sizes.epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class Rotations(nn.Module):
    """cos and sin of position · base^(−2i/d) for tokens [N, S], float32 [S, d/2] each."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        size = sizes.width // sizes.heads
        frequencies = sizes.base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.arange(LONGEST, dtype=torch.float64)[:, None] * frequencies
        self.register_buffer("cosines", angles.cos().float(), persistent=False)
        self.register_buffer("sines", angles.sin().float(), persistent=False)

    def forward(self, tokens):
        return self.cosines[: tokens.shape[1]], self.sines[: tokens.shape[1]]


def turned(x, turns):
    """Rotary positions (Su et al. 2021): the pair (x[2i], x[2i+1]) of a head turns by its position's angle.

    x: [N, heads, S, d]. GGUF files have the rows of queries and keys in the order that makes neighbours pairs.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    cosines, sines = turns
    return torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), -1).reshape(x.shape)


class CausalAttention(nn.Module):
    """softmax(Q·Kᵀ/√d + mask)·V: a token sees itself and those before it. Several heads of Q share one of K and V."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        size = sizes.width // sizes.heads
        self.heads, self.groups, self.size = sizes.heads, sizes.groups, size
        self.query = nn.Linear(sizes.width, sizes.heads * size, bias=False)
        self.key, self.value = (nn.Linear(sizes.width, sizes.groups * size, bias=False) for _ in range(2))
        self.out = nn.Linear(sizes.heads * size, sizes.width, bias=False)

    def forward(self, x, turns, mask):
        samples, length = x.shape[:2]

        def parted(values, heads):  # [N, S, heads·d] → [N, heads, S, d]
            return values.reshape(samples, length, heads, self.size).transpose(1, 2)

        def shared(values):  # [N, groups, S, d] → [N, heads, S, d]
            each = values[:, :, None].expand(-1, -1, self.heads // self.groups, -1, -1)
            return each.reshape(samples, self.heads, length, self.size)

        query = turned(parted(self.query(x), self.heads), turns)
        key = shared(turned(parted(self.key(x), self.groups), turns))
        value = shared(parted(self.value(x), self.groups))
        scores = query @ key.transpose(2, 3) * self.size**-0.5 + mask
        found = (scores.softmax(-1) @ value).transpose(1, 2)
        return self.out(found.reshape(samples, length, self.heads * self.size))


class GatedLayers(nn.Module):
    """SwiGLU (Shazeer 2020): W_down·(silu(W_gate·x) ∘ W_up·x)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(sizes.width, sizes.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(sizes.hidden, sizes.width, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + layers(norm(x))."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1, self.norm2 = RootMeanSquareNorm(sizes), RootMeanSquareNorm(sizes)
        self.attention, self.layers = CausalAttention(sizes), GatedLayers(sizes)

    def forward(self, x, turns, mask):
        x = x + self.attention(self.norm1(x), turns, mask)
        return x + self.layers(self.norm2(x))


class Llama(nn.Module):
    """Tokens int64 [N, S] → logits float32 [N, S, V] of the token that follows each."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.rotations = Rotations(sizes)
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = RootMeanSquareNorm(sizes)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)

    def forward(self, tokens):
        x, turns, length = self.embedding(tokens), self.rotations(tokens), tokens.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        for block in self.blocks:
            x = block(x, turns, mask)
        return self.head(self.norm(x))


LAYERS = {
    "attn_norm": "norm1",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.out",
    "ffn_norm": "norm2",
    "ffn_gate": "layers.gate",
    "ffn_up": "layers.up",
    "ffn_down": "layers.down",
}
"""Name in a GGUF file, behind `blk.NUMBER.` → name in a Block."""


def sizes_of(reader: gguf.GGUFReader) -> Sizes:
    """The sizes that a file of the architecture `llama` states."""

    def stated(name: str):
        return reader.get_field(f"llama.{name}").contents()

    return Sizes(
        len(reader.get_field("tokenizer.ggml.tokens").contents()),
        stated("embedding_length"),
        stated("feed_forward_length"),
        stated("block_count"),
        stated("attention.head_count"),
        stated("attention.head_count_kv"),
        stated("rope.freq_base"),
        stated("attention.layer_norm_rms_epsilon"),
    )


def name_of(tensor: str) -> str:
    """The parameter of Llama that a tensor of a GGUF file is."""
    part, *rest = tensor.removesuffix(".weight").split(".")
    if part == "blk":
        return f"blocks.{rest[0]}.{LAYERS[rest[1]]}.weight"
    return {"token_embd": "embedding.weight", "output_norm": "norm.weight", "output": "head.weight"}[part]


def from_gguf(path: Path) -> Llama:
    """The network of a GGUF file; quantised weights become floats. Without a head, the embedding is the head."""
    reader = gguf.GGUFReader(path)
    weights = {
        name_of(tensor.name): torch.from_numpy(
            np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        )
        for tensor in reader.tensors
    }
    weights.setdefault("head.weight", weights["embedding.weight"])
    model = Llama(sizes_of(reader))
    model.load_state_dict(weights)
    return model
