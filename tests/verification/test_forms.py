"""Verification finds what is wrong, and nothing else. Weights are real numbers, so that float rounding matters."""

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays
from graphpass.errors import ModelError
from graphpass.forms import operators
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import unroll
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import levels_of
from graphpass.verification.forms import Verification, verify
from tests.models import FLOAT, HALF, build, node

SHAPE = (3, 8, 8)
UNITS = st.integers(-148, -120) | st.integers(-119, 100)  # the smallest normal number is 2^-126, the smallest 2^-149
CODES = [("rate", 1), ("rate", 4), ("phase", 3)]


def folded(coding: str = "rate", steps: int = 4, dtype: int = FLOAT, batch: int | str = "N") -> onnx.ModelProto:
    """conv → neurons → max pooling → padded conv (+ skip) → neurons with offset → mean → Softmax."""
    random = np.random.default_rng(0)
    kind = np.float16 if dtype == HALF else np.float32
    constants: dict[str, np.ndarray] = {
        "w1": random.normal(size=(6, 3, 3, 3)).astype(kind),
        "b1": random.normal(size=6).astype(kind),
        "w2": random.normal(size=(6, 6, 3, 3)).astype(kind) / kind(4),
        "w3": random.normal(size=(6, 5)).astype(kind),
    }
    for name in ("y1", "y2"):
        constants[f"{name}/threshold"] = random.uniform(0.5, 1, (6, 1, 1)).astype(np.float32)
        constants[f"{name}/shift"] = random.uniform(0, 0.5, (6, 1, 1)).astype(np.float32)
        constants[f"{name}/amplitude"] = random.uniform(0.5, 1, (6, 1, 1)).astype(np.float32)
        constants[f"{name}/offset"] = random.uniform(-0.2, 0.2, (6, 1, 1)).astype(np.float32)
    attributes = {"time_steps": steps, "levels": levels_of(steps, coding), "coding": coding}

    def neuron(x: str, y: str) -> onnx.NodeProto:
        inputs = " ".join([x, *(f"{y}/{part}" for part in ("threshold", "shift", "amplitude", "offset"))])
        return node("ParallelNeuron", inputs, y, f"{y}/neuron", SPIKING_DOMAIN, **attributes)

    nodes = [
        node("Conv", "x w1 b1", "c1", "c1", pads=[1] * 4),
        neuron("c1", "y1"),
        node("MaxPool", "y1", "p", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p w2", "c2", "c2", pads=[1] * 4),
        node("Add", "c2 p", "sum", "sum"),
        neuron("sum", "y2"),
        node("GlobalAveragePool", "y2", "g", "g"),
        node("Flatten", "g", "f", "f"),
        node("MatMul", "f w3", "m", "m"),
        node("Softmax", "m", "z", "z", axis=1),
    ]
    proto = build(nodes, {"x": [batch, *SHAPE]}, {"z": [batch, 5]}, constants, dtype=dtype)
    return assemble(spiking_graph(proto), coding)


def unrolled(*args, **options) -> onnx.ModelProto:
    proto = folded(*args, **options)
    graph = unroll(spiking_graph(proto))
    return assemble(graph, next(n.attrs["coding"] for n in graph.nodes if n.op == operators.TRAIN_NEURON))


def check(proto: onnx.ModelProto, dtype: type = np.float32, **options) -> Verification:
    values = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype(dtype)
    data = from_arrays({"x": values}, [InputSpec("x", np.dtype(dtype), (None, *SHAPE))])
    return verify(proto, data, batch=2, threads=1, **options)


def changed(proto: onnx.ModelProto, name: str, factor: float, index: int = 0) -> onnx.ModelProto:
    """The model with one value of one initializer multiplied by a factor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tensor = next(each for each in copy.graph.initializer if each.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[index] *= factor
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    return copy


def in_units(proto: onnx.ModelProto, first: int, second: int) -> onnx.ModelProto:
    """The folded network with what reaches its neurons, and what they send, as multiples of 2^first and 2^second."""
    powers = {"w1": first, "b1": first, "y1/threshold": first, "y1/shift": first, "y1/amplitude": second}
    powers |= {f"{name}": second for name in ("y1/offset", "y2/threshold", "y2/shift")}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        values = np.ldexp(values, powers.get(tensor.name, 0)) if values.dtype == np.float32 else values
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return copy


@pytest.mark.parametrize(("coding", "steps"), CODES)
@pytest.mark.parametrize("make", [folded, unrolled])
def test_forms_agree(make, coding, steps):
    found = check(make(coding, steps))
    assert found.agrees
    assert (found.samples, found.time_steps, found.coding) == (5, steps, coding)
    assert found.definition_mismatches == found.train_mismatches == 0
    assert len(found.sites) == 2
    assert found.sites[-1].neurons == 5 * 6 * 4 * 4
    # rounding differs between the forms, by far less than a level (1) and no more than the bound
    assert 0 <= max(site.largest_difference for site in found.sites) < 1e-4
    assert all(site.bound < 1e-2 for site in found.sites)


@pytest.mark.parametrize("make", [folded, unrolled])
def test_float16_forms_agree(make):
    found = check(make(dtype=HALF), np.float16)
    assert found.agrees
    assert 0 < found.sites[-1].bound < 1


def test_fixed_batch_and_limit():
    found = check(folded(batch=2), limit=3)
    assert found.agrees
    assert found.samples == 3


@pytest.mark.parametrize("samples", [1, 2])
def test_constants_beside_trains_are_repeated(samples):
    """As the class token of a network that was exported for so many samples."""
    random = np.random.default_rng(0)
    proto = folded(batch=samples)
    token = random.normal(size=(samples, 6, 1, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(token, "token"))
    pool, conv = (next(each for each in proto.graph.node if each.name == name) for name in ("p", "c2"))
    proto.graph.node.insert(list(proto.graph.node).index(conv), node("Concat", "p0 token", "p", "join", axis=2))
    pool.output[0] = "p0"
    graph = unroll(spiking_graph(proto))
    assert "token" in [each.inputs[0].name for each in graph.nodes if each.op == operators.TIME_REPEAT]
    values = random.normal(size=(4, *SHAPE)).astype(np.float32)
    data = from_arrays({"x": values}, [InputSpec("x", np.dtype(np.float32), (None, *SHAPE))])
    for each in (proto, assemble(graph, "rate")):
        assert verify(each, data, batch=samples, threads=1).agrees


def test_random_numbers_cannot_be_verified():
    proto = folded()
    proto.graph.node.append(node("RandomNormalLike", "m", "noise", "draw"))
    proto.graph.node.append(node("Add", "z noise", "noisy"))
    proto.graph.output[0].name = "noisy"
    with pytest.raises(ModelError, match=r"node 'draw' \(RandomNormalLike\) draws other numbers at every run"):
        check(proto)


def test_a_tight_memory_budget_gives_the_same():
    assert check(folded(), memory=1).sites[0].neurons == check(folded()).sites[0].neurons


@pytest.mark.parametrize("name", ["w2", "y1/threshold", "y2/amplitude"])
def test_any_folded_network_agrees_with_its_own_unrolled_form(name):
    assert check(changed(folded(), name, 1.5)).agrees


def _forms(monkeypatch, name: str, factor: float) -> Verification:
    """Verification of a folded network whose unrolled form is made with one wrong value."""
    import graphpass.verification.forms as module

    def wrong(graph):
        proto = assemble(unroll(graph), "rate")
        return spiking_graph(changed(proto, name, factor))

    monkeypatch.setattr(module, "unroll", wrong)
    return check(folded())


@pytest.mark.parametrize("name", ["c2/spike_weight", "w3"])
def test_a_wrong_weight_is_found(monkeypatch, name):
    # one weight of fifty by one in a hundred: hundred times the bound of about 5e-5 relative
    found = _forms(monkeypatch, name, 1.01)
    assert not found.agrees
    assert found.definition_mismatches == found.train_mismatches == 0


def test_a_wrong_threshold_is_found(monkeypatch):
    found = _forms(monkeypatch, "y2/threshold", 1.1)
    assert not found.agrees
    assert found.train_mismatches > 0
    assert found.sites[-1].flips > 0
    assert found.sites[-1].unexplained == 0  # the currents are right


@settings(max_examples=25, deadline=None)
@given(UNITS, UNITS, st.sampled_from(CODES))
@example(0, -147, ("rate", 4))
@example(-147, -144, ("phase", 3))
def test_forms_agree_in_any_unit_below_the_smallest_normal_number_too(first, second, code):
    assert check(in_units(folded(*code), first, second)).agrees


def _with_body(proto: onnx.ModelProto, name: str, old: str, new: str) -> onnx.ModelProto:
    """The model with one operator of one function body, if it has that, exchanged."""
    for each in (each for function in proto.functions if function.name == name for each in function.node):
        if each.op_type == old:
            each.op_type = new
    return proto


def test_a_wrong_neuron_is_found(monkeypatch):
    import graphpass.forms.registry as module

    monkeypatch.setattr(
        module, "assemble", lambda graph, coding: _with_body(assemble(graph, coding), "ParallelNeuron", "Floor", "Ceil")
    )
    found = check(folded())
    assert found.definition_mismatches > 0
    assert not found.agrees


def test_a_wrong_train_is_found(monkeypatch):
    import graphpass.forms.registry as module

    body = ("ParallelNeuronTrain", "GreaterOrEqual", "LessOrEqual")
    monkeypatch.setattr(module, "assemble", lambda graph, coding: _with_body(assemble(graph, coding), *body))
    found = check(folded())
    assert found.train_mismatches > 0
    assert not found.agrees


def test_values_near_0_may_differ_by_what_the_large_ones_were_rounded_by():
    """Attention as PyTorch exports it, with queries and keys scaled in front of their product: onnxruntime fuses
    scales, transposes and products where no tensor between them is read, which only one of the forms allows.
    """
    random = np.random.default_rng(0)
    constants = {f"w{name}": random.normal(size=(64, 64)).astype(np.float32) / 4 for name in "qkvo"}
    constants |= {"t": np.float32([0.2]), "s": np.float32([0.1]), "o": np.float32([-1.5]), "scale": np.float32(0.4)}
    constants |= {"heads": np.int64([0, 40, 2, 32]), "flat": np.int64([0, 40, 64])}

    def neuron(x: str, y: str) -> onnx.NodeProto:
        settings = {"time_steps": 4, "levels": 16, "coding": "phase"}
        return node("ParallelNeuron", f"{x} t t s o", y, f"{y}/neuron", SPIKING_DOMAIN, **settings)

    nodes = [neuron("x", "y")]
    for part in "qkv":
        turned = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [node("MatMul", f"y w{part}", f"{part}/flat"), node("Reshape", f"{part}/flat heads", f"{part}/heads")]
        nodes += [node("Transpose", f"{part}/heads", part, perm=turned)]
    nodes += [node("Mul", "q scale", "qs"), node("Mul", "k scale", "ks"), node("MatMul", "qs ks", "logits")]
    nodes += [node("Softmax", "logits", "p", axis=-1), node("MatMul", "p v", "mixed")]
    nodes += [node("Transpose", "mixed", "turned", perm=[0, 2, 1, 3]), node("Reshape", "turned flat", "x2")]
    nodes += [neuron("x2", "n"), node("MatMul", "n wo", "z")]
    shape = ["N", 40, 64]
    proto = assemble(spiking_graph(build(nodes, {"x": shape}, {"z": shape}, constants)), "phase")
    values = np.random.default_rng(1).normal(size=(16, *shape[1:])).astype(np.float32)
    found = verify(
        proto, from_arrays({"x": values}, [InputSpec("x", np.dtype(np.float32), (None, *shape[1:]))]), threads=1
    )
    assert found.agrees
    assert found.sites[-1].largest_difference > 0  # fused in one form
    assert found.sites[-1].bound < 0.05  # a quarter of θ


def test_a_model_without_neurons_is_refused():
    proto = build([node("Relu", "x", "z")], {"x": ["N", *SHAPE]}, {"z": ["N", *SHAPE]}, {})
    with pytest.raises(ModelError, match="no spiking neurons"):
        check(proto)


@pytest.mark.parametrize("whole", [np.int8, np.int32, np.int64, np.uint8])
def test_whole_numbers_have_a_size(whole):
    """Negative ones gave bounds below 0, which no difference is within, not even none. Indices below 0 stay."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(whole))
    values = np.random.default_rng(0).integers(-128 if np.dtype(whole).kind == "i" else 0, 128, (40, 6)).astype(whole)
    values[0] = np.iinfo(whole).min if np.dtype(whole).itemsize == 1 else -128
    nodes = [
        node("Cast", "x", "f", "cast", to=FLOAT), node("MatMul", "f a", "c", "one"),
        node("ParallelNeuron", "c t t s o", "r", "n", SPIKING_DOMAIN, time_steps=4, levels=5, coding="rate"),
        node("MatMul", "r b", "y", "two"), node("GatherElements", "y at", "z", "pick", axis=1),
    ]  # fmt: skip
    random = np.random.default_rng(1)
    constants = {"a": random.normal(size=(6, 5)), "b": random.normal(size=(5, 3)), "t": [20.0], "s": [1.0], "o": [0.0]}
    inputs, places = {"x": (kind, 6), "at": (onnx.TensorProto.INT64, 2)}, random.integers(-3, 3, (40, 2))
    graph = onnx.helper.make_graph(
        nodes,
        "whole",
        [onnx.helper.make_tensor_value_info(name, of, ["N", size]) for name, (of, size) in inputs.items()],
        [onnx.helper.make_tensor_value_info("z", FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(np.float32(values), name) for name, values in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(SPIKING_DOMAIN, 1)]
    proto = assemble(spiking_graph(onnx.helper.make_model(graph, opset_imports=opsets)), "rate")
    specs = [InputSpec("x", np.dtype(whole), (None, 6)), InputSpec("at", np.dtype(np.int64), (None, 2))]
    found = verify(proto, from_arrays({"x": values, "at": places}, specs), threads=1)
    assert found.agrees and found.sites[0].neurons == 200
