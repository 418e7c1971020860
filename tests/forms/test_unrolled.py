"""The unrolled form computes what the folded form does.

All weights, inputs, amplitudes and offsets are small integers and edges lie at k·θ − 0.3, so that every current is a
multiple of 1/4 at least 0.05 away from an edge: no rounding can flip a count, and outputs agree to float32 rounding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.forms import operators
from graphpass.forms.preparation import compute_constants
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import fold_back, spike_inputs, unroll
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import levels_of
from tests.models import FLOAT, HALF, build, node, ops, run
from tests.properties import examples

CODES = [("rate", 1), ("rate", 3), ("rate", 5), ("phase", 1), ("phase", 2), ("phase", 4)]
every_code = pytest.mark.parametrize(("coding", "steps"), CODES)
RELATIVE = 1e-5  # some hundred float32 roundings of 6e-8


class Net:
    """A folded graph under construction; weights are integers of a seeded generator."""

    def __init__(self, coding: str = "rate", steps: int = 3, seed: int = 0, dtype: int = FLOAT):
        self.coding, self.steps, self.dtype = coding, steps, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)

    def op(self, op: str, inputs: str, output: str, **attributes) -> str:
        self.nodes.append(node(op, inputs, output, name=output.split()[0], **attributes))
        return output

    def constant(self, name: str, values) -> str:
        array = np.asarray(values)
        float_type = np.float16 if self.dtype == HALF else np.float32
        self.constants[name] = array.astype({"i": np.int64, "b": np.bool_}.get(array.dtype.kind, float_type))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, self.random.integers(-2, 3, shape).astype(float))

    def neuron(self, x: str, y: str, shape: Sequence[int], amplitude=1.0, offset=0.0, levels: int | None = None) -> str:
        thresholds = self.random.integers(1, 4, shape).astype(np.float32)
        values = {"threshold": thresholds, "shift": 0.3, "amplitude": amplitude, "offset": offset}
        for part, value in values.items():
            array = np.asarray(value, np.float32)
            self.constants[f"{y}/{part}"] = np.broadcast_to(array, shape).copy()
        inputs = " ".join([x, *(f"{y}/{part}" for part in values)])
        attributes = {"time_steps": self.steps, "levels": levels or levels_of(self.steps, self.coding)}
        self.nodes.append(
            node("ParallelNeuron", inputs, y, f"{y}/neuron", SPIKING_DOMAIN, **attributes, coding=self.coding)
        )
        return y

    def graph(self, inputs: Mapping[str, Sequence], outputs: Mapping[str, int], opset: int = 17) -> gs.Graph:
        """outputs: ranks by name."""
        shapes = {name: [f"{name}{axis}" for axis in range(rank)] for name, rank in outputs.items()}
        proto = build(self.nodes, inputs, shapes, self.constants, opset=opset, dtype=self.dtype)
        return spiking_graph(proto)

    def check(self, inputs: Mapping[str, Sequence], outputs: Mapping[str, int], batch: int = 3, **options) -> gs.Graph:
        """Folded, unrolled and folded back give the same; returns the unrolled graph."""
        free = {name: ["N", *shape] if batch != 1 else [1, *shape] for name, shape in inputs.items()}
        graph = self.graph(free, outputs, **options)
        unrolled = unroll(graph.copy())
        feeds = [self.random.integers(-3, 4, (batch, *shape)).astype(np.float32) for shape in inputs.values()]
        if self.dtype == HALF:
            feeds = [feed.astype(np.float16) for feed in feeds]
        expected = run(assemble(graph, self.coding), *feeds)
        relative = 2e-3 if self.dtype == HALF else RELATIVE  # 2^-11 a rounding, four of them
        for other in (unrolled, fold_back(unrolled.copy())):
            proto = assemble(other, self.coding)
            onnx.checker.check_model(proto)
            for one, two in zip(expected, run(proto, *feeds), strict=True):
                assert one.shape == two.shape
                assert np.abs(one).max() > 0
                np.testing.assert_allclose(two, one, rtol=relative, atol=relative * np.abs(one).max())
        assert [t.name for t in unrolled.outputs] == list(outputs)
        return unrolled


@every_code
def test_conv_pool_conv_with_padding_and_offset(coding, steps):
    net = Net(coding, steps)
    net.op("Conv", f"x {net.weight('w1', 4, 2, 3, 3)} {net.weight('b1', 4)}", "c1", pads=[1, 1, 1, 1])
    net.neuron("c1", "y1", (4, 1, 1), amplitude=np.array([1, 2, 3, 1]).reshape(4, 1, 1), offset=-1)
    net.op("MaxPool", "y1", "p1", kernel_shape=[2, 2], strides=[2, 2])
    net.op("Conv", f"p1 {net.weight('w2', 6, 2, 3, 3)} {net.weight('b2', 6)}", "c2", pads=[1, 1, 1, 1], group=2)
    net.neuron("c2", "y2", (6, 1, 1), amplitude=2)
    net.op("Conv", f"y2 {net.weight('w3', 2, 6, 1, 1)}", "c3")
    unrolled = net.check({"x": (2, 8, 8)}, {"c3": 4})
    assert spike_inputs(unrolled) == {"c1": False, "c2": True, "c2/offset": False, "c3": True}
    assert ops(unrolled).count("TimeMean") == 1
    assert ops(unrolled).count("Mul") == 0


def test_padded_offset_on_free_sizes_and_transposed_convolution():
    net = Net()
    net.neuron("x", "y", (2, 1, 1), amplitude=2, offset=-1)
    net.op("Conv", f"y {net.weight('w1', 3, 2, 3, 3)}", "c", auto_pad="SAME_UPPER")
    net.op("ConvTranspose", f"y {net.weight('w2', 2, 3, 2, 2)} {net.weight('b2', 3)}", "d", strides=[2, 2])
    graph = net.graph({"x": ["N", 2, "H", "W"]}, {"c": 4, "d": 4})
    unrolled = unroll(graph.copy())
    feed = net.random.integers(-3, 4, (2, 2, 5, 6)).astype(np.float32)
    for one, two in zip(run(assemble(graph, "rate"), feed), run(assemble(unrolled, "rate"), feed), strict=True):
        np.testing.assert_allclose(two, one, rtol=RELATIVE, atol=1e-5)
    assert spike_inputs(unrolled)["c"]
    assert spike_inputs(unrolled)["d"]


@every_code
def test_residual_sum_and_average_pooling(coding, steps):
    net = Net(coding, steps)
    net.op("Conv", f"x {net.weight('w1', 2, 2, 1, 1)}", "c1")
    net.neuron("c1", "y1", (2, 1, 1), amplitude=np.array([1, 3]).reshape(2, 1, 1))
    net.op("Conv", f"y1 {net.weight('w2', 2, 2, 3, 3)}", "c2", pads=[1] * 4)
    net.op("Add", "c2 y1", "sum")
    net.op("Add", "sum x", "sum2")  # x is static: repeated over the steps
    net.neuron("sum2", "y2", (2, 1, 1), offset=2)
    net.op("AveragePool", "y2", "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.op("Conv", f"pool {net.weight('w3', 2, 2, 1, 1)}", "c3")
    unrolled = net.check({"x": (2, 4, 4)}, {"c3": 4})
    assert spike_inputs(unrolled) == {"c1": False, "c2": True, "c3": False}
    assert ops(unrolled).count("TimeRepeat") == 1
    # averages of spikes are no spikes: the layer behind them works once, on the mean over time
    assert next(each for each in unrolled.nodes if each.name == "c3").inputs[0].inputs[0].op != "AveragePool"
    assert next(each for each in unrolled.nodes if each.name == "c2").inputs[0].inputs[0].op == "ParallelNeuronTrain"


@pytest.mark.parametrize(("mode", "spikes"), [("nearest", True), ("linear", False)])
def test_enlarged_spikes_are_spikes_where_they_are_copied(mode, spikes):
    net = Net("rate", 4)
    net.neuron("x", "y", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1))
    net.constant("scales", [1.0, 1.0, 2.0, 2.0])
    net.op("Resize", "y - scales", "r", mode=mode, coordinate_transformation_mode="asymmetric")
    net.op("Conv", f"r {net.weight('w', 2, 2, 1, 1)}", "c")
    assert spike_inputs(net.check({"x": (2, 4, 4)}, {"c": 4})) == {"c": spikes}


@every_code
def test_flatten_gemm_and_shared_weights(coding, steps):
    net = Net(coding, steps)
    net.neuron(
        "x", "y", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1), offset=np.array([1, -1]).reshape(2, 1, 1)
    )
    net.op("Flatten", "y", "flat", axis=1)
    net.op("Gemm", f"flat {net.weight('w', 8, 8)} {net.weight('b', 8)}", "g1", transB=1, alpha=2.0, beta=0.5)
    net.neuron("g1", "y2", (8,), amplitude=np.arange(1, 9))
    net.op("Gemm", "y2 w", "g2")  # the same weights, another way around
    net.op("Gemm", "x2 w b", "g3")  # and on the network's own input
    net.op("Add", "g2 g3", "z")
    unrolled = net.check({"x": (2, 2, 2), "x2": (8,)}, {"z": 2})
    assert spike_inputs(unrolled) == {"g1": True, "g2": True, "g3": False}


@every_code
def test_concat_and_split_of_trains_keep_their_scales(coding, steps):
    net = Net(coding, steps)
    net.neuron("x", "a", (1,), amplitude=2)
    net.neuron("x", "b", (2, 1, 1), amplitude=np.array([1, 3]).reshape(2, 1, 1), offset=1)
    net.op("Concat", "a b", "ab", axis=1)
    net.op("Split", f"ab {net.constant('sizes', [1, 3])}", "first rest", axis=1)
    net.op("Conv", f"rest {net.weight('w', 2, 3, 1, 1)}", "c")
    net.op("Concat", "first x", "mixed", axis=-3)
    net.op("Conv", f"mixed {net.weight('v', 2, 3, 1, 1)}", "d")
    unrolled = net.check({"x": (2, 3, 3)}, {"c": 4, "d": 4})
    assert spike_inputs(unrolled) == {"c": True, "d": False}


# what stands between spikes [N, 4, 4, 6] and a convolution: node, its constants, channels behind it, spikes or not
LONG = 1 << 62
BETWEEN = {
    "slice of channels": ("Slice", "y ka kb kc", {"ka": [1], "kb": [3], "kc": [1]}, {}, 2, True),
    "channels backwards": ("Slice", "y ka kb kc kd", {"ka": [-1], "kb": [-LONG], "kc": [1], "kd": [-2]}, {}, 2, True),
    "positions backwards": ("Slice", "y ka kb kc kc", {"ka": [-1], "kb": [-LONG], "kc": [-1]}, {}, 4, True),
    "slice of positions": ("Slice", "y ka kb kc", {"ka": [1], "kb": [LONG], "kc": [3]}, {}, 4, True),
    "gathered channels": ("Gather", "y ka", {"ka": [3, 0, -2]}, {"axis": 1}, 3, True),
    "gathered positions": ("Gather", "y ka", {"ka": [2, 0]}, {"axis": 2}, 4, True),
    "compressed channels": ("Compress", "y ka", {"ka": [True, False, True, True]}, {"axis": 1}, 3, True),
    "zeros around": ("Pad", "y ka", {"ka": [0, 0, 1, 0, 0, 0, 0, 2]}, {}, 4, True),
    "fives around": ("Pad", "y ka kb", {"ka": [0, 0, 1, 0, 0, 0, 0, 2], "kb": 5.0}, {}, 4, True),
    "fives around along named axes": ("Pad", "y ka kb kc", {"ka": [1, 2], "kb": 5.0, "kc": [3]}, {}, 4, True),
    "channels of zeros": ("Pad", "y ka", {"ka": [0, 1, 0, 0, 0, 1, 0, 0]}, {}, 6, True),
    "cropped": ("Pad", "y ka", {"ka": [0, 0, -1, -1, 0, 0, 0, -2]}, {}, 4, True),
    "cropped here, padded there": ("Pad", "y ka", {"ka": [0, 0, -1, 2, 0, 0, 1, -3]}, {}, 4, True),
    "mirrored": ("Pad", "y ka", {"ka": [0, 0, 1, 2, 0, 0, 1, 0]}, {"mode": "reflect"}, 4, True),
    "mirrored channels": ("Pad", "y ka", {"ka": [0, 1, 0, 0, 0, 2, 0, 0]}, {"mode": "reflect"}, 7, True),
    "repeated": ("Tile", "y ka", {"ka": [1, 2, 1, 3]}, {}, 8, True),
    "space to depth": ("SpaceToDepth", "y", {}, {"blocksize": 2}, 16, True),
    "masked": ("Where", "ka y kb", {"ka": np.eye(4, 6) > 0, "kb": 3.0}, {}, 4, True),
    "masked the other way": (
        "Where",
        "ka kb y",
        {"ka": [[[True]], [[False]], [[False]], [[True]]], "kb": -1.0},
        {},
        4,
        True,
    ),
    "lower triangle": ("Trilu", "y", {}, {"upper": 0}, 4, True),
    "upper triangle, shifted": ("Trilu", "y ka", {"ka": 1}, {}, 4, True),
    "negated": ("Neg", "y", {}, {}, 4, True),
    "reshaped behind the channels": ("Reshape", "y ka", {"ka": [0, 4, 6, 4]}, {}, 4, True),
    "channels merged with positions": ("Reshape", "y ka", {"ka": [0, 8, 6, 2]}, {}, 8, True),
    "positions first": ("Transpose", "y", {}, {"perm": [0, 3, 2, 1]}, 6, False),
}


@every_code
@pytest.mark.parametrize("name", BETWEEN)
def test_spikes_stay_spikes_where_values_are_moved(name, coding, steps):
    """… and scale and offset find their way to the weights, wherever the elements go and whatever is filled in."""
    op, inputs, constants, attributes, channels, spikes = BETWEEN[name]
    net = Net(coding, steps)
    amplitude, offset = (np.array(values).reshape(4, 1, 1) for values in ([1, 2, 3, 2], [1, -1, 0, 2]))
    net.neuron("x", "y", (4, 1, 1), amplitude, offset)
    for key, values in constants.items():
        net.constant(key, values)
    net.op(op, inputs, "m", **attributes)
    net.op("Conv", f"m {net.weight('w', 3, channels, 2, 2)} {net.weight('b', 3)}", "c", pads=[0, 1, 1, 0])
    unrolled = net.check({"x": (4, 4, 6)}, {"c": 4}, opset=18)
    assert spike_inputs(unrolled)["c"] == spikes


def test_depth_to_space_makes_a_pattern_of_channels():
    """Scales that differ within a block of four differ from position to position behind it; others do not."""
    for shape, amplitude, spikes in (((4, 1, 1), np.reshape([1, 2, 3, 4], (4, 1, 1)), False), ((1,), 2, True)):
        net = Net("rate", 4)
        net.neuron("x", "y", shape, amplitude, offset=1)
        net.op("DepthToSpace", "y", "d", blocksize=2)
        net.op("Conv", f"d {net.weight('w', 2, 1, 2, 2)}", "c", pads=[1] * 4)
        assert spike_inputs(net.check({"x": (4, 3, 3)}, {"c": 4})) == {"c": spikes} | (
            {"c/offset": False} if spikes else {}
        )


def test_space_to_depth_on_free_sizes():
    net = Net("rate", 4)
    net.neuron("x", "y", (4, 1, 1), np.reshape([1, 2, 3, 4], (4, 1, 1)), offset=1)
    net.op("SpaceToDepth", "y", "s", blocksize=2)
    net.op("Conv", f"s {net.weight('w', 2, 16, 1, 1)}", "c")
    graph = net.graph({"x": ["N", 4, "H", "W"]}, {"c": 4})
    unrolled = unroll(graph.copy())
    assert spike_inputs(unrolled) == {"c": True}
    feed = net.random.integers(-3, 4, (2, 4, 6, 4)).astype(np.float32)
    one, two = (run(assemble(each, "rate"), feed)[0] for each in (graph, unrolled))
    np.testing.assert_allclose(two, one, rtol=RELATIVE, atol=1e-5)


def test_rows_merged_with_samples_do_not_mix_up_equal_sizes():
    """[N, 4, 4] → [N·4, 4]: a scale that differs along axis 1 is no scale along the 4 features."""
    net = Net("rate", 3)
    net.neuron("x", "y", (4, 1), np.reshape([1, 2, 3, 4], (4, 1)))
    net.op("Reshape", f"y {net.constant('to', [-1, 4])}", "rows")
    net.op("Gemm", f"rows {net.weight('w', 4, 2)}", "g")
    assert spike_inputs(net.check({"x": (4, 4)}, {"g": 2})) == {"g": False}


@every_code
def test_weights_on_the_left(coding, steps):
    """W·x: scales along the last axis but one go into the columns of W, offsets into a bias along the same axis."""
    net = Net(coding, steps)
    amplitude, offset = (np.reshape(values, (4, 1)) for values in ([1, 2, 3, 1], [1, 0, -1, 2]))
    net.neuron("x", "y", (4, 1), amplitude, offset)
    net.op("MatMul", f"{net.weight('w', 3, 4)} y", "m")
    net.neuron("m", "z", (3, 1), np.reshape([1, 2, 1], (3, 1)), offset=1)
    net.op("MatMul", f"{net.weight('v', 2, 3)} z", "out")
    unrolled = net.check({"x": (4, 5)}, {"out": 3})
    assert spike_inputs(unrolled) == {"m": True, "out": True}


@every_code
def test_a_matrix_for_each_head(coding, steps):
    net = Net(coding, steps)
    net.neuron("x", "y", (4,), np.array([1, 2, 3, 1]), np.array([1, 0, -1, 2]))
    net.op("MatMul", f"y {net.weight('w', 2, 4, 3)}", "m")
    assert spike_inputs(net.check({"x": (2, 5, 4)}, {"m": 4}))["m"]


@every_code
def test_parts_of_one_train_side_by_side(coding, steps):
    """Circular padding: the parts have one scale, the very same one."""
    net = Net(coding, steps)
    net.neuron("x", "y", (2, 1, 1), np.reshape([1, 3], (2, 1, 1)), offset=1)
    net.op("Slice", f"y {net.constant('zero', [0])} {net.constant('one', [1])} {net.constant('axis', [3])}", "head")
    net.op("Concat", "y head", "around", axis=3)
    net.op("Conv", f"around {net.weight('w', 2, 2, 1, 2)}", "c")
    assert spike_inputs(net.check({"x": (2, 3, 4)}, {"c": 4})) == {"c": True}


@every_code
def test_max_pooling_behind_moved_spikes(coding, steps):
    """SPPF: poolings of poolings, joined. Phase: neurons behind each send its counts again, exactly."""
    net = Net(coding, steps)
    net.neuron("x", "a", (2, 1, 1), np.reshape([1, 3], (2, 1, 1)), offset=np.reshape([1, -1], (2, 1, 1)))
    net.neuron("x", "b", (2, 1, 1), 0, offset=2)
    net.op("Concat", "a b", "ab", axis=1)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    net.op("MaxPool", "ab", "p", **window)
    net.op("MaxPool", "p", "q", **window)
    net.op("Concat", "ab p q", "j", axis=1)
    net.op("Conv", f"j {net.weight('w', 2, 12, 1, 1)}", "c")
    unrolled = net.check({"x": (2, 5, 5)}, {"c": 4})
    assert spike_inputs(unrolled) == {"c": True}
    again = [each.name for each in unrolled.nodes if each.op == operators.TRAIN_NEURON][2:]
    assert sorted(again) == (["p/neuron", "q/neuron"] if coding == "phase" else [])


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_digits_are_not_pooled_one_by_one(steps):
    """Of 5 = 101 and 2 = 010 the largest is 5, and the largest of each digit 111."""
    net = Net("phase", steps)
    for name in ("a", "b"):
        net.neuron("x", name, (2, 1), amplitude=1)
    net.op("Concat", "a b", "ab", axis=1)
    net.op("MaxPool", "ab", "p", kernel_shape=[2])
    net.op("Conv", f"p {net.weight('w', 2, 4, 1)}", "c")
    counts = np.stack(
        [np.arange(2**steps), np.arange(2**steps)[::-1]], -1
    )  # beside each other: a number and its complement
    x = np.broadcast_to(3.0 * counts.reshape(1, 1, -1), (1, 2, 2 * 2**steps)).astype(np.float32)
    graph = net.graph({"x": ["N", 2, x.shape[2]]}, {"c": 3})
    folded, unrolled = (run(assemble(each, "phase"), x)[0] for each in (graph, unroll(graph.copy())))
    np.testing.assert_allclose(unrolled, folded, rtol=RELATIVE, atol=RELATIVE * np.abs(folded).max())


def test_zeros_around_spikes_with_offsets_are_pooled_as_values():
    """The largest of a spike's value and a zero that padding adds is no spike: the pooling works on the mean."""
    net = Net("rate", 3)
    net.neuron("x", "y", (2, 1, 1), amplitude=1, offset=-1)
    net.op("Pad", f"y {net.constant('pads', [0, 0, 1, 1, 0, 0, 1, 1])}", "p")
    net.op("MaxPool", "p", "m", kernel_shape=[2, 2])
    net.op("Conv", f"m {net.weight('w', 2, 2, 1, 1)}", "c")
    assert spike_inputs(net.check({"x": (2, 4, 4)}, {"c": 4})) == {"c": False}


@every_code
def test_transformer_block(coding, steps):
    """Projections see spikes; Softmax, LayerNormalization and products of activations see the mean."""
    net = Net(coding, steps)
    net.neuron("x", "u", (4,), amplitude=np.array([1, 2, 1, 3]), offset=-2)
    for name in ("q", "k", "v"):
        net.op("MatMul", f"u {net.weight('w' + name, 4, 4)}", name)
    net.op("Reshape", f"q {net.constant('heads', [0, -1, 2, 2])}", "q4")
    net.op("Transpose", "q4", "q5", perm=[0, 2, 1, 3])
    net.op("Reshape", "k heads", "k4")
    net.op("Transpose", "k4", "k5", perm=[0, 2, 3, 1])
    net.op("MatMul", "q5 k5", "scores")
    net.op("Softmax", "scores", "attention", axis=-1)
    net.op("Reshape", "v heads", "v4")
    net.op("Transpose", "v4", "v5", perm=[0, 2, 1, 3])
    net.op("MatMul", "attention v5", "mixed")
    net.op("Transpose", "mixed", "mixed4", perm=[0, 2, 1, 3])
    net.op("Reshape", f"mixed4 {net.constant('merge', [0, -1, 4])}", "mixed3")
    net.op("Add", f"mixed3 {net.constant('nudge', [0.0, 0, 0, 0])}", "context")
    net.op("Mul", "context x", "gated")
    net.op("LayerNormalization", f"gated {net.weight('gain', 4)}", "z", axis=-1)
    unrolled = net.check({"x": (5, 4)}, {"z": 3})
    assert spike_inputs(unrolled) == {"q": True, "k": True, "v": True}
    assert ops(unrolled).count("TimeMean") == 3


@every_code
@pytest.mark.parametrize("amplitude", [2, -2])
def test_max_pooling(coding, steps, amplitude):
    """Rate: per step. Phase: in front of the neuron, which stays for its other reader. Falling: of the mean."""
    net = Net(coding, steps)
    net.op("Conv", f"x {net.weight('w0', 2, 2, 1, 1)}", "c0")
    net.neuron("c0", "y0", (1,))
    net.op("Conv", f"y0 {net.weight('w1', 2, 2, 1, 1)}", "c1")
    net.neuron("c1", "y", (2, 1, 1), amplitude=amplitude, offset=1)
    net.op("MaxPool", "y", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.op("Conv", f"p {net.weight('w', 2, 2, 1, 1)}", "c")
    net.op("Conv", f"y {net.weight('v', 2, 2, 1, 1)}", "d")
    unrolled = net.check({"x": (2, 6, 6)}, {"c": 4, "d": 4})
    assert spike_inputs(unrolled)["c"] == (amplitude > 0)
    neurons = [each.name for each in unrolled.nodes if each.op == operators.TRAIN_NEURON]
    assert ("y/neuron/pooled" in neurons) == (coding == "phase" and amplitude > 0)


@every_code
def test_float16(coding, steps):
    net = Net(coding, min(steps, 3), dtype=HALF)
    net.op("Conv", f"x {net.weight('w1', 2, 2, 1, 1)}", "c1")
    net.neuron("c1", "y1", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1))
    net.op("Conv", f"y1 {net.weight('w2', 2, 2, 3, 3)}", "c2")
    unrolled = net.check({"x": (2, 4, 4)}, {"c2": 4})
    assert next(each for each in unrolled.nodes if each.name == "c2").inputs[1].dtype == np.float16


def test_fixed_batch_reshapes():
    """A target that names the batch is freed, whatever it merges; axes that move the batch see the mean."""
    net = Net(seed=1)
    net.neuron("x", "y", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1))
    net.op("Reshape", f"y {net.constant('to', [1, -1])}", "flat")
    net.op("MatMul", f"flat {net.weight('w', 8, 3)}", "m")
    net.op("Reshape", f"y {net.constant('two', [2, 4])}", "rows")
    net.op("MatMul", f"rows {net.weight('v', 4, 3)}", "k")
    net.op("Transpose", "y", "turned", perm=[1, 0, 2, 3])
    net.op("ReduceSum", f"turned {net.constant('one', [1])}", "total")
    unrolled = net.check({"x": (2, 2, 2)}, {"m": 2, "k": 2, "total": 4}, batch=1)
    assert spike_inputs(unrolled)["m"]


def test_computed_shape_of_a_train():
    net = Net()
    net.neuron("x", "y", (2, 1, 1), amplitude=2)
    net.op("Shape", "y", "shape")
    net.op("Cast", "shape", "floats", to=FLOAT)
    net.op("Conv", f"y {net.weight('w', 2, 2, 1, 1)}", "c")
    net.op("ReduceSum", "floats", "sum", keepdims=0)
    net.op("Add", "c sum", "z")
    net.check({"x": (2, 3, 3)}, {"z": 4})


def test_outputs_that_are_trains_and_neurons_with_fewer_levels():
    net = Net("rate", 5)
    net.neuron("x", "y", (3,), amplitude=np.array([1, 2, 3]), offset=1, levels=4)
    net.op("Mul", f"y {net.constant('by', [1.0, -2, 3])}", "scaled")
    net.op("Sub", f"{net.constant('from', 7.0)} scaled", "z")
    net.op("MatMul", f"z {net.weight('w', 3, 2)}", "m")
    unrolled = net.check({"x": (3,)}, {"y": 2, "z": 2, "m": 2})
    assert spike_inputs(unrolled) == {"m": True}


def test_parameters_along_the_first_axis_leave_time_at_once():
    net = Net()
    net.op("Transpose", "x", "turned", perm=[1, 0])
    net.neuron("turned", "y", (3, 1), amplitude=np.array([[1], [2], [3]]))
    net.op("Transpose", "y", "back", perm=[1, 0])
    net.op("MatMul", f"back {net.weight('w', 3, 2)}", "m")
    assert spike_inputs(net.check({"x": (3,)}, {"m": 2})) == {"m": False}


def test_a_constant_that_widens_its_train():
    net = Net(seed=1)
    net.neuron("x", "y", (3,), amplitude=np.array([1, 2, 3]), offset=1)
    net.op("Mul", f"y {net.constant('by', [[[1.0], [-2]]])}", "wide")
    net.op("MatMul", f"wide {net.weight('w', 3, 2)}", "m")
    net.check({"x": (1, 3)}, {"m": 3})


def test_computed_pads_are_constants():
    net = Net(seed=1)
    net.neuron("x", "y", (2, 1, 1), amplitude=2)
    net.op("ConstantOfShape", net.constant("eight", [8]), "zeros", value=onnx.numpy_helper.from_array(np.array([1])))
    net.op("Mul", f"zeros {net.constant('inner', [0, 0, 1, 1] * 2)}", "pads")
    net.op("Pad", "y pads", "padded")
    net.op("Conv", f"padded {net.weight('w', 2, 2, 3, 3)}", "c")
    unrolled = net.check({"x": (2, 3, 3)}, {"c": 4})
    assert spike_inputs(unrolled) == {"c": True}
    assert "ConstantOfShape" not in ops(unrolled)


@pytest.mark.parametrize(("divisor", "fmod", "left"), [(3, 0, 0), (-3, 0, 1), (3, 1, 1)])
def test_remainders_are_constants_where_all_runtimes_agree(divisor, fmod, left):
    # torch's unflatten(-1, …) computes its axis so; were it left, every rank behind the reshape would be unknown
    constants = {"axis": np.array([-1, 4]), "rank": np.array([divisor]), "zero": np.float32(0)}
    nodes = [node("Mod", "axis rank", "m", fmod=fmod), node("Cast", "m", "f", to=1), node("Add", "f zero", "y")]
    proto = build(nodes, {}, {"y": None}, constants)
    graph = spiking_graph(proto)
    compute_constants(graph)
    assert ops(graph).count("Mod") == left
    np.testing.assert_array_equal(run(gs.export_onnx(graph))[0], run(proto)[0])


def test_bodies_of_if_see_the_mean():
    net = Net()
    net.neuron("x", "y", (3,), amplitude=2)
    branches = [
        onnx.helper.make_graph(
            [node(op, "y", f"out_{op}")], op, [], [onnx.helper.make_tensor_value_info(f"out_{op}", FLOAT, None)]
        )
        for op in ("Neg", "Identity")
    ]
    net.constants["always"] = np.array(True)
    net.nodes.append(node("If", "always", "z", then_branch=branches[0], else_branch=branches[1]))
    net.op("MatMul", f"y {net.weight('w', 3, 2)}", "m")
    assert spike_inputs(net.check({"x": (3,)}, {"z": 2, "m": 2})) == {"m": True}


def test_a_graph_without_neurons_stays_as_it_is():
    net = Net()
    net.op("MatMul", f"x {net.weight('w', 3, 2)}", "m")
    assert ops(unroll(net.graph({"x": ["N", 3]}, {"m": 2}))) == ["MatMul"]


@examples(40)
@given(
    st.sampled_from(CODES),
    st.lists(st.sampled_from(["conv", "skip", "pool", "max", "scale", "flip"]), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(-2, 3), st.integers(-2, 2)), min_size=6, max_size=6),
    st.integers(0, 999),
)
def test_any_stack_of_layers(code, layers, parts, seed):
    """Folded = unrolled for stacks of layers with any amplitudes (0 included) and offsets."""
    net = Net(*code, seed=seed)
    last = "x"
    for number, layer in enumerate(layers):
        amplitude, offset = parts[number]
        x = net.op("Conv", f"{last} {net.weight(f'w{number}', 2, 2, 3, 3)}", f"c{number}", pads=[1] * 4)
        y = net.neuron(x, f"y{number}", (2, 1, 1), np.array([amplitude, 1]).reshape(2, 1, 1), offset)
        if layer == "skip":
            last = net.op("Add", f"{y} {x}", f"s{number}")
        elif layer == "pool" and number == len(layers) - 1:
            last = net.op("AveragePool", y, f"s{number}", kernel_shape=[2, 2])
        elif layer == "max":
            last = net.op("MaxPool", y, f"s{number}", kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        elif layer == "scale":
            last = net.op("Mul", f"{y} {net.constant(f'm{number}', [[[2.0]], [[-3.0]]])}", f"s{number}")
        elif layer == "flip":
            last = net.op("Transpose", y, f"s{number}", perm=[0, 1, 3, 2])
        else:
            last = y
    net.op("Conv", f"{last} {net.weight('end', 2, 2, 1, 1)}", "z")
    net.op("Add", f"z {net.constant('one', 1.0)}", "out")
    net.check({"x": (2, 4, 4)}, {"out": 4})
