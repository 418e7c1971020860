"""Tasks give what the command line gives for the same options, byte for byte, and say what a file holds."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from graphpass.cli.app import main
from graphpass.runtime.session import available_providers
from service.sandbox.runner import Failed
from tests.service.sandbox.hostile_files import external, model, npz, tiny, zipped
from tests.service.sandbox.sandboxed import SMALL, Box

GENERATOR = np.random.default_rng(7)
CALIBRATION = npz(x=GENERATOR.normal(size=(40, 4)).astype(np.float32))
LABELLED = npz(x=GENERATOR.normal(size=(70, 4)).astype(np.float32), labels=GENERATOR.integers(0, 3, 70))
TINY = tiny().SerializeToString()


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def files(box: Box) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (box.folder / "out").iterdir()}


@pytest.fixture
def laid(box: Box) -> Box:
    """A box with a network and data of both kinds, each in a folder of its role, as the service lays them out."""
    for name, content in (("ann/net.onnx", TINY), ("data/some.npz", CALIBRATION), ("data/test.npz", LABELLED)):
        box.put(name, content)
    return box


CONVERSIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"time_steps": 4, "coding": "phase", "seed": 3}, ["--time-steps", "4", "--coding", "phase", "--seed", "3"]),
    ({"method": "da-qcfs", "form": "unrolled", "limit": 20}, "--method da-qcfs --form unrolled --limit 20".split()),
    ({"form": "integer", "threads": 1}, ["--form", "integer", "--threads", "1"]),
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
    told = laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options})
    inputs = laid.folder / "in"
    (there := tmp_path / "cli").mkdir()
    data = ["--calibration", inputs / "data" / "some.npz"]
    command(
        "convert", inputs / "ann" / "net.onnx", there / "snn.onnx", *data, "--plan-out", there / "plan.json", *arguments
    )
    assert files(laid) == {path.name: path.read_bytes() for path in there.iterdir()}
    assert told["files"] == {path.name: path.stat().st_size for path in there.iterdir()}
    assert (told["form"], told["method"]) == (options.get("form", "folded"), options.get("method", "optimal"))


def test_convert_with_a_plan(laid: Box) -> None:
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz"})
    made = files(laid)
    laid.put("plan/plan.json", made["plan.json"])
    laid.put("plan/plan.npz", made["plan.npz"])
    laid.result("convert", {"model": "ann/net.onnx", "plan": "plan/plan.json"})
    assert files(laid)["snn.onnx"] == made["snn.onnx"]
    laid.put("plan/plan.json", b"{}")
    outcome = laid.run("convert", {"model": "ann/net.onnx", "plan": "plan/plan.json"})
    assert isinstance(outcome, Failed) and outcome.type == "plan" and outcome.what == "plan.json: not a graphpass plan"
    both = {"model": "ann/net.onnx", "plan": "plan/plan.json", "calibration": "data/some.npz"}
    assert isinstance(outcome := laid.run("convert", both), Failed) and outcome.type == "invalid-options"


def without_time(document: Any) -> Any:
    """The document without what is measured by the clock."""
    if isinstance(document, dict):
        return {key: without_time(value) for key, value in document.items() if key not in ("latency_ms", "date")}
    return [without_time(each) for each in document] if isinstance(document, list) else document


@pytest.fixture
def pair(laid: Box) -> dict[str, str]:
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": {"time_steps": 4}})
    laid.put("snn/snn.onnx", files(laid)["snn.onnx"])
    return {"ann": "ann/net.onnx", "snn": "snn/snn.onnx", "dataset": "data/test.npz"}


def test_evaluate_gives_the_figures_of_the_command_line(laid: Box, tmp_path: Path, pair: Mapping[str, str]) -> None:
    found = laid.result("evaluate", {**pair, "options": {"limit": 50}})
    assert set(files(laid)) == {"report.json", "report.html"}
    assert json.loads(files(laid)["report.json"]) == found
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
    assert isinstance(outcome, Failed) and outcome.type == "invalid-options" and "give cpu or cuda" in outcome.remedy


def kept_part(laid: Box, number: int) -> str:
    """What a shard made, as an input of the task that puts all together."""
    assert set(files(laid)) == {"part.json"}
    return laid.put(f"parts/{number}/part.json", files(laid)["part.json"])


@pytest.mark.some(1)
@pytest.mark.parametrize("measures", [0, 1])
def test_shards_come_to_the_whole(laid: Box, pair: Mapping[str, str], measures: int) -> None:
    whole = laid.result("evaluate", pair)
    parts = []
    for number, (start, stop) in enumerate(pairwise([0, 30, 70])):
        arguments = {**pair, "start": start, "stop": stop, "measure": number == measures}
        found = laid.result("evaluate_shard", arguments)
        parts.append(kept_part(laid, number))
    assert found["samples"] == 70 - 32
    reduced = laid.result("reduce_shards", {"parts": parts})
    assert without_time(reduced) == without_time(whole)
    assert set(files(laid)) == {"report.json", "report.html"}
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
    told = laid.result("convert", arguments)
    whole, names, samples = files(laid), [], []
    for number, (start, stop) in enumerate(pairwise([0, 20, 33, 40])):
        samples.append(laid.result("observe", {**arguments, "start": start, "stop": stop})["samples"])
        assert set(files(laid)) == {"part.npz"}
        names.append(laid.put(f"observed/{number}/part.npz", files(laid)["part.npz"]))
    assert samples == [32, options.get("limit", 40) - 32, 0]
    laid.events.clear()
    assert laid.result("convert", {**arguments, "observed": names}) == told
    assert files(laid) == whole
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
        assert not files(laid) if (laid.folder / "out").exists() else True


@pytest.mark.slow
def test_parts_that_are_none(laid: Box) -> None:
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
    assert set(files(laid)) == {"report.json", "report.html"}


def test_a_sweep_is_refused_before_its_first_conversion(laid: Box) -> None:
    for options, kind, words in (
        ({"coding": ["rate", "phase"], "time_steps": [2, 4000]}, "invalid-options", "4000"),
        ({"method": ["none"]}, "invalid-options", "none"),
        ({"exclude": ["relu"]}, "unsupported-model", "nothing to convert"),
    ):
        outcome = laid.run("sweep_settings", {"model": "ann/net.onnx", "options": options})
        assert isinstance(outcome, Failed) and outcome.type == kind and words in outcome.what, outcome


def test_describe_a_model(laid: Box) -> None:
    found = laid.result("describe_model", {"file": "ann/net.onnx"})
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4]}]
    assert (found["outputs"], found["opset"], found["nodes"], found["parameters"]) == (["scores"], 17, 3, 42)
    assert found["sites"] == [{"name": "relu", "kind": "relu", "axis": -1, "layers": ["last"]}]
    assert (found["spiking_layers"], found["weight_layers"], found["spiking"]) == (1, 2, None)
    assert found["left"][0]["node"] == "first" and found["left"][0]["expected"]


@pytest.mark.some(1)
@pytest.mark.parametrize("form", ["folded", "unrolled", "integer"])
def test_describe_a_converted_model(laid: Box, form: str) -> None:
    options = {"form": form, "time_steps": 4}
    laid.result("convert", {"model": "ann/net.onnx", "calibration": "data/some.npz", "options": options})
    laid.put("snn.onnx", files(laid)["snn.onnx"])
    found = laid.result("describe_model", {"file": "snn.onnx"})
    origin = laid.result("describe_model", {"file": "ann/net.onnx"})["digest"]
    known = {"time_steps": 4, "coding": "rate", "levels": 5, "method": "optimal", "form": form}
    assert found["spiking"] == {**known, "model_sha256": origin}
    assert [site["name"] for site in found["sites"]] == ["relu"]
    outcome = laid.run("convert", {"model": "snn.onnx", "calibration": "data/some.npz"})
    assert isinstance(outcome, Failed) and outcome.where == "model"


def test_a_model_with_external_data(box: Box) -> None:
    """In an archive with a folder at its top; it converts to what the same model in one file converts to."""
    weights = onnx.numpy_helper.to_array(tiny().graph.initializer[0]).tobytes()
    proto = tiny(u=external("weights/u.bin", offset="4", length="96"))
    packed = {"net/net.onnx": proto.SerializeToString(), "net/weights/u.bin": b"1234" + weights}
    box.put("net.zip", zipped({**packed, "__MACOSX/net/._net.onnx": b"", "net/.DS_Store": b""}))
    box.put("net.onnx", TINY)
    box.put("data.npz", CALIBRATION)
    plans = []
    for name in ("net.zip", "net.onnx"):
        box.result("convert", {"model": name, "calibration": "data.npz"})
        plans.append(json.loads(files(box)["plan.json"]))
    assert plans[0]["sites"] == plans[1]["sites"] and plans[0]["model_sha256"] != plans[1]["model_sha256"]


def image(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), (value, 0, 255 - value)).save(buffer, kind)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


SHARDS = {
    "b.npz": npz(x=np.ones((3, 4), np.float32), labels=np.arange(3)),
    "a.npz": npz(x=np.zeros((2, 4), np.float32), labels=np.arange(2)),
}
IMAGES = {"cat/1.png": image(1), "cat/2.jpg": image(9, "JPEG"), "dog/1.png": image(200), "dog/.hidden": b""}
X = {"dtype": "float32", "shape": [5, 4]}


@pytest.mark.some(3)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npz(x=np.ones((5, 4), np.float32)), {"kind": "npz", "samples": 5, "labels": False, "arrays": {"x": X}}),
        (npy(np.ones((5, 4), np.float32)), {"kind": "npy", "samples": 5, "labels": False, "arrays": {"array": X}}),
        (
            zipped(SHARDS),
            {
                "kind": "shards",
                "samples": 5,
                "labels": True,
                "arrays": {"x": X, "labels": {"dtype": "int64", "shape": [5]}},
            },
        ),
        (zipped({f"data/{name}": content for name, content in SHARDS.items()}), {"kind": "shards", "samples": 5}),
        (
            zipped(IMAGES),
            {"kind": "images", "samples": 3, "labels": True, "arrays": {}, "classes": ["cat", "dog"]},
        ),
        (zipped({f"all/of/it/{name}": content for name, content in IMAGES.items()}), {"samples": 3, "labels": True}),
        (zipped({"cat/1.png": image(1)}), {"samples": 1, "classes": ["cat"]}),
        (zipped({"1.png": image(1), "2.png": image(2)}), {"samples": 2, "labels": False, "classes": []}),
    ],
    ids=["npz", "npy", "shards", "shards in a folder", "images", "images in folders", "one class", "no classes"],
)
def test_describe_data(box: Box, content: bytes, expected: dict[str, Any]) -> None:
    """What it is, is seen from the bytes: the name says nothing."""
    found = box.result("describe_dataset", {"file": box.put("data", content)})
    assert {key: found[key] for key in expected} == expected


def test_describe_data_for_a_model(box: Box) -> None:
    box.put("net.onnx", TINY)
    found = box.result("describe_dataset", {"file": box.put("x.npy", npy(np.ones((5, 4)))), "model": "net.onnx"})
    assert found == {"kind": "npy", "samples": 5, "labels": False, "arrays": {"x": X}}
    pool = onnx.helper.make_node("GlobalAveragePool", ["x"], ["scores"], "pool")
    box.put("pool.onnx", model([pool], x=["N", 3, "H", "W"]).SerializeToString())
    arguments = {"file": box.put("photos.zip", zipped(IMAGES)), "model": "pool.onnx", "options": {"image_size": 6}}
    found = box.result("describe_dataset", arguments)
    assert found["arrays"] == {"x": {"dtype": "float32", "shape": [3, 3, 6, 6]}} and found["labels"]
    outcome = box.run("describe_dataset", {"file": "photos.zip", "model": "net.onnx"})
    assert isinstance(outcome, Failed) and outcome.what.startswith("photos.zip: images need a model")


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (zipped({**SHARDS, "c.npz": npz(y=np.ones((3, 4)))}), "arrays of other names, shapes or types than in"),
        (zipped({**SHARDS, "readme.txt": b""}), "readme.txt: not an .npz shard"),
        (zipped({**IMAGES, "cat/notes.txt": b""}), "notes.txt: not an image"),
        (npz(x=np.ones((3, 4)), labels=np.arange(2)), "arrays of 2, 3 samples"),
        (npz(x=np.ones((0, 4))), "no samples"),
        (npz(x=np.float32(1)), "no axis of samples"),
        (npz(), "neither .npz shards nor images"),
        (zipped({"a.npz": b"PK\x03\x04"}), "a.npz: cannot be read as .npz"),
        (zipped({"notes.txt": b""}), "neither .npz shards nor images"),
    ],
)
def test_data_that_does_not_fit(box: Box, content: bytes, rule: str) -> None:
    outcome = box.run("describe_dataset", {"file": box.put("data.zip", content)})
    assert isinstance(outcome, Failed) and outcome.type == "invalid-data" and rule in outcome.what, outcome


def test_arrays_may_have_any_name(box: Box) -> None:
    """Inputs of networks do; members of an .npz are not unpacked."""
    content = npz(**{"/model/x:0": np.ones((2, 4)), "../y": np.ones((2, 3))})
    found = box.result("describe_dataset", {"file": box.put("data.npz", content)})
    assert set(found["arrays"]) == {"/model/x:0", "../y"}


def test_calibration_may_spill(box: Box) -> None:
    """Beyond its memory budget it writes to its own scratch folder."""
    box.put("net.onnx", TINY)
    data = npz(x=GENERATOR.normal(size=(60_000, 4)).astype(np.float32))
    arguments = {"model": "net.onnx", "calibration": box.put("data.npz", data)}
    assert box.result("convert", {**arguments, "options": {"memory_budget": 1 << 20}})["samples"] == 60_000


def test_images_and_shards_calibrate(box: Box) -> None:
    box.put("net.onnx", TINY)
    found = box.result("convert", {"model": "net.onnx", "calibration": box.put("shards.zip", zipped(SHARDS))})
    assert found["samples"] == 5
    nodes = [onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool")]
    nodes.append(onnx.helper.make_node("Flatten", ["p"], ["f"], "flatten"))
    network = tiny()
    network.graph.node[0].input[0] = "f"
    network.graph.initializer[0].dims[:] = [3, 8]
    network.graph.initializer[1].dims[:] = [8, 2]
    for tensor, size in zip(network.graph.initializer, (24, 16), strict=True):
        tensor.raw_data = np.linspace(-1, 1, size, dtype=np.float32).tobytes()
    proto = model([*nodes, *network.graph.node], [*network.graph.initializer], ["N", 3, 8, 8])
    box.put("images.onnx", proto.SerializeToString())
    arguments = {"model": "images.onnx", "calibration": box.put("photos.zip", zipped(IMAGES))}
    assert box.result("convert", {**arguments, "options": {"mean": [0.5, 0.4, 0.3], "std": 0.2}})["samples"] == 3


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
