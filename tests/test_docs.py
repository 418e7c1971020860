"""The documentation against the code: operators, links and command lines."""

import re
import shlex
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from graphpass.cli.app import app
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import CODINGS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OPERATORS = operators.functions(CODINGS[0], 21)


def rows(page: str, column: str) -> list[str]:
    """Names in the first column of the table whose header starts with `column`."""
    table = re.search(rf"^\| {column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table, f"no table of {column}s"
    return re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)


@pytest.mark.parametrize("function", OPERATORS, ids=lambda function: function.name)
def test_every_operator_has_a_page_with_its_inputs_outputs_and_attributes(function) -> None:
    path = ROOT / "docs" / "operators" / f"{function.name}_v{operators.VERSION}.md"
    page = path.read_text("utf-8")
    assert page.startswith(f"# {function.name}, version {operators.VERSION}\n")
    assert f"Domain `{SPIKING_DOMAIN}`" in page
    assert rows(page, "input") == list(function.input)
    assert rows(page, "output") == list(function.output)
    assert sorted(rows(page, "attribute")) == sorted(function.attribute)


def test_every_operator_page_has_its_operator() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "operators").glob("*.md")}
    assert pages == {f"{function.name}_v{operators.VERSION}" for function in OPERATORS}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_point_to_files(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


def command_lines(text: str) -> list[list[str]]:
    """Arguments of every line `graphpass …` in code blocks, fenced or indented; a backslash continues a line."""
    joined = re.sub(r"\\\n\s*", " ", text)
    fenced = "".join(re.findall(r"^```\w*\n(.*?)^```", joined, re.MULTILINE | re.DOTALL))
    indented = "\n".join(re.findall(r"^    (.*)$", re.sub(r"^```.*?^```", "", joined, flags=re.M | re.S), re.MULTILINE))
    lines = re.findall(r"^(?:\$ |exec )?(?:[A-Z_]+=\S+ )*graphpass (.+)$", f"{fenced}\n{indented}", re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@cache
def commands() -> Any:
    """All commands of `graphpass`."""
    for command in entry_points(group="graphpass.commands"):
        command.load()(app)
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Parse without running. Raises the usage errors of the command line."""
    root = commands()
    name, *rest = arguments
    if name.startswith("-"):
        assert any(name in option.opts for option in root.params) or name == "--help", name
        return
    assert name in root.commands, f"no command {name}"
    if "--help" not in rest:
        root.commands[name].make_context(name, rest)


@pytest.mark.parametrize("page", ["README.md", "docs/service.md"])
def test_the_command_lines_of_the_documentation_parse(page: str) -> None:
    found = command_lines((ROOT / page).read_text("utf-8"))
    assert found
    for arguments in found:
        parse(arguments)


def test_the_command_line_of_the_demo_parses() -> None:
    text = (ROOT / "scripts" / "demo").read_text("utf-8").replace('"$graphpass"', "graphpass")
    found = command_lines(f"```\n{text}```\n")
    assert [arguments[0] for arguments in found] == ["sweep", "convert", "verify", "serve"]
    for arguments in found:
        parse(arguments)


@pytest.mark.parametrize(
    "line", ["convert a.onnx", "convert a.onnx b.onnx --tme-steps 4", "convert a.onnx b.onnx --time-steps four"]
)
def test_wrong_command_lines_do_not_parse(line: str) -> None:
    with pytest.raises(typer.BadParameter.__base__):
        parse(command_lines(f"    graphpass {line}\n")[0])


def test_unknown_commands_do_not_parse() -> None:
    with pytest.raises(AssertionError, match="no command"):
        parse(command_lines("    graphpass \\\n        convret a.onnx\n")[0])
