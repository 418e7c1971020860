"""Networks in the integer form, and what every count of them has to be."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.forms.integer.form import COUNT, to_integers
from graphpass.forms.integer.layers import COPIES, Linear
from graphpass.forms.integer.quantised import quantise
from graphpass.forms.integer.tensors import encoding_of
from graphpass.forms.registry import assemble
from graphpass.graph.plan import Left
from graphpass.maths.neuron import Neuron, levels_of
from tests.forms.nets import Net
from tests.models import build, optimised_ops, run

MADE = "/made"  # behind the name of a tensor that is given: what the network makes for it
ROUNDING = 1e-4  # counts: float32 sums of some hundred terms below 2^8


class RealNet(Net):
    """A folded graph with real weights and per-channel parameters: every border may be met."""

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def site(self, x: str, y: str, channels: int, axes: int = 2, offset: float = 0.0, **options) -> str:
        shape = (channels, *(1,) * axes)
        threshold = self.random.uniform(0.25, 0.5, shape)  # A/θ up to 2.4: sums of 24 levels in steps below 1/2
        amplitude = threshold * self.random.uniform(0.8, 1.2, shape)
        y = self.neuron(x, y, shape, amplitude, self.random.uniform(-offset, offset, shape), **options)
        self.constants[f"{y}/threshold"] = threshold.astype(np.float32)
        self.constants[f"{y}/shift"] = self.random.uniform(0, 0.2, shape).astype(np.float32)
        return y

    def compare(self, inputs: dict, outputs: dict, batch: int = 3, ranges: dict | None = None) -> "IntegerRun":
        """The integer form beside the folded one. Every count is held to its bound, given the counts upstream."""
        graph = self.graph({name: ["N", *shape] for name, shape in inputs.items()}, outputs)
        feeds = {n: self.random.normal(size=(batch, *shape)).astype(np.float32) for n, shape in inputs.items()}
        plain = values_of(assemble(graph.copy(), self.coding), feeds)
        made = to_integers(graph.copy(), ranges)
        integer, left = made.graph, made.floats
        proto = assemble(integer, self.coding)
        onnx.checker.check_model(proto)
        ours = values_of(proto, feeds)
        neurons = {each.output[0]: each.input[0] for each in self.nodes if each.op_type == "ParallelNeuron"}
        counted = {y: x for y, x in neurons.items() if f"{y}{COUNT}" in ours}
        neuron = {y: self.parameters(y) for y in neurons}
        fed = {y: ours[f"{y}{COUNT}"] if y in counted else count_of_output(neuron[y], plain[y]) for y in neurons}
        means = {name for name in made.encoded if f"{name}{COUNT}/mean/value" in integer.tensors()}
        codes = {name: encoding_of(*(ranges or {})[name]) for name in made.encoded if name not in means}
        held = {name: ours[f"{name}{COUNT}"].astype(np.float32) - code.zero for name, code in codes.items()}
        decoded = {y: neuron[y].decode(n) for y, n in fed.items()}
        decoded |= {name: values * np.float32(codes[name].scale) for name, values in held.items()}
        x = self.currents(neurons, {**feeds, **decoded}, self.constants)
        ones = {
            k: np.ones_like(v) if v.ndim > 1 and "/" not in k else np.zeros_like(v) for k, v in self.constants.items()
        }
        reached = {y: n.astype(np.float32) for y, n in fed.items()}
        for y, zeros in zeros_of(integer, neurons).items():  # n − z is what weights are multiplied with
            reached |= {y: np.abs(reached[y] - np.float32(list(zeros)).reshape(-1, *(1,) * reached[y].ndim)).max(0)}
        reached |= {name: abs(v) for name, v in held.items()}
        sums = self.currents(neurons, {**feeds, **reached}, ones)
        expected = {y: (current, neuron[y]) for y, current in counted.items()}
        expected |= {
            name: (f"{name}{MADE}", Neuron(*np.float32([code.scale, code.scale * (code.zero + 0.5), 1, 0]), 256))
            for name, code in codes.items()
            if f"{name}{MADE}" in x
        }
        flips = {}
        for y, (current, one) in expected.items():
            count = ours[f"{y}{COUNT}"].astype(int)
            reach = explained(integer, y, sums[current], one.levels - 1) * one.threshold
            low, high = (one.count(x[current] + sign * reach) for sign in (-1, 1))
            assert (low <= count).all()
            assert (count <= high).all()
            flips[y] = float((count != one.count(x[current])).mean())
        for name in outputs:
            assert plain[name].shape == ours[name].shape
        return IntegerRun(optimised_ops(proto), left, flips, {**feeds, **plain}, ours, made.encoded)

    def parameters(self, y: str) -> Neuron:
        parts = [self.constants[f"{y}/{part}"] for part in ("threshold", "shift", "amplitude", "offset")]
        return Neuron(*parts, levels_of(self.steps, self.coding))

    def currents(self, neurons: dict, feeds: dict, constants: dict) -> dict:
        """The neurons' currents for given outputs of all neurons; of other tensors given, what is made for them."""
        nodes, made = [], dict.fromkeys(x for x in neurons.values() if x not in feeds)
        for each in self.nodes:
            if each.op_type != "ParallelNeuron":
                nodes.append(onnx.NodeProto())
                nodes[-1].CopyFrom(each)
                if each.output[0] in feeds:
                    nodes[-1].output[0] = f"{each.output[0]}{MADE}"
                    made[nodes[-1].output[0]] = None
        shapes = {name: values.shape for name, values in feeds.items()}
        read = {name for each in nodes for name in each.input}
        used = {name: values for name, values in constants.items() if name in read}
        proto = build(nodes, shapes, made, used, opset=17)
        found = run(proto, *(feeds[v.name] for v in proto.graph.input))
        return {**feeds, **dict(zip(made, found, strict=True))}


@dataclass(frozen=True)
class IntegerRun:
    """flips: fraction by site, given equal counts upstream. folded, integer: values by name."""

    ops: list[str]
    left: tuple[Left, ...]
    flips: dict[str, float]
    folded: dict[str, np.ndarray]
    integer: dict[str, np.ndarray]
    encoded: tuple[str, ...] = ()

    @property
    def floats(self) -> list[str]:
        return [entry.node for entry in self.left]


def count_of_output(neuron: Neuron, y: np.ndarray) -> np.ndarray:
    """n of y = A·n + o."""
    return np.rint((y - neuron.offset) / neuron.amplitude)


def values_of(proto: onnx.ModelProto, feeds: dict) -> dict[str, np.ndarray]:
    """All float and uint8 tensors of a run with integer kernels: not the floats inside of them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    inner = {tensor.name for layer in integer_layers(gs.import_onnx(proto)) for tensor in layer.inner}
    names = [name for each in copy.graph.node for name in each.output if name and name not in inner]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, run(copy, *(feeds[v.name] for v in copy.graph.input), optimised=True), strict=True))


@dataclass(frozen=True)
class IntegerLayer:
    """DequantizeLinear → op → QuantizeLinear, which onnxruntime computes in integers. inputs: as they are there."""

    op: str
    decoders: list[gs.Node]
    encoder: gs.Node | None
    output: gs.Variable

    @property
    def inner(self) -> list[gs.Variable]:
        """The floats inside."""
        ends = [self.encoder.inputs[0]] if self.encoder else []
        return [*(node.outputs[0] for node in self.decoders), *ends]

    @property
    def data(self) -> gs.Variable:
        return self.decoders[0].inputs[0]

    @property
    def zero(self) -> int:
        return int(self.decoders[0].inputs[2].values)

    @property
    def weight(self) -> np.ndarray:
        return self.decoders[1].inputs[0].values

    @property
    def scales(self) -> np.ndarray:
        return self.decoders[1].inputs[1].values

    @property
    def step(self) -> float:
        return float(self.encoder.inputs[1].values) if self.encoder else 1.0


def integer_layers(graph: gs.Graph) -> list[IntegerLayer]:
    """The layers and sums of a graph in the integer form."""
    found = []
    for each in graph.nodes:
        makers = [tensor.inputs[0] if tensor.inputs else None for tensor in each.inputs]
        if each.op in ("Conv", "Gemm", "Add") and all(maker and maker.op == "DequantizeLinear" for maker in makers):
            output = each.outputs[0]
            behind = next((reader for reader in output.outputs if reader.op == "QuantizeLinear"), None)
            found.append(IntegerLayer(each.op, makers, behind, behind.outputs[0] if behind else output))
    return found


def zeros_of(graph: gs.Graph, neurons: dict) -> dict[str, set[int]]:
    """The zero points that convolutions give the counts of neurons, and 0, by the neurons' output."""
    makers = {each.outputs[0].name: each for each in graph.nodes}
    found: dict[str, set[int]] = {}
    for layer in (each for each in integer_layers(graph) if each.op == "Conv"):
        stack = [layer.data.name]
        while stack:
            name = stack.pop()
            if name.removesuffix(COUNT) in neurons:
                found.setdefault(name.removesuffix(COUNT), {0}).add(layer.zero)
            elif name in makers:
                stack += [tensor.name for tensor in makers[name].inputs if isinstance(tensor, gs.Variable)]
    return found


def explained(graph: gs.Graph, y: str, sums: np.ndarray, largest: int) -> np.ndarray:
    """How far in counts the integer form may take a current: (Σn + taps + 1)·s and half a step of every addend."""
    bound = np.full(sums.shape, ROUNDING * (1 + sums.max()))
    for made in integer_layers(graph):
        if made.op == "Add" or not made.output.name.startswith(f"{y}{COUNT}"):
            continue
        scales, step = made.scales, made.step
        taps = int(np.prod(made.weight.shape[2:])) if made.op == "Conv" else 0
        shaped = scales.reshape(-1, *(1,) * (sums.ndim - 2)) if made.op == "Conv" else scales
        bound = bound + (sums + taps + 1) * shaped
        if "joined" in made.data.name:
            bound = bound + COPIES * largest * shaped  # copies of a shortcut's counts; they are in the sums once
        if "unshifted" in made.data.name:  # up to 127 for every weight, each rounded to half of one
            weights = np.abs(made.weight.astype(int)).reshape(len(made.weight), -1)
            bound = bound + (127 * weights.shape[1] + weights.sum(1) / 2).reshape(shaped.shape) * shaped
        bound = bound + (0 if step == 1 else step / 2)
    return bound


def near(one: np.ndarray, two: np.ndarray, share: float) -> None:
    """‖one − two‖ ≤ share·‖two‖: int8 weights and the flips of a few counts."""
    assert one.dtype == two.dtype
    a, b = one.astype(np.float64), two.astype(np.float64)
    assert np.linalg.norm(a - b) <= share * np.linalg.norm(b)


def reference(linear: Linear, counts: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """saturate(round(v/scale) + zero) of the quantised product, in float32 like the operator's scaling."""
    weight, bias, scales = quantise(linear)
    sums = counts.astype(np.int64) @ weight.astype(np.int64) + bias
    return np.clip(np.rint(sums.astype(np.float32) * (scales / np.float32(scale))) + zero, 0, 255).astype(np.uint8)


def behind_float(offset: float, steps: int = 16) -> RealNet:
    """A float convolution and its neurons y, four channels."""
    net = RealNet("rate", steps)
    net.op("Conv", f"x {net.weight('w', 4, 3, 1, 1)}", "c")
    net.site("c", "y", 4, offset=offset)
    return net
