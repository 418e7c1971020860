"""Pictures: what is drawn of which figures, names as text, sizes that fit, files."""

import json
import math
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.errors import DataError, OptionError
from graphpass.evaluation.drawn import Drawn, SiteSpikes, SpikeRecord
from graphpass.evaluation.results import SiteResult
from graphpass.evaluation.spikes import ChannelCurrents, SiteCurrents
from graphpass.graph.outline import Outline, OutlineNode
from graphpass.maths.energy import Energy
from graphpass.report.pages import evaluation_report, pictures_of, sweep_pictures
from graphpass.report.pictures import files, layered
from graphpass.report.pictures.files import write_picture
from graphpass.report.pictures.layered import drawing_of
from graphpass.report.pictures.network import network
from graphpass.report.pictures.node_data import node_data
from graphpass.report.pictures.pareto import FALLING, pareto
from graphpass.report.pictures.picture import Picture
from graphpass.report.pictures.raster import raster
from graphpass.report.pictures.thresholds import thresholds
from tests.report.test_report import HOSTILE, ParsedPage, evaluation, row

CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


def record(name: str = "site", sites: int = 2, coding: str = "rate", steps: int = 3) -> SpikeRecord:
    each = tuple(SiteSpikes(f"{name}{k}", 100, (0, 3, 1), (0.25, 0.5, 1.0)) for k in range(sites))
    return SpikeRecord(steps, coding, 7, name, sites, each)


def outline(name: str = "site", sites: int = 2) -> Outline:
    """x → (layer → site) … with a way around each two → y."""
    nodes, edges = [OutlineNode(name, "input", "")], []
    for k in range(sites):
        nodes += [
            OutlineNode(f"{name}/conv{k}", "layer", "Conv"),
            OutlineNode(f"{name}{k}/neuron", "site", "ParallelNeuron", f"{name}{k}"),
        ]
        nodes += [OutlineNode(f"{name}/add{k}", "meeting", "Add")]
        first = 3 * k
        edges += [(first, first + 1), (first + 1, first + 2), (first + 2, first + 3), (first, first + 3)]
    nodes.append(OutlineNode("y", "output", ""))
    return Outline(tuple(nodes), (*edges, (len(nodes) - 2, len(nodes) - 1)))


def results(name: str = "site", sites: int = 2, **values: Any) -> tuple[SiteResult, ...]:
    found = {"firing_rate": 0.1, "sparsity": 0.9, "error": 0.05, **values}
    return tuple(SiteResult(f"{name}{k}", "relu", 100, 4, 3, **found) for k in range(sites))


def currents(name: str = "site", levels: int = 4, channels: int | None = 2) -> SiteCurrents:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    rising = np.arange(1, levels, dtype=np.float32) / 2
    falling = np.full(levels - 1, -np.inf, np.float32)
    falling[0] = -2
    drawn = tuple(ChannelCurrents(k if channels else None, values, rising, falling) for k in range(channels or 1))
    return SiteCurrents(name, levels - 1, "rate", 10, channels or 1, drawn, tuple([1 / levels] * levels))


def document(
    name: str = "optimal", ratio: float | None = 0.5, top1: float | None = 0.875, steps: int = 4
) -> dict[str, Any]:
    found = row(evaluation(name, top1 is not None, steps), name).to_json()
    found["evaluation"]["method"] = name
    found["evaluation"]["energy"]["ratio"] = ratio
    found["evaluation"]["snn"]["top1"] = top1
    return found


def all_pictures(name: str = "site") -> list[Picture]:
    made = [raster(record(name)), thresholds(currents(name)), pareto([document(name), document(name, 0.2)])]
    made += [network(outline(name), sites, name) for sites in (results(name), [])]
    return [each for each in made if each is not None]


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [text for each in inner for text in texts(each)]


@pytest.mark.parametrize("number", range(5))
def test_a_picture_loads_nothing_and_names_are_text(number: int) -> None:
    harmless, hostile = (ParsedPage(all_pictures(name)[number].page()) for name in ("site", HOSTILE))
    assert hostile.tags == harmless.tags and hostile.loads == [] and len(hostile.figures) == 1
    for text in texts(hostile.figures[0]):
        plain = text.replace("<br>", "").replace("<b>", "").replace("</b>", "")
        assert "<" not in plain.replace("<extra>", "").replace("</extra>", ""), text


def test_pictures_are_json_without_infinities() -> None:
    for each in all_pictures():
        assert json.loads(json.dumps(each.to_json(), allow_nan=False))["layout"]["height"] > 100


# the raster


@pytest.mark.parametrize(("coding", "train"), [("rate", [None, None, 1]), ("phase", [None, None, 1])])
def test_each_neuron_has_a_row_and_each_step_a_column(coding: str, train: list[int | None]) -> None:
    spikes, rates = raster(record(coding=coding)).data
    assert spikes["x"] == [1, 2, 3]
    assert spikes["z"][:3] == [[None] * 3, [1, 1, 1] if coding == "rate" else [None, 1, 1], train]
    assert len(spikes["z"]) == 3 + 2 + 3 and spikes["z"][3:5] == [[None] * 3] * 2
    assert rates["z"] == [[25.0, 50.0, 100.0], [None] * 3, [25.0, 50.0, 100.0]]
    assert rates["y"] == [-0.5, 2.5, 4.5, 7.5]


def test_a_raster_says_what_it_left_out() -> None:
    found = raster(replace(record(), all_sites=9))
    assert "3 of the 100 neurons of each site" in found.note and "The first 2 of 9 sites." in found.note
    assert "sample 7" in found.title.lower()


@pytest.mark.parametrize(("sites", "most"), [(1, 1000), (3, 1000), (200, 6000)])
def test_rasters_of_any_network_fit_a_page(sites: int, most: int) -> None:
    found = raster(record(sites=sites))
    assert 90 < found.layout["height"] <= most
    assert len(found.layout["yaxis"]["ticktext"]) == sites


# thresholds


@pytest.mark.parametrize(("levels", "channels"), [(2, 1), (4, None), (4, 3), (256, 2)])
def test_every_threshold_that_can_be_seen_is_a_line(levels: int, channels: int | None) -> None:
    found = thresholds(currents(levels=levels, channels=channels))
    low, high = found.layout["xaxis"]["range"]
    lines = {trace["name"].split()[3]: trace for trace in found.data if trace["name"].startswith("one count more")}
    seen = [b for b in np.arange(1, levels) / 2 if low <= b <= high]
    assert sorted(set(lines["from"]["x"]) - {None}) == seen and len(seen) >= 1
    assert set(lines["below"]["x"]) - {None} == {-2.0}
    assert len([trace for trace in found.data if trace.get("fill")]) == (channels or 1)
    bars = next(trace for trace in found.data if trace["type"] == "bar")
    assert math.isclose(sum(bars["x"]), 100)


def test_a_site_without_finite_currents_is_drawn() -> None:
    nothing = replace(currents(), drawn=(replace(currents().drawn[0], values=np.zeros(0, np.float32)),))
    assert thresholds(nothing).data


# accuracy against energy


def test_the_front_joins_what_nothing_beats() -> None:
    rows = [document("a", 0.2, 0.7), document("b", 0.5, 0.6), document("a", 0.6, 0.9), document("b", None, 0.9)]
    found = pareto(rows)
    traces = {trace["name"]: trace for trace in found.data}
    assert (traces["Pareto front"]["x"], traces["Pareto front"]["y"]) == ([0.2, 0.6], [70.0, 90.0])
    assert set(traces) == {"Pareto front", "a, rate code", "b, rate code", "original network (ANN)"}
    assert "3 conversions" in found.note and "1 without energy or accuracy" in found.note


def test_without_labels_the_first_metric_or_the_error_is_drawn() -> None:
    found = pareto([document(top1=None)])
    assert found.layout["yaxis"]["title"]["text"] == "exact lines" and found.data[0]["y"] == [0.9375]
    bare = [document(top1=None, ratio=ratio) for ratio in (0.2, 0.4)]
    for each, error in zip(bare, (0.1, 0.3), strict=True):
        each["evaluation"]["metrics"] = []
        each["evaluation"]["outputs"][0]["relative_error"] = error
    found = pareto(bare)
    assert "error" in found.title and found.data[0]["x"] == [0.2]  # less energy and less error


@pytest.mark.parametrize(
    "bad",
    [
        [{}],
        [3],
        [{"evaluation": {"format": "graphpass-evaluation"}}],
        [{"format": "graphpass-plan"}],
        [document(ratio="x")],
    ],
)
def test_other_documents_are_refused(bad: list[Any]) -> None:
    with pytest.raises(
        DataError, match=r"x\.json: not the figures of a conversion( \((?!\w+Error).*\))?; give the JSON"
    ):
        pareto(bad, "x.json")


def test_figures_of_which_less_is_better_are_figures_of_metrics() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
    assert [name for name in FALLING if f"`{name}`" not in page] == []
    worse = [document(top1=None, ratio=ratio) for ratio in (0.2, 0.4)]
    for each, value in zip(worse, (10.0, 30.0), strict=True):
        each["evaluation"]["metrics"][0] = {"metric": "perplexity", "name": "perplexity", "ann": 9.0, "snn": value}
    assert pareto(worse).data[0]["x"] == [0.2]


def test_a_sweep_without_energy_has_no_picture() -> None:
    with pytest.raises(OptionError, match="both an accuracy and an energy; evaluate the folded"):
        pareto([document(ratio=None)])
    silent = evaluation()
    silent = replace(silent, energy=replace(silent.energy, snn=Energy(arithmetic=float("nan"))))
    assert sweep_pictures([row(silent)]) == [] and len(sweep_pictures([row(evaluation())])) == 1


# the network


@given(st.data())
def test_edges_lead_downward_and_nodes_have_rows_of_their_own(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 14))
    edges = [
        (start, end)
        for end in range(1, count)
        for start in sorted(data.draw(st.sets(st.integers(0, end - 1), max_size=3)))
    ]
    found = drawing_of(Outline(tuple(OutlineNode(str(k), "layer", "Conv") for k in range(count)), tuple(edges)))
    assert found and sorted(row for _, row in found.nodes) == list(range(count))
    assert all(0 <= lane <= found.lanes - 1 for lane, _ in found.nodes)
    for (start, end), line in zip(edges, found.edges, strict=True):
        assert line[0] == found.nodes[start] and line[-1] == found.nodes[end]
        assert all(one[1] < other[1] for one, other in pairwise(line))


def test_what_is_too_entangled_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layered, "MOST_STEPS", 8)
    assert drawing_of(outline(sites=1)) and drawing_of(outline(sites=4)) is None
    assert network(outline(sites=4), [], "") is None and network(None, [], "") is None


@pytest.mark.parametrize("sites", [1, 3, 100])
def test_labels_of_nodes_do_not_touch(sites: int) -> None:
    found = network(
        outline("/encoder/layer/block/activation", sites), results("/encoder/layer/block/activation", sites), ""
    )
    assert found
    (labels,) = (trace for trace in found.data if trace["mode"] == "text")
    places = sorted(zip(labels["x"], labels["y"], strict=True))
    columns = sorted(set(labels["x"]))
    assert len(places) == 3 * sites + 2
    for (x, y), (beside, below) in pairwise(places):
        assert x != beside or below - y >= 20
    wide = found.layout["width"] - found.layout["margin"]["r"]
    ends = [*[x - 40 for x in columns[1:]], wide]  # where lanes of the next column begin
    for text, x in zip(labels["text"], labels["x"], strict=True):
        assert x + 6.6 * len(text) <= ends[columns.index(x)] + 45, text
    assert max(y for _, y in places) < found.layout["height"] - found.layout["margin"]["b"]


def test_sites_have_the_colours_of_their_figures() -> None:
    found = network(outline(), [results()[0], replace(results()[1], error=None, firing_rate=0.4)], "")
    assert found
    error, rate = (trace for trace in found.data if "colorbar" in trace.get("marker", {}))
    assert (error["marker"]["color"], rate["marker"]["color"]) == ([5.0, None], [10.0, 40.0])
    plain = network(outline(), [], "")
    assert plain and not any("colorbar" in trace.get("marker", {}) for trace in plain.data)


def test_node_data_of_model_explorer() -> None:
    nodes = [
        onnx.helper.make_node("ParallelNeuron", [], [], f"site{k}/neuron", domain="ai.graphpass") for k in range(3)
    ]
    other = onnx.helper.make_node("Conv", [], [], "site0")
    proto = onnx.helper.make_model(onnx.helper.make_graph([*nodes, other], "main", [], []))
    found = node_data(proto, results(), "error")
    assert found["main"]["results"] == {"site0/neuron": {"value": 0.05}, "site1/neuron": {"value": 0.05}}
    stops = found["main"]["gradient"]
    assert (stops[0]["stop"], stops[-1]["stop"]) == (0, 1) and all(len(stop["bgColor"]) == 7 for stop in stops)
    with pytest.raises(OptionError, match="no firing rate"):
        node_data(proto, results(firing_rate=None), "firing_rate")


# reports and files


def test_reports_have_the_pictures_of_what_was_drawn() -> None:
    name = "network"
    found = replace(evaluation("site0"), drawn=Drawn(record(), outline()), sites=results())
    assert [each.title for each in pictures_of(found)] == ["The spiking network of site0", "Spikes of sample 7"]
    page = ParsedPage(evaluation_report(found))
    assert len(page.figures) == 4 and "Each row is a neuron" in page.text
    assert pictures_of(evaluation(name)) == []
    assert [each.title for each in pictures_of(replace(found, drawn=Drawn(None, None)))] == []


def test_pictures_as_files(tmp_path: Path) -> None:
    picture = raster(record())
    write_picture(picture, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text("utf-8") == picture.page()
    write_picture(picture, tmp_path / "r.JSON")
    assert json.loads((tmp_path / "r.JSON").read_text("utf-8")) == json.loads(json.dumps(picture.to_json()))
    with pytest.raises(OptionError, match=r"r.gif: not a kind of picture; end its name in \.html"):
        write_picture(picture, tmp_path / "r.gif")


def test_images_need_kaleido(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    with pytest.raises(OptionError, match=r"needs kaleido; pip install 'graphpass\[images\]'"):
        write_picture(raster(record()), tmp_path / "r.svg")


def test_a_browser_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kaleido = pytest.importorskip("kaleido")

    def missing(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("no browser\nmore")

    monkeypatch.setattr(kaleido, "calc_fig_sync", missing)
    with pytest.raises(OptionError, match=r"as .png \(no browser\); install Chromium"):
        write_picture(raster(record()), tmp_path / "r.png")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium")
def test_images_have_the_colours_of_a_light_ground(tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    write_picture(raster(record(HOSTILE)), tmp_path / "r.svg")
    text = (tmp_path / "r.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and "--ink" not in text and "Spikes of sample 7" in text
    assert {each.tag.rpartition("}")[2] for each in root.iter()}.isdisjoint({"script", "a", "foreignObject"})
    assert not [
        value for each in root.iter() for name, value in each.attrib.items() if "http" in value or name.startswith("on")
    ]
    write_picture(raster(record()), tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG") and files.SHARPNESS == 2
