"""Model cards: what they say, that figures are the model's own, and that no text of a file becomes markup."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import graphpass
from graphpass.cli.app import main
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.report import markdown
from tests.models import build, node

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = (
    "<script>alert(1)</script>", "![x](http://evil.example/x.png)", "[x](javascript:1)", "a | b", "a\\| b", "`x` ``y``",
    "**bold** _em_ ~~gone~~", "line\nbreak\n\n# heading", "- list", "1. list", "&lt;b&gt; &#60;", "https://evil.example",
    "www.evil.example", "@everyone #1", "\u202egnp.exe", "$x^2$", "", " ", "_x", "\\", "--- ", "x" * 5000, "\u2028y",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cards")
    random = np.random.default_rng(0)
    weights = {"a": random.normal(size=(6, 8)).astype(np.float32), "b": random.normal(size=(8, 4)).astype(np.float32)}
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "r", name="my_relu"), node("MatMul", "r b", "scores")]
    onnx.save(build(nodes, {"x": ["N", 6]}, {"scores": ["N", 4]}, weights), folder / "ann.onnx")
    data = {"x": random.normal(size=(32, 6)).astype(np.float32), "labels": random.integers(0, 4, 32)}
    np.savez(folder / "data.npz", **data)
    graphpass.convert(folder / "ann.onnx", {"x": data["x"]}, folder / "snn.onnx", time_steps=4)
    found = graphpass.evaluate(folder / "ann.onnx", folder / "snn.onnx", folder / "data.npz", threads=1)
    graphpass.save_json(found, folder / "figures.json")
    return folder


def test_a_card_has_settings_digests_figures_sites_and_reasons(folder: Path) -> None:
    found = graphpass.card(folder / "snn.onnx", folder / "figures.json")
    document = json.loads((folder / "figures.json").read_text())
    assert found.startswith("# snn.onnx\n")
    assert "| time-steps T | 4 |\n" in found and "| calibration | optimal; data: given |\n" in found
    for digest in ("ann_sha256", "snn_sha256", "calibration_sha256"):
        assert f"| {document['provenance'][digest]} |\n" in found
    assert (
        f"| top-1 accuracy | {100 * document['ann']['top1']:.2f} % | {100 * document['snn']['top1']:.2f} % |" in found
    )
    assert "| my_relu | relu | 5 |" in found
    (left,) = document["left"]
    assert f"| {left['op']} | {markdown.text(left['reason'])} |" in found
    assert "| input | x | float | N × 6 |" in found and "| output | scores | float | N × 4 |" in found


def test_without_figures_a_card_says_that_nothing_was_measured(folder: Path) -> None:
    assert "Nothing was measured" in graphpass.card(folder / "snn.onnx")
    assert "top-1" not in graphpass.card(folder / "snn.onnx")


def test_limits_depend_on_the_network(folder: Path) -> None:
    with pytest.warns(graphpass.ConversionWarning):
        made = graphpass.convert(folder / "ann.onnx", synthetic=True, form="unrolled", limit=8)
    found = graphpass.card(made)
    assert "made-up inputs" in found and "grows with T" in found
    assert "made-up inputs" not in graphpass.card(folder / "snn.onnx")


def test_a_card_from_the_command_line_is_that_of_python(folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["card", "snn.onnx", "--figures", "figures.json"])
    printed = capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["card", "snn.onnx", "card.md", "--figures", "figures.json"])
    assert printed == Path("card.md").read_text("utf-8") == graphpass.card("snn.onnx", "figures.json")


def test_files_that_are_read_are_not_written_over(folder: Path) -> None:
    for read in ("snn.onnx", "figures.json"):
        with pytest.raises(OptionError, match="would be written over"):
            graphpass.card(folder / "snn.onnx", folder / "figures.json", folder / read)


def test_a_network_that_was_not_converted_has_no_card(folder: Path) -> None:
    with pytest.raises(ModelError, match="not a converted network"):
        graphpass.card(folder / "ann.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_steps": 8}, "another network .time_steps is 8, not 4"),
        ({"method": "max"}, "another network .method"),
        ({"provenance": {"ann_sha256": "0"}}, "another network .model_digest"),
        ({"provenance": {"snn_sha256": "0"}}, "another network .sha256"),
        ({"format": "else"}, "it is not an evaluation"),
        ({"version": 2}, "version: is 2"),
        ({"samples": "many"}, 'samples: "many" is not a whole number'),
        ({"latency_ms": {"ann_range": [1.0]}}, "ann_range"),
        ({"sites": [{"name": 1}]}, r"sites\[0\]"),
        ({"baseline": []}, "baseline: is not an object"),
    ],
)
def test_figures_that_are_broken_or_not_its_own_are_refused(folder: Path, tmp_path: Path, change, message) -> None:
    document = json.loads((folder / "figures.json").read_text())
    for key, value in change.items():
        document[key] = document[key] | value if isinstance(value, dict) else value
    (tmp_path / "changed.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        graphpass.card(folder / "snn.onnx", tmp_path / "changed.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_files_that_are_no_evaluation_are_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        graphpass.card(folder / "snn.onnx", tmp_path / "broken.json")


def test_figures_of_a_wrong_kind_are_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="figures cannot be of type int"):
        graphpass.card(folder / "snn.onnx", 3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot be read"):
        graphpass.card(folder / "snn.onnx", folder / "none.json")


def cells(document: str) -> list[list[str]]:
    """Texts of the tables of a document as a reader sees them; fails on anything but text in them."""
    found: list[list[str]] = []
    for token in PARSER.parse(document):
        if token.type == "tr_open":
            found.append([])
        if token.type == "inline" and found and token.level > 2:
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.content
            found[-1].append("".join(child.content for child in token.children or []))
    return found


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_texts_are_text_in_a_table_and_a_heading(value: str) -> None:
    assert len(cells(markdown.table(("a", "b"), [(value, "c")]))[1]) == 2
    assert cells(markdown.table(("a", "b"), [(value, "c")]))[1][1] == "c"
    heading = PARSER.parse(f"# {markdown.text(value)}\n")
    assert [token.type for token in heading] == ["heading_open", "inline", "heading_close"]
    assert {child.type for child in heading[1].children or []} <= {"text", "text_special"}
    written = markdown.text(value)
    assert "://" not in written and "www." not in written and "<" not in written and "@" not in written


@given(st.text(max_size=40))
def test_any_text_is_shown_as_it_is(value: str) -> None:
    first, second = cells(markdown.table(("a", "b"), [(value, "c")]))[1]
    assert second == "c"
    plain = "".join(value.split())
    if plain.isprintable():
        assert "".join(first.split()) == plain


def test_a_network_with_hostile_names_gives_a_card_without_markup(folder: Path) -> None:
    made = onnx.load(folder / "snn.onnx")
    entries = {each.key: each for each in made.metadata_props}
    sites, left = (json.loads(entries[f"graphpass.{key}"].value) for key in ("sites", "left"))
    for number, value in enumerate(HOSTILE):
        sites.append(sites[0] | {"name": f"{value}{number}", "kind": value, "layers": [value]})
        left.append({"node": value, "op": value, "reason": value, "expected": False})
    entries["graphpass.sites"].value, entries["graphpass.left"].value = json.dumps(sites), json.dumps(left)
    entries["graphpass.version"].value = "<img src=x>"
    made.graph.input[0].name = "a|b\n<b>"
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "[N](x)"
    made.graph.output[0].type.tensor_type.elem_type = 999
    found = graphpass.card(made)
    plain = graphpass.card(folder / "snn.onnx")
    assert len(cells(found)) == len(cells(plain)) + 2 * len(HOSTILE)
    kinds = {token.type for token in PARSER.parse(found)} | {
        child.type for token in PARSER.parse(found) for child in token.children or []
    }
    assert not kinds & {"html_block", "html_inline", "image", "link_open", "fence"}
    assert f"{len(HOSTILE)} nodes stayed analogue" in found


def test_long_lists_are_cut_and_say_so(folder: Path) -> None:
    made = onnx.load(folder / "snn.onnx")
    (entry,) = (each for each in made.metadata_props if each.key == "graphpass.left")
    entry.value = json.dumps([{"node": str(n), "op": "x", "reason": "y", "expected": True} for n in range(250)])
    assert "And 150 more" in graphpass.card(made)
