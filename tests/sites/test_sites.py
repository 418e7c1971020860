"""Where neurons go, and what is left, with the reason."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.errors import OptionError
from graphpass.passes.normalise import normalise
from graphpass.sites.identities import place_identities, sources
from graphpass.sites.sites import Selection, find_sites, spike_driven
from tests.models import build, node

CONV = np.ones((4, 4, 3, 3), np.float32)
POINT = np.ones((4, 4, 1, 1), np.float32)
MATRIX = np.ones((4, 4), np.float32)
IMAGE = {"x": ["N", 4, 8, 8]}


def graph_of(nodes, inputs=None, outputs=("y",), **constants):
    graph = gs.import_onnx(build(nodes, inputs or IMAGE, dict.fromkeys(outputs), constants))
    normalise(graph)
    return graph


def driven(graph, sites):
    return {name for name, reason in spike_driven(graph, sites).items() if reason is None}


def left(coverage):
    return {entry.node: entry.reason for entry in coverage.left}


def chain():
    """conv1 → act1 → pool → conv2 → act2 → mean → head → Softmax"""
    return graph_of(
        [
            node("Conv", "x c", "h1", "conv1"), node("Relu", "h1", "a1", "act1"),
            node("MaxPool", "a1", "p", "pool", kernel_shape=[2, 2]), node("Conv", "p c", "h2", "conv2"),
            node("LeakyRelu", "h2", "a2", "act2", alpha=0.1), node("GlobalAveragePool", "a2", "g", "mean"),
            node("Flatten", "g", "f", "flat"), node("Gemm", "f w", "z", "head"), node("Softmax", "z", "y", "softmax"),
        ],
        c=CONV, w=MATRIX,
    )  # fmt: skip


def test_a_chain():
    coverage = find_sites(chain())
    first, second = coverage.sites
    assert (first.name, first.kind, first.input, first.output) == ("act1", "relu", "h1", "a1")
    assert (first.axis, first.layers) == (1, ("conv2",))
    assert (second.name, second.kind, second.layers) == ("act2", "leaky_relu", ("head",))
    assert second.parameters["alpha"] == pytest.approx(0.1)
    assert (coverage.weight_layers, coverage.spiking_layers) == (3, 1)
    assert left(coverage) == {
        "conv1": "its input is the network's own analogue input",
        "head": "its input is sums or means of spikes, which are no spikes: multiply-and-adds",
    }
    assert coverage.complete


@pytest.mark.parametrize("op", ["Sigmoid", "Relu"])
def test_the_last_activation_stays_analogue(op):
    graph = graph_of([node("Gemm", "x w", "h", "fc"), node(op, "h", "y", "last")], {"x": ["N", 4]}, w=MATRIX)
    coverage = find_sites(graph)
    assert coverage.sites == ()
    assert "reaches no weight layer" in left(coverage)["last"]
    assert coverage.complete


def test_a_gate_stays_analogue():
    """Squeeze and excite: the gate multiplies two activations, so no spikes get past it."""
    graph = graph_of(
        [
            node("Conv", "x p", "h", "conv"), node("Relu", "h", "a", "act"),
            node("GlobalAveragePool", "a", "g", "mean"), node("Conv", "g p", "r", "reduce"),
            node("Relu", "r", "ra", "inner"),
            node("Conv", "ra p", "e", "expand"),
            node("Sigmoid", "e", "s", "gate"), node("Mul", "a s", "m", "scale"), node("Conv", "m p", "y", "after"),
        ],
        p=POINT,
    )  # fmt: skip
    coverage = find_sites(graph)
    assert {site.name: site.layers for site in coverage.sites} == {"act": ("reduce",), "inner": ("expand",)}
    assert "a gate" in left(coverage)["gate"]
    assert "no activation feeds it" in left(coverage)["after"]
    assert coverage.complete


def residual():
    return graph_of(
        [
            node("Conv", "x p", "h", "conv1"), node("Relu", "h", "a", "act1"), node("Conv", "a p", "b", "conv2"),
            node("Add", "a b", "sum", "join"), node("Relu", "sum", "c", "act2"), node("Conv", "c p", "y", "conv3"),
        ],
        p=POINT,
    )  # fmt: skip


def test_a_residual_join():
    coverage = find_sites(residual())
    assert [(site.input, site.axis) for site in coverage.sites] == [("h", 1), ("sum", 1)]
    assert coverage.spiking_layers == 2


def test_half_analogue_inputs_are_told():
    graph = graph_of(
        [node("Conv", "x p", "h", "conv1"), node("Relu", "h", "a", "act"), node("Add", "a h", "s", "join"),
         node("Conv", "s p", "y", "conv2")],
        p=POINT,
    )  # fmt: skip
    coverage = find_sites(graph)
    assert left(coverage)["conv2"].startswith("its input is partly spikes, partly analogue; --identity-sites")
    assert sources(graph.tensors()["s"], {"a"}) == {"site", "analogue"}


def test_exclude_and_include():
    graph = chain()
    assert [site.name for site in find_sites(graph, Selection(exclude=["^act1$"])).sites] == ["act2"]
    assert [site.name for site in find_sites(graph, Selection(include=["1"])).sites] == ["act1"]
    both = find_sites(graph, Selection(include=["act"], exclude=["2"]))
    assert [site.name for site in both.sites] == ["act1"]
    assert left(both)["act2"] == "excluded by --exclude"
    assert left(find_sites(graph, Selection(include=["1"])))["act2"] == "not matched by --include"
    assert both.complete


@pytest.mark.parametrize("field", ["include", "exclude"])
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"'\(' is not a regular expression \(missing \)"),
        ("(" * 500 + ")" * 500, r"'\({100}…' is not a regular expression \(nested too deeply\)"),
        ("a{99999999999}", "is not a regular expression .the repetition number is too large"),
    ],
)
def test_bad_regular_expressions(field, pattern, message):
    """They are refused though there is no site to try them on."""
    with pytest.raises(OptionError, match=message):
        Selection(**{field: ["relu", pattern]})


def attention():
    """LayerNormalization, whose output Q, K and V share; Q·Kᵀ is no weight layer."""
    return graph_of(
        [
            node("LayerNormalization", "x s", "n", "norm"),
            *(node("MatMul", "n w", name, name) for name in "qkv"),
            node("Transpose", "k", "kt", "turn", perm=[0, 2, 1]), node("MatMul", "q kt", "scores", "scores"),
            node("Softmax", "scores", "p", "softmax"), node("MatMul", "p v", "mix", "mix"),
            node("MatMul", "mix w", "y", "out"),
        ],
        {"x": ["N", 5, 4]}, s=np.ones(4, np.float32), w=MATRIX,
    )  # fmt: skip


def test_identity_sites_are_shared():
    graph = attention()
    without = find_sites(graph)
    assert without.sites == ()
    assert "--identity-sites" in left(without)["q"]
    assert "product of two activations" in left(without)["scores"]
    coverage = find_sites(graph, Selection(identity_sites=True))
    assert [(site.name, site.kind, site.input, site.layers) for site in coverage.sites] == [
        ("n/identity", "identity", "n", ("q", "k", "v")),
        ("mix/identity", "identity", "mix", ("out",)),
    ]
    assert coverage.sites[0].axis == -1
    assert coverage.spiking_layers == coverage.weight_layers == 4
    selected = find_sites(graph, Selection(identity_sites=True, exclude=["mix"]))
    assert [site.name for site in selected.sites] == ["n/identity"]
    assert left(selected)["mix/identity"] == "excluded by --exclude"


def test_identity_nodes_are_placed_between():
    graph = attention()
    coverage = find_sites(graph, Selection(identity_sites=True))
    place_identities(graph, coverage.sites)
    order = [each.name for each in graph.nodes]
    assert order.index("norm") < order.index("n/identity") < order.index("q")
    for name in ("q", "k", "v"):
        assert next(each for each in graph.nodes if each.name == name).inputs[0].name == "n/identity"
    assert sum(each.op == "Identity" for each in graph.nodes) == 2


def skips(*extra, outputs=("y",)):
    """A U-Net's join: spikes, a transposed convolution without activation, and the network's own input."""
    return graph_of(
        [node("Conv", "x p", "h", "conv1"), node("Relu", "h", "a", "act"), node("ConvTranspose", "a p", "t", "up"),
         node("Concat", "a t x", "c", "join", axis=1), node("Conv", "c wide", "y", "conv2"), *extra],
        outputs=outputs, p=POINT, wide=np.ones((4, 12, 1, 1), np.float32),
    )  # fmt: skip


def test_identity_neurons_leave_spikes_beside_them_as_they_are():
    graph = skips()
    assert left(find_sites(graph))["conv2"].startswith("its input is partly spikes, partly analogue")
    coverage = find_sites(graph, Selection(identity_sites=True))
    assert {site.name: (site.kind, site.axis, site.layers) for site in coverage.sites} == {
        "act": ("relu", 1, ("up", "conv2")),
        "x/identity": ("identity", 1, ("conv2",)),
        "t/identity": ("identity", 1, ("conv2",)),
    }
    assert driven(graph, coverage.sites) == {"up", "conv2"}
    place_identities(graph, coverage.sites)
    nodes = {each.name: each for each in graph.nodes}
    assert [tensor.name for tensor in nodes["join"].inputs] == ["a", "t/identity", "x/identity"]
    assert nodes["conv1"].inputs[0].name == "x"
    assert driven(graph, coverage.sites) == {"up", "conv2"}
    some = find_sites(skips(), Selection(identity_sites=True, exclude=["^x/"]))
    assert driven(skips(), some.sites) == {"up"}
    assert left(some)["conv2"].startswith("its input is partly spikes, partly analogue")


@pytest.mark.parametrize(("readers", "output"), [((node("Sigmoid", "c", "z", "gate"),), "z"), ((), "c")])
def test_who_else_reads_a_join_sees_the_analogue_values(readers, output):
    graph = skips(*readers, outputs=("y", output))
    coverage = find_sites(graph, Selection(identity_sites=True))
    assert [site.name for site in coverage.sites if site.kind == "identity"] == ["c/identity"]


def test_layers_that_share_a_join_share_its_neurons():
    graph = skips(node("Conv", "c wide", "z", "conv3"), outputs=("y", "z"))
    coverage = find_sites(graph, Selection(identity_sites=True))
    assert {site.name: site.layers for site in coverage.sites if site.kind == "identity"} == {
        "x/identity": ("conv2", "conv3"),
        "t/identity": ("conv2", "conv3"),
    }
    assert coverage.spiking_layers == 3


def test_identity_neurons_of_a_sum_are_behind_it_and_in_front_of_its_copies():
    """Residual blocks on a linear shortcut, with circular padding: the trunk itself stays a sum."""
    ends = {name: np.array([value], np.int64) for name, value in (("zero", 0), ("two", 2), ("axis", 3))}
    graph = graph_of(
        [node("Conv", "x p", "s", "shortcut"), node("Conv", "x p", "h", "conv1"), node("Relu", "h", "a", "act"),
         node("Add", "a s", "sum", "join"), node("Slice", "sum zero two axis", "edge", "cut"),
         node("Concat", "sum edge", "c", "pad", axis=3), node("Conv", "c p", "y", "conv2"),
         node("Conv", "sum p", "z", "conv3"), node("Sigmoid", "sum", "g", "gate")],
        outputs=("y", "z", "g"), p=POINT, **ends,
    )  # fmt: skip
    coverage = find_sites(graph, Selection(identity_sites=True))
    assert [site.name for site in coverage.sites] == ["act", "sum/identity"]
    assert all(set(site.layers) == {"conv2", "conv3"} for site in coverage.sites)
    place_identities(graph, coverage.sites)
    read = {each.name: each.inputs[0].name for each in graph.nodes}
    assert (read["cut"], read["pad"], read["conv3"], read["gate"]) == (*["sum/identity"] * 3, "sum")
    assert driven(graph, coverage.sites) == {"conv2", "conv3"}


def test_embeddings_are_analogue():
    """A table looked up by integers has no data input, but it is not made of spikes either."""
    lookup = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 3])
    graph = helper.make_graph(
        [node("Gather", "table ids", "e", "look"), node("MatMul", "e w", "y", "fc")], "g", [lookup],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 4])],
    )  # fmt: skip
    imported = gs.import_onnx(helper.make_model(graph))
    for name in ("table", "w"):
        imported.tensors()[name].to_constant(MATRIX)
    assert sources(imported.tensors()["e"], set()) == {"analogue"}
    coverage = find_sites(imported, Selection(identity_sites=True))
    assert [site.layers for site in coverage.sites] == [("fc",)]


def body(*nodes):
    last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "body", [], [last])


def test_bodies_that_hold_work_make_coverage_incomplete():
    plain = body(node("Identity", "x", "u"))
    for inside, complete in ((node("Relu", "x", "v", "r"), False), (node("Neg", "x", "v", "n"), True)):
        nested = helper.make_node("If", ["flag"], ["o"], "inner", then_branch=body(inside), else_branch=plain)
        for branch in (body(inside), body(nested)):
            model = helper.make_graph(
                [helper.make_node("If", ["flag"], ["y"], "choice", then_branch=branch, else_branch=plain)], "g",
                [helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
                 helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
            )  # fmt: skip
            coverage = find_sites(gs.import_onnx(helper.make_model(model)))
            assert coverage.complete == complete
            assert "bodies of If, Loop and Scan" in left(coverage)["choice"]
            assert ("Relu" in left(coverage)["choice"]) != complete


def test_recurrent_layers_make_coverage_incomplete():
    graph = graph_of(
        [node("LSTM", "x w r", "y", "lstm", hidden_size=2)], {"x": [5, "N", 3]},
        w=np.ones((1, 8, 3), np.float32), r=np.ones((1, 8, 2), np.float32),
    )  # fmt: skip
    coverage = find_sites(graph)
    assert left(coverage) == {"lstm": "recurrent layers are not converted"}
    assert not coverage.complete


def test_sites_are_in_topological_order():
    for graph, selection in ((residual(), None), (chain(), None), (attention(), Selection(identity_sites=True))):
        coverage = find_sites(graph, selection)
        made = [tensor.name for each in graph.nodes for tensor in each.outputs]
        places = [made.index(site.input) for site in coverage.sites]
        assert places == sorted(places)
        assert len({site.name for site in coverage.sites}) == len(coverage.sites)


def test_falling_activations_are_left():
    graph = graph_of(
        [node("Gemm", "x w", "h", "fc"), node("HardSigmoid", "h", "a", "act", alpha=-1.0),
         node("Gemm", "a w", "z", "fc2"), node("Relu", "z", "r", "relu"), node("Gemm", "r w", "y", "fc3")],
        {"x": ["N", 4]}, w=MATRIX,
    )  # fmt: skip
    coverage = find_sites(graph)
    assert [site.name for site in coverage.sites] == ["relu"]
    assert left(coverage)["act"] == "decreases between its limits: no staircase of one neuron stands for it"
    assert coverage.complete  # as a gate is left, too
    with_identity = find_sites(graph, Selection(identity_sites=True))
    assert [site.name for site in with_identity.sites] == ["a/identity", "relu"]


def test_float64_activations_are_left():
    model = build(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a w", "y", "fc2")],
        {"x": ["N", 4]}, {"y": ["N", 4]}, {"w": MATRIX.astype(np.float64)}, dtype=TensorProto.DOUBLE,
    )  # fmt: skip
    coverage = find_sites(gs.import_onnx(model))
    assert coverage.sites == ()
    assert left(coverage)["act"] == "float64 activations are not converted"


def test_bfloat16_networks_are_looked_at():
    """graphsurgeon knows bfloat16 only as a number of ONNX."""
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [4, 4], np.ones(16, np.float32))
    values = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["N", 4]) for name in "xhay"]
    graph = helper.make_graph(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a w", "y", "fc2")],
        "g", values[:1], values[3:], [weight], value_info=values[1:3],
    )  # fmt: skip
    imported = gs.import_onnx(helper.make_model(graph))
    coverage = find_sites(imported)
    assert len(coverage.sites) + len(coverage.left) >= 2


def test_layers_that_cannot_be_spike_driven_stay_in_the_count():
    """Whatever weights they have, and wherever these are: a computed kernel, another type, a fused operator, a body."""
    bodies = [
        helper.make_graph([inner], f"{inner.op_type}_body", [], [helper.make_empty_tensor_value_info(inner.output[0])])
        for inner in (node("MatMul", "r m", "inner", "inside"), node("Neg", "r", "outer"))
    ]
    half = helper.make_tensor("h", TensorProto.BFLOAT16, [4, 4], np.zeros(16))
    nodes = [
        node("MatMul", "x m", "c", "first"), node("Relu", "c", "r", "act"), node("MatMul", "r m", "d", "second"),
        node("ReduceMax", "x", "top", keepdims=0), node("Mul", "m top", "n", "computed"),
        node("MatMul", "d n", "e", "product"), node("Einsum", "e m", "f", "einsum", equation="ij,jk->ik"),
        node("FusedMatMul", "f m", "g", "fused", domain="com.microsoft"), node("Greater", "top zero", "flag"),
        node("If", "flag", "o", "choice", then_branch=bodies[0], else_branch=bodies[1]),
        node("Cast", "g", "b", "narrow", to=TensorProto.BFLOAT16), node("MatMul", "b h", "k", "half"),
        node("Cast", "k", "y", "wide", to=TensorProto.FLOAT),
    ]  # fmt: skip
    weights = [numpy_helper.from_array(value, name) for name, value in (("m", MATRIX), ("zero", np.float32([0])))]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xyo"}
    graph = helper.make_graph(nodes, "g", [values["x"]], [values["y"], values["o"]], [half, *weights])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    coverage = find_sites(gs.import_onnx(helper.make_model(graph, opset_imports=opsets, ir_version=10)))
    # first, second, einsum, fused, half, inside; the product of two activations is no layer of weights
    assert (coverage.weight_layers, coverage.spiking_layers) == (6, 1)
    reasons = left(coverage)
    assert {"first", "product", "einsum", "fused", "half", "choice"} <= set(reasons)
    assert reasons["half"] == "its weights are no matrix of float16, float32 or float64"
    assert "written as a MatMul" in reasons["einsum"] and "this one holds MatMul" in reasons["choice"]


def test_what_differs_from_run_to_run_is_left_by_name():
    graph = graph_of(
        [
            node("Gemm", "x w", "c", "one"), node("RandomUniformLike", "c", "n", "noise"),
            node("Add", "c n", "s", "sum"),
            node("BatchNormalization", "s g g g g", "b m v", "norm", training_mode=1), node("Relu", "b", "r", "act"),
            node("Dropout", "r half true", "d", "drop"), node("Gemm", "d w", "y", "two"),
        ],
        {"x": ["N", 4]}, w=MATRIX, g=np.ones(4, np.float32), half=np.float32(0.5), true=np.array(True),
    )  # fmt: skip
    reasons = left(find_sites(graph))
    assert reasons["noise"] == "random, it draws other numbers at every run"
    assert reasons["drop"].startswith("in training mode, it drops other values at every run")
    assert reasons["norm"].startswith("in training mode, it normalises each batch by its own statistics")
