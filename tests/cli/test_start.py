"""Ctrl+C in the first moments of `graphpass`, while modules are imported: one line, and no traceback."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

STARTED = """
import importlib.abc, signal, sys

class Presses(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Presses())
signal.signal(signal.SIGINT, {handler})
sys.argv = ["graphpass", "--version"]
from graphpass.cli.start import main
main()
"""


def interrupted(module: str, handler: str = "signal.default_int_handler") -> subprocess.CompletedProcess[str]:
    """`graphpass --version`, interrupted when it imports a module."""
    code = STARTED.format(module=module, handler=handler)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["graphpass.cli.app", "typer", "rich.progress", "service.keys_command"])
def test_an_interrupt_while_modules_are_imported_is_one_line(module: str) -> None:
    ended = interrupted(module)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "graphpass: error: interrupted\n", "")


def test_who_ignores_interrupts_goes_on() -> None:
    ended = interrupted("typer", "signal.SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("graphpass ")


def test_the_command_begins_there() -> None:
    """Not at the command line itself, whose imports take most of its first second."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["graphpass"] == "graphpass.cli.start:main"
