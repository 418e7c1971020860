"""The memory budget of a calibration: a step that cannot fit is reported before the work begins.

    budget = live tensors 3/8 + rows of the ANN 1/4 + the rest 3/8        the first two wait in files beyond that

The rest has to do for what can be made no smaller: a run of the network on a few samples (or on its fixed batch), the
correction of the largest layer, and samples that were made up. The network itself comes on top.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphpass.maths.corrections import COLUMNS

STORE_SHARE = 3 / 8  # of the memory budget: live tensors
SAMPLES_SHARE = 1 / 4  # of the memory budget: the ANN's rows
LEFT = 1 - STORE_SHARE - SAMPLES_SHARE
CHECKED_SAMPLES = 4  # that the converted network is run on at once in the end, where its batch is free
RUN = 2  # a run holds what is fetched from it, and about as much that is not
COPIES = 3  # of the sampled inputs, and of the normal equations, while a layer is corrected
MIB = 1 << 20
CHANGES = 4  # of a layer's weights while they are corrected: float32, and of COLUMNS outputs at once float64
ROWS = 8  # float32 of each sampled pre-activation: x, a, x_q, and what is computed of them


class MemoryBudgetWarning(UserWarning):
    """A calibration that takes more memory than its budget."""


@dataclass(frozen=True)
class Need:
    """Bytes that a calibration cannot do without, and what for."""

    bytes: int
    what: str


def of_run(fetched: int, samples: int) -> Need:
    """One run of the network. fetched: bytes of the tensors that are taken from it."""
    return Need(RUN * fetched, f"one run of the network on {samples} sample{'s' if samples > 1 else ''}")


def of_correction(layer: str, rows: int, corrected: int, inputs: int, outputs: int, groups: int = 1) -> Need:
    """A layer of so many inputs an output corrected on so many rows, and of its outputs so many rows sampled."""
    unknowns = min(corrected, inputs)
    floats = COPIES * corrected * inputs * groups + CHANGES * outputs * inputs + ROWS * rows * outputs
    doubles = COPIES * groups * unknowns**2 + CHANGES * inputs * min(outputs, COLUMNS)
    return Need(4 * floats + 8 * doubles, f"the correction of {layer!r}")


def warn_of(needs_within: Callable[[int], Sequence[Need]], budget: int) -> None:
    """Warn where what is needed does not fit what a budget leaves for it: by how much, for what, and what would do.

    needs_within: what is needed within a budget; more of one may be put to more use, up to some end.
    """
    needs = needs_within(budget)
    available, needed = int(budget * LEFT), sum(need.bytes for need in needs)
    if needed <= available:
        return
    enough = budget
    while (wanted := sum(need.bytes for need in needs_within(enough))) > int(enough * LEFT):
        enough = (int(wanted / LEFT) // MIB + 1) * MIB
    largest = sorted(needs, key=lambda need: -need.bytes)
    why = ", ".join(f"{need.what} takes {_size(need.bytes)}" for need in largest if need.bytes > available / 4)
    warnings.warn(
        f"the memory budget of {_size(budget)} is exceeded by about {_size(needed - available)}: {why}; "
        f"{_size(available)} are left for that (--memory-budget {enough // MIB}MiB has room)",
        MemoryBudgetWarning,
        stacklevel=2,
    )


def _size(count: int) -> str:
    """Bytes in words, rounded up."""
    unit, size = ("GiB", 2**30) if count >= 10 * 2**30 else ("MiB", 2**20)
    return f"{-(-count // size)} {unit}"
