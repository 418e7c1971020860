"""The modules of graphpass: imports point one way, and every class has a name of its own. Read from the source."""

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "graphpass"
# From the bottom up. A module may import from its own floor and from those below; docs/architecture.md explains.
FLOORS = (
    ("errors", "nesting", "progress", "wording"),
    ("cache", "files", "options", "records"),
    ("maths",),
    ("graph",),
    ("sites",),
    ("forms",),
    ("datasets",),
    ("runtime",),
    ("passes",),
    ("network", "pytorch"),
    ("evaluation",),
    ("calibration", "verification"),
    ("conversion",),
    ("series", "searching", "sweeps", "inspection"),
    ("report", "client"),
    ("command_options", "inputs"),
    ("api",),
    ("cli",),
)
RUNTIME = frozenset({"runtime.session", "cli.doctor"})  # modules that may import onnxruntime
PILLOW = frozenset({"datasets.images"})  # modules that may import PIL
PYARROW = frozenset({"datasets.tables"})  # modules that may import pyarrow
TORCH = frozenset(
    {"pytorch.attention", "pytorch.exporting", "pytorch.modules", "pytorch.refusals"}
)  # modules that may import torch


def name_of(path: Path) -> str:
    """graphpass/graph/model.py → graph.model; the package root → the empty string."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
INNER = sorted(set(MODULES) - {""})


def imports(tree: ast.Module, modules: frozenset[str] = frozenset(MODULES)) -> set[str]:
    """Full names of all that is imported, in functions too. `from a import b` is a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            inner = source.removeprefix("graphpass").removeprefix(".")
            for alias in node.names:
                is_module = source.startswith("graphpass") and f"{inner}.{alias.name}".lstrip(".") in modules
                found.add(f"{source}.{alias.name}" if is_module else source)
    return found


def inner_imports(name: str) -> set[str]:
    """Modules of graphpass that a module imports, without the prefix; the empty string is the package root."""
    found = (each for each in imports(MODULES[name]) if each.split(".")[0] == "graphpass")
    return {each.removeprefix("graphpass").removeprefix(".") for each in found}


def floor_of(name: str) -> int:
    """The floor of a module, by the first part of its name."""
    first = name.split(".")[0]
    return next(number for number, floor in enumerate(FLOORS) if first in floor)


def test_every_module_has_one_floor_and_every_floor_its_modules() -> None:
    named = [name for floor in FLOORS for name in floor]
    assert sorted(named) == sorted({name.split(".")[0] for name in INNER})


@pytest.mark.parametrize("name", INNER)
def test_imports_point_downward(name: str) -> None:
    upward = {other for other in inner_imports(name) - {""} if floor_of(other) > floor_of(name)}
    assert not upward


@pytest.mark.parametrize("name", INNER)
def test_no_module_imports_the_package_root_or_relatively(name: str) -> None:
    assert "" not in inner_imports(name)
    assert not {each for each in imports(MODULES[name]) if each.startswith(".")}


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({name: inner_imports(name) - {"", name} for name in INNER}).prepare()


@pytest.mark.parametrize("name", sorted(set(MODULES) - RUNTIME))
def test_onnxruntime_is_imported_in_two_places_only(name: str) -> None:
    assert "onnxruntime" not in {each.split(".")[0] for each in imports(MODULES[name])}


def test_pillow_is_imported_in_one_place_only() -> None:
    assert {name for name in MODULES if "PIL" in {each.split(".")[0] for each in imports(MODULES[name])}} == PILLOW


def test_pyarrow_is_imported_in_one_place_only_and_not_before_it_is_needed() -> None:
    assert {name for name in MODULES if "pyarrow" in {each.split(".")[0] for each in imports(MODULES[name])}} == PYARROW
    assert not {"pyarrow", "pyarrow.parquet"} & imports(_outside_functions("datasets.tables"))


def test_tables_get_plain_texts_which_the_terminal_makes_visible() -> None:
    assert [name for name in INNER if "rich.text" in imports(MODULES[name])] == ["cli.terminal"]


def _outside_functions(name: str) -> ast.Module:
    """The imports at the top of a module."""
    return ast.Module([node for node in MODULES[name].body if isinstance(node, ast.Import | ast.ImportFrom)], [])


def test_torch_is_imported_in_its_folder_only_and_when_it_is_needed() -> None:
    assert {name for name in MODULES if "torch" in {each.split(".")[0] for each in imports(MODULES[name])}} == TORCH
    for name in INNER:
        first = imports(_outside_functions(name))
        assert name in TORCH or not {f"graphpass.{each}" for each in TORCH} & first


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = "import graphpass\nfrom graphpass.graph import model, nothing\ndef f():\n    import onnxruntime as ort\n"
    found = imports(ast.parse(source + "from . import errors\n"))
    assert found == {"graphpass", "graphpass.graph.model", "graphpass.graph", "onnxruntime", "."}
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_every_module_is_in_the_list_of_files() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8").partition("graphpass/\n")[2]
    folders, listed = [PACKAGE], set()
    for line in text.partition("\ntests/")[0].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        del folders[depth:]
        folders.append(folders[-1] / name)
        listed |= {folders[-1]} if name.endswith(".py") else set()
    assert listed == {path for path in PACKAGE.rglob("*.py") if path.stat().st_size}


def test_every_function_of_the_pictures_is_there() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"([\w/]+\.py) · (\w+)", "".join(re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)))
    assert len(named) > 30
    for path, function in named:
        source = (PACKAGE.parent if path.startswith("service/") else PACKAGE) / path
        tree = ast.parse(source.read_text("utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert function in {node.name for node in tree.body if isinstance(node, kinds)}, f"{path} · {function}"


def test_no_two_classes_share_a_name() -> None:
    """Whoever reads a name in graphpass, service or benchmarks knows which class it is, whatever the file."""
    homes: dict[str, list[str]] = defaultdict(list)
    for folder in ("graphpass", "service", "benchmarks"):
        for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(f"{path.relative_to(PACKAGE.parent)}:{node.lineno}")
    assert len(homes) > 200
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_every_session_is_given_a_number_of_threads() -> None:
    """`open_session` without them takes all cores, whatever was asked for."""
    without = [
        f"{name}:{call.lineno}"
        for name, tree in MODULES.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (getattr(call.func, "id", "") or getattr(call.func, "attr", "")) == "open_session"
        and len(call.args) < 3
        and "threads" not in {keyword.arg for keyword in call.keywords}
    ]
    assert without == []
