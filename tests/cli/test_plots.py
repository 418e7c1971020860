"""`graphpass plot` as a user types it, and the same from Python."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphpass
from graphpass.errors import DataError, ModelError, OptionError
from tests.cli.test_cli import status
from tests.report.test_report import HOSTILE, ParsedPage
from tests.test_conversion import data, network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, its conversions with T = 2 and T = 3, data, the evaluation of the first, and a sweep."""
    folder = tmp_path_factory.mktemp("plots")
    onnx.save(network(), folder / "ann.onnx")
    np.savez(folder / "data.npz", **data(12))
    for steps in (2, 3):
        graphpass.convert(
            folder / "ann.onnx", folder / "data.npz", folder / f"snn{steps}.onnx", time_steps=steps, threads=1
        )
    found = graphpass.evaluate(folder / "ann.onnx", folder / "snn2.onnx", folder / "data.npz", threads=1)
    graphpass.save_json(found, folder / "e.json")
    rows = graphpass.sweep(
        folder / "ann.onnx", folder / "data.npz", folder / "data.npz", time_steps=[1, 2], method="max", threads=1
    )
    graphpass.save_json(rows, folder / "sweep.json")
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def drawn(path: str) -> dict:
    (figure,) = ParsedPage(Path(path).read_text("utf-8")).figures
    return figure


def test_every_kind_as_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("plot", "raster", "snn3.onnx", "--data", "data.npz", "--sample", "2", "--neurons", "4") == 0
    spikes = drawn("raster.html")["data"][0]
    assert spikes["x"] == [1, 2, 3] and len(spikes["z"][0]) == 3
    assert status("plot", "thresholds", "snn3.onnx", "--data", "data.npz", "--limit", "5", "-o", "t.html") == 0
    assert "5 samples" in ParsedPage(Path("t.html").read_text("utf-8")).text
    assert status("plot", "pareto", "sweep.json", "e.json", "-o", "p.json") == 0
    assert "3 conversions" in json.loads(Path("p.json").read_text("utf-8"))["note"]
    assert status("plot", "graph", "snn2.onnx", "e.json", "--node-data", "nd.json") == 0
    assert len(drawn("graph.html")["data"]) > 4
    said = capsys.readouterr().out
    for name in ("raster.html", "t.html", "p.json", "graph.html", "nd.error.json", "nd.firing_rate.json"):
        assert name in said and Path(name).is_file()
    sites = {site["name"]: site["error"] for site in json.loads(Path("e.json").read_text("utf-8"))["sites"]}
    ((graph, found),) = json.loads(Path("nd.error.json").read_text("utf-8")).items()
    assert graph == onnx.load("snn2.onnx").graph.name
    assert {name.removesuffix("/neuron"): each["value"] for name, each in found["results"].items()} == sites


def test_the_first_channel_may_be_asked_for(folder: Path) -> None:
    """0 is a number as any other, and not an option that was left out."""
    pages = {}
    for channel in ("0", "1", ""):
        asked = ["--channel", channel] if channel else []
        assert status("plot", "thresholds", "snn2.onnx", "--data", "data.npz", "-o", "t.html", *asked) == 0
        pages[channel] = json.dumps(drawn("t.html"))
    assert len(set(pages.values())) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("raster ann.onnx --data data.npz", "ann.onnx: not a converted network"),
        ("raster snn2.onnx --data data.npz --sample 12", "there is no sample 12; count from 0"),
        ("raster snn2.onnx --data data.npz --neurons 0", "--neurons"),
        ("raster snn2.onnx --data data.npz --mean 0.5", "--mean has no effect"),
        ("raster snn2.onnx --data data.npz -o snn2.onnx", "not a kind of picture"),
        ("raster snn2.onnx --data data.npz -o nowhere/r.html", "no such folder"),
        ("thresholds snn2.onnx --data data.npz --site nowhere", "no site 'nowhere'; choose one of '"),
        ("thresholds snn2.onnx --data data.npz --channel 99", "has no channel 99"),
        ("pareto data.npz", "data.npz: cannot be read"),
        ("pareto missing.json", "missing.json: cannot be read"),
        ("pareto sweep.json -o sweep.json", "would be written over sweep.json, which is read"),
        ("graph ann.onnx", "not a converted network"),
        ("graph snn2.onnx sweep.json", "sweep.json: not one evaluation"),
        ("graph snn3.onnx e.json", "e.json: this evaluation belongs to another network"),
        (
            "graph snn2.onnx e.json --node-data n.json -o n.error.json",
            "n.error.json: would be written over n.error.json",
        ),
        ("graph snn2.onnx e.json --node-data no/n.json", "no: no such folder"),
        ("graph snn2.onnx --node-data nd.json", "--node-data needs an evaluation"),
    ],
)
def test_errors_name_what_is_wrong_and_the_remedy(
    arguments: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("plot", *arguments.split()) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("graphpass: error:") == 1


def test_from_python_without_files(folder: Path) -> None:
    arrays = dict(np.load("data.npz"))
    inputs = {name: values for name, values in arrays.items() if name != "labels"}
    done = graphpass.convert("ann.onnx", inputs, time_steps=2, threads=1)
    found = graphpass.evaluate("ann.onnx", done, arrays, threads=1)
    for picture in (
        graphpass.plot_raster(done, inputs, sample=1, threads=1),
        graphpass.plot_thresholds(done, inputs, site=done.plan.sites[0].name, channel=0, threads=1),
        graphpass.plot_pareto(found),
        graphpass.plot_pareto([found, found]),
        graphpass.plot_graph(done, found),
        graphpass.plot_graph(done),
    ):
        assert isinstance(picture, graphpass.Picture) and picture.data and picture.note
    other = replace(found, sites=(replace(found.sites[0], name="elsewhere"),))
    with pytest.raises(DataError, match="another network"):
        graphpass.plot_graph(done, other)
    with pytest.raises(OptionError, match="cannot be of type int"):
        graphpass.plot_pareto([3])  # type: ignore[list-item]
    with pytest.raises(ModelError):
        graphpass.plot_raster("ann.onnx", inputs)


def test_hostile_names_of_nodes_are_text(folder: Path, tmp_path: Path) -> None:
    """In every picture of a network whose nodes, tensors and inputs have them."""
    proto = onnx.load("ann.onnx")
    for node in proto.graph.node:
        node.name = f"{HOSTILE}/{node.name}"
    arrays = {name: values for name, values in np.load("data.npz").items() if name != "labels"}
    done = graphpass.convert(proto, arrays, time_steps=2, threads=1)
    found = graphpass.evaluate(proto, done, arrays, threads=1)
    for number, picture in enumerate(
        (
            graphpass.plot_raster(done, arrays), graphpass.plot_thresholds(done, arrays),
            graphpass.plot_graph(done, found), graphpass.plot_graph(done),
        )
    ):  # fmt: skip
        graphpass.save_picture(picture, tmp_path / f"{number}.html")
        page = ParsedPage((tmp_path / f"{number}.html").read_text("utf-8"))
        assert page.loads == [] and "img" not in page.tags and len(page.figures) == 1
        assert "<img" not in json.dumps(page.figures[0]) and "<script" not in json.dumps(page.figures[0])
    graphpass.save_report(found, tmp_path / "report.html")
    page = ParsedPage((tmp_path / "report.html").read_text("utf-8"))
    assert page.loads == [] and "img" not in page.tags and len(page.figures) == 4
