"""Execution providers as onnxruntime takes them: names, or pairs of a name and options, in order of preference.

On CUDA, onnxruntime lets float32 products be rounded to TF32 (11 significant bits instead of 24), which moves currents
across thresholds and so changes counts. Here that is off, unless `use_tf32` is among the options.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from graphpass.errors import SessionError

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TF32 = "use_tf32"
EXACT: Mapping[str, Mapping[str, str]] = {CUDA: {TF32: "0"}}  # options that hold where they are not given
REMEDY = 'write names or pairs, as in [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]'

Providers = Sequence[str | tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Provider:
    """One provider. given: its options as texts, those that were asked for."""

    name: str
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, dict[str, str]]:
        """As onnxruntime takes it, with the options of EXACT where they were not given."""
        return self.name, {**EXACT.get(self.name, {}), **self.given}


def providers_of(providers: Providers | None) -> tuple[Provider, ...]:
    """The providers that were asked for; the CPU if none was.

    Raises SessionError for what is neither a name nor a pair, for a provider that appears twice, of which onnxruntime
    would drop one, and for options of the CPU, which has none and would ignore them.
    """
    if isinstance(providers, str):
        raise SessionError(f"providers is the text {providers!r}, not a list", REMEDY)
    if not (providers is None or isinstance(providers, Sequence)):
        raise SessionError(f"providers is of type {type(providers).__name__}, not a list", REMEDY)
    found = tuple(_provider(each) for each in providers or [CPU])
    for number, each in enumerate(found):
        if each.name in [other.name for other in found[:number]]:
            raise SessionError(f"execution provider {each.name!r} appears twice", "leave one out")
        if each.name == CPU and each.given:
            raise SessionError(
                f"{CPU} has no options, {next(iter(each.given))!r} would have no effect",
                "leave it out; threads=… sets the number of threads",
            )
    return found


def _provider(given: Any) -> Provider:
    if isinstance(given, str):
        return Provider(given)
    pair = isinstance(given, tuple | list) and len(given) == 2
    if not (pair and isinstance(given[0], str) and isinstance(given[1], Mapping)):
        raise SessionError(
            f"{given!r} is neither the name of an execution provider nor a pair of it and options", REMEDY
        )
    return Provider(given[0], {str(key): _text(value) for key, value in given[1].items()})


def _text(value: Any) -> str:
    """onnxruntime reads options from texts, truth as 1 and 0."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def runtimes() -> dict[str, str]:
    """The packages of onnxruntime that are installed, with their versions."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
