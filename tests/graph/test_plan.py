"""Plans as files, and the folded form that they are emitted in."""

import json
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphpass.errors import PlanError
from graphpass.forms import operators
from graphpass.forms.folded import fold
from graphpass.graph.domains import SPIKING_DOMAIN, opset_of
from graphpass.graph.model import export
from graphpass.graph.plan import LayerPlan, Left, Plan, SitePlan, load_plan, save_plan
from tests.models import build, node, ops, run, same
from tests.properties import examples

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SECOND = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
X = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
ONES = {part: np.float32([1]) for part in ("threshold", "shift", "amplitude", "offset")}


def site(**changes):
    values = {
        "name": "act", "kind": "relu", "input": "h", "output": "a", "layers": ("fc2",), "shape": (3,), "levels": 5,
        "threshold": np.float32([0.25, 0.5, 0.75]), "shift": np.float32([0.1, 0.2, 0.3]),
        "amplitude": np.float32([0.3, 0.5, 0.7]), "offset": np.float32([0, 0.01, -0.02]),
    }  # fmt: skip
    return SitePlan(**{**values, **changes})


def plan(*sites, layers=(), **changes):
    return replace(Plan(4, "rate", "optimal", sites or (site(),), layers), **changes)


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
vectors = arrays(np.float32, 3, elements=finite)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    threshold=arrays(np.float32, 3, elements=st.floats(np.float32(2**-149), np.float32(3e38), width=32)),
    shift=vectors, amplitude=vectors, offset=vectors, error=st.none() | st.floats(0, 1e9),
    lowest=st.floats(max_value=0, allow_infinity=False, width=32),
)  # fmt: skip
def test_a_plan_survives_its_file_bit_for_bit(tmp_path, threshold, shift, amplitude, offset, error, lowest):
    one = site(threshold=threshold, shift=shift, amplitude=amplitude, offset=offset, error=error, lowest=lowest)
    layers = (
        LayerPlan("fc2", SECOND, np.float32([0.5, -0.0])),
        LayerPlan("/a/b.c:0", SECOND.astype(np.float16), shift),
    )
    left = (Left("conv", "Conv", "why — not", False),)
    whole = plan(
        one, site(name="other", output="b", shape=(1,), **ONES),
        layers=layers, left=left, model_digest="ab", data_digest="cd", samples=7, seed=3, tool="t 1", notes={"k": "v"},
    )  # fmt: skip
    save_plan(whole, tmp_path / "p.json")
    loaded = load_plan(tmp_path / "p.json")
    assert same(loaded, whole)
    assert not loaded.complete


def test_arrays_are_beside_the_plan_only_where_there_are_layers(tmp_path):
    save_plan(plan(), tmp_path / "p.json")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["p.json"]
    save_plan(plan(layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),)), tmp_path / "q.json")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["p.json", "q.json", "q.npz"]
    assert json.loads((tmp_path / "q.json").read_text())["arrays"] == "q.npz"


def test_a_plan_may_not_be_named_like_its_arrays(tmp_path):
    with pytest.raises(PlanError, match=r"p\.npz.*\.json"):
        save_plan(plan(layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),)), tmp_path / "p.npz")


def edited(tmp_path, edit, **changes):
    """The path of a saved plan after edit(document)."""
    save_plan(plan(**changes), tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    document = edit(document) or document
    (tmp_path / "p.json").write_text(json.dumps(document))
    return tmp_path / "p.json"


def test_an_edited_plan_is_applied(tmp_path):
    def edit(document):
        document["sites"][0]["threshold"][1] = 1.25

    assert load_plan(edited(tmp_path, edit)).sites[0].threshold.tolist() == [0.25, 1.25, 0.75]


def setter(*path):
    """Sets document[path[0]]…[path[-2]] = path[-1]; without a value, deletes."""

    def edit(document):
        for step in path[:-2]:
            document = document[step]
        document[path[-2]] = path[-1]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setter("version", 4), r"plan version 4, this tool reads 1 to 3"),
        (setter("version", "3"), r"plan version '3', this tool reads 1 to 3"),
        (setter("format", "other"), "not a graphpass plan"),
        (lambda document: [1], "not a graphpass plan"),
        (lambda document: document.pop("coding") and None, "p.json: coding: is missing; correct it"),
        (setter("comment", "mine"), "comment: is unknown here; choose from format, version"),
        (setter("notes", "x"), 'notes: "x" is not an object'),
        (setter("notes", {"a": 1}), "notes.a: 1 is not a text"),
        (setter("levels", 9), "levels: 9, not the 5 of T = 4 in this code"),
        (setter("samples", -1), "samples: -1 is below 0"),
        (setter("sites", 0, "surprise", 1), r"sites\[0\].surprise: is unknown"),
        (setter("sites", 0, "threshold", [0.25, 0.5]), r"sites\[0\].threshold \('act'\): 2 numbers, its shape holds 3"),
        (setter("sites", 0, "shift", [float("nan"), 0, 0]), "NaN is not a number of JSON"),
        (setter("sites", 0, "offset", [float("inf"), 0, 0]), "Infinity is not a number of JSON"),
        (setter("sites", 0, "threshold", [1e39, 1, 1]), r"sites\[0\].threshold\[0\]: 1e\+39 is beyond float32"),
        (setter("sites", 0, "threshold", [-1, 1, 1]), r"threshold \('act'\): -1.0 is not above 0"),
        (setter("sites", 0, "threshold", [0, 1, 1]), r"threshold \('act'\): 0.0 is not above 0"),
        (setter("sites", 0, "threshold", "three"), r'sites\[0\].threshold: "three" is not a list of numbers'),
        (setter("sites", 0, "threshold", [10**400, 1, 1]), r"threshold\[0\]: 1000.* is not a number"),
        (setter("sites", 0, "lowest", "abc"), r'sites\[0\].lowest: "abc" is not a number'),
        (setter("sites", 0, "lowest", 1), r"lowest \('act'\): 1.0 is above highest, 0.0"),
        (setter("sites", 0, "levels", 6), r"levels \('act'\): 6 is not 2 to 5"),
        (setter("sites", 0, "levels", 1), r"levels \('act'\): 1 is not 2 to 5"),
        (setter("sites", 0, "levels", "five"), r'sites\[0\].levels: "five" is not a whole number'),
        (setter("sites", 0, "levels", True), r"sites\[0\].levels: true is not a whole number"),
        (setter("sites", 0, "shape", ["a"]), r'sites\[0\].shape\[0\]: "a" is not a whole number'),
        (setter("sites", 0, "shape", []), r"shape \('act'\): \[\] is not one of 1 to 8 sizes"),
        (setter("sites", 0, "shape", [3, 0]), r"shape \('act'\)"),
        (setter("sites", 0, "shape", [-1, -3]), r"shape \('act'\)"),
        (setter("sites", 0, "shape", [2**62, 2**62]), r"threshold \('act'\): 3 numbers"),
        (setter("sites", 0, "name", 3), r"sites\[0\].name: 3 is not a text"),
        (setter("sites", 0, "name", "\ud800"), r"sites\[0\].name: is not Unicode"),
        (lambda document: document["sites"].append(document["sites"][0]), "sites: 'act' appears twice"),
        (setter("time_steps", "four"), 'time_steps: "four" is not a whole number'),
        (setter("time_steps", 0), "0 time-steps do not fit"),
        (setter("time_steps", 4.5), "time_steps: 4.5 is not a whole number"),
        (setter("time_steps", 10**30), "time_steps: 1000.* is not a whole number"),
        (setter("coding", "burst"), "unknown coding 'burst'"),
        (setter("sites", 5), "sites: 5 is not a list"),
        (setter("left", [1]), r"left\[0\]: 1 is not an object"),
        (setter("ranges", [{"tensor": "x", "low": 2, "high": 1}]), r"ranges\[0\].low: 2.0 is above high"),
        (setter("layers", ["fc9"]), r"p.npz: lacks 'weight/fc9'"),
        (setter("layers", []), r"arrays: 'p.npz', but no layer has new weights"),
        (setter("method", "best"), "method: 'best' is not one of optimal, .*, qcfs"),
        (setter("sites", 0, "error", -0.5), r"sites\[0\].error \('act'\): -0.5 is below 0"),
        (setter("layers", ["fc2", "fc2"]), "layers: 'fc2' appears twice"),
        (setter("arrays", None), "arrays: is null"),
        (setter("arrays", ".."), "cannot be read"),
        (setter("arrays", "../../elsewhere.npz"), "elsewhere.npz: cannot be read"),
    ],
)
def test_nonsense_in_a_plan(tmp_path, edit, message):
    path = edited(tmp_path, edit, layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),))
    with pytest.raises(PlanError, match=message):
        load_plan(path)


def test_what_is_written_twice_or_for_no_layer(tmp_path):
    path = edited(tmp_path, lambda document: None, layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),))
    path.write_text(path.read_text()[:-1] + ', "time_steps": 8}')
    with pytest.raises(PlanError, match=r"p\.json: time_steps: appears twice in one object"):
        load_plan(path)
    save_plan(plan(layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),)), path)
    with np.load(tmp_path / "p.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "p.npz", **arrays, **{"weight/fc1": SECOND})
    with pytest.raises(PlanError, match=r"p\.npz: 'weight/fc1' is of none of the plan's layers"):
        load_plan(path)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"{", b"plain words", b"[" * 100_000, b"1" * 5000])
def test_files_that_are_no_plans(tmp_path, content):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(PlanError, match=r"p\.json: not JSON"):
        load_plan(tmp_path / "p.json")


def test_no_plan_and_no_place(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "p.json")
    with pytest.raises(PlanError, match="cannot be written"):
        save_plan(plan(), tmp_path / "no" / "p.json")


@pytest.mark.parametrize("damage", [None, b"", b"garbage", "cut"])
def test_damaged_arrays(tmp_path, damage):
    save_plan(plan(layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),)), tmp_path / "p.json")
    arrays_path = tmp_path / "p.npz"
    if damage is None:
        arrays_path.unlink()
    else:
        arrays_path.write_bytes(arrays_path.read_bytes()[:-60] if damage == "cut" else damage)
    with pytest.raises(PlanError, match=r"p\.npz.*keep it beside p\.json"):
        load_plan(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("weight", "bias", "what"),
    [
        (np.array([{}], object), [0, 0], "cannot be read"),  # would run code
        (np.full((3, 2), np.nan, np.float32), [0, 0], "weight/fc2 is not made of finite floats"),
        (np.ones((3, 2), np.int64), [0, 0], "weight/fc2 is not made of finite floats"),
        (np.array(["a"]), [0, 0], "weight/fc2 is not made of finite floats"),
        (SECOND, [0, np.inf], "bias_change/fc2 is not made of finite floats"),
        (SECOND, [[0, 0]], "bias_change/fc2 is not a list"),
    ],
)
def test_arrays_of_something_else(tmp_path, weight, bias, what):
    save_plan(plan(layers=(LayerPlan("fc2", SECOND, np.float32([0, 0])),)), tmp_path / "p.json")
    np.savez(tmp_path / "p.npz", **{"weight/fc2": weight, "bias_change/fc2": np.float32(bias)})
    with pytest.raises(PlanError, match=rf"p\.npz: {what}"):
        load_plan(tmp_path / "p.json")


# fold


def graph_of(**constants):
    """x → fc → act → fc2 → y"""
    nodes = [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a w2", "y", "fc2")]
    return gs.import_onnx(build(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, {"w": WEIGHT, "w2": SECOND, **constants}))


def spiking(graph, decided):
    proto = export(fold(graph, decided))
    proto.functions.extend(operators.functions(decided.coding, opset_of(proto)))
    proto.opset_import.append(operators.opset_import())
    return proto


def test_fold_is_the_definition():
    """Every number of the parameters and weights is a multiple of 1/8, so that no sum rounds, in any order."""
    eighths = np.random.default_rng(3)
    weight, second, x = (eighths.integers(-8, 8, shape).astype(np.float32) / 8 for shape in ((4, 3), (3, 2), (50, 4)))
    one = site(
        threshold=np.float32([0.25, 0.5, 1]), shift=np.float32([0.125, 0.25, 0.5]),
        amplitude=np.float32([0.25, 0.5, 2]), offset=np.float32([0, 0.125, -0.25]),
    )  # fmt: skip
    layer = LayerPlan("fc2", second + 1, np.float32([0.5, -1]))
    graph = graph_of(w=weight, w2=second)
    proto = spiking(graph, plan(one, layers=(layer,)))
    assert ops(graph) == ["MatMul", "ParallelNeuron", "MatMul", "Add"]
    expected = one.neuron.fire(x @ weight) @ layer.weight + layer.bias_change
    np.testing.assert_array_equal(run(proto, x)[0], expected)
    assert set(np.unique(one.neuron.count(x @ weight))) == {0, 1, 2, 3, 4}


def test_every_attribute_is_written_on_the_neuron():
    graph = fold(graph_of(), plan(site(levels=4)))
    neuron = next(each for each in graph.nodes if each.op == operators.FOLDED_NEURON)
    assert neuron.attrs == {"time_steps": 4, "levels": 4, "coding": "rate"}
    assert neuron.domain == SPIKING_DOMAIN


def test_weights_of_another_layer_that_shares_them_stay():
    nodes = [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a w", "y", "fc2")]
    weight = np.eye(4, dtype=np.float32)
    graph = gs.import_onnx(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"w": weight}))
    fold(graph, plan(site(shape=(1,), **ONES), layers=(LayerPlan("fc2", 2 * weight, np.zeros(4, np.float32)),)))
    values = {each.name: each.inputs[1].values for each in graph.nodes if each.op == "MatMul"}
    np.testing.assert_array_equal(values["fc"], weight)
    np.testing.assert_array_equal(values["fc2"], 2 * weight)


def test_names_that_are_taken():
    """A weight and a bias that two layers share, called like the new ones of the first."""
    nodes = [
        node("Gemm", "x fc/weight fc/bias", "h", "fc"), node("Relu", "h", "a", "act"),
        node("Gemm", "a fc/weight fc/bias", "y", "fc2"),
    ]  # fmt: skip
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    bias = np.float32([1, 2, 3, 4])
    graph = gs.import_onnx(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"fc/weight": weight, "fc/bias": bias}))
    decided = plan(site(shape=(1,), **ONES), layers=(LayerPlan("fc", 2 * weight, np.ones(4, np.float32)),))
    one = decided.sites[0].neuron
    expected = one.fire(X @ (2 * weight) + bias + 1) @ weight + bias
    # sums of four float32 products in the runtime's order; a count at a border would show as a difference of 1
    np.testing.assert_allclose(run(spiking(graph, decided), X)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("decided", "named"),
    [
        (plan(site(name="gone", input="nowhere")), "gone"),
        (plan(site(name="gone", output="nowhere")), "gone"),
        (plan(site(name="gone", kind="identity", output="new", layers=("fc9",))), "fc9"),
        (plan(layers=(LayerPlan("fc9", SECOND, np.float32([0, 0])),)), "fc9"),
        (plan(layers=(LayerPlan("fc2", WEIGHT, np.float32([0, 0])),)), "fc2"),
    ],
)
def test_a_plan_of_another_model(decided, named):
    with pytest.raises(PlanError, match=f"'{named}'.*use the plan with its own model"):
        fold(graph_of(), decided)


def test_an_identity_site_serves_its_layers_only():
    """x/identity feeds fc2a; fc2b still reads the analogue tensor."""
    nodes = [
        node("MatMul", "x w", "h", "fc"), node("Tanh", "h", "t", "tanh"), node("MatMul", "t w2", "y", "fc2a"),
        node("MatMul", "t w2", "z", "fc2b"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 4]}, {"y": ["N", 2], "z": ["N", 2]}, {"w": WEIGHT, "w2": SECOND})
    one = site(name="t/identity", kind="identity", input="t", output="t/identity", layers=("fc2a",))
    y, z = run(spiking(gs.import_onnx(model), plan(one)), X)
    t = np.tanh(X @ WEIGHT)
    # tanh and the products round in float32; the tanh of these inputs is no nearer than that to a border
    np.testing.assert_allclose(y, one.neuron.fire(t) @ SECOND, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(z, t @ SECOND, rtol=1e-5, atol=1e-5)
