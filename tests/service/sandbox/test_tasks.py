"""Tasks give what the command line gives for the same options, byte for byte, and say what a file holds."""

import asyncio
import io
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpass
from graphpass.cli.app import main
from graphpass.runtime.session import available_providers
from service.sandbox import runner
from service.sandbox.runner import Failed, Succeeded
from tests.service.sandbox.hostile_files import npz
from tests.service.sandbox.sandboxed import LABELLED, Box, outputs


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


CONVERSIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"time_steps": 4, "coding": "phase", "seed": 3}, ["--time-steps", "4", "--coding", "phase", "--seed", "3"]),
    ({"method": "da-qcfs", "form": "unrolled", "limit": 20}, "--method da-qcfs --form unrolled --limit 20".split()),
    ({"form": "integer", "threads": 1}, ["--form", "integer", "--threads", "1"]),
    ({"method": "max", "precision": "float16"}, "--method max --precision float16".split()),
    ({"form": "integer", "target": "tensorrt"}, "--form integer --target tensorrt".split()),
    ({"levels": "auto", "energy": 0.4}, ["--levels", "auto", "--energy", "0.4"]),
    ({"levels": "auto", "mean_levels": 4}, ["--levels", "auto", "--mean-levels", "4"]),
    ({"identity_sites": True, "exclude": ["rel"]}, ["--identity-sites", "--exclude", "rel"]),
    ({"include": ["^relu$"], "allow_partial": True, "limit": None}, ["--include", "^relu$", "--allow-partial"]),
]


@pytest.mark.some(2)
@pytest.mark.parametrize(("options", "arguments"), CONVERSIONS)
def test_convert_gives_the_bytes_of_the_command_line(
    laid: Box, tmp_path: Path, options: dict[str, Any], arguments: list[str]
) -> None:
    result = laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options})
    inputs = laid.folder / "in"
    (there := tmp_path / "cli").mkdir()
    data = ["--calibration", inputs / "data" / "some.npz"]
    command(
        "convert", inputs / "ann" / "net.onnx", there / "snn.onnx", *data, "--plan-out", there / "plan.json", *arguments
    )
    assert outputs(laid) == {path.name: path.read_bytes() for path in there.iterdir()}
    assert result["files"] == {path.name: path.stat().st_size for path in there.iterdir()}
    assert (result["form"], result["method"]) == (options.get("form", "folded"), options.get("method", "optimal"))


def test_convert_with_a_plan(laid: Box) -> None:
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz"})
    made = outputs(laid)
    laid.put("plan/plan.json", made["plan.json"])
    laid.put("plan/plan.npz", made["plan.npz"])
    laid.result("convert", {"model": "ann/net.onnx", "plan": "plan/plan.json"})
    assert outputs(laid)["snn.onnx"] == made["snn.onnx"]
    laid.put("plan/plan.json", b"{}")
    outcome = laid.run("convert", {"model": "ann/net.onnx", "plan": "plan/plan.json"})
    assert isinstance(outcome, Failed) and outcome.type == "plan" and outcome.what == "plan.json: not a graphpass plan"
    both = {"model": "ann/net.onnx", "plan": "plan/plan.json", "calibration": "data/some.npz"}
    assert isinstance(outcome := laid.run("convert", both), Failed) and outcome.type == "invalid-options"


def without_time(document: Any) -> Any:
    """A document without what is measured by the clock."""
    if isinstance(document, dict):
        return {key: without_time(value) for key, value in document.items() if key not in ("latency_ms", "date")}
    return [without_time(each) for each in document] if isinstance(document, list) else document


def test_evaluate_gives_the_figures_of_the_command_line(laid: Box, tmp_path: Path, pair: Mapping[str, str]) -> None:
    found = laid.result("evaluate", {**pair, "options": {"limit": 50}})
    assert set(outputs(laid)) == {"report.json", "report.html", "pictures.json"}
    assert json.loads(outputs(laid)["report.json"]) == found
    pictures = json.loads(outputs(laid)["pictures.json"])
    assert [each["title"] for each in pictures] == ["The spiking network of net.onnx", "Spikes of sample 0"]
    assert all(each["data"] and len(json.dumps(each)) < 100_000 for each in pictures)
    paths = [laid.folder / "in" / pair[role] for role in ("ann", "snn", "dataset")]
    command("evaluate", *paths[:2], "--data", paths[2], "--limit", 50, "--json", tmp_path / "e.json")
    assert without_time(found) == without_time(json.loads((tmp_path / "e.json").read_text()))
    assert {event["stage"] for event in laid.events} >= {"calibrating", "comparing", "counting", "timing"}


def test_what_was_to_run_on_a_gpu_does_not_run_on_the_cpu(laid: Box, pair: Mapping[str, str]) -> None:
    if "CUDAExecutionProvider" in available_providers():
        pytest.skip("this onnxruntime has CUDA")
    outcome = laid.run("evaluate", {**pair, "options": {"provider": "cuda"}})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-options", outcome
    assert "CUDAExecutionProvider is not in this onnxruntime" in outcome.what and "gpu" in outcome.remedy
    outcome = laid.run("evaluate", {**pair, "options": {"provider": "tpu"}})
    assert (
        isinstance(outcome, Failed)
        and outcome.type == "invalid-options"
        and "give cpu, cuda, or cuda with options" in outcome.remedy
    )


def kept_part(laid: Box, number: int) -> str:
    """Keep what a shard made, as an input of the task that puts the parts together."""
    assert set(outputs(laid)) == {"part.json"}
    return laid.put(f"parts/{number}/part.json", outputs(laid)["part.json"])


@pytest.mark.some(1)
@pytest.mark.parametrize("measures", [0, 1])
def test_shards_together_give_the_whole(laid: Box, pair: Mapping[str, str], measures: int) -> None:
    whole = laid.result("evaluate", pair)
    parts = []
    for number, (start, stop) in enumerate(pairwise([0, 30, 70])):
        arguments = {**pair, "start": start, "stop": stop, "measure": number == measures}
        found = laid.result("evaluate_shard", arguments)
        parts.append(kept_part(laid, number))
    assert found["samples"] == 70 - 32
    reduced = laid.result("reduce_shards", {"parts": parts})
    assert without_time(reduced) == without_time(whole)
    assert set(outputs(laid)) == {"report.json", "report.html", "pictures.json"}
    outcome = laid.run("reduce_shards", {"parts": parts[:1]})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data"
    laid.put("parts/damaged.json", b"\xff{")
    outcome = laid.run("reduce_shards", {"parts": ["parts/damaged.json"]})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and "not a part" in outcome.what
    for bad in ({"parts": "x"}, {"parts": [1]}, {"parts": ["../in"]}, {}):
        assert isinstance(outcome := laid.run("reduce_shards", bad), Failed) and outcome.type == "invalid-options"


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "options",
    [{}, {"method": "max", "form": "integer", "limit": 37}, {"levels": "auto", "identity_sites": True}],
    ids=str,
)
def test_a_calibration_in_parts_gives_the_same_bytes(laid: Box, options: dict[str, Any]) -> None:
    arguments = {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options}
    result = laid.result("convert", arguments)
    whole, names, samples = outputs(laid), [], []
    for number, (start, stop) in enumerate(pairwise([0, 20, 33, 40])):
        samples.append(laid.result("observe", {**arguments, "start": start, "stop": stop})["samples"])
        assert set(outputs(laid)) == {"part.npz"}
        names.append(laid.put(f"observed/{number}/part.npz", outputs(laid)["part.npz"]))
    assert samples == [32, options.get("limit", 40) - 32, 0]
    laid.events.clear()
    assert laid.result("convert", {**arguments, "observed": names}) == result
    assert outputs(laid) == whole
    assert "running the network" not in {event["stage"] for event in laid.events}
    outcome = laid.run("convert", {**arguments, "observed": names[:1]})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and "missing" in outcome.what


def test_what_convert_would_refuse_is_refused_before_the_network_runs(laid: Box) -> None:
    arguments = {"model": "ann/net.onnx", "calibration": "data/some.npz", "start": 0, "stop": 32}
    for more, kind, words in (
        ({"options": {"method": "none"}}, "invalid-options", "none"),
        ({"options": {"time_steps": 4000, "coding": "phase"}}, "invalid-options", "4000"),
        ({"options": {"levels": "all"}}, "invalid-options", "all"),
        ({"options": {"exclude": ["relu"]}}, "unsupported-model", "nothing to convert"),
        ({"start": 8, "stop": 8}, "invalid-options", "samples 8 to 8"),
        ({"start": "0"}, "invalid-options", "samples '0' to 32"),
    ):
        outcome = laid.run("observe", {**arguments, **more})
        assert isinstance(outcome, Failed) and outcome.type == kind and words in outcome.what, outcome
        assert not outputs(laid) if (laid.folder / "out").exists() else True


@pytest.mark.slow
def test_files_that_are_no_parts(laid: Box) -> None:
    arguments = {"model": "ann/net.onnx", "calibration": "data/some.npz"}
    np.savez_compressed(bomb := io.BytesIO(), key=np.zeros(1 << 26, np.uint8))
    contents = (b"", b"PK\x05\x06" + bytes(18), npz(key=np.ones(3)), npz(key=np.array([{}])), LABELLED, bomb.getvalue())
    for content in contents:
        given = laid.put("observed/0/part.npz", content)
        outcome = laid.run("convert", {**arguments, "observed": [given]})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-data", outcome
        assert outcome.what.startswith("observed/0/part.npz: ")
    for observed in ("part.npz", [3], ["../data/some.npz"], ["observed/1/part.npz"]):
        outcome = laid.run("convert", {**arguments, "observed": observed})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-options" and "observed" in outcome.what


@pytest.mark.slow
def test_metrics_by_name_in_shards_and_no_code(laid: Box, pair: Mapping[str, str]) -> None:
    options = {"metric": ["classes", "embedding:output=scores"]}
    whole = laid.result("evaluate", {**pair, "options": options})
    assert [each["name"] for each in whole["metrics"]] == ["probe_accuracy", "cosine"]
    parts = []
    for number, (start, stop) in enumerate(pairwise([0, 30, 70])):
        asked = {**pair, "start": start, "stop": stop, "measure": not start, "options": options}
        laid.result("evaluate_shard", asked)
        parts.append(kept_part(laid, number))
    reduced = laid.result("reduce_shards", {"parts": parts})
    assert without_time(reduced) == without_time(whole)
    laid.put("data/mine.py", b"raise SystemExit")
    path = str(laid.folder / "in" / "data" / "mine.py")
    refused = laid.run("evaluate", {**pair, "options": {"metric": [f"{path}:f"]}})
    assert isinstance(refused, Failed) and refused.type == "invalid-options"
    assert "code is not run here" in refused.what
    for bad in ("ctc", [3], [], ["bleu"]):
        outcome = laid.run("evaluate", {**pair, "options": {"metric": bad}})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-options"
    for task in ("sweep_settings", "convert"):
        early = laid.run(task, {"model": pair["ann"], "options": {"metric": ["ctc:colour=1"]}})
        assert isinstance(early, Failed) and early.type == "invalid-options" and "colour" in early.what


@pytest.mark.slow
def test_sweep_gives_the_figures_of_the_command_line(laid: Box, tmp_path: Path) -> None:
    arguments = {"model": "ann/net.onnx", "calibration": "data/some.npz", "dataset": "data/test.npz"}
    options = {"time_steps": [1, 2], "coding": ["rate", "phase"], "metric": ["embedding"], "calibration_limit": 20}
    planned = laid.result("sweep_settings", {"model": arguments["model"], "options": options})
    shards = [{**arguments, "options": {**options, **settings}} for settings in planned["settings"]]
    parts = []
    for number, shard in enumerate(shards):
        laid.result("sweep_shard", shard)
        parts.append(kept_part(laid, number))
    found = laid.result("reduce_sweep", {"parts": parts})
    inputs = laid.folder / "in"
    data = ["--calibration", inputs / "data/some.npz", "--data", inputs / "data/test.npz", "--calibration-limit", 20]
    steps = ["--time-steps", "1,2", "--coding", "rate,phase", "--metric", "embedding"]
    command("sweep", inputs / "ann/net.onnx", *data, *steps, "--json", tmp_path / "s.json")
    assert without_time(found["rows"]) == without_time(json.loads((tmp_path / "s.json").read_text()))
    assert set(outputs(laid)) == {"report.json", "report.html", "pictures.json"}


@pytest.mark.slow
def test_a_search_makes_the_bytes_and_figures_of_the_command_line(laid: Box, tmp_path: Path) -> None:
    """Trial by trial, each in a process of its own, with the facts that the first one measured."""
    options = {"max_drop": 20.0, "method": "percentile", "time_steps": 4, "limit": 20, "seed": 3}
    arguments: dict = {
        "model": "ann/net.onnx", "calibration": "data/some.npz", "dataset": "data/test.npz", "options": options,
        "trials": [],
    }  # fmt: skip
    while "ended" not in (step := laid.result("search_next", arguments)):
        laid.put("facts/facts.json", (laid.folder / "out" / "facts.json").read_bytes())
        arguments["facts"] = ["facts/facts.json"]
        arguments["trials"] = [*arguments["trials"], laid.result("search_trial", {**arguments, **step})]
    found = laid.result("search_finish", arguments)
    assert set(outputs(laid)) == {"snn.onnx", "plan.json", "report.json", "report.html", "pictures.json"}
    inputs = laid.folder / "in"
    data = ["--calibration", inputs / "data/some.npz", "--evaluation", inputs / "data/test.npz", "--limit", 20]
    words = ["--max-drop", 20, "--method", "percentile", "--time-steps", 4, "--seed", 3]
    command("convert", inputs / "ann/net.onnx", tmp_path / "s.onnx", *data, *words, "--json", tmp_path / "s.json")
    assert (tmp_path / "s.onnx").read_bytes() == (laid.folder / "out" / "snn.onnx").read_bytes()
    told = json.loads((tmp_path / "s.json").read_text())
    for trial in (*told["trials"], *found["trials"]):
        trial.pop("seconds")
    assert found["trials"] == told["trials"] and found["chosen"] == told["chosen"] and found["drop"] == told["drop"]
    assert without_time(found["evaluation"]) == without_time(told["evaluation"])


def test_a_search_ends_alike_in_a_child_that_made_its_trials_and_in_a_new_one(laid: Box) -> None:
    options = {"max_drop": 99.0, "method": "optimal", "time_steps": 1, "memory_budget": "1MiB", "threads": 1}
    arguments: dict = {
        "model": "ann/net.onnx", "calibration": "data/some.npz", "dataset": "data/test.npz", "options": options,
        "trials": [],
    }  # fmt: skip

    async def told() -> dict:
        child = await runner.start(laid.folder, laid.limits)
        assert not isinstance(child, Failed)

        async def result(task: str, **more: object) -> dict:
            outcome = await child.run(task, {**arguments, **more})
            assert isinstance(outcome, Succeeded), outcome
            return outcome.result

        try:
            while "ended" not in (step := await result("search_next")):
                arguments["trials"] = [*arguments["trials"], await result("search_trial", **step)]
            return await result("search_finish")
        finally:
            await child.end()

    after, fresh = asyncio.run(told()), laid.result("search_finish", arguments)
    assert after["warnings"] == fresh["warnings"] and "memory budget" in after["warnings"][0]
    assert without_time(after["evaluation"]) == without_time(fresh["evaluation"])


@pytest.mark.parametrize("evaluation", [{}, {"evaluation": "data/test.npz"}])
def test_a_ranking_is_that_of_the_command_line(laid: Box, evaluation: dict[str, str]) -> None:
    options = {"time_steps": 2, "method": "percentile", "limit": 20}
    inputs = {"model": "ann/net.onnx", "calibration": "data/some.npz", **evaluation}
    found = laid.result("rank", {**inputs, "options": options})
    assert set(outputs(laid)) == {"report.json", "report.html"}
    assert json.loads(outputs(laid)["report.json"]) == found
    paths = {role: laid.folder / "in" / name for role, name in inputs.items()}
    here = graphpass.inspect(*paths.values(), **options).ranking
    assert here and found == {**here.to_json(), "data": [*inputs.values()][-1].rpartition("/")[2]}
    page = outputs(laid)["report.html"].decode()
    assert all(site["name"] in page for site in found["sites"]) and "--exclude" in page


def test_a_search_that_makes_no_sense_is_refused(laid: Box) -> None:
    given = {"model": "ann/net.onnx", "calibration": "data/some.npz", "dataset": "data/test.npz"}
    for more, words in (
        ({"options": {}}, "max_drop"), ({"options": {"max_drop": -1}}, "max_drop"),
        ({"options": {"max_drop": 1, "minimise": "x"}}, "minimise"),
        ({"options": {"max_drop": 1}, "trials": 3}, "trials"),
        ({"options": {"max_drop": 1}, "trials": [{"stage": "levels"}]}, "trials[0]"),
    ):  # fmt: skip
        outcome = laid.run("search_next", {**given, **more})
        assert isinstance(outcome, Failed) and outcome.type == "invalid-options" and words in outcome.what, outcome


def test_a_sweep_is_refused_before_its_first_conversion(laid: Box) -> None:
    for options, kind, words in (
        ({"coding": ["rate", "phase"], "time_steps": [2, 4000]}, "invalid-options", "4000"),
        ({"method": ["none"]}, "invalid-options", "none"),
        ({"exclude": ["relu"]}, "unsupported-model", "nothing to convert"),
    ):
        outcome = laid.run("sweep_settings", {"model": "ann/net.onnx", "options": options})
        assert isinstance(outcome, Failed) and outcome.type == kind and words in outcome.what, outcome
