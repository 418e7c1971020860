"""The integer form of whole networks: what stays float, poolings, bodies, ends, encodings."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from graphpass.api import convert
from graphpass.forms.integer import moves, quantised
from graphpass.forms.integer.form import COUNT, to_integers
from graphpass.forms.integer.tensors import CARRIES, encoding_of
from graphpass.forms.registry import assemble
from tests.forms.integers import IntegerRun, RealNet, behind_float, count_of_output, near
from tests.forms.nets import Net
from tests.models import FLOAT, HALF, build, node, ops, optimised_ops, run


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
        assert optimised_ops(assemble(graph, "rate")).count("QLinearConv") == 1
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
    assert found.ops.count("QLinearConv") == 2  # the offset is rescaled
    assert found.flips["y1"] < 0.1


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
    assert "QLinearGlobalAveragePool" in found.ops
    near(found.integer["z"], found.folded["z"], 0.1)
    x, q = found.folded["x"], found.integer[f"x{COUNT}"].astype(np.float64)
    code = encoding_of(-4.0, 5.0)
    np.testing.assert_allclose((q - code.zero) * code.scale, np.clip(x, -4, 5), atol=0.51 * code.scale)


def test_what_openvino_would_compute_in_floats_is_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels are moved before the input becomes uint8; a strided layer of one tap reads a part of its counts."""
    net = RealNet("rate", 16)
    net.op("Transpose", "x", "t", perm=[0, 3, 1, 2])
    net.op("Conv", f"t {net.weight('w', 8, 3, 3, 3)}", "c", pads=[1] * 4)
    net.site("c", "y", 8)
    net.op("Conv", f"y {net.weight('w1', 4, 8, 1, 1)}", "c1", strides=[2, 2])
    net.site("c1", "y1", 4)
    net.op("Conv", f"y1 {net.weight('w2', 2, 4, 1, 1)}", "z")
    graph = net.graph({"x": ["N", 9, 9, 3]}, {"z": 4})
    made = to_integers(graph.copy(), {"x": (-4.0, 5.0)}).graph
    (transpose,) = (each for each in made.nodes if each.op == "Transpose")
    assert transpose.inputs[0] is made.inputs[0] and transpose.outputs[0].outputs[0].op == "QuantizeLinear"
    (part,) = (each for each in made.nodes if each.op == "Slice")
    assert part.inputs[0].name == f"y{COUNT}"
    layers = [each for each in made.nodes if each.op == "Conv" and each.name != "z"]
    assert len(layers) == 2 and not any(max(each.attrs.get("strides", [1])) > 1 for each in layers)
    monkeypatch.setattr(moves, "encode_behind_transposes", lambda graph: None)
    monkeypatch.setattr(quantised, "sampled", lambda linear: linear)
    plain = to_integers(graph.copy(), {"x": (-4.0, 5.0)}).graph
    assert not any(each.op == "Slice" for each in plain.nodes)
    x = net.random.normal(size=(2, 9, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(*(run(assemble(each, "rate"), x)[0] for each in (made, plain)))


@pytest.mark.parametrize(
    ("op", "attributes", "pooling"),
    [
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}, "QLinearGlobalAveragePool"),
        ("ReduceMean", {"axes": [-1, 2], "keepdims": 0}, "QLinearGlobalAveragePool"),
        ("ReduceMean", {"axes": [3], "keepdims": 1}, "ReduceMean"),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, "QLinearAveragePool"),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4}, "AveragePool"),
    ],
)
def test_means_of_counts_have_the_scales_of_their_channels(op: str, attributes: dict, pooling: str) -> None:
    """Sizes of a channel's values do not matter to it; a float reads the mean, too. A padded mean is one of floats."""
    net = behind_float(offset=0.3)
    for part in ("threshold", "shift", "amplitude", "offset"):
        net.constants[f"y/{part}"] *= np.float32([1, 0.01, 1, 0.01]).reshape(4, 1, 1)
    net.constants["w"] *= np.float32([1, 0.01, 1, 0.01]).reshape(4, 1, 1, 1)
    net.op(op, "y", "g", **attributes)
    if attributes.get("keepdims", 1):
        net.op("Conv", f"g {net.weight('v', 5, 4, 1, 1)}", "h")
        net.constants["v"] *= np.float32([0.01, 1, 0.01, 1]).reshape(1, 4, 1, 1)
    else:
        net.op("Gemm", f"g {net.weight('v', 4, 5)}", "h")
    net.site("h", "u", 5, 2 if attributes.get("keepdims", 1) else 0)
    net.op("Tanh", "g", "t")
    axes = 4 if attributes.get("keepdims", 1) else 2
    found = net.compare({"x": (3, 6, 6)}, {"u": axes, "t": axes}, ranges={"g": (-1.0, 8.0)})
    assert pooling in found.ops
    assert "g" in found.encoded
    assert "h" not in found.floats
    if pooling != "AveragePool":
        small = found.folded["t"][:, 1], found.integer["t"][:, 1]
        step = net.constants["y/amplitude"][1].item() * 16 / 255
        np.testing.assert_allclose(small[1], small[0], atol=0.51 * step)


def bottleneck(ranges: dict | None) -> IntegerRun:
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
    x = random.normal(size=(64, 3, *[7] * axes)).astype(np.float32)
    done = convert(model, x, coding="phase", time_steps=8, form="integer", threads=1)
    assert "ReduceMax" in [each.op_type for each in done.proto.graph.node]
    assert done.distance is not None and done.distance.outputs[0].form < 0.05


@pytest.mark.parametrize("inputs", ["pads", "pads zero", "pads zero sides"])
def test_a_padding_of_counts(inputs: str) -> None:
    """With the count of 0 in place of its value, which may be left out, and in front of its axes."""
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32) / 5
        for name, shape in (("a", (8, 3, 3, 3)), ("b", (8, 8, 3, 3)), ("c", (5, 8, 1, 1)))
    }
    pads = [1, 1, 1, 1] if "sides" in inputs else [0, 0, 1, 1, 0, 0, 1, 1]
    weights |= {"pads": np.int64(pads), "zero": np.float32(0), "sides": np.int64([2, 3])}
    nodes = [
        node("Conv", "x a", "h", "one"), node("Elu", "h", "r"), node("Pad", f"r {inputs}", "q", "padding"),
        node("MaxPool", "q", "k", "largest", kernel_shape=[2, 2]),
        node("Conv", "k b", "g", "two"), node("Elu", "g", "s"), node("Conv", "s c", "y", "three"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 3, 8, 8]}, {"y": None}, weights, opset=18)
    x = random.normal(size=(64, 3, 8, 8)).astype(np.float32)
    done = convert(model, x, time_steps=16, form="integer", threads=1)
    (padding,) = [each for each in done.proto.graph.node if each.op_type == "Pad"]
    assert "count" in padding.input[0] and padding.input[2]
    (output,) = run(done.proto, x)
    assert np.linalg.norm(output - run(model, x)[0]) < 0.2 * np.linalg.norm(run(model, x)[0])


@pytest.mark.parametrize(
    ("mix", "constants", "samples"),
    [
        (node("Concat", "d e", "h", axis=0), {}, 12),
        (node("Pad", "d k f", "h"), {"k": np.array([1, 0, 0, 0, 0, 0]), "f": np.float32(0.5)}, 7),
    ],
    ids=["Concat", "Pad"],
)
def test_samples_with_scales_of_their_own_are_floats(mix: onnx.NodeProto, constants: dict, samples: int) -> None:
    """Two scales lie along axis 0, which a Transpose moves and a Reshape merges with another axis."""
    random = np.random.default_rng(0)
    sizes = {"w": (4, 4), "w2": (4, 4), "v": (4 * samples, 5)}
    constants = {
        **constants,
        "s": np.array([4, -1]),
        **{name: random.standard_normal(size).astype(np.float32) for name, size in sizes.items()},
    }
    nodes = [
        node("MatMul", "x w", "c"), node("Relu", "c", "d"), node("MatMul", "x w2", "c2"), node("Relu", "c2", "e"), mix,
        node("Transpose", "h", "t", perm=[2, 1, 0]), node("Reshape", "t s", "r"), node("MatMul", "r v", "y"),
    ]  # fmt: skip
    model = build(nodes, {"x": [6, 4, 4]}, {"y": None}, constants)
    x = random.standard_normal((6, 4, 4)).astype(np.float32)
    done = convert(model, x, time_steps=8, coding="phase", form="integer", threads=1)
    (found,), (wanted,) = run(done.proto, x), run(model, x)
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)  # rounded weights and 256 levels
