"""Random small networks: what a seed means is fixed, so that a seed that failed is an example.

A network is a chain of steps on images [N, C, H, W], then perhaps on rows [N, L, C] or vectors [N, C]. Every step is a
function of a Draft that adds nodes and says what the tensor is then. Sizes along the batch and, where nothing forbids
it, along positions are free in some networks and fixed in others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.models import build, node

ACTIVATIONS: tuple[tuple[str, dict[str, float]], ...] = (
    ("Relu", {}), ("Relu", {}), ("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Elu", {}), ("Sigmoid", {}), ("Tanh", {}),
    ("HardSwish", {}), ("Softplus", {}), ("Selu", {}),
)  # fmt: skip


@dataclass
class Draft:
    """A network so far. tensor: the last one; shape: its sizes but for the batch. random: what is drawn next."""

    random: np.random.Generator
    batch: int | str
    free: bool
    tensor: str
    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    def add(self, op: str, inputs: str, shape: tuple[int, ...], **attributes) -> str:
        """A node of one output, which is the tensor now."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(node(op, inputs, f"{name}/out", name=name, **attributes))
        self.tensor, self.shape = f"{name}/out", shape
        return self.tensor

    def constant(self, values: object) -> str:
        """The name of a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def weight(self, *shape: int, inputs: int) -> str:
        """Random weights for layers that sum over so many inputs."""
        return self.constant((self.random.standard_normal(shape) / np.sqrt(inputs)).astype(np.float32))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, *values):
        return values[int(self.random.integers(len(values)))]


Step = Callable[[Draft], None]


def conv(draft: Draft) -> None:
    """A convolution: grouped, strided, dilated, padded as it comes."""
    channels, *sizes = draft.shape
    group = draft.pick(1, 1, 1, channels, 2 if channels % 2 == 0 else 1)
    outputs = group * max(1, draft.pick(4, 6, 8) // group)
    kernel = [draft.pick(1, 3, min(2, size)) if size >= 3 else 1 for size in sizes]
    dilations = [draft.pick(1, 1, 2) if k > 1 and size >= 5 else 1 for k, size in zip(kernel, sizes, strict=True)]
    strides = [draft.pick(1, 1, 2) if size >= 4 else 1 for size in sizes]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    attributes: dict = {"group": group, "strides": strides, "dilations": dilations}
    if draft.chance(0.2) and max(dilations) == 1:  # onnxruntime pads dilated kernels by numbers alone
        attributes["auto_pad"] = draft.pick("SAME_UPPER", "SAME_LOWER")
        after = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    else:
        pads = [int(draft.random.integers(0, r)) if r > 1 else 0 for r in reach + reach]
        attributes["pads"] = pads
        both = [a + b for a, b in zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)]
        after = [(size + p - r) // s + 1 for size, p, r, s in zip(sizes, both, reach, strides, strict=True)]
        if min(after) < 1:
            return
    inputs = channels // group * int(np.prod(kernel))
    names = [draft.tensor, draft.weight(outputs, channels // group, *kernel, inputs=inputs)]
    names += [draft.weight(outputs, inputs=4)] if draft.chance(0.7) else []
    draft.add("Conv", " ".join(names), (outputs, *after), **attributes)


def conv_transpose(draft: Draft) -> None:
    channels, *sizes = draft.shape
    if max(sizes) > 6:
        return
    outputs, stride, kernel = draft.pick(3, 4), draft.pick(1, 2), draft.pick(2, 3)
    pads = draft.pick(0, 1) if kernel == 3 else 0
    weight = draft.weight(channels, outputs, *[kernel] * len(sizes), inputs=channels * kernel)
    after = tuple(stride * (size - 1) + kernel - 2 * pads for size in sizes)
    if min(after) < 1:
        return
    draft.add(
        "ConvTranspose", f"{draft.tensor} {weight}", (outputs, *after),
        strides=[stride] * len(sizes), pads=[pads] * 2 * len(sizes),
    )  # fmt: skip


def activation(draft: Draft) -> None:
    kind = draft.pick(*ACTIVATIONS, ("Clip", {}), ("Clip", {}), ("PRelu", {}))
    if kind[0] == "Clip":
        low, high = draft.pick((0, 6), (-1, 1), (-0.7, None), (-1, -0.1), (0.1, 1))
        bounds = [draft.constant(np.float32(bound)) for bound in (low, high) if bound is not None]
        draft.add("Clip", " ".join([draft.tensor, *bounds]), draft.shape)
    elif kind[0] == "PRelu":
        channels, *sizes = draft.shape
        slopes = draft.random.uniform(0, 0.5, (channels, *(1 for _ in sizes))).astype(np.float32)
        draft.add("PRelu", f"{draft.tensor} {draft.constant(slopes)}", draft.shape)
    else:
        draft.add(kind[0], draft.tensor, draft.shape, **kind[1])


def pool(draft: Draft) -> None:
    channels, *sizes = draft.shape
    if min(sizes) < 2:
        return
    op, stride = draft.pick("MaxPool", "MaxPool", "AveragePool"), draft.pick(1, 2)
    after = tuple((size - 2) // stride + 1 for size in sizes)
    draft.add(op, draft.tensor, (channels, *after), kernel_shape=[2] * len(sizes), strides=[stride] * len(sizes))


def residual(draft: Draft) -> None:
    """x + f(x), f one or two layers that keep the size."""
    channels, *sizes = draft.shape
    before = draft.tensor
    for _ in range(draft.pick(1, 2)):
        weight = draft.weight(channels, channels, *[3] * len(sizes), inputs=channels * 3 ** len(sizes))
        draft.add("Conv", f"{draft.tensor} {weight}", draft.shape, pads=[1] * 2 * len(sizes))
        if draft.chance(0.5):
            draft.add("Relu", draft.tensor, draft.shape)
    draft.add("Add", " ".join(draft.pick([before, draft.tensor], [draft.tensor, before])), draft.shape)
    if draft.chance(0.7):
        draft.add("Relu", draft.tensor, draft.shape)


def branches(draft: Draft) -> None:
    """Two layers side by side, concatenated along the channels."""
    channels, *sizes = draft.shape
    before, parts, total = draft.tensor, [], 0
    for _ in range(2):
        outputs = draft.pick(2, 3, 4)
        weight = draft.weight(outputs, channels, *[1] * len(sizes), inputs=channels)
        draft.add("Conv", f"{before} {weight}", (outputs, *sizes))
        if draft.chance(0.8):
            draft.add("Relu", draft.tensor, draft.shape)
        parts.append(draft.tensor)
        total += outputs
    draft.add("Concat", " ".join(parts), (total, *sizes), axis=1)


def part_of_channels(draft: Draft) -> None:
    """Slice, Gather or Split along the channels."""
    channels, *sizes = draft.shape
    if channels < 2:
        return
    kind, half = draft.pick("Slice", "Gather", "Split"), channels // 2
    if kind == "Slice":
        limits = [draft.constant(np.array(v, np.int64)) for v in draft.pick(([0], [half], [1]), ([1], [9999], [1]))]
        start = int(draft.constants[limits[0]][0])
        draft.add("Slice", " ".join([draft.tensor, *limits]), ((half if start == 0 else channels - 1), *sizes))
    elif kind == "Gather":
        order = draft.random.permutation(channels)[: draft.pick(channels, half)].astype(np.int64)
        draft.add("Gather", f"{draft.tensor} {draft.constant(order)}", (len(order), *sizes), axis=1)
    else:
        sizes_of = draft.constant(np.array([half, channels - half], np.int64))
        name = f"split_{len(draft.nodes)}"
        draft.nodes.append(node("Split", f"{draft.tensor} {sizes_of}", f"{name}/a {name}/b", name=name, axis=1))
        draft.tensor, draft.shape = draft.pick((f"{name}/a", (half, *sizes)), (f"{name}/b", (channels - half, *sizes)))


def rearrange(draft: Draft) -> None:
    """What moves positions: depth and space, padding, cropping, enlarging, shuffling of channels."""
    channels, *sizes = draft.shape
    if len(sizes) != 2:
        return
    kind = draft.pick(
        "DepthToSpace", "SpaceToDepth", "Pad", "Crop", "Resize", "Shuffle", "Flip", "Circle", "Mask", "Tile", "Compress"
    )
    if kind == "DepthToSpace" and channels % 4 == 0 and max(sizes) <= 6:
        draft.add(kind, draft.tensor, (channels // 4, *(2 * size for size in sizes)), blocksize=2)
    elif kind == "SpaceToDepth" and all(size % 2 == 0 for size in sizes) and channels <= 4:
        draft.add(kind, draft.tensor, (4 * channels, *(size // 2 for size in sizes)), blocksize=2)
    elif kind == "Pad":
        mode = draft.pick("constant", "constant", "reflect", "edge") if min(sizes) > 1 else "constant"
        pads = draft.constant(np.array([0, 0, 1, 1, 0, 0, 1, 0], np.int64))
        value = [draft.constant(np.float32(draft.pick(0.0, 0.5)))] if mode == "constant" else []
        draft.add("Pad", " ".join([draft.tensor, pads, *value]), (channels, sizes[0] + 2, sizes[1] + 1), mode=mode)
    elif kind == "Crop" and min(sizes) > 2:
        pads = draft.constant(np.array([0, 0, -1, 0, 0, 0, 0, -1], np.int64))
        draft.add("Pad", f"{draft.tensor} {pads}", (channels, sizes[0] - 1, sizes[1] - 1))
    elif kind == "Resize" and max(sizes) <= 6:
        scales = draft.constant(np.array([1, 1, 2, 2], np.float32))
        mode = draft.pick("nearest", "nearest", "linear")
        draft.add("Resize", f"{draft.tensor} - {scales}", (channels, *(2 * size for size in sizes)), mode=mode)
    elif kind == "Shuffle" and channels % 2 == 0 and not draft.free:
        batch = -1 if isinstance(draft.batch, str) else draft.batch
        first = draft.constant(np.array([batch, 2, channels // 2, *sizes], np.int64))
        draft.add("Reshape", f"{draft.tensor} {first}", draft.shape)
        draft.add("Transpose", draft.tensor, draft.shape, perm=[0, 2, 1, 3, 4])
        last = draft.constant(np.array([batch, channels, *sizes], np.int64))
        draft.add("Reshape", f"{draft.tensor} {last}", (channels, *sizes))
    elif kind == "Circle":
        before, (zero, one, axis) = draft.tensor, (draft.constant(np.array([v], np.int64)) for v in (0, 1, 3))
        draft.add("Slice", f"{before} {zero} {one} {axis}", (channels, sizes[0], 1))
        draft.add("Concat", f"{before} {draft.tensor}", (channels, sizes[0], sizes[1] + 1), axis=3)
    elif kind == "Mask" and not draft.free:
        mask = draft.constant(draft.random.random(draft.pick(tuple(sizes), (channels, 1, 1))) < 0.7)
        other = draft.constant(np.float32(draft.pick(0.0, 0.3)))
        draft.add("Where", f"{mask} {draft.tensor} {other}", draft.shape)
    elif kind == "Tile" and sizes[1] <= 6:
        draft.add(
            "Tile", f"{draft.tensor} {draft.constant(np.array([1, 1, 1, 2]))}", (channels, sizes[0], 2 * sizes[1])
        )
    elif kind == "Compress" and channels > 2:
        kept = draft.constant(np.arange(channels) != 1)
        draft.add("Compress", f"{draft.tensor} {kept}", (channels - 1, *sizes), axis=1)
    elif kind == "Flip":
        limits = [draft.constant(np.array([v], np.int64)) for v in (-1, -(2**62), 3, -1)]
        draft.add("Slice", " ".join([draft.tensor, *limits]), draft.shape)


def scale(draft: Draft) -> None:
    """Arithmetic with constants, one a channel or one for all."""
    channels, *sizes = draft.shape
    shape = draft.pick((1,), (channels, *(1 for _ in sizes)))
    values = draft.random.uniform(0.5, 1.5, shape).astype(np.float32) * draft.pick(1, 1, -1)
    inputs = draft.pick([draft.tensor, draft.constant(values)], [draft.constant(values), draft.tensor])
    draft.add(draft.pick("Mul", "Add", "Sub"), " ".join(inputs), draft.shape)


def gate(draft: Draft) -> None:
    """Squeeze and excite: a product of two activations."""
    channels, *sizes = draft.shape
    before = draft.tensor
    weight = draft.weight(channels, channels, *[1] * len(sizes), inputs=channels)
    draft.add("GlobalAveragePool", before, (channels, *(1 for _ in sizes)))
    draft.add("Conv", f"{draft.tensor} {weight}", draft.shape)
    draft.add("Sigmoid", draft.tensor, draft.shape)
    draft.add("Mul", f"{before} {draft.tensor}", (channels, *sizes))


def pyramid(draft: Draft) -> None:
    """Poolings of poolings beside what they pool, as in SPPF."""
    channels, *sizes = draft.shape
    if min(sizes) < 3 or channels > 6:
        return
    parts = [draft.tensor]
    for _ in range(2):
        draft.add("MaxPool", draft.tensor, draft.shape, kernel_shape=[3] * len(sizes), pads=[1] * 2 * len(sizes))
        parts.append(draft.tensor)
    draft.add("Concat", " ".join(parts), (3 * channels, *sizes), axis=1)


IMAGE: tuple[Step, ...] = (
    conv, conv, conv, activation, activation, activation, pool, residual, branches, part_of_channels, rearrange,
    rearrange, scale, gate, conv_transpose, pyramid,
)  # fmt: skip


def dense(draft: Draft) -> None:
    """A Gemm or a MatMul with its bias, on vectors."""
    (width,) = draft.shape
    outputs = draft.pick(4, 6, 8)
    kind = draft.pick("Gemm", "Transposed", "MatMul")
    if kind == "MatMul":
        draft.add("MatMul", f"{draft.tensor} {draft.weight(width, outputs, inputs=width)}", (outputs,))
        draft.add("Add", f"{draft.tensor} {draft.weight(outputs, inputs=4)}", (outputs,))
    elif kind == "Transposed":
        weight = draft.weight(outputs, width, inputs=width)
        draft.add("Gemm", f"{draft.tensor} {weight}", (outputs,), transB=1, alpha=0.5)
    else:
        names = f"{draft.tensor} {draft.weight(width, outputs, inputs=width)} {draft.weight(outputs, inputs=4)}"
        draft.add("Gemm", names, (outputs,), beta=draft.pick(1.0, 0.5))


def rows_left(draft: Draft) -> None:
    """W·x on rows [N, L, C]: a layer along L."""
    length, width = draft.shape
    outputs = draft.pick(3, 5)
    draft.add("MatMul", f"{draft.weight(outputs, length, inputs=length)} {draft.tensor}", (outputs, width))
    if draft.chance(0.5):
        draft.add("Add", f"{draft.tensor} {draft.weight(outputs, 1, inputs=4)}", draft.shape)
    draft.add("Relu", draft.tensor, draft.shape)


def rows_right(draft: Draft) -> None:
    """x·W on rows."""
    length, width = draft.shape
    outputs = draft.pick(4, 6)
    draft.add("MatMul", f"{draft.tensor} {draft.weight(width, outputs, inputs=width)}", (length, outputs))
    if draft.chance(0.5):
        draft.add("Add", f"{draft.weight(outputs, inputs=4)} {draft.tensor}", draft.shape)
    draft.add(draft.pick("Relu", "Gelu", "Tanh"), draft.tensor, draft.shape)


def rows_norm(draft: Draft) -> None:
    length, width = draft.shape
    scale, bias = (draft.constant(draft.random.uniform(0.5, 1, width).astype(np.float32)) for _ in range(2))
    draft.add("LayerNormalization", f"{draft.tensor} {scale} {bias}", (length, width), axis=-1)


def rows_turned(draft: Draft) -> None:
    length, width = draft.shape
    draft.add("Transpose", draft.tensor, (width, length), perm=[0, 2, 1])


def rows_attention(draft: Draft) -> None:
    """softmax(x·xᵀ)·x: products of two activations."""
    length, width = draft.shape
    before = draft.tensor
    draft.add("Transpose", before, (width, length), perm=[0, 2, 1])
    draft.add("MatMul", f"{before} {draft.tensor}", (length, length))
    draft.add("Softmax", draft.tensor, (length, length), axis=-1)
    draft.add("MatMul", f"{draft.tensor} {before}", (length, width))


ROWS: tuple[Step, ...] = (rows_left, rows_right, rows_right, rows_norm, rows_turned, rows_attention)


@dataclass(frozen=True)
class RandomNetwork:
    """A network and inputs for it: float32 [samples, …]. steps: what it is made of."""

    model: onnx.ModelProto
    inputs: NDArray[np.float32]
    batch: int | None
    steps: tuple[str, ...]


def network(seed: int, samples: int = 96, steps: Sequence[Step] = IMAGE) -> RandomNetwork:
    """The network of a seed and of steps on images; always at least one activation in front of a weight layer."""
    random = np.random.default_rng(seed)
    batch = [None, None, 2, 1][int(random.integers(4))]
    rank, free = int(random.choice([2, 2, 2, 1, 3])), bool(random.random() < 0.3)
    size = {1: 12, 2: 8, 3: 5}[rank]
    shape = (int(random.choice([2, 3])), *[size] * rank)
    draft = Draft(random, batch or "N", free, "x", shape)

    def take(*steps: Step) -> None:
        for step in steps:
            draft.steps.append(step.__name__)
            step(draft)

    take(conv, activation)
    for _ in range(int(random.integers(1, 6))):
        take(steps[int(random.integers(len(steps)))])
    take(conv)
    end = draft.pick("image", "vector", "rows") if not free else "image"
    if end == "vector":
        take(activation)
        if draft.chance(0.5):
            draft.add("GlobalAveragePool", draft.tensor, (draft.shape[0], *[1] * rank))
        width = int(np.prod(draft.shape))
        draft.add("Flatten", draft.tensor, (width,), axis=1)
        take(dense, activation, dense)
    elif end == "rows":
        take(activation)
        length = int(np.prod(draft.shape[1:]))
        target = draft.constant(np.array([0, draft.shape[0], -1], np.int64))
        draft.add("Reshape", f"{draft.tensor} {target}", (draft.shape[0], length))
        for _ in range(int(random.integers(1, 4))):
            take(ROWS[int(random.integers(len(ROWS)))])
        take(rows_right)
        width = draft.shape[1]
        draft.add("MatMul", f"{draft.tensor} {draft.weight(width, 3, inputs=width)}", (draft.shape[0], 3))
    draft.add("Identity", draft.tensor, draft.shape)
    free_sizes = [f"S{k}" for k in range(rank)]
    read = {name for each in draft.nodes for name in each.input}
    constants = {name: values for name, values in draft.constants.items() if name in read}
    inner = [shape[0], *(free_sizes if free else shape[1:])]
    model = build(draft.nodes, {"x": [batch or "N", *inner]}, {draft.tensor: None}, constants, opset=21)
    inputs = random.standard_normal((samples, *shape)).astype(np.float32)
    return RandomNetwork(model, inputs, batch, tuple(draft.steps))
