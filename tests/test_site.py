"""The site of the documentation: navigation, generated pages, and the picture of the README."""

import html
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import griffe
import pytest
import typer
import yaml
from mkdocs.exceptions import PluginError
from playwright.sync_api import sync_playwright

import graphpass
from docs.site import diagrams, docstrings, http_api, links, pages, picture
from graphpass import errors
from graphpass.cli.app import app
from service.app import routes

ROOT = Path(__file__).parents[1]


def config_of(nav: Any) -> Any:
    """What pages.py reads of the configuration."""
    return SimpleNamespace(nav=nav, docs_dir=str(ROOT / "docs"))


def test_folders_of_the_navigation_become_their_pages() -> None:
    nav: Any = ["a.md", {"Decisions": ["decisions/README.md", "decisions/*"]}]
    _, decisions = pages.on_config(config_of(nav)).nav
    (found,) = decisions.values()
    assert found == [
        "decisions/README.md",
        *sorted(f"decisions/{p.name}" for p in (ROOT / "docs/decisions").glob("0*")),
    ]


def test_every_page_has_one_place_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav: Any = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    places = re.findall(r"[\w./-]+\.md", str(pages.on_config(config_of(nav)).nav))
    found = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(places) == sorted(found | set(pages.MOVED.values()))


def test_links_of_the_readme_fit_the_site() -> None:
    text = "[a](docs/data.md#arrays), [b](CONTRIBUTING.md), ![c](docs/images/c.svg), [d](https://example.org/docs/x)"
    fitting = "[a](data.md#arrays), [b](contributing.md), ![c](images/c.svg), [d](https://example.org/docs/x)"
    assert pages.from_root(text) == fitting


def test_every_command_and_option_is_in_the_reference() -> None:
    page = pages.command_line()
    for command in entry_points(group="graphpass.commands"):
        command.load()(app)
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        _, _, rest = page.partition(f"## `graphpass {name}`\n")
        section = rest.partition("\n## ")[0]
        options = [option for each in command.params for option in each.opts if option.startswith("--")]
        assert [option for option in options if f"* `{option}" not in section] == [], name


def test_every_public_name_and_error_is_in_the_reference() -> None:
    assert set(re.findall(r"::: graphpass\.(\w+)", pages.python_names())) == set(graphpass.__all__)
    own = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert own <= set(re.findall(r"\* `(\w+)`", pages.error_tree()))


def test_every_route_and_schema_is_in_the_reference() -> None:
    document = routes().openapi()
    page = http_api.markdown(document)
    operations = [f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each]
    assert re.findall(r"^### `(.*)`$", page, re.MULTILINE) == sorted(operations, key=page.index)
    assert len(operations) > 30
    assert [name for name in document["components"]["schemas"] if f"\n### {name}\n" not in page] == []
    links = set(re.findall(r"\]\(#(\w+)\)", page))
    assert links <= {name.lower() for name in document["components"]["schemas"]}


def test_types_of_schemas_are_short() -> None:
    limited = {"anyOf": [{"type": "integer", "minimum": 1, "default": 8}, {"type": "null"}]}
    assert http_api.type_of(limited) == "integer ≥ 1, default `8`"
    assert http_api.type_of({"type": "array", "items": {"$ref": "#/components/schemas/Problem"}}) == (
        "list of [Problem](#problem)"
    )


def test_arguments_in_docstrings_become_items() -> None:
    text = "What it does.\n\nx: a number,\nnot 0.\ny, z: others. Note: none.\n\nNote: y is not in the list.\n\nEnd."
    assert docstrings.listed(text, {"x", "y", "z"}) == (
        "What it does.\n\n* **x**: a number,\n  not 0.\n* **y**, **z**: others. Note: none.\n\n"
        "Note: y is not in the list.\n\nEnd."
    )


def test_arguments_of_the_public_functions_are_found() -> None:
    package = griffe.load("graphpass", extensions=griffe.load_extensions("docs.site.docstrings"))
    docstring = package["api.conversions.convert"].docstring
    assert docstring is not None and docstring.value.count("\n* **") >= 15


def test_the_picture_of_the_readme_has_the_figures_of_the_table() -> None:
    assert "](docs/images/resnet20.svg)" in (ROOT / "README.md").read_text("utf-8")
    svg = picture.PICTURE.read_text("utf-8")
    assert len(svg) < 200_000
    found = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    assert found, "python -m docs.site.picture"
    assert json.loads(html.unescape(found[1])) == picture.rows(), "python -m docs.site.picture"


def test_the_table_of_the_readme_has_the_figures_of_the_results() -> None:
    lines = re.findall(r"^\| (.*) \|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    header, *table = [line.replace("**", "").split(" | ") for line in lines]
    rows = {(row["coding"], row["T"]): row for row in picture.rows()}
    assert len(table) == 5
    for coding, steps, *cells in table:
        row = rows[coding, steps]
        names = [COLUMNS.get(name, name) for name in header[2:]]
        figures = [float(row[name]) for name in names]
        assert [float(cell) for cell in cells] == pytest.approx(figures, abs=0.005 + 1e-9)  # two digits


COLUMNS = {  # of the README → of the results
    "graphpass (`optimal`)": "optimal",
    "the paper's calibration (`da-qcfs`)": "da-qcfs",
    "`max`": "max",
    "ANN quantised to as many levels": "quantised ANN",
    "energy SNN / ANN": "energy SNN/ANN",
    "energy quantised / ANN": "energy quantised/ANN",
    "SNN / ANN, operations alone": "operations alone",
}


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "index.html").write_text(
        "<a href='#here'>1</a><a href='part/'>2</a><a href='part/index.html#top'>3</a><a href='https://other.org/'>4</a>"
        "<p id=here><a href='#away'>5</a><a href='gone.html'>6</a><a href='/part/#end'>7</a><img src=a.png>"
    )
    (tmp_path / "part" / "index.html").write_text("<h1 id=top><a href=../index.html#here>x</a>")
    assert links.faults(tmp_path) == [
        "index.html links to #away: no such place",
        "index.html links to /part/#end: no such place",
        "index.html links to a.png: no such file",
        "index.html links to gone.html: no such file",
    ]


def test_what_a_page_would_load_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import '//one.org/x.css'; p { background: url(https://two.org/y) url(data:z) }")
    (tmp_path / "a.html").write_text(
        "<link rel=canonical href=https://own.org/><link rel=stylesheet href=https://three.org/s.css>"
        "<script src='//four.org/s.js'></script><p style='background: url(http://five.org/i)'>"
    )
    found = {fault.rpartition("//")[2].partition("/")[0] for fault in links.faults(tmp_path)}
    assert found == {"one.org", "two.org", "three.org", "four.org", "five.org"}


def test_a_script_of_diagrams_that_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHPASS_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="mermaid: npm is not installed; install npm"):
        diagrams.script()


@pytest.mark.slow
def test_diagrams_are_drawn_without_another_server(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None or shutil.which("npm") is None:
        pytest.skip("there is no Chromium, or no npm: apt-get install chromium npm")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    asked: list[str] = []
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "architecture.html").as_uri())
        page.locator("div.mermaid").nth(1).wait_for(timeout=120_000)
    assert asked and [address for address in asked if not address.startswith(("file:", "data:"))] == []
