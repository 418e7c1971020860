"""graphpass.evaluation.baseline: the ANN with quantised activations is as good as quantising them alone can be."""

import json
import warnings

import numpy as np
import pytest

from graphpass.api import convert, evaluate
from graphpass.errors import ModelError
from graphpass.evaluation.baseline import quantised
from graphpass.evaluation.results import conversion_of
from graphpass.forms.registry import assemble
from graphpass.graph.description import PREFIX
from graphpass.graph.model import load
from graphpass.maths.methods import METHODS
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import open_session, run
from tests.models import build, node

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(64, 3, 8, 8)).astype(np.float32)
SPREAD = np.logspace(-2, 1, 12).astype(np.float32)  # channels of very different size


@pytest.fixture(scope="module", params=["Relu", "Tanh", "Elu"])
def network(request, tmp_path_factory):
    weights = {
        "w": RANDOM.normal(size=(12, 3, 3, 3)).astype(np.float32) * SPREAD[:, None, None, None],
        "v": RANDOM.normal(size=(5, 12, 1, 1)).astype(np.float32) / SPREAD[:, None, None],
    }
    nodes = [
        node("Conv", "x w", "c", name="c"),
        node(request.param, "c", "a", name="act"),
        node("Conv", "a v", "y", name="y"),
    ]
    path = tmp_path_factory.mktemp("baseline") / "ann.onnx"
    model = build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 5, 6, 6], "a": ["N", 12, 6, 6]}, weights)
    path.write_bytes(model.SerializeToString())
    return path


def converted(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert(path, {"x": X}, **options)


def baseline(path, proto):
    """Both outputs of the ANN and of the baseline."""
    conversion = conversion_of(proto)
    graph = load(path).graph()
    normalise(graph)
    model = assemble(quantised(graph, conversion), conversion.coding)
    return run(open_session(path), {"x": X}), run(open_session(model), {"x": X})


@pytest.mark.some(4)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [2, 15])
def test_no_quantiser_of_a_range_is_better(network, steps, method):
    """Whatever the method is: rounding of a channel or a tensor between the ends of a part of its range."""
    ann, quantised_ann = baseline(network, converted(network, time_steps=steps, method=method).proto)
    a = ann["a"]
    ours = np.square(quantised_ann["a"] - a, dtype=np.float64).sum((0, 2, 3))
    assert (np.array([len(np.unique(quantised_ann["a"][:, c])) for c in range(12)]) <= steps + 1).all()
    for axes in ((0, 2, 3), None):
        low, high = a.min(axes, keepdims=True), a.max(axes, keepdims=True)
        for part in np.linspace(0.3, 1, 15):
            step = (high - low) * part / steps
            rounded = low + step * np.clip(np.rint((a - low) / step), 0, steps)
            theirs = np.square(rounded - a, dtype=np.float64).sum((0, 2, 3))
            assert (ours <= 1.02 * theirs + 1e-9).all()  # borders lie on a grid of 2048


def test_the_integer_form_has_the_same_baseline(network):
    one, other = (baseline(network, converted(network, time_steps=4, form=f).proto)[1] for f in ("folded", "integer"))
    np.testing.assert_allclose(other["y"], one["y"], rtol=0.05, atol=0.02 * np.abs(one["y"]).max())


def changed(proto, change):
    """With other sites in the metadata."""
    other = type(proto)()
    other.CopyFrom(proto)
    (entry,) = (each for each in other.metadata_props if each.key == f"{PREFIX}sites")
    sites = json.loads(entry.value)
    change(sites[0])
    entry.value = json.dumps(sites)
    return other


def test_files_of_before_get_levels_that_span_the_range(network):
    def forget(site):
        for key in ("quantiser", "shape", "scale"):
            del site[key]

    done = converted(network, time_steps=4)
    ann, quantised_ann = baseline(network, changed(done.proto, forget))
    site = done.plan.sites[0]
    low, high = min(site.lowest, 0.0), max(site.highest, 0.0)
    assert np.unique(quantised_ann["a"]) == pytest.approx(np.linspace(low, high, 5), rel=1e-5, abs=1e-6)
    assert np.abs(quantised_ann["a"] - ann["a"]).max() <= (high - low) / 8 * 1.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda site: site["quantiser"]["threshold"].pop(), "sites\\[0\\].threshold: 11 numbers, its shape holds 12"),
        (lambda site: site["quantiser"]["threshold"].__setitem__(3, 0), "sites\\[0\\].threshold: 0.0 is not above 0"),
        (lambda site: site["quantiser"].pop("offset"), "sites\\[0\\].quantiser.offset: is missing"),
        (lambda site: site.update(scale="other"), "sites\\[0\\].scale: 'other' is not one of"),
        (lambda site: site.update(shape=[13, 1, 1]), "numbers, its shape holds 13"),
        (lambda site: site.update(output="nowhere"), "site 'act' is not in the model"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(network, change, message):
    proto = changed(converted(network, time_steps=4).proto, change)
    with pytest.raises(ModelError, match=message):
        evaluate(network, proto, {"x": X})
