"""file.py:function as a dataset: the samples are the dicts that the function yields."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from graphpass.datasets.arrays import array_part
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.parts import LABELS, InputSpec, Part, checked, label_columns, named, numbered, require_unmasked
from graphpass.errors import DataError


def code_of(text: str) -> tuple[Path, str] | None:
    """File and function of a text in the form file.py:function; None for other texts."""
    found = re.fullmatch(r"(.+\.py):(\w+)", text)
    return (Path(found[1]), found[2]) if found else None


def open_function(path: Path, name: str, inputs: Sequence[InputSpec], allow_code: bool) -> Dataset:
    """Import the file and check the first dict that its function yields. allow_code: whether it may be imported."""
    where = f"{path}:{name}"
    if not allow_code:
        raise DataError(f"{where}: data from code is not allowed here", "save what it yields as .npz")
    function = imported(path, name, "yielding dicts of arrays")

    def parts() -> Iterator[Part]:
        return _yielded(where, _begun(where, function))

    if _begun(where, function) is _begun(where, function):
        raise DataError(f"{where}: returns one iterator twice", "return a fresh one from every call, or use yield")
    first, _ = next(checked(where, parts(), inputs))
    description = f"{path.name}:{name}"
    return Dataset(description, None, LABELS in label_columns(first, inputs), tuple(inputs), parts)


def imported(path: Path, name: str, what: str) -> Callable[..., Any]:
    """A function of a Python file; the file is run. what: what the function does, for the error if it is missing."""
    module_name = f"graphpass_data_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path}: cannot be imported", "give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a class's module up there
    with named(f"{path}: failed on import", "correct it; if it imports its neighbours, set PYTHONPATH to its folder"):
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{path}: has no function {name!r}", f"define {name}() in it, {what}")
    return cast(Callable[..., Any], function)


def _begun(where: str, function: Callable[[], Any]) -> Iterator[Any]:
    with named(f"{where}: failed", "correct the function; it takes no arguments and yields dicts of arrays"):
        return iter(function())


def _yielded(where: str, items: Iterator[Any]) -> Iterator[Part]:
    for here, item in numbered(where, items, "function"):
        if not isinstance(item, Mapping):
            raise DataError(f"{here}: is a {type(item).__name__}", "yield dicts of arrays keyed by input name")
        for key, value in item.items():
            require_unmasked(here, str(key), value)
        with named(f"{here}: is not made of arrays", "yield dicts of numpy arrays"):
            # copies, since a function may fill the same buffer again while batches of it are in use
            arrays = {str(key): np.array(value) for key, value in item.items()}
        yield array_part(here, arrays)
