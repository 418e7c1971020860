"""Reports and tables: self-contained, escaped, with and without labels."""

import io
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from graphpass.cli.terminal import Terminal
from graphpass.errors import OptionError
from graphpass.evaluation.results import (
    Accuracy,
    Baseline,
    ConversionFacts,
    Evaluation,
    Latency,
    LayerResult,
    MetricResult,
    OperationCount,
    OutputResult,
    Provenance,
    SiteInfo,
    SiteResult,
    Timing,
)
from graphpass.graph.plan import Left
from graphpass.maths.energy import Energy, EnergyEstimate
from graphpass.maths.metrics import Operations
from graphpass.report.files import write_json, write_report
from graphpass.report.pages import evaluation_report, sweep_report
from graphpass.report.tables import energy_table, rich_table, summary_table, sweep_table
from graphpass.sweeps import Row

HOSTILE = "</script><script>alert(1)</script><img src=\"http://evil/x\" onerror='alert(2)'>&lt;[bold]"


def evaluation(name: str = "site", labels: bool = True, time_steps: int = 4) -> Evaluation:
    """Numbers of no network, but of the right kinds."""
    levels = time_steps + 1
    site = SiteInfo(name, "relu", name, name, (name,), 5, 0.0, 1.0)
    accuracy = Accuracy(0.9, 0.99) if labels else Accuracy(None, None)
    return Evaluation(
        samples=100,
        conversion=ConversionFacts(
            *("0.1.0", time_steps, "rate", levels, "optimal", "folded", "a", "b", (site,)),
            (Left(name, "Softmax", f"because {name}", True),),
        ),
        class_output=name if labels else None,
        ann=accuracy,
        snn=Accuracy(0.875, 0.98) if labels else accuracy,
        agreement=0.95 if labels else None,
        metrics=(
            MetricResult(name, "exact_lines", 0.96, 0.9375, 0.5 + time_steps / 64),
            MetricResult(name, "cosine", None, 0.9876, float("nan")),
        ),
        outputs=(OutputResult(name, 0.0625, 0.998, None), OutputResult("index", None, None, 0.75)),
        firing_rate=0.125,
        operations=OperationCount(
            Operations(0.0, 1000.0, 2000.0),
            Operations(2000.0, 100.0, 8000.0),
            8,
            (LayerResult(name, "Conv", "spikes", 2000.0, 8000.0),),
            (name,),
        ),
        energy=EnergyEstimate(
            "lemaire22",
            3,
            *(Energy(1e3, 2e3, 0.0, 4e3), Energy(1e3, 1e3, 0.0, 5e2), Energy(5e2, 1e3, 1.5e3, 5e2)),
            spikes_per_synapse=0.25,
        ),
        latency=Latency(Timing(1.0, 0.5, 2.0), Timing(1.5, 1.0, 2.0), 1, 5, 0),
        sites=(SiteResult(name, "relu", 64, levels, time_steps, 0.125, 0.875, None),),
        baseline=Baseline(levels, Accuracy(0.8, 0.9) if labels else accuracy, 0.85 if labels else None, 0.25),
        provenance=Provenance(name, "a1", "b2", "c3", name, "", "0.1.0", "onnxruntime 1.2", "2026-01-01"),
        notes=(name,),
    )


def row(found: Evaluation, method: str = "optimal") -> Row:
    conversion = found.conversion
    return Row(conversion.time_steps, conversion.coding, conversion.levels, method, found)


def pages(name: str = "site", labels: bool = True) -> list[str]:
    rows = [row(evaluation(name, labels, steps), method) for method in ("optimal", name) for steps in (2, 8)]
    return [evaluation_report(evaluation(name, labels)), sweep_report(rows)]


class ParsedPage(HTMLParser):
    """Tags, attributes that load something, text outside of scripts, and scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text.replace(get_plotlyjs(), ""))  # megabytes that take seconds to parse
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [each for each in attrs if each[0] in ("src", "href", "srcset") or each[0].startswith("on")]
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data + " "

    @property
    def figures(self) -> list[dict]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]


def printed(table: object) -> str:
    buffer = io.StringIO()
    Terminal(file=buffer, width=300, color_system=None).print(table)
    return buffer.getvalue()


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_page_loads_nothing(kind: int, labels: bool) -> None:
    text = pages(labels=labels)[kind]
    page = ParsedPage(text)
    assert page.loads == []
    assert {"link", "iframe", "img", "object", "embed"}.isdisjoint(page.tags)
    assert text.count(get_plotlyjs()) == 1
    own = text.replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|src=|@import|url\(", own)
    assert "default-src 'none'" in own
    assert "prefers-color-scheme: dark" in own


@pytest.mark.parametrize("kind", [0, 1])
def test_names_cannot_break_out(kind: int) -> None:
    harmless, hostile = ParsedPage(pages()[kind]), ParsedPage(pages(HOSTILE)[kind])
    assert hostile.tags == harmless.tags
    assert hostile.loads == []
    assert HOSTILE in hostile.text  # shown as it is
    assert len(hostile.figures) == len(harmless.figures) > 0


@pytest.mark.parametrize("kind", [0, 1])
def test_plotly_gets_no_markup_in_names(kind: int) -> None:
    """Plotly draws tags such as <a href> that texts hold."""
    for figure in ParsedPage(pages(HOSTILE)[kind]).figures:
        texts = [figure["layout"]["yaxis"].get("ticktext", [])]
        texts += [[trace["name"], *trace.get("hovertext", [])] for trace in figure["data"]]
        assert not [text for each in texts for text in each if "<" in text]


def test_evaluation_report_says_what_was_measured() -> None:
    text = ParsedPage(pages()[0]).text
    for part in ("90.00 %", "87.50 %", "80.00 %", "95.00 %", "12.50 %", "without memory traffic", "Softmax"):
        assert part in text
    assert "4.6 nJ" in text  # 1000 MACs of 4.6 pJ
    assert "2.26 nJ" in text  # 100 MACs of 4.6 pJ and 2000 ACs of 0.9 pJ
    for part in ("a1", "b2", "c3", "2026-01-01", "0.1.0", "Not counted"):
        assert part in text


def test_sweep_figure_has_a_line_for_each_method_and_coding() -> None:
    figure = ParsedPage(pages("max")[1]).figures[0]
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert list(lines) == ["optimal, rate", "max, rate", "quantised ANN, rate levels", "ANN"]
    assert lines["optimal, rate"]["x"] == [2, 8]
    assert lines["optimal, rate"]["y"] == [87.5, 87.5]
    assert lines["ANN"]["line"]["dash"] == "dash"
    assert lines["ANN"]["y"] == [90.0, 90.0]


def test_sweep_without_labels_draws_errors() -> None:
    bare = [replace(evaluation("max", False, steps), metrics=()) for steps in (2, 8)]
    rows = [row(found, method) for method in ("optimal", "max") for found in bare]
    figure = ParsedPage(sweep_report(rows)).figures[0]
    assert [trace["name"] for trace in figure["data"]] == ["optimal, rate", "max, rate", "quantised ANN, rate levels"]
    assert figure["data"][0]["y"] == [6.25, 6.25]
    assert "error" in figure["layout"]["yaxis"]["title"]["text"]


def test_sweep_details_are_those_of_the_closest_row() -> None:
    better = replace(evaluation(time_steps=8), snn=Accuracy(0.89, None))
    text = ParsedPage(sweep_report([row(evaluation(time_steps=2)), row(better), row(evaluation(time_steps=4))])).text
    assert "The closest one: T = 8" in text


def test_empty_sweep_has_no_report() -> None:
    with pytest.raises(OptionError, match="has no report; give at least one"):
        sweep_report([])
    assert "nothing converted" in printed(sweep_table([]))


def test_summary_table() -> None:
    text = printed(summary_table(evaluation()))
    assert "100 samples, T = 4 (rate, 5 levels), method optimal, folded form" in text
    assert re.search(r"top-1 accuracy\W+90.00 %\W+87.50 %\W+80.00 %", text)
    assert re.search(r"MACs a sample\W+1,000 │ +100 │", text)
    assert re.search(r"ACs a sample\W+0 │ +2,000 │", text)
    assert "top-1" not in printed(summary_table(evaluation(labels=False)))


def test_energy_is_shown_part_by_part_and_in_words() -> None:
    text = printed(energy_table(evaluation()))
    assert "model lemaire22" in text
    assert re.search(r"│ ANN +│ +1 nJ │ +2 nJ │ +0 pJ │ +4 nJ │ +7 nJ │ +1 × │", text)
    assert re.search(r"│ quantised ANN \(3 bits\) +│ +1 nJ │ +1 nJ │ +0 pJ │ +500 pJ │ +2.5 nJ │ +0.357 × │", text)
    assert re.search(r"│ SNN +│ +500 pJ │ +1 nJ │ +1.5 nJ │ +500 pJ │ +3.5 nJ │ +0.5 × │", text)
    page = ParsedPage(evaluation_report(evaluation()))
    words = "Fewer levels save energy, spikes do not: the SNN takes 0.5 × the energy of the ANN and 1.4 ×"
    assert words in page.text and "Model lemaire22 (Lemaire 2022): 32-bit integers" in page.text
    figure = next(each for each in page.figures if len(each["data"]) == 4)
    drawn = {trace["name"]: trace["x"] for trace in figure["data"]}
    assert drawn["state"] == [0.0, 0.0, 1.5] and drawn["weights"] == [2.0, 1.0, 1.0]
    assert re.search(r"energy a sample\W+7 nJ\W+3.5 nJ\W+2.5 nJ", printed(summary_table(evaluation())))
    assert "0.5 ×" in printed(sweep_table([row(evaluation())]))


def test_sweep_table() -> None:
    text = printed(sweep_table([row(evaluation()), row(evaluation(time_steps=8), "max")]))
    assert re.search(r"4 +rate +5 +optimal +90.00 % +87.50 % +2.50 +80.00 % +95.00 %", text)
    assert re.search(r"8 +rate +9 +max", text)
    assert re.search(r"optimal +6.25 % +25.00 %", printed(sweep_table([row(evaluation(labels=False))])))


def test_a_terminal_of_80_columns_cuts_no_figure() -> None:
    rows = [row(evaluation(), "percentile"), row(evaluation(time_steps=8), "percentile")]
    console = Terminal(file=io.StringIO(), width=80)
    console.print(sweep_table(rows))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)
    shown = Counter(character for line in lines for character in line if character.isdigit())
    whole = Counter(character for character in printed(sweep_table(rows)) if character.isdigit())
    assert shown == whole


def test_names_in_tables_are_text() -> None:
    assert "[bold]odd[/]" in printed(sweep_table([row(evaluation(), "[bold]odd[/]")]))
    text = printed(rich_table(["\x1b[2J1"], [["\x1b]0;2\x07"]], "\x1b[2J3"))
    assert text.count("\\x1b") == 3 and text.replace("\n", "").isprintable()


def test_files_are_written(tmp_path: Path) -> None:
    document = evaluation().to_json()
    write_json(document, tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text(encoding="utf-8")) == document
    write_report("µ", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == "µ"


@pytest.mark.parametrize("write", [lambda path: write_json({}, path), lambda path: write_report("", path)])
def test_a_place_that_cannot_be_written(write, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"missing/x: cannot be written .*; choose another place"):
        write(tmp_path / "missing" / "x")


def test_metrics_are_shown_for_all_three_networks() -> None:
    text = ParsedPage(evaluation_report(evaluation())).text
    assert re.search(r"exact lines \(site\)\s+0.96\s+0.9375\s+0.5625", text)
    assert re.search(r"cosine \(site\)\s+–\s+0.9876\s+–", text)
    console = Terminal(file=io.StringIO(), width=300)
    console.print(summary_table(evaluation()), sweep_table([row(evaluation())]))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "exact lines (site)",
        "ANN exact lines (site)",
        "SNN exact lines (site)",
        "SNN cosine (site)",
        "0.9375",
    ):
        assert words in printed
    assert "ANN cosine" not in printed


def test_a_sweep_without_classes_draws_the_first_metric() -> None:
    page = ParsedPage(sweep_report([row(evaluation(labels=False, time_steps=steps)) for steps in (2, 8)]))
    figure = page.figures[0]
    assert figure["layout"]["yaxis"]["title"]["text"] == "exact lines (site)"
    drawn = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert drawn == {
        "optimal, rate": [0.9375, 0.9375],
        "quantised ANN, rate levels": [0.53125, 0.625],
        "ANN": [0.96, 0.96],
    }
