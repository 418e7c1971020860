"""The integer form: its arithmetic against numpy, its counts against the folded form's, within what int8 explains.

A layer's int8 weights are within s/2 of W' and its bias within s/2, so that its sum is off by at most
(Σ|n| + 1)·s/2 counts (graph.integer_layers); sums of two add their steps. Given equal counts upstream, a count may
differ only where a border between two levels is that close.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from graphpass.api import convert
from graphpass.forms.integer.form import COUNT, to_integers
from graphpass.forms.integer.layers import COPIES, LayerSource, Linear, nodes_of, quantise, settled
from graphpass.forms.integer.tensors import CARRIES, encoding_of
from graphpass.forms.registry import assemble
from graphpass.graph.plan import Left
from graphpass.maths.neuron import Neuron, levels_of
from tests.forms.test_unrolled import Net
from tests.models import FLOAT, HALF, build, node, ops, run
from tests.properties import examples

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

    def compare(self, inputs: dict, outputs: dict, batch: int = 3, ranges: dict | None = None) -> "Found":
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
        codes = {name: encoding_of(*(ranges or {})[name]) for name in made.encoded}
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
        return Found(ops(integer), left, flips, {**feeds, **plain}, ours, made.encoded)

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
class Found:
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
    """All float and uint8 tensors of a run."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    names = [name for each in copy.graph.node for name in each.output if name]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, run(copy, *(feeds[v.name] for v in copy.graph.input)), strict=True))


def zeros_of(graph: gs.Graph, neurons: dict) -> dict[str, set[int]]:
    """The zero points that convolutions give the counts of neurons, and 0, by the neurons' output."""
    makers = {each.outputs[0].name: each for each in graph.nodes}
    found: dict[str, set[int]] = {}
    for layer in (each for each in graph.nodes if each.op == "QLinearConv"):
        stack = [layer.inputs[0].name]
        while stack:
            name = stack.pop()
            if name.removesuffix(COUNT) in neurons:
                found.setdefault(name.removesuffix(COUNT), {0}).add(int(layer.inputs[2].values))
            elif name in makers:
                stack += [tensor.name for tensor in makers[name].inputs if isinstance(tensor, gs.Variable)]
    return found


def explained(graph: gs.Graph, y: str, sums: np.ndarray, largest: int) -> np.ndarray:
    """How far in counts the integer form may take a current: (Σn + taps + 1)·s/2 and half a step of every addend."""
    bound = np.full(sums.shape, ROUNDING * (1 + sums.max()))
    for made in graph.nodes:
        if made.op not in ("QLinearConv", "QGemm") or not made.outputs[0].name.startswith(f"{y}{COUNT}"):
            continue
        scales, step = made.inputs[4].values, made.inputs[6 if made.op == "QLinearConv" else 7].values
        taps = int(np.prod(made.inputs[3].shape[2:])) if made.op == "QLinearConv" else 0
        shaped = scales.reshape(-1, *(1,) * (sums.ndim - 2)) if made.op == "QLinearConv" else scales
        bound = bound + (sums + taps + 1) * shaped / 2
        if "joined" in made.inputs[0].name:
            bound = bound + COPIES * largest * shaped / 2  # copies of a shortcut's counts; they are in the sums once
        if "marked" in made.inputs[0].name:
            bound = bound + taps * COPIES * largest * shaped / 2  # constant channels, at every tap
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


@examples(60)
@given(st.integers(0, 10_000), st.integers(1, 255), st.booleans(), st.sampled_from([1.0, 0.25]))
def test_a_layer_is_the_rounded_sum_of_its_counts(seed: int, largest: int, convolution: bool, scale: float) -> None:
    random, zero = np.random.default_rng(seed), 0 if scale == 1 else 128
    inputs, outputs = (int(size) for size in random.integers(1, 20, 2))
    weight = random.normal(size=(inputs, outputs)) * random.uniform(0, 4, outputs) / largest
    weight[:, 0] *= random.integers(0, 2)  # a channel without weights
    constant = random.normal(size=outputs) * 10.0 ** random.integers(-2, 4)
    counts = random.integers(0, largest + 1, (5, inputs)).astype(np.uint8)
    shape = ["N", inputs, 1, 1] if convolution else ["N", inputs]
    x, y = gs.Variable("x", np.uint8, shape), gs.Variable("y", np.uint8, ["N", outputs, 1, 1][: len(shape)])
    plain = Linear((LayerSource(x),), {}, weight, constant, None, largest)
    linear = (
        Linear((LayerSource(x),), {}, weight.T[:, :, None, None], constant, None, largest) if convolution else plain
    )
    assert settled(linear) is linear
    graph = gs.Graph(nodes_of(linear, y, scale, zero), [x], [y], opset=21)
    (found,) = run(assemble(graph, "rate"), counts.reshape(5, *[inputs, 1, 1][: len(shape) - 1]))
    expected = reference(plain, counts, scale, zero)
    # one count where the runtime's own product of scales rounds a tie the other way
    difference = np.abs(found.reshape(5, -1).astype(int) - expected)
    assert difference.max(initial=0) <= 1
    assert (difference > 0).mean() < 0.05
    exact = (counts @ weight + constant) / scale + zero
    q, bias, scales = quantise(plain)
    explained = (counts.sum(1, dtype=int)[:, None] + 1) * scales / 2 / scale + 0.5 + ROUNDING / scale
    clipped = np.clip(exact, 0, 255)
    assert (np.abs(found.reshape(5, -1) - clipped) <= explained + np.abs(exact) * 1e-6).all()
    assert q.dtype == np.int8
    assert (np.abs(q.astype(int)) * 2 * largest <= 32767).all()  # two products fit int16
    assert bias.dtype == np.int32


LAYERS = ["conv", "padded", "strided", "depthwise", "grouped", "max", "flip", "skip"]


@examples(25)
@given(st.integers(0, 1000), st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4), st.sampled_from([4, 16, 24]))
def test_every_count_of_a_stack_is_explained(seed: int, layers: list[str], steps: int) -> None:
    net = RealNet("rate", steps, seed)
    net.op("Conv", f"x {net.weight('w', 8, 3, 3, 3)}", "c", pads=[1] * 4)
    last = net.site("c", "y", 8)
    for number, layer in enumerate(layers):
        group = {"depthwise": 8, "grouped": 2}.get(layer, 1)
        kernel = 1 if layer == "conv" else 3
        pads, strides = [kernel // 2] * 4, [2, 2] if layer == "strided" else [1, 1]
        if layer == "max":
            last = net.op("MaxPool", last, f"p{number}", kernel_shape=[2, 2])
        elif layer == "flip":
            last = net.op("Transpose", last, f"p{number}", perm=[0, 1, 3, 2])
        weight = net.weight(f"w{number}", 8, 8 // group, kernel, kernel)
        current = net.op("Conv", f"{last} {weight}", f"c{number}", pads=pads, strides=strides, group=group)
        if layer == "skip":
            current = net.op("Add", f"{current} {last}", f"s{number}")
        last = net.site(current, f"y{number}", 8)
    net.op("Conv", f"{last} {net.weight('v', 2, 8, 1, 1)}", "z")
    found = net.compare({"x": (3, 12, 12)}, {"z": 4}, batch=2)
    assert found.ops.count("QLinearConv") == len(layers) + layers.count("skip")
    assert found.ops.count("QLinearAdd") == layers.count("skip")
    assert found.floats == ["c", "z"]
    assert all(fraction < 0.15 for fraction in found.flips.values())  # the bound is not what makes it pass


def behind_float(offset: float, steps: int = 16) -> RealNet:
    """A float convolution and its neurons y, four channels."""
    net = RealNet("rate", steps)
    net.op("Conv", f"x {net.weight('w', 4, 3, 1, 1)}", "c")
    net.site("c", "y", 4, offset=offset)
    return net


def test_offsets_under_padding_are_a_channel_of_ones() -> None:
    net = behind_float(offset=2.0)
    net.op("Conv", f"y {net.weight('w1', 6, 4, 3, 3)}", "c1", pads=[1] * 4)
    net.site("c1", "y1", 6)
    net.op("Conv", f"y1 {net.weight('w2', 2, 6, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("Pad") == 1
    assert found.flips["y1"] < 0.1


def signed(shape: tuple, low: float, high: float, **layer) -> RealNet:
    """Neurons between low and high, as those of a hard tanh, in front of a padded convolution."""
    net = RealNet("phase", 6, seed=3)
    net.op("Conv", f"x {net.weight('w0', 4, 3, 1, 1)}", "c")
    net.neuron("c", "y", (4, 1, 1), (high - low) / 63, low)
    net.constants["y/threshold"] = np.full((4, 1, 1), (high - low) / 63, np.float32)
    net.constants["y/shift"] = np.full((4, 1, 1), 0.5 * (high - low) / 63 - low, np.float32)
    net.op("Conv", f"y {net.weight('w1', *shape)}", "c1", pads=[1] * 4, **layer)
    net.site("c1", "y1", shape[0])
    for part in ("threshold", "shift", "amplitude"):  # currents are about 1, and there are 64 levels
        net.constants[f"y1/{part}"] /= 16
    net.op("Conv", f"y1 {net.weight('w2', 2, shape[0], 1, 1)}", "z")
    return net


def test_counts_of_signed_neurons_are_padded_with_the_count_of_zero() -> None:
    """Count 31 stands for 0, or nearly: what is left of the offset fits in the bias."""
    for shape, layer in (((6, 4, 3, 3), {}), ((4, 1, 3, 3), {"group": 4})):
        net = signed(shape, -1.0, 32 / 31, **layer)
        found = net.compare({"x": (3, 6, 6)}, {"z": 4})
        assert "Pad" not in found.ops
        assert found.ops.count("QLinearConv") == 1
        near(found.integer["z"], found.folded["z"], 0.05)


@pytest.mark.parametrize(("low", "high"), [(-1.0, -0.1), (0.1, 1.0), (-1.0, 0.05)])
def test_counts_of_neurons_without_a_zero_are_padded_with_marks(low: float, high: float) -> None:
    """No count stands for 0, or the last one does: constant channels tell what is inside."""
    net = signed((6, 4, 3, 3), low, high)
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert ("Pad" in found.ops) == (high != 0.05)
    assert found.ops.count("QLinearConv") == 1
    near(found.integer["z"], found.folded["z"], 0.05)


def test_layers_that_int8_weights_would_spoil_stay_float() -> None:
    """Sums of many inputs on a fine scale: the neurons see a small part of what the weights add up to."""
    net = RealNet("phase", 8)
    net.site("x", "y", 512, 0)
    net.op("Gemm", f"y {net.weight('w', 512, 4)}", "g")
    net.site("g", "y1", 4, 0)
    net.constants["y1/threshold"] = np.float32([1, 1, 1, 0.002])
    net.constants["y1/amplitude"] = np.float32([1, 1, 1, 0.002])
    net.op("Gemm", f"y1 {net.weight('v', 4, 3)}", "z")
    found = net.compare({"x": (512,)}, {"z": 2})
    assert "g" in found.floats
    assert "int8" in next(entry.reason for entry in found.left if entry.node == "g")
    near(found.integer["z"], found.folded["z"], 0.03)


def test_scales_that_float32_has_not() -> None:
    """Weights and thresholds of any size give counts; what would overflow or vanish stays float."""
    for scale, floats in ((1e-30, ["z"]), (1e30, ["z"]), (1e-39, ["c1", "z"])):
        net = RealNet("phase", 8)
        net.site("x", "y", 4)
        net.op("Conv", f"y {net.weight('w1', 6, 4, 3, 3)}", "c1")
        net.site("c1", "y1", 6)
        for part in ("threshold", "shift", "amplitude"):  # currents are about 2, and there are 256 levels
            net.constants[f"y/{part}"] /= 32
            net.constants[f"y1/{part}"] /= 32
        for name in ("w1", "y1/threshold", "y1/shift", "y1/amplitude"):
            net.constants[name] = (net.constants[name].astype(np.float64) * scale).astype(np.float32)
        net.op("Conv", f"y1 {net.weight('w2', 2, 6, 1, 1)}", "z")
        found = net.compare({"x": (4, 6, 6)}, {"z": 4})
        assert set(found.floats) <= {"y/neuron", *floats}
        near(found.integer["z"], found.folded["z"], 0.05)


def test_offsets_under_padding_leave_a_depthwise_layer_float() -> None:
    net = behind_float(offset=2.0)
    net.op("Conv", f"y {net.weight('w1', 4, 1, 3, 3)}", "c1", pads=[1] * 4, group=4)
    net.site("c1", "y1", 4)
    net.op("Conv", f"y1 {net.weight('w2', 2, 4, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert "QLinearConv" not in found.ops
    assert found.floats == ["c", "c1", "z"]
    assert "padding" in found.left[1].reason
    assert found.flips == {"y": 0, "y1": 0}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_two_layers_become_one(kernel: int, stride: int) -> None:
    """The residual sum of a block that changes its channels."""
    net = behind_float(offset=0.3)
    net.op("Conv", f"y {net.weight('w1', 5, 4, 1, 1)}", "c1", strides=[stride] * 2)
    net.site("c1", "y1", 5)
    net.op("Conv", f"y1 {net.weight('w2', 6, 5, kernel, kernel)} {net.weight('b2', 6)}", "c2", pads=[kernel // 2] * 4)
    net.op("Conv", f"y {net.weight('w3', 6, 4, 1, 1)}", "c3", strides=[stride] * 2)
    net.op("Add", "c2 c3", "s")
    net.site("s", "y2", 6)
    net.op("Conv", f"y2 {net.weight('w4', 2, 6, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("QLinearConv") == 2
    assert found.ops.count("Slice") == (stride == 2)
    assert found.floats == ["c", "z"]


@pytest.mark.parametrize(("steps", "through"), [(4, 2), (40, 2), (100, 2), (255, 6)])
def test_large_and_falling_parts_of_a_shortcut_go_through_the_layer(steps: int, through: int) -> None:
    """Channel 0 has a threshold far below its shortcut's amplitude, channel 1 a falling shortcut."""
    net = RealNet("rate", steps)
    net.op("Conv", f"x {net.weight('w', 6, 3, 1, 1)}", "c")
    net.site("c", "y", 6, offset=0.3)
    net.constants["y/amplitude"][1] *= -1
    net.op("Conv", f"y {net.weight('w1', 6, 6, 3, 3)}", "c1", pads=[1] * 4)
    net.op("Add", "c1 y", "s")
    net.site("s", "y1", 6)
    net.constants["y1/threshold"][:, 0, 0] = net.constants["y/threshold"][:, 0, 0]
    net.constants["y1/threshold"][0] /= 20
    net.op("Conv", f"y1 {net.weight('w2', 2, 6, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.floats == ["c", "z"]
    assert found.ops.count("QLinearAdd") == (through < 6)
    assert found.ops.count("Concat") == 1


def test_a_shortcut_of_one_scale_needs_no_layer_of_its_own() -> None:
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w', 4, 3, 1, 1)}", "c")
    net.neuron("c", "y", (1,), amplitude=0.5)
    net.op("Conv", f"y {net.weight('w1', 4, 4, 3, 3)}", "c1", pads=[1] * 4)
    net.op("Add", "c1 y", "s")
    net.neuron("s", "y1", (1,), amplitude=0.5)
    net.op("Conv", f"y1 {net.weight('w2', 2, 4, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert (found.ops.count("QLinearConv"), found.ops.count("QLinearAdd")) == (1, 1)


def test_concatenation_of_counts_and_of_floats() -> None:
    net = behind_float(offset=0.3)
    net.op("Conv", f"x {net.weight('v', 2, 3, 1, 1)}", "d")
    net.site("d", "u", 2, offset=0.3)
    net.op("Concat", "y u", "yu", axis=1)
    net.op("Conv", f"yu {net.weight('w1', 5, 6, 1, 1)}", "c1")
    net.site("c1", "y1", 5)
    net.op("Concat", "y1 x", "mixed", axis=1)
    net.op("Conv", f"mixed {net.weight('w2', 2, 8, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("QLinearConv") == 1
    assert found.floats == ["c", "d"]


@pytest.mark.parametrize("rank", [2, 3])
def test_products_and_their_biases(rank: int) -> None:
    net = RealNet("phase", 4)
    net.op("MatMul", f"x {net.weight('w', 6, 8)}", "m")
    net.site("m", "y", 8, axes=0, offset=0.5)
    net.op("MatMul", f"y {net.weight('w1', 8, 7)}", "m1")
    net.op("Add", f"m1 {net.weight('b1', 7)}", "a1")
    net.site("a1", "y1", 7, axes=0)
    net.op("MatMul", f"y1 {net.weight('w2', 7, 3)}", "z")
    found = net.compare({"x": {2: (6,), 3: (5, 6)}[rank]}, {"z": rank})
    assert found.ops.count("QGemm") == 2  # the last one's output is float
    assert [entry.op for entry in found.left] == ["MatMul"]
    near(found.integer["z"], found.folded["z"], 0.1)


def test_gemm_behind_flatten() -> None:
    net = RealNet("rate", 16)
    net.neuron("x", "y", (1,), amplitude=0.25, offset=0.1)
    net.op("Flatten", "y", "f", axis=1)
    net.op("Gemm", f"f {net.weight('w1', 5, 16)} {net.weight('b1', 5)}", "g", transB=1, alpha=2.0, beta=0.5)
    net.site("g", "y1", 5, axes=0)
    net.op("Gemm", f"y1 {net.weight('w2', 5, 3)}", "z")
    found = net.compare({"x": (4, 2, 2)}, {"z": 2}, batch=20)
    assert found.ops.count("QGemm") == 2
    assert found.ops.count("ParallelNeuronCount") == 1


def test_a_pooling_behind_a_float_layer_comes_before_its_neurons() -> None:
    net = behind_float(offset=0.3)
    net.op("MaxPool", "y", "p", kernel_shape=[2, 2], strides=[2, 2])
    net.op("Conv", f"p {net.weight('w1', 5, 4, 1, 1)}", "c1")
    net.site("c1", "y1", 5)
    net.op("Conv", f"y1 {net.weight('w2', 2, 5, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.index("MaxPool") < found.ops.index("QuantizeLinear")
    np.testing.assert_array_equal(found.integer[f"p{COUNT}"], count_of_output(net.parameters("y"), found.folded["p"]))


def test_what_has_no_integer_operator_stays_float_and_agrees() -> None:
    """A transposed convolution, a gate and a graph output that are read as floats."""
    net = behind_float(offset=0.3)
    net.op("ConvTranspose", f"y {net.weight('w1', 4, 3, 2, 2)}", "c1", strides=[2, 2])
    net.site("c1", "y1", 3)
    net.op("Sigmoid", "y1", "gate")
    net.op("Mul", "gate y1", "z")
    found = net.compare({"x": (3, 3, 3)}, {"z": 4, "y": 4})
    assert "QLinearConv" not in found.ops
    assert [entry.op for entry in found.left] == ["Conv", "ConvTranspose"]
    for name in ("y", "z"):
        # no weight is rounded: float32 rounding alone, some ten of them
        np.testing.assert_allclose(found.integer[name], found.folded[name], rtol=1e-5, atol=1e-5)


def test_a_graph_without_neurons_stays_as_it_is() -> None:
    net = Net()
    net.op("MatMul", f"x {net.weight('w', 3, 2)}", "m")
    made = to_integers(net.graph({"x": ["N", 3]}, {"m": 2}))
    assert ops(made.graph) == ["MatMul"]
    assert made.floats == made.encoded == ()


def test_float16_networks_have_the_same_counts() -> None:
    outputs = []
    for dtype in (FLOAT, HALF):
        net = Net("rate", 8, dtype=dtype)
        net.op("Conv", f"x {net.weight('w1', 4, 2, 1, 1)}", "c1")
        net.neuron("c1", "y1", (4, 1, 1), amplitude=np.array([1, 2, 1, 2]).reshape(4, 1, 1))
        net.op("Conv", f"y1 {net.weight('w2', 3, 4, 3, 3)}", "c2", pads=[1] * 4)
        net.neuron("c2", "y2", (3, 1, 1))
        net.op("Conv", f"y2 {net.weight('w3', 2, 3, 1, 1)}", "z")
        graph = to_integers(net.graph({"x": ["N", 2, 5, 5]}, {"z": 4})).graph
        assert ops(graph).count("QLinearConv") == 1
        feed = np.random.default_rng(5).integers(-3, 4, (2, 2, 5, 5))
        (z,) = run(assemble(graph, "rate"), feed.astype(np.float16 if dtype == HALF else np.float32))
        assert z.dtype == (np.float16 if dtype == HALF else np.float32)
        outputs.append(z.astype(np.float32))
    np.testing.assert_array_equal(*outputs)  # sums of small integers, exact in float16


def test_bodies_of_if_see_floats() -> None:
    net = behind_float(offset=0.3)
    branches = [
        onnx.helper.make_graph(
            [node(op, "y", f"out_{op}")], op, [], [onnx.helper.make_tensor_value_info(f"out_{op}", FLOAT, None)]
        )
        for op in ("Neg", "Identity")
    ]
    net.constants["always"] = np.array(True)
    net.nodes.append(node("If", "always", "u", then_branch=branches[0], else_branch=branches[1]))
    net.op("Conv", f"y {net.weight('w1', 3, 4, 1, 1)}", "c1")
    net.site("c1", "y1", 3)
    net.op("Conv", f"y1 {net.weight('w2', 4, 3, 1, 1)}", "z")
    found = net.compare({"x": (3, 4, 4)}, {"z": 4, "u": 4})
    assert found.ops.count("QLinearConv") == 1
    np.testing.assert_allclose(found.integer["u"], found.folded["u"], rtol=1e-5, atol=1e-5)  # float32 rounding


@pytest.mark.parametrize("axes", [1, 3])
def test_convolutions_of_other_dimensions(axes: int) -> None:
    net = RealNet("rate", 16)
    ones = (1,) * axes
    net.op("Conv", f"x {net.weight('w', 4, 3, *ones)}", "c")
    net.site("c", "y", 4, axes, offset=2.0)
    net.op("Conv", f"y {net.weight('w1', 5, 4, *(3,) * axes)}", "c1", pads=[1] * 2 * axes)
    net.site("c1", "y1", 5, axes)
    net.op("Conv", f"y1 {net.weight('w2', 2, 5, *ones)}", "z")
    found = net.compare({"x": (3, *(5,) * axes)}, {"z": 2 + axes})
    assert found.ops.count("QLinearConv") == 1
    assert found.flips["y1"] < 0.1


# ---- analogue tensors of known range


def test_the_first_and_the_last_layer_are_integer_where_the_range_is_known() -> None:
    """Padding is exact: it is the zero point, whatever the range."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w', 8, 3, 3, 3)} {net.weight('b', 8)}", "c", pads=[1] * 4)
    net.site("c", "y", 8)
    net.op("GlobalAveragePool", "y", "g")
    net.op("Flatten", "g", "f", axis=1)
    net.op("Gemm", f"f {net.weight('w1', 8, 5)}", "z")
    found = net.compare({"x": (3, 9, 9)}, {"z": 2}, ranges={"x": (-4.0, 5.0), "g": (0.0, 4.0)})
    assert found.ops.count("QLinearConv") == 1
    assert found.ops.count("QGemm") == 1
    assert "Conv" not in found.ops
    assert found.left == ()
    assert found.encoded == ("x", "g")
    near(found.integer["z"], found.folded["z"], 0.1)
    x, q = found.folded["x"], found.integer[f"x{COUNT}"].astype(np.float64)
    code = encoding_of(-4.0, 5.0)
    np.testing.assert_allclose((q - code.zero) * code.scale, np.clip(x, -4, 5), atol=0.51 * code.scale)


def bottleneck(ranges: dict | None) -> "Found":
    """Inverted residuals: linear bottlenecks b0 and b1, their sum s, and expansions that neurons follow."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w', 4, 3, 3, 3)}", "b0", pads=[1] * 4)
    for k, data in enumerate(("b0", "s")):
        net.op("Conv", f"{data} {net.weight(f'e{k}', 8, 4, 1, 1)}", f"c{k}")
        net.site(f"c{k}", f"y{k}", 8)
        net.op("Conv", f"y{k} {net.weight(f'd{k}', 8, 1, 3, 3)}", f"h{k}", pads=[1] * 4, group=8)
        net.site(f"h{k}", f"u{k}", 8)
        net.op("Conv", f"u{k} {net.weight(f'p{k}', 4, 8, 1, 1)}", f"b{k + 1}")
        if not k:
            net.op("Add", "b1 b0", "s")
    return net.compare({"x": (3, 8, 8)}, {"b2": 4}, ranges=ranges)


def test_linear_bottlenecks_and_their_sums_are_integer() -> None:
    ranges = {"x": (-3.2, 3.0), "b0": (-3.4, 2.4), "b1": (-2.7, 1.5), "s": (-4.1, 3.2)}
    found = bottleneck(ranges)
    assert found.ops.count("QLinearConv") == 6
    assert found.ops.count("QLinearAdd") == 1
    assert [entry.node for entry in found.left] == ["b2"]  # a convolution has no integer operator with a float output
    assert "read as floats" in found.left[0].reason
    assert found.encoded == ("x", "b0", "b1", "s")
    near(found.integer["b2"], found.folded["b2"], 0.25)
    float_form = bottleneck(None)
    assert float_form.encoded == ()
    assert float_form.ops.count("QLinearAdd") == 0
    assert {"c0", "c1"} <= {entry.node for entry in float_form.left}
    assert "range is not known" in float_form.left[0].reason


def test_a_product_behind_a_normalisation_is_integer_and_its_output_float() -> None:
    """The bias that follows the product stays a float Add; floats read the product."""
    net = RealNet("rate", 16)
    net.constant("gamma", np.ones(6))
    net.op("LayerNormalization", "x gamma", "n", axis=-1)
    net.op("MatMul", f"n {net.weight('w', 6, 8)}", "m")
    net.op("Add", f"m {net.weight('b', 8)}", "a")
    net.site("a", "y", 8, axes=0)
    net.op("MatMul", f"y {net.weight('w1', 8, 6)}", "m1")
    net.op("Add", f"m1 {net.weight('b1', 6)}", "a1")
    net.op("Softmax", "a1", "z")
    found = net.compare({"x": (5, 6)}, {"z": 3}, ranges={"n": (-3.0, 3.0)})
    assert found.ops.count("QGemm") == 2
    assert found.encoded == ("n",)
    assert found.left == ()
    near(found.integer["z"], found.folded["z"], 0.1)


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(-(2.0**100), 2.0**100, width=32))
def test_an_encoding_holds_its_range_and_zero(one: float, two: float) -> None:
    low, high = sorted((one, two))
    code = encoding_of(low, high)
    if code is None:  # a range that float32 has no scale for
        assert 0 < max(high, 0) - min(low, 0) < 1e-35
        return
    assert 0 <= code.zero <= 255
    ends = (np.array([0, 255]) - code.zero) * code.scale
    assert ends[0] <= min(low, 0.0) + 0.51 * code.scale
    assert ends[1] >= max(high, 0.0) - 0.51 * code.scale


def test_ranges_that_are_no_numbers_have_no_encoding() -> None:
    assert encoding_of(-np.inf, 1.0) is None
    assert encoding_of(0.0, np.nan) is None


CARRIED = {  # a way to use each operator that works on counts, from [3, 4, 6, 6] on
    "Identity": ("-", {}), "Reshape": ("to", {}), "Flatten": ("-", {"axis": 2}), "Squeeze": ("axis", {}),
    "Unsqueeze": ("axis", {}), "Transpose": ("-", {"perm": [0, 1, 3, 2]}), "Slice": ("one two axis", {}),
    "Split": ("-", {"axis": 2, "num_outputs": 1}), "Gather": ("one", {"axis": 2}), "Expand": ("shape", {}),
    "Pad": ("pads zero", {"mode": "constant"}), "Tile": ("repeats", {}), "DepthToSpace": ("-", {"blocksize": 2}),
    "SpaceToDepth": ("-", {"blocksize": 2}), "ReduceMax": ("axis", {"keepdims": 1}),
    "MaxPool": ("-", {"kernel_shape": [2, 2]}),
}  # fmt: skip
SHAPED = {
    "to": [3, 4, 36, 1], "axis": [2], "one": [1], "two": [2], "pads": [0, 0, 1, 1, 0, 0, 1, 1], "repeats": [1, 1, 2, 2],
    "shape": [3, 4, 6, 6],
}  # fmt: skip


def test_every_operator_that_works_on_counts_has_a_kernel_for_uint8() -> None:
    assert CARRIED.keys() == CARRIES | {"ReduceMax", "MaxPool"}
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 6), np.uint8)
    for op, (inputs, attributes) in CARRIED.items():
        given = x[:, :, :1] if op == "Squeeze" else x
        constants = {name: np.int64(values) for name, values in SHAPED.items()} | {"zero": np.array(7, np.uint8)}
        names = "" if inputs == "-" else inputs
        kept = {name: constants[name] for name in names.split()}
        model = build([node(op, f"x {names}", "y", **attributes)], {"x": given.shape}, {"y": None}, kept, opset=21,
                      dtype=TensorProto.UINT8)  # fmt: skip
        (y,) = run(model, given)
        assert y.dtype == np.uint8 and y.size


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_largest_count_of_a_channel(axes: int) -> None:
    """GlobalMaxPool behind neurons whose current is made of counts: onnxruntime has it for floats alone."""
    random, kernel = np.random.default_rng(axes), [3] * axes
    weights = {name: random.normal(size=shape).astype(np.float32) / 8 for name, shape in
               (("a", (8, 3, *kernel)), ("b", (8, 8, *kernel)), ("c", (5, 8, *[1] * axes)))}  # fmt: skip
    nodes = [
        node("Conv", "x a", "h", "one"), node("Relu", "h", "r"), node("Conv", "r b", "g", "two"),
        node("Relu", "g", "s"), node("GlobalMaxPool", "s", "p", "largest"), node("Conv", "p c", "y", "three"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 3, *[7] * axes]}, {"y": None}, weights)
    x = random.normal(size=(8, 3, *[7] * axes)).astype(np.float32)
    done = convert(model, x, coding="phase", time_steps=8, form="integer", threads=1)
    assert "ReduceMax" in [each.op_type for each in done.proto.graph.node]
    assert done.distance is not None and done.distance.outputs[0].form < 0.05
