"""Tutorials: each page has the text of its source, and the outputs that its source gives now."""

import re
from pathlib import Path

import jupytext
import pytest

import graphpass
from docs.site import tutorials

NAMES = [source.stem for source in tutorials.sources()]
NEEDS = {"2_from_pytorch": ("torch", "from_torch"), "4_reading_the_report": ("kaleido", "plot_raster")}


def source_of(name: str) -> Path:
    return tutorials.FOLDER / f"{name}.py"


def page_of(name: str) -> str:
    return (tutorials.FOLDER / f"{name}.md").read_text("utf-8")


def without_numbers(page: str) -> list[str]:
    """The lines, without what differs from machine to machine: numbers, and the widths of tables and their columns."""
    page = re.sub(r"\d+(?:[.,]\d+)*(?:e[+-]\d+)?", "0", page)
    page = re.sub(r"[━─┏┳┓┡╇┩└┴┘]+", "─", page)
    return [" ".join(line.split()) for line in page.splitlines() if line.strip()]


def test_every_tutorial_has_its_page_and_its_place() -> None:
    overview = page_of("README")
    assert NAMES and sorted(path.stem for path in tutorials.FOLDER.glob("[0-9]*.md")) == NAMES
    assert [name for name in NAMES if f"]({name}.md)" not in overview] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_text_of_its_source(name: str) -> None:
    page, _ = tutorials.page(jupytext.read(source_of(name)), name)
    kept = page_of(name).splitlines()
    remaining = iter(kept)
    missing = [line for line in page.splitlines() if line and line not in remaining]  # in the same order
    assert missing == [], f"python -m docs.site.tutorials {name}"
    outside = [line for line in kept if line and not line.startswith(("    ", "![]("))]
    assert [line for line in outside if line not in page.splitlines()] == [], f"python -m docs.site.tutorials {name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs_and_gives_the_outputs_of_its_page(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        package, function = NEEDS[name]
        pytest.importorskip(package, reason=f"{package} is not installed")
        if not hasattr(graphpass, function):
            pytest.skip(f"graphpass has no {function}")
    page, figures = tutorials.page(tutorials.run(source_of(name), tmp_path), name)
    assert without_numbers(page) == without_numbers(page_of(name)), f"python -m docs.site.tutorials {name}"
    assert all((tutorials.FOLDER / path).exists() for path in figures)


def test_numbers_and_widths_are_left_out_of_comparisons() -> None:
    assert without_numbers("┏━━━┓\n│ 1.5e-03 ms │\n\n  1,000 a") == ["─", "│ 0 ms │", "0 a"]
