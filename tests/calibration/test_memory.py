"""The memory budget: one clear line where it does not do, by how much and why; nothing where it does."""

import warnings

import numpy as np
import pytest

from graphpass import api
from graphpass.calibration.memory import LEFT, MemoryBudgetWarning, Need, of_correction, of_run, warn_of
from graphpass.maths.corrections import COLUMNS
from tests.models import build, node

MIB = 1 << 20


def test_what_a_correction_takes():
    """300 rows of 20 inputs and 10 outputs: 20 unknowns; float32 is 4 bytes, float64 8."""
    floats, doubles = 3 * 300 * 20 + 4 * 20 * 10 + 8 * 300 * 10, 3 * 20**2 + 4 * 20 * 10
    assert of_correction("fc", 300, 300, 20, 10).bytes == 4 * floats + 8 * doubles
    floats, doubles = 3 * 100 * 200 + 4 * 200 * 10 + 8 * 300 * 10, 3 * 100**2 + 4 * 200 * 10
    assert of_correction("fc", 300, 100, 200, 10).bytes == 4 * floats + 8 * doubles
    floats, doubles = 3 * 300 * 9 * 64 + 4 * 9 * 64 + 8 * 500 * 64, 3 * 64 * 9**2 + 4 * 9 * 64
    assert of_correction("depthwise", 500, 300, 9, 64, groups=64).bytes == 4 * floats + 8 * doubles
    floats, doubles = 300 * 3 * 20 + (4 * 20 + 8 * 300) * 10000, 3 * 20**2 + 4 * 20 * COLUMNS
    assert of_correction("head", 300, 300, 20, 10000).bytes == 4 * floats + 8 * doubles
    assert of_run(1000, 1) == Need(2000, "one run of the network on 1 sample")


def test_what_fits_is_not_spoken_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(lambda budget: [Need(int(8 * MIB * LEFT), "a run")], 8 * MIB)


def test_the_excess_the_reason_and_the_remedy():
    """What is needed may become more with the budget; the advice has room for that."""
    rest = [Need(MIB // 8, "a trifle"), Need(2 * MIB, "the correction of 'fc'")]
    with pytest.warns(MemoryBudgetWarning) as caught:
        warn_of(lambda budget: [Need((5 if budget < 10 * MIB else 7) * MIB, "the run"), *rest], 8 * MIB)
    assert str(caught[0].message) == (
        "the memory budget of 8 MiB is exceeded by about 5 MiB: the run takes 5 MiB, "
        "the correction of 'fc' takes 2 MiB; "
        "3 MiB are left for that (--memory-budget 25MiB has room)"
    )


def test_a_conversion_beyond_its_budget_says_so_and_the_advice_is_enough():
    w = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    model = build(
        [node("MatMul", "x a", "h", "fc1"), node("Relu", "h", "r", "relu"), node("MatMul", "r b", "y", "fc2")],
        {"x": ["N", 256]}, {"y": ["N", 256]}, {"a": w, "b": w},
    )  # fmt: skip
    x = np.random.default_rng(1).random((96, 256), dtype=np.float32)
    with pytest.warns(MemoryBudgetWarning, match="exceeded by about .* the correction of 'fc") as caught:
        api.convert(model, x, time_steps=4, memory_budget="1MiB")
    advice = str(caught[0].message).split("--memory-budget ")[1].split()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api.convert(model, x, time_steps=4, memory_budget=advice)
