"""Every name that a file imports from this repository exists, also in files that are skipped without an extra."""

import ast
import importlib
import importlib.util
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "benchmarks", "docs", "examples", "scripts")
PACKAGES = ("graphpass", "service")  # imported; the folders above are read


def imports(tree: ast.Module) -> list[tuple[str, str]]:
    """(module, name) of every `from module import name` in the file, inside functions too."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [(str(node.module), alias.name) for node in nodes for alias in node.names]


@cache
def defined(path: Path) -> set[str]:
    """Names that the file itself makes: by assignment, definition or import."""
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }
    return names | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


@cache
def exists(module: str, name: str) -> bool:
    """Whether the module of this repository has the name. One that needs an extra that is not there is read."""
    if module.split(".")[0] in PACKAGES:
        with suppress(ModuleNotFoundError):
            found = importlib.import_module(module)
            return hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None
    folder = ROOT.joinpath(*module.split("."))
    if (folder / f"{name}.py").exists() or (folder / name).is_dir():
        return True
    path = folder.with_suffix(".py") if folder.with_suffix(".py").exists() else folder / "__init__.py"
    return path.exists() and name in defined(path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_imported_name_exists(folder):
    missing = [
        f"{path.relative_to(ROOT)}: from {module} import {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for module, name in imports(ast.parse(path.read_text("utf-8")))
        if module.split(".")[0] in (*FOLDERS, *PACKAGES) and not exists(module, name)
    ]
    assert not missing


def test_a_name_that_moved_is_found():
    assert exists("tests.test_imports", "exists") and exists("tests", "test_imports")
    assert not exists("tests.test_imports", "moved") and not exists("tests.nowhere", "x")
    assert exists("graphpass", "convert") and not exists("graphpass", "moved")
