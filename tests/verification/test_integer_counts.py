"""The integer form through the conversion story, its evaluation, its comparison and the command line."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.conversion import convert, dataset_for
from graphpass.errors import ModelError
from graphpass.evaluation.evaluate import evaluate
from graphpass.forms.integer.form import COUNT
from graphpass.forms.registry import encoded_of, floats_of
from graphpass.graph.model import load, read
from graphpass.report.pages import evaluation_report
from graphpass.report.tables import summary_table
from graphpass.runtime.session import open_session, run
from graphpass.verification.forms import verify
from graphpass.verification.integer import flips
from tests.cli.test_cli import status
from tests.models import build, node


def network() -> onnx.ModelProto:
    """conv, relu, pooling, conv, relu, conv."""
    random = np.random.default_rng(0)
    shapes = {"w1": (6, 2, 3, 3), "w2": (8, 6, 3, 3), "w3": (3, 8, 1, 1)}
    return build(
        [
            node("Conv", "x w1", "c1", name="conv1", pads=[1] * 4),
            node("Relu", "c1", "r1", name="relu1"),
            node("MaxPool", "r1", "p1", name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", "p1 w2", "c2", name="conv2", pads=[1] * 4),
            node("Relu", "c2", "r2", name="relu2"),
            node("Conv", "r2 w3", "y", name="conv3"),
        ],
        {"x": ["N", 2, 8, 8]},
        {"y": ["N", 3, 4, 4]},
        {name: (random.normal(size=shape) / 4).astype(np.float32) for name, shape in shapes.items()},
    )


def data(count: int = 12) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(count, 2, 8, 8)).astype(np.float32)}


@pytest.fixture(params=["ranges"])
def forms(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, onnx.ModelProto]:
    """Both forms of one plan, written to integer.onnx and folded.onnx beside ann.onnx; the plan has ranges or none."""
    onnx.save(network(), tmp_path / "ann.onnx")
    folded = convert(tmp_path / "ann.onnx", data(), tmp_path / "folded.onnx", time_steps=16)
    plan = folded.plan if request.param == "ranges" else replace(folded.plan, ranges={})
    integer = convert(tmp_path / "ann.onnx", None, tmp_path / "integer.onnx", plan=plan, form="integer")
    np.savez(tmp_path / "data.npz", **data())
    return {"folded": folded.proto, "integer": integer.proto}


def counts_of(proto: onnx.ModelProto, name: str) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return run(open_session(copy, use_native=False), data())[name]


@pytest.mark.parametrize(
    ("forms", "first", "size"),
    [("ranges", "r1", 8), ("none", "p1", 4)],  # behind a float layer the pooling comes before its neurons
    indirect=["forms"],
)
def test_flips_are_those_of_the_tensors(forms, first, size):
    found = flips(forms["integer"], forms["folded"], dataset_for(forms["folded"], data()), batch=5)
    assert (found.samples, found.time_steps, found.coding) == (12, 16, "rate")
    assert [site.name for site in found.sites] == ["relu1/neuron", "relu2/neuron"]
    assert [site.counts for site in found.sites] == [12 * 6 * size * size, 12 * 8 * 4 * 4]
    parts = {t.name: onnx.numpy_helper.to_array(t) for t in forms["folded"].graph.initializer}
    pairs = zip(found.sites, (first, "r2"), ("relu1", "relu2"), strict=True)
    for site, tensor, name in pairs:
        y, n = counts_of(forms["folded"], tensor), counts_of(forms["integer"], f"{tensor}{COUNT}")
        expected = np.rint((y - parts[f"{name}/offset"]) / parts[f"{name}/amplitude"])
        assert site.flips == np.count_nonzero(expected != n)
        assert site.largest == np.abs(expected - n).max()
    assert 0 < found.fraction < 0.1  # int8 weights move some per cent
    one, two = (run(open_session(forms[form]), data())["y"] for form in ("integer", "folded"))
    assert found.outputs == {"y": pytest.approx(np.linalg.norm(one - two) / np.linalg.norm(two), rel=1e-4)}


def test_other_pairs_are_refused(forms, tmp_path):
    samples = dataset_for(forms["folded"], data())
    with pytest.raises(ModelError, match="one plan"):
        flips(forms["folded"], forms["integer"], samples)
    other = convert(tmp_path / "ann.onnx", data(), time_steps=8).proto
    with pytest.raises(ModelError, match="T = 8"):
        flips(forms["integer"], other, samples)
    with pytest.raises(ModelError, match="--reference") as refused:
        verify(forms["integer"], samples)
    assert "integer form" in str(refused.value)


def test_nodes_that_stay_float_and_encoded_tensors_are_listed(forms):
    assert [(entry.node, entry.op) for entry in floats_of(forms["integer"])] == [("conv3", "Conv")]
    assert encoded_of(forms["integer"]) == ("x",)
    assert floats_of(forms["folded"]) == encoded_of(forms["folded"]) == ()


def test_evaluation_leaves_out_what_it_cannot_count(forms, tmp_path):
    source = load(tmp_path / "ann.onnx")
    found = evaluate(source, forms["integer"], dataset_for(source.proto, data()))
    folded = evaluate(source, forms["folded"], dataset_for(source.proto, data()))
    document = found.to_json()
    assert document["form"] == "integer"
    assert document["firing_rate"] is None
    assert document["synaptic_operations"]["effective_acs"] is None
    assert document["synaptic_operations"]["ann"] == folded.to_json()["synaptic_operations"]["ann"]
    assert document["energy_pj"]["snn"] is None
    assert document["energy_pj"]["ratio"] is None
    assert document["energy"]["ann"]["total_pj"] > 0
    assert document["energy"]["snn"]["total_pj"] is None and document["energy"]["ratio"] is None
    assert document["energy"]["verdict"].startswith("Whether spikes save energy is not known")
    assert [site["error"] for site in document["sites"]] == [None, None]
    assert [site["levels"] for site in document["sites"]] == [17, 17]
    assert any("evaluate the folded form" in note for note in document["notes"])
    assert math.isfinite(found.outputs[0].relative_error)
    json.dumps(document, allow_nan=False)
    assert summary_table(found).row_count > 0
    text = evaluation_report(found).split("<script>")[0]  # without the plotting library
    assert ">nan" not in text


def test_the_command_line(forms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status("convert", "ann.onnx", "i.onnx", "--calibration", "data.npz", "--form", "integer") == 0
    assert "float, not integer" in capsys.readouterr().out
    assert status("verify", "integer.onnx", "--data", "data.npz", "--reference", "folded.onnx") == 0
    assert "of all counts differ" in capsys.readouterr().out.replace("\n", " ")
    assert status("verify", "integer.onnx", "--data", "data.npz") != 0
    assert status("evaluate", "ann.onnx", "integer.onnx", "--data", "data.npz", "--json", "e.json") == 0
    assert status("inline", "integer.onnx", "plain.onnx") == 0
    plain = read(Path("plain.onnx"))
    assert not plain.functions
    one, two = (run(open_session(proto), data())["y"] for proto in (forms["integer"], plain))
    np.testing.assert_array_equal(one, two)
