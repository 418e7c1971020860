"""The public names: none is a submodule's, each works every time, whatever was imported before."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
import venv
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import graphpass

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "public_names.py"
LIBRARY = "graphpass.runtime.native."  # the native operators: no module of Python
TORCH = "graphpass.pytorch."  # modules that import PyTorch, an extra
ALL_MODULES = sorted(
    each.name for each in pkgutil.walk_packages(graphpass.__path__, "graphpass.") if not each.name.startswith(LIBRARY)
)
WITHOUT_TORCH = [name for name in ALL_MODULES if not name.startswith(TORCH)]
MODULES = ALL_MODULES if find_spec("torch") else WITHOUT_TORCH
FUNCTIONS = [name for name in graphpass.__all__ if inspect.isfunction(getattr(graphpass, name))]

IN_EVERY_ORDER = """
import importlib, os, sys
for name in sys.argv[1:]:
    child = os.fork()  # nothing of graphpass is imported yet
    if not child:
        importlib.import_module(name)
        import graphpass
        CHECKS
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


def run(*arguments: str | Path, python: str | Path = sys.executable) -> str:
    done = subprocess.run([python, "-I", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_public_name_is_the_name_of_a_submodule() -> None:
    submodules = {name.split(".")[1] for name in MODULES}
    assert len(submodules) > 15 and submodules.isdisjoint(graphpass.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert graphpass.__version__ == version("graphpass") and "__version__" in dir(graphpass)


def test_every_module_can_be_imported_and_leaves_the_names_as_they_are() -> None:
    before = {name: getattr(graphpass, name) for name in graphpass.__all__}
    for name in MODULES:
        import_module(name)
    assert {name: getattr(graphpass, name) for name in graphpass.__all__} == before
    assert all(map(callable, before.values())) and set(graphpass.__all__) <= set(dir(graphpass))


def test_the_list_for_type_checkers_is_the_list() -> None:
    guarded = next(
        node for node in ast.parse(Path(graphpass.__file__).read_text("utf-8")).body if isinstance(node, ast.If)
    )
    homes = {
        alias.name: node.module.removeprefix("graphpass.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert homes == graphpass._HOMES and sorted(homes) == graphpass.__all__


def test_every_name_twice(tmp_path: Path) -> None:
    assert run(SCRIPT, tmp_path) == f"used {len(graphpass.__all__)} names twice\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_help_of_a_function_explains_all_of_its_arguments(name: str) -> None:
    function = getattr(graphpass, name)
    text = inspect.getdoc(function) or ""
    explained = set(re.findall(r"\w+", text))
    if "All other options are as for `convert`" in text:
        explained |= set(re.findall(r"\w+", f"{graphpass.convert.__doc__} {graphpass.evaluate.__doc__}"))
    assert text and set(inspect.signature(function).parameters) - explained == set()


@pytest.mark.slow
def test_from_an_installed_wheel_in_every_order(tmp_path: Path) -> None:
    """All names, each name alone, and each module imported first."""
    wheels = tmp_path / "wheels"
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels))
    subprocess.run([*command, "--config-settings=wheel.cmake=false", str(ROOT)], check=True)
    (wheel,) = wheels.glob("graphpass-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu,client]"], check=True)
    for number, names in enumerate([(), *((name,) for name in graphpass.__all__)]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        run(SCRIPT, folder, *names, python=python)
    checks = "; ".join(f"assert callable(graphpass.{name})" for name in graphpass.__all__)
    run("-c", IN_EVERY_ORDER.replace("CHECKS", f"{checks}; {checks}"), *WITHOUT_TORCH, python=python)
