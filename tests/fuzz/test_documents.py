"""Plans and metadata with anything in them: a typed error that names the place, or a network that can be evaluated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from graphpass import api
from graphpass.errors import GraphpassError, ModelError, OptionError, PlanError, SessionError
from graphpass.evaluation import evaluate as evaluation
from graphpass.evaluation.results import PREFIX
from graphpass.graph.plan import load_plan
from tests.fuzz.documents import changed
from tests.models import build, node
from tests.properties import examples

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
FORMS = ("folded", "unrolled", "integer")


def network() -> onnx.ModelProto:
    """Two convolutions and a Gemm; a tanh where an identity site goes."""
    random = np.random.default_rng(0)
    nodes = [
        node("Conv", "x w1", "c1", "conv1"), node("Relu", "c1", "r1", "relu1"),
        node("Conv", "r1 w2", "c2", "conv2"), node("Tanh", "c2", "t", "tanh"), node("Flatten", "t", "f", "flatten"),
        node("Gemm", "f w3", "y", "fc"),
    ]  # fmt: skip
    shapes = {"w1": (4, 2, 3, 3), "w2": (3, 4, 3, 3), "w3": (12, 10)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, {"x": ["N", 2, 6, 6]}, {"y": ["N", 10]}, weights)


DATA = {"x": np.random.default_rng(1).normal(size=(6, 2, 6, 6)).astype(np.float32)}
SOURCE = api.load(network())
DONE = api.convert(SOURCE, DATA, time_steps=4, identity_sites=True)
CONVERTED = {form: api.convert(SOURCE, plan=DONE.plan, form=form).proto for form in FORMS}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0)


def refused(call: Callable[[], Any], *errors: type[GraphpassError]) -> Any:
    """What a call returns, None where it raises one of these errors, which has a remedy."""
    try:
        return call()
    except errors as error:
        if not error.remedy:
            raise AssertionError(f"{error} has no remedy") from error
        return None


def document(folder: Path) -> Any:
    api.save_plan(DONE.plan, folder / "plan.json")
    return json.loads((folder / "plan.json").read_text())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("plans")
    return folder, document(folder)


@examples(20, suppress_health_check=SLOW)
@given(data=st.data(), form=st.sampled_from(FORMS))
def test_plans(saved: tuple[Path, Any], data: st.DataObject, form: str) -> None:
    folder, original = saved
    given_plan = data.draw(changed(original))
    path = folder / "changed.json"
    path.write_text(json.dumps(given_plan), "utf-8")
    (folder / "changed.npz").write_bytes((folder / "plan.npz").read_bytes())
    done = refused(lambda: api.convert(SOURCE, plan=path, form=form, allow_partial=True), PlanError)
    if done is None:
        return
    plan = load_plan(path)
    assert done.plan.time_steps == plan.time_steps and done.form == form
    found = api.evaluate(SOURCE, done, DATA, threads=1)
    assert found.samples == 6 and json.dumps(found.to_json(), allow_nan=False)


@examples(20, suppress_health_check=SLOW)
@given(data=st.data(), form=st.sampled_from(FORMS))
def test_metadata(data: st.DataObject, form: str) -> None:
    stored = {entry.key: entry.value for entry in CONVERTED[form].metadata_props}
    parsed = {
        key: json.loads(text) if key in (f"{PREFIX}sites", f"{PREFIX}left") else text for key, text in stored.items()
    }
    given_metadata = data.draw(changed(parsed))
    if not isinstance(given_metadata, dict):
        return
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    del proto.metadata_props[:]
    for key, value in given_metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            proto.metadata_props.add(key=key, value=text)
        except UnicodeEncodeError:  # no file holds such a text
            return
    inlined = api.inline(proto)
    assert not inlined.functions
    found = refused(lambda: api.evaluate(SOURCE, proto, DATA, threads=1), ModelError)
    assert found is None or (found.samples == 6 and json.dumps(found.to_json(), allow_nan=False))
    if form == "integer":
        flips = refused(lambda: api.verify(proto, DATA, reference=CONVERTED["folded"]), ModelError)
        assert flips is None or flips.samples == 6
    else:
        assert api.verify(proto, DATA).agrees  # it reads no metadata


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [0, 1])
def test_metadata_of_other_sites_than_there_are_neurons(form: str, kept: int) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    entry = next(each for each in proto.metadata_props if each.key == f"{PREFIX}sites")
    entry.value = json.dumps(json.loads(entry.value)[:kept])
    found = refused(lambda: api.evaluate(SOURCE, proto, DATA, threads=1), ModelError)
    assert (found is None) == (form == "folded")
    assert found is None or len(found.sites) == kept


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("claimed", FORMS)
def test_metadata_of_another_form(form: str, claimed: str) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    next(each for each in proto.metadata_props if each.key == f"{PREFIX}form").value = claimed
    found = refused(lambda: api.evaluate(SOURCE, proto, DATA, threads=1), ModelError)
    assert (found is None) == (form != claimed)


def test_what_is_no_model_and_no_plan() -> None:
    for call in (lambda: api.load(b"abc"), lambda: api.load(None), lambda: api.save_plan(3, "plan.json")):
        with pytest.raises(OptionError, match=r"cannot be of type (bytes|NoneType|int); give "):
            call()


@pytest.mark.parametrize("form", ["folded", "unrolled", "integer"])
def test_a_tensor_that_nothing_makes(form: str) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    for reader in proto.graph.node:
        before, reader.input[0] = reader.input[0], "no"
        with pytest.raises(ModelError, match="reads 'no', which no node computes"):
            api.evaluate(SOURCE, proto, DATA, threads=1)
        with pytest.raises(ModelError, match="reads 'no', which no node computes"):
            api.verify(proto, DATA)
        reader.input[0] = before


@examples(20, suppress_health_check=SLOW)
@given(data=st.data(), form=st.sampled_from(["folded", "unrolled"]))
def test_neurons(data: st.DataObject, form: str) -> None:
    """Attributes, parameters and inputs of the neurons themselves."""
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    neurons = [each for each in proto.graph.node if each.op_type.startswith("ParallelNeuron")]
    neuron = data.draw(st.sampled_from(neurons))
    match data.draw(st.sampled_from(["attribute", "missing", "parameter", "input", "name"])):
        case "attribute":
            attribute = data.draw(st.sampled_from(list(neuron.attribute)))
            value = data.draw(st.integers(-2, 300) | st.sampled_from([2**62, "phase", "", 1.5, [1, 2]]))
            attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, value))
        case "missing":
            del neuron.attribute[data.draw(st.integers(0, len(neuron.attribute) - 1))]
        case "parameter":
            name = data.draw(st.sampled_from(list(neuron.input)[1:]))
            tensor = next(each for each in proto.graph.initializer if each.name == name)
            value = data.draw(st.sampled_from([0, -1, np.nan, np.inf, 1e-45, 1e38]))
            shape = data.draw(st.sampled_from([list(tensor.dims), [1], [7], [0], []]))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(shape, value, np.float32), name))
        case "input":
            neuron.input[data.draw(st.integers(0, len(neuron.input) - 1))] = data.draw(
                st.sampled_from(["x", "y", "", "no"])
            )
        case "name":
            neuron.name = data.draw(st.sampled_from(["", "fc", neurons[0].name]))
    for call in (
        lambda: api.evaluate(SOURCE, proto, DATA, threads=1),
        lambda: api.verify(proto, DATA),
        lambda: api.verify(proto, DATA, reference=CONVERTED["folded"]),
        lambda: api.verify(CONVERTED["integer"], DATA, reference=proto),
        lambda: api.inline(proto),
    ):
        refused(call, ModelError, SessionError)


@pytest.mark.parametrize("form", FORMS)
def test_metadata_whose_parameters_do_not_fit_their_tensor(form: str) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CONVERTED[form])
    entry = next(each for each in proto.metadata_props if each.key == f"{PREFIX}sites")
    sites = json.loads(entry.value)
    sites[0]["shape"] = [*sites[0]["shape"], 1]
    entry.value = json.dumps(sites)
    with pytest.raises(ModelError, match="parameters of shape"):
        api.evaluate(SOURCE, proto, DATA, threads=1)
