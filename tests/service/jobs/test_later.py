"""Modules that are imported when something of them is asked for."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from service.jobs.later import later


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package `late_one` with a module `errors`, and a module `late_user` that imports both."""
    (tmp_path / "late_one").mkdir()
    (tmp_path / "late_one" / "__init__.py").write_text("from late_one import errors\nanswer = 42\n")
    (tmp_path / "late_one" / "errors.py").write_text("class Broken(Exception): pass\n")
    (tmp_path / "late_user.py").write_text("import late_one\nfrom late_one import errors\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("late_one", "late_one.errors", "late_user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "late_one"


def used(*names: str) -> ModuleType:
    with later(*names):
        return import_module("late_user")


def test_nothing_is_imported_until_it_is_asked_for(package: str) -> None:
    user = used(package, f"{package}.errors")
    assert not {package, f"{package}.errors"} & set(sys.modules)
    assert user.errors.Broken is import_module(f"{package}.errors").Broken
    assert user.late_one.answer == 42
    with pytest.raises(AttributeError):
        user.late_one.nothing  # noqa: B018


def test_who_imports_it_afterwards_gets_the_module_itself(package: str) -> None:
    user = used(package, f"{package}.errors")
    assert import_module(package) is not user.late_one
    assert user.late_one.errors.Broken is import_module(package).errors.Broken


def test_what_is_imported_already_stays(package: str) -> None:
    module = import_module(package)
    assert used(package, f"{package}.errors").late_one is module


def test_asking_while_it_is_set_up_imports_it(package: str, tmp_path: Path) -> None:
    (tmp_path / "late_user.py").write_text("import late_one\nanswer = late_one.answer\n")
    assert used(package, f"{package}.errors").answer == 42


def test_stand_ins_go_when_an_import_fails(package: str, tmp_path: Path) -> None:
    (tmp_path / "late_user.py").write_text("import late_one\n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        used(package, f"{package}.errors")
    assert package not in sys.modules
