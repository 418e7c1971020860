"""Modules that are imported when something of them is asked for: not where they would only take memory."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands in for a module wherever that was imported inside `later`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks whether it is a package
            raise AttributeError(name)
        _leave()
        return getattr(import_module(self.__name__), name)


@contextmanager
def later(*names: str) -> Iterator[None]:
    """Imports inside get stand-ins for these modules: a package first, then modules of it that `from package import`
    names. Where one is imported already, nothing happens. Whoever imports them afterwards gets the modules themselves.
    """
    if not sys.modules.keys() & set(names):
        for name in names:
            sys.modules[name] = _Later(name)
            package, _, last = name.rpartition(".")
            if package:
                setattr(sys.modules[package], last, sys.modules[name])
    try:
        yield
    finally:
        _leave()


def _leave() -> None:
    for name, module in list(sys.modules.items()):
        if isinstance(module, _Later):
            del sys.modules[name]
