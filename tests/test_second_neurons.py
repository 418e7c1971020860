"""Identity sites with two neurons a channel: every form, the plan, the evaluation."""

import json

import numpy as np
import onnx
import pytest

import graphpass
from graphpass.errors import PlanError
from graphpass.forms.registry import spiking_graph
from graphpass.forms.unrolled import spike_inputs
from graphpass.graph.plan import load_plan, save_plan
from graphpass.maths import outliers
from tests.models import build, node

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "d": RANDOM.normal(size=(24, 6)).astype(np.float32) / 5,
    "e": RANDOM.normal(size=(24, 4)).astype(np.float32) / 5,
    "b": RANDOM.normal(size=4).astype(np.float32),
}
FORMS = ("folded", "unrolled", "integer")


def gate() -> onnx.ModelProto:
    """y = (g ∘ u)·D and z = (g ∘ u)·E + b: two layers read the product, one with a bias."""
    nodes = [
        node("Mul", "g u", "product", "product"),
        node("MatMul", "product d", "y", "down"),
        node("Gemm", "product e b", "z", "other"),
    ]
    return build(nodes, {"g": ["N", 24], "u": ["N", 24]}, {"y": ["N", 6], "z": ["N", 4]}, WEIGHTS)


def inputs(seed: int, samples: int = 600) -> dict[str, np.ndarray]:
    """One sample in fifty is eight times as large, so that its products are 64 times as large."""
    random = np.random.default_rng(seed)
    g, u = (random.normal(size=(samples, 24)).astype(np.float32) for _ in range(2))
    g, u = np.maximum(g, -0.2), u
    g[::50] *= 8
    u[::50] *= 8
    return {"g": g, "u": u}


@pytest.fixture(scope="module")
def converted() -> dict[str, graphpass.Conversion]:
    def convert(form: str) -> graphpass.Conversion:
        return graphpass.convert(gate(), inputs(0), time_steps=6, coding="phase", identity_sites=True, form=form)

    return {form: convert(form) for form in FORMS}


def errors(model, data) -> list[float]:
    """Of the two outputs: mean over the common samples of ‖snn − ann‖, by that of ‖ann‖."""
    common = np.arange(len(data["g"])) % 50 != 0
    ann, snn = (graphpass.open_session(each).run(None, data) for each in (gate(), model))
    return [float(np.linalg.norm((s - a)[common]) / np.linalg.norm(a[common])) for s, a in zip(snn, ann, strict=True)]


def test_common_values_keep_their_accuracy_beside_outliers(converted):
    """With one neuron, 64 levels over the whole range leave common products to one or two levels."""
    max_range = graphpass.convert(gate(), inputs(0), time_steps=6, coding="phase", identity_sites=True, method="max")
    (site,) = converted["folded"].plan.sites
    assert site.beyond is not None and (site.beyond.amplitude > 4 * site.amplitude).all()
    for two, whole in zip(errors(converted["folded"], inputs(1)), errors(max_range, inputs(1)), strict=True):
        assert two < 0.2
        assert two < whole / 3


def test_all_forms_agree(converted):
    data = inputs(2, 64)
    for form in FORMS[:2]:
        found = graphpass.verify(converted[form], data)
        assert found.agrees, found
        assert {site.name for site in found.sites} == {"product/identity/neuron", "product/identity/neuron/beyond"}
    for name in FORMS[1:]:
        for one, other in zip(errors(converted["folded"], data), errors(converted[name], data), strict=True):
            assert abs(one - other) < 0.02


def test_each_layer_sees_the_binary_spikes_of_both_neurons_apart(converted):
    """W·(y₁ + y₂) + b = (W·y₁ + b) + W·y₂; the unrolled form of the folded file is the same."""
    seen = spike_inputs(spiking_graph(converted["unrolled"].proto))
    layers = {name for name in seen if name.startswith(("down", "other"))}
    assert layers == {"down", "down/beyond", "other", "other/beyond"}
    assert all(seen[name] for name in layers)
    folded = [n.op_type for n in converted["folded"].proto.graph.node]
    assert folded.count("MatMul") == 1 and folded.count("Gemm") == 1  # as many as the network has


def test_an_evaluation_counts_the_spikes_of_both(converted):
    data = inputs(3, 64)
    results = {form: graphpass.evaluate(gate(), converted[form], data) for form in FORMS[:2]}
    for found in results.values():
        (site,) = found.sites
        assert site.name == "product/identity" and 0 < site.firing_rate < 1
        assert {layer.name for layer in found.operations.layers if layer.input == "spikes"} == {
            "down", "down/beyond", "other", "other/beyond",
        }  # fmt: skip
    assert results["folded"].sites[0].firing_rate == results["unrolled"].sites[0].firing_rate


def test_a_plan_keeps_them(converted, tmp_path):
    plan = converted["folded"].plan
    save_plan(plan, tmp_path / "plan.json")
    again = graphpass.convert(gate(), plan=tmp_path / "plan.json")
    data = inputs(4, 32)
    for one, other in zip(
        *(graphpass.open_session(m).run(None, data) for m in (converted["folded"], again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_plan_of_version_2_has_none(converted, tmp_path):
    path = tmp_path / "plan.json"
    save_plan(converted["folded"].plan, path)
    document = json.loads(path.read_text())
    document["version"] = 2
    for site in document["sites"]:
        del site["beyond"]
    path.write_text(json.dumps(document))
    assert all(site.beyond is None for site in load_plan(path).sites)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda far: far["threshold"].__setitem__(0, -1), "beyond.threshold"),
        (lambda far: far["offset"].pop(), "beyond.offset"),
        (lambda far: far.pop("shift"), "beyond"),
    ],
)
def test_a_damaged_plan_says_where(converted, tmp_path, change, what):
    path = tmp_path / "plan.json"
    save_plan(converted["folded"].plan, path)
    document = json.loads(path.read_text())
    change(document["sites"][0]["beyond"])
    path.write_text(json.dumps(document))
    with pytest.raises(PlanError, match=what):
        load_plan(path)


LAYERS = {  # operator, its inputs behind the product, attributes, shape of g and u, shape of the weights
    "padded convolution": ("Conv", "product w c", {"pads": [1, 1, 1, 1]}, (4, 6, 6), (5, 4, 3, 3)),
    "depthwise convolution": ("Conv", "product w", {"group": 4, "pads": [1, 1, 1, 1]}, (4, 6, 6), (4, 1, 3, 3)),
    "transposed convolution": ("ConvTranspose", "product w", {"strides": [2, 2]}, (4, 5, 5), (4, 3, 2, 2)),
    "matrix of tokens": ("MatMul", "product w", {}, (7, 24), (24, 5)),
    "weights first": ("MatMul", "w product", {}, (24, 3), (5, 24)),
    "scaled matrix": ("Gemm", "product w c", {"transB": 1, "alpha": 0.5, "beta": 2.0}, (24,), (5, 24)),
}


@pytest.mark.some(4)
@pytest.mark.filterwarnings("ignore::graphpass.conversion.ConversionWarning")  # int8 beside outliers
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_every_kind_of_layer_behind_two_neurons(kind, coding, monkeypatch):
    """At 256 levels the network is the ANN, in every form, and the unrolled one sees binary spikes alone."""
    monkeypatch.setattr(outliers, "PAYS", np.inf)
    op, operands, attributes, shape, size = LAYERS[kind]
    random = np.random.default_rng(1)
    weights = {"w": random.normal(size=size).astype(np.float32)}
    weights |= {"c": random.normal(size=5).astype(np.float32)} if "c" in operands else {}
    nodes = [node("Mul", "g u", "product", "product"), node(op, operands, "y", "layer", **attributes)]
    model = build(nodes, {"g": ["N", *shape], "u": ["N", *shape]}, {"y": None}, weights)
    data = {name: random.normal(size=(64, *shape)).astype(np.float32) ** 3 for name in ("g", "u")}
    options = {"time_steps": 8 if coding == "phase" else 255, "coding": coding, "identity_sites": True}
    snn = graphpass.convert(model, data, **options)
    assert snn.plan.sites[0].beyond is not None
    ann, found = (graphpass.open_session(each).run(None, data)[0] for each in (model, snn))
    assert np.linalg.norm(found - ann) < 0.02 * np.linalg.norm(ann)
    few = {name: values[:2] for name, values in data.items()}
    assert graphpass.verify(snn, few).agrees
    if coding == "phase":
        unrolled = graphpass.convert(model, data, form="unrolled", **options)
        seen = spike_inputs(spiking_graph(unrolled.proto))
        assert seen["layer"] and seen["layer/beyond"]
        graphpass.convert(model, data, form="integer", **options)  # FormError where it is another function
