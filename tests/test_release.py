"""What is said of a release, against the one place that has the version."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def test_the_installed_version_is_that_of_the_project() -> None:
    assert version("graphpass") == PROJECT["project"]["version"]


def test_the_newest_version_of_the_changelog_is_that_of_the_project() -> None:
    found = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert found[0] == PROJECT["project"]["version"]


def test_the_citation_has_what_the_format_asks_for_and_no_version_of_its_own() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    assert CITATION["title"] == PROJECT["project"]["name"]
    assert CITATION["license"] == PROJECT["project"]["license"]
    assert "version" not in CITATION


def test_the_article_that_is_cited_is_that_of_the_neuron() -> None:
    (article,) = CITATION["references"]
    page = " ".join((ROOT / "docs" / "neuron.md").read_text("utf-8").split())
    assert article["title"] in page
    assert article["identifiers"][0]["value"].removeprefix("arXiv:") in page


def test_supported_pythons_begin_with_the_least_that_is_required() -> None:
    minors = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert PROJECT["project"]["requires-python"] == f">=3.{minors[0]}"
    assert minors == [str(each) for each in range(int(minors[0]), int(minors[-1]) + 1)]
