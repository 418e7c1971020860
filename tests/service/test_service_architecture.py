"""Imports between the modules of service, read from their source: they point one way, and graphpass knows nothing."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the bottom up. A module may import from its own floor and from those below.
FLOORS = (
    ("errors", "extra", "shortage"),
    ("settings", "problems"),
    ("storage",),
    ("auth", "sandbox", "logs", "metrics", "connections"),
    ("jobs",),
    ("api",),
    ("app",),
    ("serving",),
    ("commands", "keys_command"),
)


def modules(package: str) -> dict[str, set[str]]:
    """Full name of every module of a package → full names of what it imports, in functions too."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        if "migrations" in path.parts:
            continue
        name = ".".join(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
        found[name] = imported
    return found


SERVICE = modules("service")


def floor_of(name: str) -> int:
    """The floor of a module, by the second part of its name."""
    return next(number for number, floor in enumerate(FLOORS) if name.split(".")[1] in floor)


@pytest.mark.parametrize("name", sorted(set(SERVICE) - {"service"}))
def test_imports_point_downward(name: str) -> None:
    inner = {each for each in SERVICE[name] if each.startswith("service.")}
    assert {each for each in inner if floor_of(each) > floor_of(name)} == set()
    assert not {each for each in SERVICE[name] if each.startswith(".") or each == "service"}


def test_no_circle_of_modules() -> None:
    TopologicalSorter(
        {
            name: {each for each in SERVICE if each != name and any(f"{e}.".startswith(f"{each}.") for e in found)}
            for name, found in SERVICE.items()
        }
    ).prepare()  # raises CycleError, which names one


def test_no_circle_of_scripts() -> None:
    page = {path.name: path.read_text("utf-8") for path in (ROOT / "service" / "page").glob("*.js")}
    imported = {name: set(re.findall(r'from "\./(\w+\.js)"', text)) for name, text in page.items()}
    assert imported["main.js"] <= set(page)
    TopologicalSorter(imported).prepare()


def test_graphpass_does_not_know_the_service() -> None:
    assert {
        name for name, found in modules("graphpass").items() if any(e.split(".")[0] == "service" for e in found)
    } == set()


def test_every_module_is_in_the_list_of_files() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("\nservice/\n")[2]
    folder, listed = "", set()
    for line in text.partition("```")[0].splitlines():
        name = line.split()[0]
        folder = name if name.endswith("/") else folder if line.startswith("    ") else ""
        listed.add(f"{folder}{name}")
    paths = [path for path in (ROOT / "service").rglob("*.py") if path.name != "__init__.py"]
    files = {path.relative_to(ROOT / "service").as_posix() for path in paths if "migrations" not in path.parts}
    assert files - listed == set()


@pytest.mark.parametrize("name", sorted(name for name in SERVICE if not name.startswith("service.sandbox.")))
def test_only_the_child_of_the_sandbox_imports_what_reads_models(name: str) -> None:
    heavy = {each for each in SERVICE[name] if each.split(".")[0] in {"onnx", "onnxruntime", "onnx_graphsurgeon"}}
    light = ("graphpass.errors", "graphpass.nesting", "graphpass.options", "graphpass.wording")
    reading = {each for each in SERVICE[name] if each.startswith("graphpass.") and not each.startswith(light)}
    assert not heavy | reading
