"""Tasks that cannot succeed: each error has its type, and says what to do."""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from service.sandbox.runner import Failed
from tests.service.sandbox.hostile_files import model, npz, tiny
from tests.service.sandbox.sandboxed import SMALL, Box


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"time_steps": 0}, "time_steps is 0; give a whole number of 1 or more"),
        ({"time_steps": True}, "time_steps is True"),
        ({"time_steps": "4"}, "time_steps is '4'"),
        ({"coding": "morse"}, "morse"),
        ({"method": "best"}, "unknown method 'best'"),
        ({"form": "round"}, "unknown form 'round'"),
        ({"levels": "few"}, "levels is 'few'; give auto"),
        ({"energy": 0.5}, "energy needs options: levels"),
        ({"levels": "auto", "energy": "half"}, "energy is 'half'; give a number"),
        ({"seed": -1}, "seed is -1"),
        ({"memory_budget": 10}, "a memory budget of 10 bytes"),
        ({"include": 5}, "include is 5; give a regular expression, or several"),
        ({"include": ["no such site"]}, "matches no site"),
        ({"include": ["("]}, "("),
        ({"exclude": ["(" * 500 + ")" * 500]}, "is not a regular expression (nested too deeply)"),
        ({"mean": [0.1, "x"]}, "mean is"),
        ({"colour": 1}, "'colour' is unknown here; choose from"),
        ([1], "options: not an object"),
    ],
)
def test_options_that_make_no_sense(laid: Box, options: Any, rule: str) -> None:
    arguments = {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options}
    outcome = laid.run("convert", arguments)
    assert isinstance(outcome, Failed) and outcome.type == "invalid-options", outcome
    assert rule in f"{outcome.what}; {outcome.remedy}"


def test_errors_of_every_kind_have_their_type(laid: Box, pair: Mapping[str, str]) -> None:
    other = tiny(u=onnx.numpy_helper.from_array(np.ones((4, 6), np.float32), "u"))
    laid.put("other.onnx", other.SerializeToString())
    laid.put("nan.npz", npz(x=np.full((4, 4), np.nan, np.float32)))
    gate = onnx.helper.make_node("Identity", ["x"], ["scores"], "id")
    laid.put("nothing.onnx", model([gate]).SerializeToString())
    expected = {
        ("convert", "model", "nothing.onnx"): ("unsupported-model", "nothing to convert"),
        ("convert", "calibration", "nan.npz"): ("invalid-data", "nan.npz: 'x' holds NaN or inf"),
        ("evaluate", "ann", "other.onnx"): ("invalid-model", "was not converted from other.onnx"),
        ("evaluate", "snn", "ann/net.onnx"): ("invalid-model", "graphpass.version: is missing"),
    }
    for (task, role, file), (kind, text) in expected.items():
        start = pair if task == "evaluate" else {"model": "ann/net.onnx", "calibration": "data/some.npz"}
        outcome = laid.run(task, {**start, role: file})
        assert isinstance(outcome, Failed) and outcome.type == kind and text in outcome.what, outcome
    outcome = laid.run("convert", {"model": "ann/net.onnx"})
    assert (
        isinstance(outcome, Failed) and outcome.type == "invalid-options" and "needs calibration data" in outcome.what
    )


def test_made_up_data_excludes_data_and_plan(laid: Box) -> None:
    given = {"model": "ann/net.onnx", "options": {"synthetic": True}}
    for other in ({"calibration": "data/some.npz"}, {"plan": "p.json"}):
        outcome = laid.run("convert", {**given, **other})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-options", outcome
        assert outcome.what.startswith(f"options: {'plan' if 'plan' in other else 'synthetic'} and options: ")
        assert "exclude each other" in outcome.what


def test_what_it_warns_of_is_a_line_of_the_log(laid: Box) -> None:
    proto = tiny()
    proto.opset_import[0].version = 11
    laid.put("old.onnx", proto.SerializeToString())
    laid.result("convert", {"model": "old.onnx", "calibration": "data/some.npz"})
    logs = [event["log"] for event in laid.events if "log" in event]
    assert any(text.startswith("warning: old.onnx: opset 11") for text in logs), logs


def test_a_large_model_over_the_limit_of_a_file(laid: Box) -> None:
    laid.limits = replace(SMALL, file_bytes=1 << 20)
    large = onnx.numpy_helper.from_array(np.zeros((4, 1 << 18), np.float32), "large")
    extra = onnx.helper.make_node("MatMul", ["x", "large"], ["unused"], "more")
    network = tiny()
    total = onnx.helper.make_node("ReduceMean", ["unused"], ["mean"], "mean", axes=[1], keepdims=1)
    added = onnx.helper.make_node("Add", ["plain", "mean"], ["scores"], "add")
    network.graph.node[2].output[0] = "plain"
    proto = model([*network.graph.node, extra, total, added], [*network.graph.initializer, large])
    laid.put("large.onnx", proto.SerializeToString())
    outcome = laid.run("convert", {"model": "large.onnx", "calibration": "data/some.npz"})
    assert isinstance(outcome, Failed) and outcome.type == "output-limit", outcome
    assert zipfile.is_zipfile(laid.folder / "in" / "data" / "some.npz")  # what it read is as it was
