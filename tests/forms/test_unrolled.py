"""The unrolled form computes what the folded form does.

All weights, inputs, amplitudes and offsets are small integers and edges lie at k·θ − 0.3, so that every current is a
multiple of 1/4 at least 0.05 away from an edge: no rounding can flip a count, and outputs agree to float32 rounding.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.forms.registry import assemble
from graphpass.forms.unrolled import spike_inputs, unroll
from tests.forms.nets import CODES, RELATIVE, Net, every_code
from tests.models import ops, run
from tests.properties import examples


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
