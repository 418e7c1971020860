"""The integer form for TensorRT: int8 with zero points of 0 everywhere, and the same counts as the definition's.

TensorRT itself is not run: what is checked is what its parser takes.
"""

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import Conversion, convert, dataset_for
from graphpass.forms.integer.form import COUNT, to_integers
from graphpass.forms.integer.layers import LayerSource, Linear
from graphpass.forms.integer.quantised import quantise, settled
from graphpass.forms.integer.symmetric import layer_nodes
from graphpass.forms.integer.tensorrt import require_tensorrt
from graphpass.forms.registry import assemble, floats_of
from graphpass.graph.domains import opset_of
from graphpass.graph.upgrade import TARGET_OPSET
from graphpass.verification.integer import flips
from tests.forms.integers import values_of
from tests.forms.nets import Net
from tests.forms.runtime_networks import INPUTS, concat_network, relu_network, transformer_block
from tests.forms.test_curved_networks import X, network
from tests.models import run
from tests.properties import examples

Q, DQ = "QuantizeLinear", "DequantizeLinear"


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual": relu_network,
    "concat": concat_network,
    "silu": lambda: network("silu"),
    "gelu": lambda: network("gelu"),
    "attention": transformer_block,
}
PLACES = {"residual": "relu", "attention": "transformer"}  # of their inputs
CASES = [*((name, "rate", 8) for name in NETWORKS), ("silu", "phase", 7), ("residual", "phase", 4)]


def made(name: str, coding: str, steps: int, **options) -> tuple[Conversion, np.ndarray]:
    x = INPUTS.get(PLACES.get(name, ""), X)
    how = {"time_steps": steps, "coding": coding} if "plan" not in options else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = None if "plan" in options else {"x": x}
        return convert(NETWORKS[name](), data, options=CalibrationOptions(threads=1), **how, **options), x


@pytest.fixture(scope="module", params=CASES, ids=str)
def forms(request) -> tuple[dict[str, onnx.ModelProto], np.ndarray]:
    """The folded form, the usual integer form, and the one for TensorRT, of one plan; an input."""
    folded, x = made(*request.param)
    usual = made(*request.param, plan=folded.plan, form="integer")[0]
    ours = made(*request.param, plan=folded.plan, form="integer", target="tensorrt")[0]
    return {"folded": folded.proto, "usual": usual.proto, "tensorrt": ours.proto}, x


def test_integers_are_int8_between_quantize_and_dequantize_alone(forms):
    """Read off the file by other means than the check that the conversion makes."""
    proto = forms[0]["tensorrt"]
    onnx.checker.check_model(proto, full_check=True)
    assert not proto.functions
    assert {each.domain for each in proto.graph.node} == {""}
    assert opset_of(proto) == TARGET_OPSET <= 24  # what TensorRT's parser has
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    assert {values.dtype for values in stored.values()} <= {np.dtype(each) for each in ("f4", "i8", "i1")}
    readers: dict[str, set[str]] = {}
    for each in proto.graph.node:
        for name in each.input:
            readers.setdefault(name, set()).add(each.op_type)
        if each.op_type in (Q, DQ):
            data, scale, zero = each.input
            assert stored[zero].dtype == np.int8 and not stored[zero].any()
            assert stored[scale].dtype == np.float32 and (stored[scale] > 0).all()
            assert stored[scale].size == 1 or data in stored  # weights alone have scales of channels
            assert data not in stored or np.abs(stored[data].astype(int)).max() <= 127
    inferred = onnx.shape_inference.infer_shapes(proto)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    integers = [name for name, kind in types.items() if kind in (TensorProto.INT8, TensorProto.UINT8)]
    assert integers and {types[name] for name in integers} == {TensorProto.INT8}
    makers = {each.output[0]: each.op_type for each in proto.graph.node}
    assert {makers[name] for name in integers} == {Q}
    assert set().union(*(readers[name] for name in integers)) == {DQ}


def test_no_layer_is_float_that_is_an_integer_layer_elsewhere(forms):
    usual, ours = ({entry.node for entry in floats_of(forms[0][key])} for key in ("usual", "tensorrt"))
    assert ours <= usual
    graph = forms[0]["tensorrt"].graph
    weights = {each.name for each in graph.initializer if each.data_type == TensorProto.INT8}
    layers = [each for each in graph.node if each.op_type in ("Conv", "Gemm", "MatMul")]
    decoded = {each.output[0] for each in graph.node if each.op_type == DQ and each.input[0] in weights}
    assert sum(each.input[1] in decoded for each in layers) >= 3


def test_it_is_as_near_to_the_folded_form_as_the_usual_one(forms):
    protos, x = forms
    (folded,) = run(protos["folded"], x)
    apart, flipped = {}, {}
    for key in ("usual", "tensorrt"):
        plain, fast = run(protos[key], x)[0], run(protos[key], x, optimised=True)[0]
        moved = np.abs(fast - plain).reshape(len(plain), -1).max(1) > 0.02 * np.abs(folded).max()
        assert moved.mean() <= 0.05  # samples in which a float32 sum is a tie: a count is another one
        apart[key] = np.linalg.norm(plain - folded) / np.linalg.norm(folded)
        found = flips(protos[key], protos["folded"], dataset_for(protos["folded"], {"x": x}), threads=1)
        flipped[key] = found.fraction
        assert found.outputs["y"] == pytest.approx(apart[key], rel=0.05)
    assert apart["tensorrt"] <= 1.5 * apart["usual"] + 0.01
    assert flipped["tensorrt"] <= 1.1 * flipped["usual"] + 0.01


# counts: where int8 holds the weights, they are the definition's


class ExactNet(Net):
    """Weights k/127, 127 the largest k of every output, biases m/127 and thresholds of 1.

    So int8 holds the weights, and sums are multiples of 1/127, of which none lies between two counts.
    """

    def weight(self, name: str, *shape: int) -> str:
        k = self.random.integers(-127, 128, shape)
        if len(shape) == 2:  # [I, O]
            k[0] = 127
        else:  # [O, I, …]
            k.reshape(len(k), -1)[:, 0] = 127
        return self.constant(name, k / 127)

    def bias(self, name: str, size: int) -> str:
        return self.constant(name, self.random.integers(-200, 200, size) / 127)

    def site(self, x: str, y: str, zero: int = 0, amplitude: float = 1.0) -> str:
        self.neuron(x, y, (1,), amplitude, -zero * amplitude)
        self.constants[f"{y}/threshold"][:], self.constants[f"{y}/shift"][:] = 1, 0.5
        return y

    def check_counts(self, shape: tuple[int, ...], rank: int, neurons: list[str]) -> onnx.ModelProto:
        """Every count plus its zero is that of the folded form, and the outputs are equal but for float32 sums."""
        graph = self.graph({"x": ["N", *shape]}, {"z": rank})
        x = self.random.normal(size=(4, *shape)).astype(np.float32) * 4
        expected = values_of(assemble(graph.copy(), self.coding), {"x": x})
        made = to_integers(graph, None, "tensorrt")
        proto = assemble(made.graph, self.coding)
        onnx.checker.check_model(proto)
        require_tensorrt(proto)
        tensors = [*(f"{y}{COUNT}" for y in neurons), "z"]
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors[:-1])
        found = dict(zip(["z", *tensors[:-1]], run(copy, x), strict=True))
        for y in neurons:
            parts = [self.constants[f"{y}/{part}"] for part in ("amplitude", "offset")]
            counts = np.rint((expected[y] - parts[1]) / parts[0])
            assert counts.std() > 0
            np.testing.assert_array_equal(found[f"{y}{COUNT}"].astype(int) + made.zeros.get(y, 0), counts)
        np.testing.assert_allclose(found["z"], expected["z"], rtol=1e-4, atol=1e-4 * np.abs(expected["z"]).max())
        return proto


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize(("steps", "groups"), [(8, 1), (127, 1), (8, 4)])
def test_counts_are_exact_where_int8_holds_the_weights(zero, steps, groups):
    """A padded layer behind counts that stand for both signs, a shortcut, a projection, and pooling."""
    net = ExactNet("rate", steps)
    net.op("Conv", f"x {net.weight('w', 4, 3, 1, 1)} {net.bias('b', 4)}", "c")
    net.site("c", "y", zero)
    net.op("Conv", f"y {net.weight('w1', 4, 4 // groups, 3, 3)} {net.bias('b1', 4)}", "c1", pads=[1] * 4, group=groups)
    net.op("Add", "c1 y", "s")
    net.site("s", "y1", 2 * zero)
    net.op("MaxPool", "y1", "p", kernel_shape=[2, 2])
    net.op("Conv", f"p {net.weight('w2', 6, 4, 3, 3)}", "c2", pads=[1] * 4)
    net.op("Conv", f"p {net.weight('w3', 6, 4, 1, 1)} {net.bias('b3', 6)}", "c3")
    net.op("Add", "c2 c3", "s2")
    net.site("s2", "y2", zero)
    net.op("Conv", f"y2 {net.weight('w4', 2, 6, 1, 1)}", "z")
    proto = net.check_counts((3, 6, 6), 4, ["y", "y1", "y2"])
    ops = [each.op_type for each in proto.graph.node]
    assert "Pad" not in ops  # what pads a layer is the count of 0
    decoded = {each.output[0] for each in proto.graph.node if each.op_type == DQ}
    convs = [each for each in proto.graph.node if each.op_type == "Conv"]
    assert [each.input[0] in decoded and each.input[1] in decoded for each in convs] == [False] + [True] * 4


def test_a_network_in_float16():
    """Its neurons on floats read float32."""
    x = X.astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = {"time_steps": 8, "form": "integer", "target": "tensorrt", "options": CalibrationOptions(threads=1)}
        done = convert(network("silu", dtype=np.float16), {"x": x}, **how)
    (output,) = done.distance.outputs
    assert output.form <= 0.05
    assert run(done.proto, x)[0].dtype == np.float16


@pytest.mark.parametrize("rank", [2, 3])
def test_products_are_exact_where_int8_holds_the_weights(rank):
    net = ExactNet("phase", 5)
    net.op("MatMul", f"x {net.weight('w', 6, 8)}", "m")
    net.site("m", "y", 2)
    net.op("MatMul", f"y {net.weight('w1', 8, 7)}", "m1")
    net.op("Add", f"m1 {net.bias('b1', 7)}", "a1")
    net.site("a1", "y1", 5)
    net.op("MatMul", f"y1 {net.weight('w2', 7, 3)}", "z")
    net.check_counts({2: (6,), 3: (5, 6)}[rank], rank, ["y", "y1"])


def test_sums_of_counts_alone_and_of_signs():
    """r·n + r'·n' with r of either sign, into thresholds that no layer takes in."""
    net = ExactNet("rate", 8)
    net.op("Conv", f"x {net.weight('w', 4, 3, 1, 1)}", "c")
    net.site("c", "y", 3)
    net.op("Conv", f"x {net.weight('v', 4, 3, 1, 1)}", "d")
    net.site("d", "u", 0, amplitude=-0.26)  # no sum of whole numbers and hundredths lies between two counts
    net.op("Add", "y u", "s")
    net.site("s", "y1", 4)
    net.op("Conv", f"y1 {net.weight('w4', 2, 4, 1, 1)}", "z")
    net.check_counts((3, 6, 6), 4, ["y", "u", "y1"])


@examples(40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["conv", "gemm", "matmul"]), st.integers(0, 100))
def test_a_layer_is_its_quantised_product(seed, kind, zero):
    """v = (q·n + round(c/s))·s in float32, whatever the weights."""
    random = np.random.default_rng(seed)
    inputs, outputs = random.integers(1, 40, 2).tolist()
    weight, constant = random.normal(size=(inputs, outputs)), random.normal(size=outputs) * 10
    data = {"conv": (2, inputs, 3, 2), "gemm": (4, inputs), "matmul": (2, 5, inputs)}[kind]
    x, y = gs.Variable("x", np.int8, data), gs.Variable("y", np.float32)
    if kind == "conv":
        weight = weight.T[:, :, None, None]
    linear = settled(Linear((LayerSource(x),), {}, weight, constant, 127 - zero, least=-zero))
    proto = gs.export_onnx(gs.Graph(layer_nodes(linear, y, "layer"), [x], [y], opset=21))
    counts = random.integers(-zero, 128 - zero, data).astype(np.int8)
    (found,) = run(proto, counts)
    q, bias, scale = quantise(linear)
    flat = np.moveaxis(counts, 1, -1) if kind == "conv" else counts
    sums = flat.astype(np.int64) @ (q.reshape(outputs, inputs).T if kind == "conv" else q).astype(np.int64) + bias
    expected = sums * scale.astype(np.float64)
    expected = np.moveaxis(expected, -1, 1) if kind == "conv" else expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(scale).max() * 127 * 127)


def test_the_usual_target_changes_no_byte():
    plain, _ = made("concat", "rate", 4, form="integer")
    named, _ = made("concat", "rate", 4, form="integer", target="onnxruntime")
    assert plain.proto.SerializeToString(deterministic=True) == named.proto.SerializeToString(deterministic=True)
    keys = {entry.key for entry in plain.proto.metadata_props}
    assert not keys & {"graphpass.target", "graphpass.zeros"}
