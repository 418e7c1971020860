"""Tables in place of chains from uint8 to uint8: which chains, the operator, and sessions equal to those without."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphpass.forms.operators import LOOK_UP
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.runtime import native
from graphpass.runtime.session import open_session
from graphpass.runtime.tables import NoTables, chains_of, has_chains, questions, with_tables
from tests.forms.test_curved_networks import ACTIVATIONS, X, converted, network, saved
from tests.models import run
from tests.properties import examples

built = pytest.mark.skipif(native.library() is None, reason="the native operators are not built")


def looked_up(codes, table, after, threads=1):
    """LookUp alone."""
    graph = helper.make_graph(
        [helper.make_node(LOOK_UP, ["q", "t"], ["y"], "look", domain=SPIKING_DOMAIN, after=after)],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("q", "t")],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(SPIKING_DOMAIN, 1)]
    session = open_session(helper.make_model(graph, opset_imports=opsets, ir_version=10), threads=threads)
    return session.run(None, {"q": codes, "t": table})[0]


@built
@examples(60)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 8, 16, 33]), min_size=1, max_size=4).map(tuple),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.integers(0, 2**32),
)
def test_the_operator_reads_a_table_for_each_channel(shape, after, one, threads, seed):
    random = np.random.default_rng(seed)
    axis = max(0, len(shape) - 1 - after)
    codes = random.integers(0, 256, shape, dtype=np.uint8)
    channels = 1 if one else shape[axis]
    table = random.integers(0, 256, (channels, 256), dtype=np.uint8)
    place = np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - 1 - axis))
    expected = table[np.zeros_like(place) if one else place, codes] if channels else codes
    np.testing.assert_array_equal(looked_up(codes, table, len(shape) - 1 - axis, threads), expected)


@built
@pytest.mark.parametrize("table", [(2, 256), (3, 255), (256,)])
def test_a_table_that_does_not_fit_is_an_error(table):
    with pytest.raises(Exception, match=r"LookUp.*does not fit codes"):
        looked_up(np.zeros((4, 3, 2), np.uint8), np.zeros(table, np.uint8), 1)


def chain(*ops, scale=(3, 1, 1), read=False, zero=TensorProto.UINT8):
    """codes → Cast → ops → QuantizeLinear → Clip → Identity, behind a QuantizeLinear; read: inside, by an output."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["codes"])]
    nodes.append(helper.make_node("Cast", ["codes"], ["t0"], to=TensorProto.FLOAT))
    for number, op in enumerate(ops):
        inputs = [f"t{number}", "scale"] if op in ("Mul", "Add") else [f"t{number}"]
        nodes.append(helper.make_node(op, inputs, [f"t{number + 1}"]))
    nodes.append(helper.make_node("QuantizeLinear", [f"t{len(ops)}", "small", "zero"], ["counts"]))
    nodes.append(helper.make_node("Clip", ["counts", "least", "most"], ["y"]))
    constants = {
        "one": np.float32(1), "zero": np.zeros((), helper.tensor_dtype_to_np_dtype(zero)), "small": np.float32(0.01),
        "scale": np.linspace(0.01, 0.02, int(np.prod(scale)), dtype=np.float32).reshape(scale),
        "least": np.array(0, np.uint8), "most": np.array(15, np.uint8),
    }  # fmt: skip
    outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8, None)]
    if read:
        outputs.append(helper.make_tensor_value_info("t1", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])], outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@built
@pytest.mark.parametrize(("scale", "after"), [((3, 1, 1), 2), ((1, 3, 1, 1), 2), ((1,), None), ((), None), ((4,), 0)])
def test_a_chain_becomes_one_node(scale, after):
    model = chain("Mul", "Sigmoid", scale=scale)
    (found,) = chains_of(model)
    assert (found.source, found.output) == ("codes", "y")
    answers = dict(zip(["y"], run(questions(model, [found])), strict=True))
    made, count = with_tables(model, [found], answers)
    assert count == 1
    assert [each.op_type for each in made.graph.node] == ["QuantizeLinear", LOOK_UP]
    if after is not None:
        assert helper.get_attribute_value(made.graph.node[1].attribute[0]) == after
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    (expected,) = run(model, x)
    np.testing.assert_array_equal(open_session(made).run(None, {"x": x})[0], expected)


def counted(weight, group=1, **attributes):
    """codes → Cast → Sigmoid → QuantizeLinear → QLinearConv → Clip, behind a QuantizeLinear."""
    model = chain("Sigmoid")
    layer = ["whole", "small", "zero", "weight", "scales", "zeros", "one", "zero"]
    model.graph.node[3].output[0] = "whole"
    model.graph.node.insert(4, helper.make_node("QLinearConv", layer, ["counts"], group=group, **attributes))
    more = {
        "weight": np.asarray(weight, np.int8),
        "scales": np.float32([0.1, 0.3, 0.2]),
        "zeros": np.zeros(3, np.int8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in more.items())
    return model


OWN = np.int8([127, 90, 120]).reshape(3, 1, 1, 1)
DIAGONAL = np.diag(OWN.ravel()).reshape(3, 3, 1, 1)


@built
@pytest.mark.parametrize(("weight", "group"), [(OWN, 3), (DIAGONAL, 1)])
def test_a_layer_that_counts_channel_by_channel_is_part_of_the_chain(weight, group):
    model = counted(weight, group)
    (found,) = chains_of(model)
    made, _ = with_tables(model, [found], dict(zip(["y"], run(questions(model, [found])), strict=True)))
    assert [each.op_type for each in made.graph.node] == ["QuantizeLinear", LOOK_UP]
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    (expected,) = run(model, x)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(open_session(made).run(None, {"x": x})[0], expected)


@built
def test_so_are_layers_that_rescale_the_counts():
    model = counted(OWN, 3)
    again = ["y", "small", "zero", "weight", "scales", "zeros", "small", "zero"]
    model.graph.node.append(helper.make_node("QLinearConv", again, ["z"], group=3))
    model.graph.output[0].name = "z"
    (found,) = chains_of(model)
    made, _ = with_tables(model, [found], dict(zip(["z"], run(questions(model, [found])), strict=True)))
    assert [each.op_type for each in made.graph.node] == ["QuantizeLinear", LOOK_UP]
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    (expected,) = run(model, x)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(open_session(made).run(None, {"x": x})[0], expected)


@pytest.mark.parametrize(
    "model",
    [
        counted(DIAGONAL + np.int8(DIAGONAL == 0)),
        counted(np.ones((3, 1, 3, 3)), 3),
        counted(OWN, 3, strides=[2, 2]),
        counted(OWN, 3, pads=[1, 1, 1, 1]),
    ],
    ids=["all channels", "three taps", "strided", "padded"],
)
def test_other_layers_stay_behind_the_chain(model):
    (found,) = chains_of(model)
    assert found.output == "whole"


@pytest.mark.parametrize(
    "model",
    [chain("Sigmoid", read=True), chain("Softmax"), chain("Mul", scale=(2, 3, 4, 4)), chain("ReduceMax")],
    ids=["read elsewhere", "along an axis", "along every axis", "over an axis"],
)
def test_what_is_no_chain_stays(model):
    def replaced():
        found = chains_of(model)
        answers = run(questions(model, found))
        return with_tables(model, found, {each.output: answer for each, answer in zip(found, answers, strict=True)})

    with pytest.raises(NoTables):
        replaced()


def test_bodies_are_left_alone():
    model = chain("Sigmoid")
    body = helper.make_graph([helper.make_node("Identity", ["t1"], ["z"])], "body", [], [onnx.ValueInfoProto(name="z")])
    model.graph.node.append(helper.make_node("If", ["on"], ["w"], then_branch=body, else_branch=body))
    with pytest.raises(NoTables, match="subgraphs"):
        chains_of(model)


@built
@pytest.mark.some(5)
@pytest.mark.parametrize("kind", sorted(set(ACTIVATIONS) - {"absolute", "prelu"}))
@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_with_tables_give_the_same_numbers(kind, threads, tmp_path):
    proto = converted(saved(tmp_path, network(kind)), time_steps=16, form="integer").proto
    assert has_chains(proto)
    plain = open_session(proto, threads=threads, use_blocked=False)
    fast = open_session(proto, threads=threads)
    assert plain.tables == 0
    assert fast.tables == 3, fast.reason
    assert (fast.neurons, fast.layout) == ("native", "plain")
    for batch in (1, 7):
        np.testing.assert_array_equal(fast.run(None, {"x": X[:batch]})[0], plain.run(None, {"x": X[:batch]})[0])


@built
def test_chains_that_read_one_constant_are_tables(tmp_path):
    """onnxruntime makes one constant of equal ones, and moves channels last around some of its readers."""
    proto = converted(saved(tmp_path, network("silu")), time_steps=16, form="integer").proto
    for part, count in (("zero", 3), ("scale", 3)):
        alike = [each for each in proto.graph.initializer if each.name.endswith(f"/float/{part}")]
        assert len(alike) == count
        for each in alike:
            each.CopyFrom(numpy_helper.from_array(np.ones(each.dims, np.float32), each.name))
    fast = open_session(proto, threads=1)
    assert fast.tables == 3, fast.reason
    np.testing.assert_array_equal(
        fast.run(None, {"x": X})[0], open_session(proto, threads=1, use_blocked=False).run(None, {"x": X})[0]
    )


def test_other_forms_have_no_chains(tmp_path):
    path = saved(tmp_path, network("silu"))
    assert not has_chains(converted(path, time_steps=4).proto)
