"""Random chains of operators as each opset from 7 on spells them; what a seed means is fixed.

A chain works on images [N, C, H, W] and ends with an activation and a layer, so that there is something to convert.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.models import node

OLDEST, NEWEST = 7, 24  # what both the checker and onnxruntime know in full


@dataclass
class Chain:
    """A network so far. tensor: the last one, of so many channels and sizes; weights: those of layers, to share."""

    random: np.random.Generator
    opset: int
    dtype: np.dtype
    tensor: str = "x"
    channels: int = 3
    sizes: tuple[int, int] = (6, 6)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray] = field(default_factory=dict)
    weights: dict[tuple[int, int], str] = field(default_factory=dict)
    earlier: dict[tuple[int, ...], str] = field(default_factory=dict)

    def add(self, op: str, inputs: str = "", **attributes) -> None:
        """A node behind the last tensor."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.earlier[self.channels, *self.sizes] = self.tensor
        self.nodes.append(node(op, f"{self.tensor} {inputs}", f"{name}/out", name=name, **attributes))
        self.tensor = f"{name}/out"

    def constant(self, values: object, dtype: type | np.dtype | None = None) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype or self.dtype)
        return name

    def positive(self, *shape: int) -> NDArray:
        return self.random.uniform(0.3, 1.3, shape)

    def pick(self, *values):
        return values[int(self.random.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)


def conv(chain: Chain) -> None:
    """Weights are shared with an earlier layer of the same sizes now and then."""
    outputs = chain.pick(4, 6)
    known = chain.weights.get((outputs, chain.channels))
    if known is None or chain.chance(0.5):
        shape = (outputs, chain.channels, 3, 3)
        known = chain.constant(chain.random.standard_normal(shape) / np.sqrt(9 * chain.channels))
        chain.weights[outputs, chain.channels] = known
    chain.add("Conv", known, pads=[1] * 4)
    chain.channels = outputs


def normalisation(chain: Chain) -> None:
    chain.add("BatchNormalization", " ".join(chain.constant(chain.positive(chain.channels)) for _ in range(4)))


def clip(chain: Chain) -> None:
    if chain.opset < 11:
        chain.add("Clip", min=-0.2, max=0.8)
    else:
        chain.add("Clip", f"{chain.constant(-0.2)} {chain.constant(0.8)}")


def activation(chain: Chain) -> None:
    op, attributes = chain.pick(("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Sigmoid", {}), ("Elu", {}))
    chain.add(op, **attributes)


def slope(chain: Chain) -> None:
    chain.add("PRelu", chain.constant(chain.positive(chain.channels, 1, 1)))


def gate(chain: Chain) -> None:
    """x · σ(x)"""
    x = chain.tensor
    chain.add("Sigmoid")
    chain.add("Mul", x)


def branch(chain: Chain) -> None:
    """The sum with an earlier tensor of the same sizes."""
    other = chain.earlier.get((chain.channels, *chain.sizes))
    if other:
        chain.add("Add", other)


def pool(chain: Chain) -> None:
    chain.add(chain.pick("MaxPool", "AveragePool"), kernel_shape=[3, 3], pads=[1] * 4)


def pad(chain: Chain) -> None:
    pads = [0, 0, 1, 0, 0, 0, 0, 1]
    if chain.opset < 11:
        chain.add("Pad", pads=pads, mode="constant", value=0.3)
    else:
        chain.add("Pad", f"{chain.constant(pads, np.int64)} {chain.constant(0.3)}")
    chain.sizes = (chain.sizes[0] + 1, chain.sizes[1] + 1)


def cut(chain: Chain) -> None:
    if chain.sizes[0] < 4:
        return
    if chain.opset < 10:
        chain.add("Slice", starts=[1], ends=[-1], axes=[2])
    else:
        chain.add("Slice", " ".join(chain.constant([value], np.int64) for value in (1, -1, 2)))
    chain.sizes = (chain.sizes[0] - 2, chain.sizes[1])


def resize(chain: Chain) -> None:
    if max(chain.sizes) > 12:
        return
    mode = chain.pick("nearest", "linear")
    if chain.opset < 9:
        chain.add("Upsample", scales=[1.0, 1.0, 2.0, 2.0], mode=mode)
    elif chain.opset < 11:
        scales = chain.constant([1, 1, 2, 2], np.float32)
        chain.add("Upsample" if chain.opset == 9 else "Resize", scales, mode=mode)
    else:
        corners = chain.pick("half_pixel", "asymmetric", "align_corners")
        scales = chain.constant([1, 1, 2, 2], np.float32)
        chain.add("Resize", f"{chain.constant([], np.float32)} {scales}", mode=mode,
                  coordinate_transformation_mode=corners)  # fmt: skip
    chain.sizes = (2 * chain.sizes[0], 2 * chain.sizes[1])


def dropout(chain: Chain) -> None:
    chain.add("Dropout", **({"ratio": 0.4} if chain.opset < 12 else {}))


def softmax(chain: Chain) -> None:
    chain.add(chain.pick("Softmax", "LogSoftmax"), axis=chain.pick(1, 2, 3))


def arithmetic(chain: Chain) -> None:
    chain.add(chain.pick("Add", "Mul", "Sub"), chain.constant(chain.random.standard_normal((chain.channels, 1, 1))))


def transpose(chain: Chain) -> None:
    chain.add("Transpose", perm=[0, 1, 3, 2])
    chain.sizes = (chain.sizes[1], chain.sizes[0])


STEPS: tuple[Callable[[Chain], None], ...] = (
    conv, conv, normalisation, clip, activation, activation, slope, gate, branch, pool, pad, cut, resize, dropout,
    softmax, arithmetic, transpose,
)  # fmt: skip


@dataclass(frozen=True)
class OpsetNetwork:
    """inputs: [samples, 3, 6, 6], of the type of the network."""

    model: onnx.ModelProto
    inputs: NDArray
    opset: int


def network(seed: int, samples: int = 12) -> OpsetNetwork:
    """The network of a seed, and inputs for it: half of them float16, of fixed batch or not, in any opset."""
    random = np.random.default_rng(seed)
    chain = Chain(random, int(random.integers(OLDEST, NEWEST + 1)), np.dtype("f4"))
    chain.dtype = np.dtype(chain.pick("f4", "f4", "f4", "f2"))
    for _ in range(int(random.integers(2, 8))):
        chain.pick(*STEPS)(chain)
    chain.add("Relu")
    chain.add("Conv", chain.constant(random.standard_normal((4, chain.channels, 1, 1)) / np.sqrt(chain.channels)))
    kind = TensorProto.FLOAT if chain.dtype == np.float32 else TensorProto.FLOAT16
    batch = chain.pick("N", 4)
    graph = helper.make_graph(
        chain.nodes, "chain", [helper.make_tensor_value_info("x", kind, [batch, 3, 6, 6])],
        [helper.make_tensor_value_info(chain.tensor, kind, [batch, 4, *chain.sizes])],
        [numpy_helper.from_array(values, name) for name, values in chain.constants.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", chain.opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=4 if chain.opset < 10 else 10)
    return OpsetNetwork(model, random.standard_normal((samples, 3, 6, 6)).astype(chain.dtype), chain.opset)
