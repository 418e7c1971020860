"""docs/formats.md against what is written: every key documented, no other, in the tables and in the examples."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphpass import api
from graphpass.conversion import convert, dataset_for
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.graph.model import load
from graphpass.graph.plan import save_plan
from graphpass.report.pages import pictures_of
from graphpass.sweeps import sweep
from tests import models

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
FREE = {"notes"}  # of a plan: an object whose keys are anybody's


def paths(value: Any, prefix: str = "") -> set[str]:
    """Every key as a path: `a`, `a.b`, `a[].b`; lists that are not of objects end a path."""
    found = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found.add(prefix + key)
            if key not in FREE:
                found |= paths(inner, f"{prefix}{key}.")
    elif isinstance(value, list):
        for inner in value:
            found |= paths(inner, f"{prefix[:-1]}[]." if prefix else "[].")
    return found


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return re.split(r"^## ", PAGE, flags=re.MULTILINE)[_titles().index(title) + 1]


def _titles() -> list[str]:
    return re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)


def documented(title: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section(title), flags=re.MULTILINE)


def example(title: str) -> Any:
    (block,) = re.findall(r"```json\n(.*?)```", section(title), flags=re.DOTALL)
    return json.loads(block)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is written for a tiny network, by the title of its section."""
    folder, generator = tmp_path_factory.mktemp("formats"), np.random.default_rng(0)
    nodes = [
        models.node("Conv", "image w1", "c", "conv"), models.node("Relu", "c", "r", "relu"),
        models.node("Flatten", "r", "f", "flatten"), models.node("Gemm", "f w2", "scores", "gemm"),
    ]  # fmt: skip
    weights = {"w1": generator.normal(size=(2, 1, 3, 3)), "w2": generator.normal(size=(8, 10))}
    proto = models.build(
        nodes, {"image": ["N", 1, 4, 4]}, {"scores": ["N", 10]}, {k: np.float32(v) for k, v in weights.items()}
    )
    onnx.save(proto, folder / "tiny.onnx")
    images = generator.normal(size=(32, 1, 4, 4)).astype(np.float32)
    conversion = convert(folder / "tiny.onnx", {"image": images}, time_steps=4)
    sites = [replace(site, beyond=site.quantiser) for site in conversion.plan.sites]  # as identity sites may have
    save_plan(replace(conversion.plan, sites=tuple(sites)), folder / "plan.json")
    source = load(folder / "tiny.onnx")
    np.savez(folder / "test.npz", image=images, labels=models.run(proto, images)[0].argmax(1))

    data = dataset_for(source.proto, folder / "test.npz", None)
    options = EvaluationSettings(rounds=1, threads=1, metrics=metrics_of(["classes", "embedding"]))
    (row,) = sweep(source, data, data, time_steps=[4], codings=["rate"], methods=["optimal"], evaluation=options)
    searched = api.search(source, data, data, max_drop=100, coding="rate", time_steps=2, threads=1)
    ranking = api.inspect(source, data, time_steps=4, threads=1).ranking
    assert ranking is not None
    metadata = {entry.key: entry.value for entry in conversion.proto.metadata_props}
    for key in ("graphpass.sites", "graphpass.left"):
        metadata[key] = json.loads(metadata[key])
    return {
        "Evaluation": row.evaluation.to_json(),
        "Sweep": [{**row.to_json(), "evaluation": None}],
        "Search": {**searched.to_json(), "evaluation": None},
        "Ranking": ranking.to_json(),
        "Pictures": [{**picture.to_json(), "data": [], "layout": None} for picture in pictures_of(row.evaluation)],
        "Plan": json.loads((folder / "plan.json").read_text()),
        "Metadata of a spiking model": metadata,
    }


TITLES = ("Evaluation", "Sweep", "Search", "Ranking", "Pictures", "Plan", "Metadata of a spiking model")


@pytest.mark.parametrize("title", TITLES)
def test_the_keys_documented_are_the_keys_written(title: str, written: dict[str, Any]) -> None:
    table = documented(title)
    assert len(table) == len(set(table))
    assert set(table) == paths(written[title])


@pytest.mark.parametrize("title", TITLES)
def test_the_example_has_the_same_keys(title: str, written: dict[str, Any]) -> None:
    """Its ReLU has no second neurons: null."""
    keys = {key for key in paths(written[title]) if not key.startswith("sites[].beyond.")}
    assert paths(example(title)) == keys


def test_the_numbers_of_the_example_belong_together() -> None:
    found = example("Evaluation")
    operations, energy = found["synaptic_operations"], found["energy_pj"]
    # the example is written with five digits
    for name, counts in (("snn", operations), ("ann", operations["ann"])):
        expected = 4.6 * counts["effective_macs"] + 0.9 * counts["effective_acs"]
        assert energy[name] == pytest.approx(expected, rel=1e-4)
    assert energy["ratio"] == pytest.approx(energy["snn"] / energy["ann"], rel=1e-4)
    modelled = found["energy"]
    for name in ("ann", "quantised", "snn"):
        parts = [value for key, value in modelled[name].items() if key != "total_pj"]
        assert modelled[name]["total_pj"] == pytest.approx(sum(parts), rel=1e-4)
    assert modelled["ratio"] == pytest.approx(modelled["snn"]["total_pj"] / modelled["ann"]["total_pj"], rel=1e-4)
    layers = operations["layers"]
    spikes = sum(layer["effective"] for layer in layers if layer["input"] == "spikes")
    assert operations["effective_acs"] == pytest.approx(spikes, rel=1e-4)
    assert operations["dense"] == sum(layer["dense"] for layer in layers)


def test_every_section_is_checked() -> None:
    assert tuple(_titles()) == (*TITLES, "Model card")  # which is Markdown: tests/report/test_cards.py
