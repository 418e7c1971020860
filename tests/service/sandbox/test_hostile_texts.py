"""Models with very long or very many texts, and metadata of any content: descriptions and results stay short."""

import json

import numpy as np
import pytest
from onnx import helper, numpy_helper

from service.sandbox.bounds import NAME, RESULT, SUMMARY, TEXT, WHOLE
from service.sandbox.runner import Failed, Succeeded
from tests.service.sandbox.hostile_files import (
    model,
    tiny,
)
from tests.service.sandbox.sandboxed import TINY, Box, convert, describe, refused

LONG = 4 << 20  # characters of a name


def named(name: str) -> bytes:
    """The model tiny() with a node of this name."""
    proto = tiny()
    proto.graph.node[1].name = name
    return proto.SerializeToString()


def test_long_names_are_described_in_short_and_kept_whole(box: Box) -> None:
    outcome = describe(box, named("n" * LONG))
    assert isinstance(outcome, Succeeded), outcome
    assert len(json.dumps(outcome.result)) <= SUMMARY and outcome.result["omitted"]["characters"] >= LONG - NAME
    assert "characters left out" in outcome.result["sites"][0]["name"]
    whole = json.loads((box.folder / "out" / "description.json").read_text())
    assert len(json.dumps(whole)) <= WHOLE and len(whole["sites"][0]["name"]) == 1 << 20
    assert [entry for entry in whole if entry != "omitted"] == [each for each in outcome.result if each != "omitted"]


def test_many_sites_are_described_by_the_first_and_a_count(box: Box) -> None:
    nodes, last = [], "x"
    for number in range(300):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"g{number}"], f"layer {number}"))
        nodes.append(helper.make_node("Relu", [f"g{number}"], [f"r{number}"], f"relu {number}"))
        last = f"r{number}"
    nodes.append(helper.make_node("MatMul", [last, "w"], ["scores"], "last"))
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    outcome = describe(box, model(nodes, [weight], ["N", 4]).SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    found = outcome.result
    assert len(json.dumps(found)) <= SUMMARY and found["spiking_layers"] == 300
    assert len(found["sites"]) + found["omitted"]["sites"] == 300 and len(found["sites"]) > 100
    whole = json.loads((box.folder / "out" / "description.json").read_text())
    assert len(whole["sites"]) == 300 and whole["sites"][: len(found["sites"])] == found["sites"]
    assert "omitted" not in whole


def test_what_should_have_been_converted_comes_first_in_a_description(box: Box) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w"], ["c"], "second"),
        helper.make_node("Unsqueeze", ["c", "axis"], ["d"], "sequence"),
        helper.make_node("RNN", ["d", "u", "u"], ["", "scores"], "recurrent", hidden_size=4),
    ]
    tensors = {"w": np.eye(4, dtype=np.float32), "u": np.eye(4, dtype=np.float32)[None], "axis": np.array([0])}
    proto = model(nodes, [numpy_helper.from_array(value, name) for name, value in tensors.items()], ["N", 4])
    outcome = describe(box, proto.SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    left = [(entry["node"], entry["expected"]) for entry in outcome.result["left"]]
    assert left == [("recurrent", False), ("first", True)]


def test_an_error_is_as_long_as_people_read(box: Box) -> None:
    proto = tiny()
    proto.graph.node[1].name, proto.graph.node[1].op_type = "n" * LONG, "NoSuchOperator"
    outcome = describe(box, proto.SerializeToString())
    assert isinstance(outcome, Failed) and len(outcome.what) <= TEXT and len(outcome.remedy) <= TEXT
    outcome = box.run("convert", {"model": box.put("m.onnx", TINY), "options": {"x" * LONG: 1}})
    assert isinstance(outcome, Failed) and len(outcome.what) <= TEXT


def test_warnings_are_as_few_as_a_result_has_room_for(box: Box) -> None:
    """A conversion of many sites, its warnings and notes included, is a summary; the whole is beside it."""
    proto = tiny()
    proto.graph.node[1].name = "n" * 100_000
    outcome = convert(box, proto.SerializeToString())
    assert isinstance(outcome, Succeeded), outcome
    assert len(json.dumps(outcome.result)) <= RESULT and outcome.result["omitted"]["characters"] > 90_000
    assert len(outcome.result["sites"][0]) <= NAME
    whole = json.loads((box.folder / "out" / "result.json").read_text())
    assert whole["sites"] == ["n" * 100_000] and "omitted" not in whole
    assert all(len(event.get("stage", "")) <= 100 for event in box.events)


SITES = (
    '[{"name": "relu", "kind": "relu", "input": "h", "output": "a", "layers": ["last"], "levels": 5, '
    '"lowest": 0, "highest": 4}]'
)


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("sites", text) for text in ("5", "null", '"x"', "[1]", "[{}]", '{"a": 1}', "[" * 100_000, "", "NaN")),
        ("sites", SITES.replace('"last"', '{"a": 1}')),
        ("sites", SITES.replace('"relu"', '["relu"]', 1)),
        ("sites", SITES.replace(": 4}", ": Infinity}")),
        *(("left", text) for text in ("5", "[1]", '[{"node": 1}]', "[[[]]]")),
        ("left", '[{"node": NaN, "op": {}, "reason": NaN, "expected": "no"}]'),
        *(("time_steps", text) for text in ("0", "-4", "1e3", "9" * 5000, "\u0664", "")),
        ("levels", "-1"),
        ("coding", "phase"),
        ("coding", "\0"),
    ],
)
def test_metadata_of_a_spiking_network_that_is_not_what_graphpass_writes(box: Box, key: str, value: str) -> None:
    """Whether it is JSON or not, the file is described or its fault is named; it is never a fault of the service."""
    proto = tiny()
    written = {"version": "1", "time_steps": "4", "coding": "rate", "levels": "5", "method": "max", "form": "folded"}
    written |= {"model_sha256": "0" * 64, "data_sha256": "", "sites": SITES, "left": "[]"}
    for name, text in {**written, key: value}.items():
        proto.metadata_props.add(key=f"graphpass.{name}", value=text)
    outcome = describe(box, proto.SerializeToString())
    if isinstance(outcome, Failed):
        refused(outcome, "invalid-model", "")
    else:
        assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result
