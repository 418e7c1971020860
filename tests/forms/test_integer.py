"""The integer form: its arithmetic against numpy, its counts against the folded form's, within what int8 explains.

A layer's int8 weights are within s/2 of W' and its bias within s/2, so that its sum is off by at most
(Σ|n| + 1)·s/2 counts (graph.integer_layers); sums of two add their steps. Given equal counts upstream, a count may
differ only where a border between two levels is that close.
"""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.forms.integer.layers import LayerSource, Linear
from graphpass.forms.integer.quantised import nodes_of, quantise, settled
from graphpass.forms.registry import assemble
from tests.forms.integers import ROUNDING, RealNet, behind_float, near, reference
from tests.models import run
from tests.properties import examples


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
    plain = Linear((LayerSource(x),), {}, weight, constant, largest)
    linear = Linear((LayerSource(x),), {}, weight.T[:, :, None, None], constant, largest) if convolution else plain
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
    explained = (counts.sum(1, dtype=int)[:, None] + 0.5) * scales / scale + 0.5 + ROUNDING / scale
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


@pytest.mark.parametrize(("shape", "layer"), [((6, 4, 3, 3), {}), ((4, 1, 3, 3), {"group": 4})])
def test_counts_with_offsets_are_rescaled_in_front_of_padding(shape: tuple, layer: dict) -> None:
    """Once for all padded layers; other readers have the counts themselves."""
    net = behind_float(offset=2.0)
    net.op("Conv", f"y {net.weight('w1', *shape)}", "c1", pads=[1] * 4, **layer)
    net.site("c1", "y1", shape[0])
    net.op("Conv", f"y {net.weight('w3', *shape)}", "c2", pads=[1] * 4, **layer)
    net.site("c2", "y2", shape[0])
    net.op("Conv", f"y {net.weight('w4', 3, 4, 1, 1)}", "c3")
    net.site("c3", "y3", 3)
    for number, name in enumerate(("y1", "y2", "y3")):
        net.op("Conv", f"{name} {net.weight(f'v{number}', 2, 3 if name == 'y3' else shape[0], 1, 1)}", f"z{number}")
    found = net.compare({"x": (3, 6, 6)}, {f"z{number}": 4 for number in range(3)})
    assert found.ops.count("QLinearConv") == 4
    assert found.floats == ["c", "z0", "z1", "z2"]
    assert all(found.flips[name] < 0.1 for name in ("y1", "y2", "y3"))
    assert len(np.unique(found.integer["y/unshifted"])) > 17  # each channel has 17 values of its own


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
def test_counts_of_neurons_without_a_zero_are_rescaled(low: float, high: float) -> None:
    """No count stands for 0; or the last one does, and nothing is rescaled."""
    net = signed((6, 4, 3, 3), low, high)
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("QLinearConv") == (1 if high == 0.05 else 2)
    near(found.integer["z"], found.folded["z"], 0.05)


def test_a_channel_of_zeros_takes_no_steps_from_those_beside_it() -> None:
    """Its neurons send 0 whatever their count: its weights are never used, and must not set the scale of the others."""
    net = signed((6, 4, 3, 3), 0.01, 0.1)
    for part in ("amplitude", "offset"):
        net.constants[f"y/{part}"] = np.broadcast_to(net.constants[f"y/{part}"], (4, 1, 1)).copy()
        net.constants[f"y/{part}"][0] = 0
    for part in ("threshold", "shift", "amplitude"):
        net.constants[f"y1/{part}"] /= 10
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("QLinearConv") == 2
    near(found.integer["z"], found.folded["z"], 0.05)


def fine(scale: np.ndarray) -> RealNet:
    """Sums of many inputs, on neurons of which some see a small part of what the weights add up to."""
    net = RealNet("phase", 8)
    net.site("x", "y", 512, 0)
    net.op("Gemm", f"y {net.weight('w', 512, 4)}", "g")
    net.site("g", "y1", 4, 0)
    net.constants["y1/threshold"] = np.float32(scale)
    net.constants["y1/amplitude"] = np.float32(scale)
    net.op("Gemm", f"y1 {net.weight('v', 4, 3)}", "z")
    return net


def test_layers_that_int8_weights_would_spoil_stay_float() -> None:
    found = fine(np.full(4, 0.002)).compare({"x": (512,)}, {"z": 2})
    assert "g" in found.floats
    assert "int8" in next(entry.reason for entry in found.left if entry.node == "g")
    near(found.integer["z"], found.folded["z"], 0.03)


def test_a_channel_that_can_send_little_keeps_no_layer_from_integers() -> None:
    found = fine(np.float32([1, 1, 1, 0.002])).compare({"x": (512,)}, {"z": 2})
    assert "g" not in found.floats
    near(found.integer["z"], found.folded["z"], 0.05)


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_two_layers_become_one_or_are_added(kernel: int, stride: int) -> None:
    """The residual sum of a block that changes its channels: one layer, where both have one tap."""
    net = behind_float(offset=0.3)
    net.op("Conv", f"y {net.weight('w1', 5, 4, 1, 1)}", "c1", strides=[stride] * 2)
    net.site("c1", "y1", 5)
    net.op("Conv", f"y1 {net.weight('w2', 6, 5, kernel, kernel)} {net.weight('b2', 6)}", "c2", pads=[kernel // 2] * 4)
    net.op("Conv", f"y {net.weight('w3', 6, 4, 1, 1)}", "c3", strides=[stride] * 2)
    net.op("Add", "c2 c3", "s")
    net.site("s", "y2", 6)
    net.op("Conv", f"y2 {net.weight('w4', 2, 6, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.ops.count("QLinearConv") == 2 + (kernel == 3)
    assert found.ops.count("QLinearAdd") == (kernel == 3)
    assert found.ops.count("Slice") == (stride == 2)
    assert found.floats == ["c", "z"]


@pytest.mark.parametrize("order", ["c2 c3", "c3 c2"])
def test_a_projection_without_weights_adds_nothing(order: str) -> None:
    net = behind_float(offset=0.0)
    net.op("Conv", f"y {net.weight('w1', 4, 4, 3, 3)}", "c1", pads=[1] * 4)
    net.site("c1", "y1", 4)
    net.op("Conv", f"y1 {net.weight('w2', 4, 4, 3, 3)}", "c2", pads=[1] * 4)
    net.op("Conv", f"y {net.weight('w3', 4, 4, 1, 1)}", "c3")
    net.constants["w3"] *= 0
    net.op("Add", order, "s")
    net.site("s", "y2", 4)
    net.op("Conv", f"y2 {net.weight('w4', 2, 4, 1, 1)}", "z")
    found = net.compare({"x": (3, 6, 6)}, {"z": 4})
    assert found.floats == ["c", "z"]


@pytest.mark.parametrize("order", ["c2 c3", "c3 c2"])
def test_the_layer_that_reaches_less_is_added_in_any_order(order: str) -> None:
    net = RealNet("rate", 16)
    for x, y, wide in (("x", "y", 4), ("x", "y1", 300)):
        net.op("MatMul", f"{x} {net.weight(f'{y}/weight', 5, wide)}", f"{y}/current")
        net.site(f"{y}/current", y, wide, axes=0)
    net.op("MatMul", f"y {net.weight('w2', 4, 6)}", "c2")
    net.op("MatMul", f"y1 {net.weight('w3', 300, 6)}", "c3")
    net.constants["w2"] *= np.float32(0.3)
    net.op("Add", order, "s")
    net.site("s", "y2", 6, axes=0)
    net.op("MatMul", f"y2 {net.weight('w4', 6, 2)}", "z")
    assert not {"c2", "c3"} & set(net.compare({"x": (5,)}, {"z": 2}).floats)


@pytest.mark.parametrize(("steps", "through"), [(4, 2), (40, 2), (100, 2), (255, 2)])
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
    assert found.ops.count("Floor") == 1  # ParallelNeuronCount on floats
