"""Networks in float16: types, Casts, what stays float32 and why; every operator against float32."""

import warnings
from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.conversion import convert, dataset_for
from graphpass.errors import FormError, OptionError, SessionError
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.forms.float16 import to_float16
from graphpass.forms.registry import single_of
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.inference import with_shapes
from graphpass.graph.model import load
from graphpass.runtime.session import open_session, run
from graphpass.verification.forms import verify
from tests.models import build, node
from tests.operator_cases import OperatorCase
from tests.operators import CASES
from tests.test_operators import opset_of

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
NEAR = 0.01  # of the largest value: some roundings of 2^-11, one behind another
OPERATORS = sorted({case.op for case in CASES})
RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def halved(proto: onnx.ModelProto):
    """The network in float16, with shapes as conversions know them."""
    return to_float16(with_shapes(proto))


def operators(proto: onnx.ModelProto) -> Counter:
    return Counter(each.op_type for each in proto.graph.node)


def compare(proto: onnx.ModelProto, *feeds: np.ndarray, near: float = NEAR):
    """The network in float16, after a comparison of its outputs with float32."""
    done = halved(proto)
    inputs = {value.name: feed for value, feed in zip(proto.graph.input, feeds, strict=True)}
    ours, theirs = (run(open_session(each, threads=1), inputs) for each in (done.proto, proto))
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and ours[name].shape == value.shape
        np.testing.assert_allclose(ours[name], value, atol=near * np.abs(value).max(initial=1e-9))
    return done


# every operator


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_has_the_same_types_and_nearly_the_same_values(op: str) -> None:
    """Also where nothing is known of its inputs before it runs."""
    ran = 0
    for case in (each for one in CASES if one.op == op for each in (one, one.thawed())):
        ran += _compared(case)
    known = any(case.first <= opset_of(op) <= case.last for case in CASES if case.op == op)
    assert ran or not known or op in ("CausalConvWithState", "GlobalLpPool", "LinearAttention", "MaxRoiPool", "SwiGLU")


def _compared(case: OperatorCase) -> bool:
    """Whether the case runs in float32, after a comparison with float16."""
    opset, feeds = opset_of(case.op), case.feeds()
    if not case.first <= opset <= case.last:
        return False
    proto = with_shapes(case.model(opset))
    try:
        expected = run(open_session(proto, threads=1), feeds)
    except SessionError:
        return False
    found = run(open_session(to_float16(proto).proto, threads=1), feeds)
    for name, wanted in expected.items():
        ours, theirs = np.asarray(found[name]), np.asarray(wanted)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.kind != "f":
            assert theirs.dtype.kind in "OUS" or not theirs.size or (ours != theirs).mean() <= 0.1
            continue
        finite = np.isfinite(theirs)
        largest = np.abs(theirs[finite]).max(initial=1e-9)
        np.testing.assert_allclose(ours[finite], theirs[finite], atol=NEAR * largest)
    return True


# structure


def small(**more) -> onnx.ModelProto:
    """x → Conv → Relu → Conv → Relu → GlobalAveragePool → Flatten → Gemm → y."""
    nodes = [
        node("Conv", "x w1", "c1", "conv1", pads=[1, 1, 1, 1]), node("Relu", "c1", "r1", "relu1"),
        node("Conv", "r1 w2", "c2", "conv2"), node("Relu", "c2", "r2", "relu2"),
        node("GlobalAveragePool", "r2", "p", "pool"), node("Flatten", "p", "f", "flatten"),
        node("Gemm", "f w3 b", "y", "fc"),
    ]  # fmt: skip
    random = np.random.default_rng(5)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 10), "b": (10,)}
    constants = {name: (random.normal(size=shape) / 3).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 10]}, {**constants, **more})


X = np.random.default_rng(6).standard_normal((16, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(("coding", "form"), [("rate", "folded"), ("phase", "folded"), ("rate", "unrolled")])
def test_a_converted_network_has_a_cast_at_each_end_and_no_other(coding: str, form: str) -> None:
    done = convert(load(small()), {"x": X}, time_steps=4, coding=coding, method="max", form=form, precision="float16")
    proto = done.proto
    assert operators(proto)["Cast"] == 2
    assert [proto.graph.node[k].op_type for k in (0, -1)] == ["Cast", "Cast"]
    ends = [value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)]
    assert ends == [FLOAT, FLOAT]
    inner = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    floats = {kind for kind in inner.values() if kind in (FLOAT, HALF)}
    assert floats == {HALF}
    neurons = [each for each in proto.graph.node if each.domain == SPIKING_DOMAIN and len(each.input) > 1]
    parameters = {name for each in neurons for name in each.input[1:]}
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert parameters and {kinds[name] for name in parameters} == {FLOAT}
    assert {kind for name, kind in kinds.items() if name not in parameters} <= {HALF, TensorProto.INT64}
    assert single_of(proto) == () and done.precision == "float16"
    onnx.checker.check_model(proto)
    stored = {entry.key: entry.value for entry in proto.metadata_props}
    assert (stored["graphpass.precision"], stored["graphpass.float32"]) == ("float16", "[]")
    assert done.distance is not None and "in float16 differs" in str(done.distance)


def test_the_default_is_the_network_as_it_is() -> None:
    done = convert(load(small()), {"x": X}, time_steps=4, method="max")
    assert done.precision == "source" and not any(t.data_type == HALF for t in done.proto.graph.initializer)
    assert "graphpass.float32" not in {entry.key for entry in done.proto.metadata_props}
    again = convert(load(small()), {"x": X}, time_steps=4, method="max", precision="source")
    assert again.proto == done.proto


def test_half_the_size_and_the_same_plan() -> None:
    source = load(small(w2=weights(8, 8, 3, 3)))
    done = [convert(source, {"x": X}, time_steps=4, precision=each) for each in ("source", "float16")]
    assert [site.name for site in done[0].plan.sites] == [site.name for site in done[1].plan.sites]
    for one, two in zip(done[0].plan.sites, done[1].plan.sites, strict=True):
        np.testing.assert_array_equal(one.threshold, two.threshold)
    assert convert(source, plan=done[0].plan, precision="float16").proto == done[1].proto
    sizes = [sum(len(t.raw_data) for t in each.proto.graph.initializer if "weight" in t.name) for each in done]
    assert sizes[0] == 2 * sizes[1] > 0


@pytest.mark.parametrize("form", ["folded", "unrolled"])
@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_it_is_verified_and_evaluated(coding: str, form: str) -> None:
    source = load(small())
    done = convert(source, {"x": X}, time_steps=4, coding=coding, form=form, precision="float16")
    data = dataset_for(source.proto, {"x": X})
    assert verify(done.proto, data, limit=8).agrees
    found = evaluate(source, done.proto, data, EvaluationSettings(limit=16, rounds=1, threads=1))
    plain = convert(source, plan=done.plan, form=form)
    wanted = evaluate(source, plain.proto, data, EvaluationSettings(limit=16, rounds=1, threads=1))
    assert found.conversion.precision == found.to_json()["precision"] == "float16"
    assert "in float16" in found.conversion.form_and_precision
    assert found.firing_rate == pytest.approx(wanted.firing_rate, rel=0.02)
    assert found.operations.snn.effective_acs == pytest.approx(wanted.operations.snn.effective_acs, rel=0.02)


@pytest.mark.parametrize("call", [{"precision": "float16", "form": "integer"}, {"precision": "float8"}])
def test_what_is_not_written_is_refused(call: dict[str, str]) -> None:
    with pytest.raises(OptionError) as raised:
        convert(load(small()), {"x": X}, **call)
    assert raised.value.option == "precision" and "precision" in str(raised.value) and raised.value.remedy


# what stays float32


def kept(done) -> dict[str, str]:
    return {each.node: each.reason for each in done.kept}


def test_constants_that_float16_does_not_hold() -> None:
    nodes = [
        node("MatMul", "x w", "a", "layer"), node("Mul", "a million", "b", "scale"), node("Mul", "b tiny", "c", "back"),
        node("Add", "c mask", "d", "masked"), node("Softmax", "d", "y", "softmax"),
    ]  # fmt: skip
    constants = {
        "w": weights(4, 5), "million": np.float32([1e6]), "tiny": np.float32([1e-6]),
        "mask": np.float32([0, 0, -3.4e38, 0, 0]),
    }  # fmt: skip
    done = compare(build(nodes, {"x": ["N", 4]}, {"y": ["N", 5]}, constants), weights(3, 4))
    assert kept(done) == {
        "scale": "a constant of 1e+06 is beyond float16",
        "back": "a constant of 1e-06 is too small for float16",
        "masked": "its constant 3.4e+38 becomes 65504, the largest number of float16",
    }
    # between scale and back nothing is rounded; one Cast in front, one behind, and those of the ends
    assert operators(done.proto)["Cast"] == 4


def test_an_operator_that_onnx_has_in_float32_alone() -> None:
    nodes = [node("Conv", "x w", "a", "conv"), node("Celu", "a", "b", "celu"), node("Conv", "b w", "y", "again")]
    done = compare(
        build(nodes, {"x": ["N", 4, 3]}, {"y": ["N", 4, 3]}, {"w": weights(4, 4, 1)}, opset=21), weights(2, 4, 3)
    )
    assert kept(done) == {"celu": "ONNX has it in float32 alone"}
    assert operators(done.proto)["Cast"] == 4


def test_sizes_are_computed_in_float32() -> None:
    """5001 columns: float16 would make 5000 of them."""
    nodes = [
        node("Shape", "x", "s", "shape"), node("Cast", "s", "f", "floats", to=FLOAT), node("Mul", "f ones", "g", "mul"),
        node("Cast", "g", "t", "whole", to=TensorProto.INT64), node("Relu", "x", "r", "relu"),
        node("Reshape", "r t", "y", "reshape"), node("ConstantOfShape", "s", "z", "zeros"),
        node("Add", "y z", "w", "sum"),
    ]  # fmt: skip
    proto = build(nodes, {"x": ["N", "M"]}, {"w": ["N", "M"]}, {"ones": np.float32([1, 1])})
    done = compare(proto, weights(1, 5001))
    assert kept(done) == dict.fromkeys(["floats", "mul", "whole"], "it computes with sizes")
    assert operators(done.proto)["Cast"] == 4  # the network's own two, and the ends


def test_values_beyond_float16_are_kept_in_float32_and_listed() -> None:
    """Activations of about 3e5, which a division brings back."""
    nodes = [
        node("MatMul", "x w", "a", "layer"), node("Relu", "a", "r", "relu"), node("MatMul", "r v", "b", "large"),
        node("Relu", "b", "s", "large_relu"), node("MatMul", "s u", "y", "last"),
    ]  # fmt: skip
    constants = {"w": 300 * weights(8, 16), "v": 100 * weights(16, 16), "u": weights(16, 3) / 1000}
    proto, x = build(nodes, {"x": ["N", 8]}, {"y": ["N", 3]}, constants), weights(64, 8)
    done = convert(load(proto), {"x": x}, time_steps=8, coding="phase", method="max", precision="float16")
    reasons = {each.node: each.reason for each in single_of(done.proto)}
    assert set(reasons) == {"large", "large_relu/neuron", "last"}
    assert all("its values reach" in text and "float16 ends at 65504" in text for text in reasons.values())
    assert done.distance is not None and not done.distance.notable
    tensors = gs.import_onnx(done.proto).tensors()
    assert tensors["a"].dtype == np.float16 and tensors["b"].dtype == np.float32
    assert verify(done.proto, dataset_for(proto, {"x": x}), limit=8).agrees


def test_what_float16_makes_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the site from which on, and what to do."""
    monkeypatch.setitem(
        __import__("graphpass.verification.distance", fromlist=["LARGEST"]).LARGEST, "calibration", -9.0
    )
    with pytest.raises(
        FormError, match=r"the folded form in float16 differs .* from site 'relu.' on.*leave out --precision"
    ):
        convert(load(small()), {"x": X}, time_steps=32, method="max", precision="float16")


# ends and bodies


def test_an_output_that_other_nodes_read_and_outputs_that_nothing_makes() -> None:
    nodes = [node("Relu", "x", "y", "relu"), node("Neg", "y", "z", "neg"), node("Shape", "x", "n", "shape")]
    proto = build(nodes, {"x": ["N", 4]}, {"y": ["N", 4], "z": ["N", 4], "x": ["N", 4], "c": [2]}, {"c": weights(2)})
    proto.graph.output.append(helper.make_tensor_value_info("n", TensorProto.INT64, [2]))
    done = compare(proto, weights(3, 4))
    assert operators(done.proto)["Cast"] == 3
    assert {each.name: each.type.tensor_type.elem_type for each in done.proto.graph.output} == {
        "y": FLOAT, "z": FLOAT, "x": FLOAT, "c": FLOAT, "n": TensorProto.INT64
    }  # fmt: skip


def test_other_types_stay_as_they_are() -> None:
    nodes = [node("Cast", "i", "f", to=FLOAT), node("Mul", "f f", "g"), node("Cast", "g", "y", to=TensorProto.INT32)]
    ends = [helper.make_tensor_value_info(name, TensorProto.INT32, ["N", 2]) for name in "iy"]
    graph = helper.make_graph(nodes, "whole", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    done = compare(proto, np.int32([[1, 2], [3, -40]]))
    assert operators(done.proto) == {"Cast": 2, "Mul": 1}


def body(nodes, inputs, outputs, constants=()) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, "body", [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(values, name) for name, values in constants],
    )  # fmt: skip


def test_bodies_and_what_they_take_from_around_them() -> None:
    """A Loop whose body reads a tensor, a weight and an input of the network, and has a constant and an If inside."""
    constant = helper.make_node("Constant", [], ["k"], "constant", value_float=0.5)
    branch = [
        body([node("Mul", f"m {other}", name, f"{name}_mul")], [], [(name, FLOAT)])
        for other, name in (("w", "p"), ("x", "q"))
    ]
    inner = body(
        [
            constant, node("Add", "v a", "m1", "add"), node("Mul", "m1 k", "m", "half"),
            helper.make_node("If", ["g"], ["o"], "if", then_branch=branch[0], else_branch=branch[1]),
            node("Identity", "g", "g2", "same"), node("Celu", "o", "v2", "celu"),
            node("Identity", "v2", "each", "copy"),
        ],
        [("i", TensorProto.INT64, []), ("g", TensorProto.BOOL, []), ("v", FLOAT, None)],
        [("g2", TensorProto.BOOL), ("v2", FLOAT), ("each", FLOAT)],
    )  # fmt: skip
    nodes = [
        node("Relu", "x", "a", "relu"),
        helper.make_node("Loop", ["n", "t", "a"], ["last", "all"], "loop", body=inner),
        node("Neg", "last", "y", "neg"),
    ]
    constants = {"w": np.float32([2, 0.25, 1, 3]), "n": np.array(3), "t": np.array(True)}
    proto = build(nodes, {"x": ["N", 4]}, {"y": ["N", 4], "all": [3, "N", 4]}, constants, opset=21)
    done = compare(proto, weights(3, 4))
    assert kept(done) == {"celu": "ONNX has it in float32 alone"}
    assert {t.data_type for t in done.proto.graph.initializer} == {HALF, TensorProto.INT64, TensorProto.BOOL}


@pytest.mark.parametrize("seed", range(3))
def test_random_sums_of_a_network_without_stated_types(seed: int) -> None:
    """Types follow from the inputs where the file says nothing of inner tensors."""
    proto = small()
    del proto.graph.value_info[:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = to_float16(proto)
    expected, found = (run(open_session(each, threads=1), {"x": X + seed})["y"] for each in (proto, done.proto))
    np.testing.assert_allclose(found, expected, atol=NEAR * np.abs(expected).max())
    assert operators(done.proto)["Cast"] == 2


@pytest.mark.parametrize(
    "order", [(1, 0, 2), (1, 2, 0), (1, 2, 0, 3), (1, 2, 3, 4, 0), (0, 2, 1), (2, 1, 0), (2, 0, 3, 1)]
)
def test_a_transpose_in_front_of_a_product_is_loaded(order: tuple[int, ...]) -> None:
    """onnxruntime died while it loaded a float16 MatMul behind a Transpose that moves the first axis alone."""
    nodes = [
        node("Add", "x z", "a"), node("Transpose", "a", "t", "moved", perm=order), node("MatMul", "t w", "h"),
        node("Relu", "h", "r"), node("MatMul", "r v", "u"), node("Identity", "u", "y"),
    ]  # fmt: skip
    constants = {"z": weights(1), "w": weights(4, 6), "v": weights(6, 3)}
    model = build(nodes, {"x": [4] * len(order)}, {"y": None}, constants, opset=21)
    made = to_float16(model)
    assert [entry.node for entry in made.kept].count("moved") == (order[0] == 1)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    ort.InferenceSession(made.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
