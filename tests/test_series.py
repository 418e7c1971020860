"""What conversions of one network share: plans of equal levels, baselines, and the plan that is chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass import series as series_module
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert, dataset_for, make_plan
from graphpass.datasets.halves import halves
from graphpass.errors import OptionError
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.shards import merge
from graphpass.graph.model import load
from graphpass.network import Network, prepare
from graphpass.searching.costs import rough_energy
from graphpass.searching.search import search
from graphpass.searching.trials import Goal
from graphpass.series import series
from graphpass.sweeps import combinations, running_order, sweep

EXAMPLE = Path(__file__).parents[1] / "examples" / "fashion_mnist"
OPTIONS = CalibrationOptions(threads=1)
SETTINGS = EvaluationSettings(threads=1, rounds=1, operation_samples=4)


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    network = prepare(load(EXAMPLE / "fashion_mnist.onnx"))
    rows = {}
    for name, count in (("calibration", 48), ("data", 100)):
        with np.load(EXAMPLE / f"{'evaluation' if name == 'data' else name}.npz") as stored:
            rows[name] = dataset_for(network.source, {each: stored[each][:count] for each in stored})
    return {"network": network, **rows}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[CalibrationOptions]:
    """The options of each plan that is made."""
    made: list[CalibrationOptions] = []

    def counted(network: Network, dataset: Any, options: CalibrationOptions, *more: Any, **others: Any) -> Any:
        made.append(options)
        return make_plan(network, dataset, options, *more, **others)

    monkeypatch.setattr(series_module, "make_plan", counted)
    return made


@pytest.mark.parametrize("method", ["optimal", "da-qcfs", "max"])
@pytest.mark.parametrize(("steps", "bits"), [(1, 1), (3, 2), (7, 3)])
def test_equal_levels_share_a_plan_that_is_the_one_of_each(
    given: dict[str, Any], plans: list[CalibrationOptions], method: str, steps: int, bits: int
) -> None:
    """T = 2^B − 1 of the rate code and T = B of the phase code: as if each were converted alone, to the byte."""
    pair = [
        replace(OPTIONS, method=method, time_steps=t, coding=coding) for t, coding in ((steps, "rate"), (bits, "phase"))
    ]
    with series(**given, options=OPTIONS, evaluation=SETTINGS) as conversions:
        shared = [conversions.plan(each) for each in pair]
        conversions.plan(replace(pair[0], levels={shared[0].sites[0].name: 2}))
        assert len(plans) == (1 if steps == 1 else 2)  # of two levels, all sites have two
    for options, plan in zip(pair, shared, strict=True):
        alone = convert(given["network"], given["calibration"], method=method, options=options,
                        time_steps=options.time_steps, coding=options.coding)  # fmt: skip
        again = convert(given["network"], given["calibration"], plan=plan)
        assert again.proto.SerializeToString(deterministic=True) == alone.proto.SerializeToString(deterministic=True)


def test_rows_with_equal_plans_and_baselines_meet(given: dict[str, Any], plans: list[CalibrationOptions]) -> None:
    """Once for 2, 3 and 4 levels and each method; the rows are those of conversions made alone."""
    asked: Any = {"time_steps": [1, 2, 3], "codings": ["rate", "phase"], "methods": ["percentile", "max"]}
    wanted = combinations(OPTIONS, *asked.values())
    assert sorted(running_order(wanted)) == list(range(len(wanted)))
    rows = sweep(given["network"], given["calibration"], given["data"], **asked, options=OPTIONS, evaluation=SETTINGS)
    assert len(plans) == 2 * 4  # 2, 3, 4 and 8 levels
    for options, row in zip(wanted, rows, strict=True):
        with series(**given, options=OPTIONS, evaluation=SETTINGS) as alone:
            known = merge([alone.part(options)]).to_json()
        found = row.evaluation.to_json()
        for each in (known, found):
            each.pop("latency_ms")
            each["provenance"].pop("date")
        assert found == known


def test_the_chosen_plan_is_not_made_again(given: dict[str, Any], plans: list[CalibrationOptions]) -> None:
    """Trials that came after it lost too much, and other plans took its place in memory."""
    found = search(**given, goal=Goal(4.0), options=OPTIONS, evaluation=SETTINGS)
    assert found.chosen is not None and found.chosen < len(found.trials) - 1
    assert len(plans) == len(found.trials)


def test_a_rough_energy_is_near_that_of_the_network(given: dict[str, Any]) -> None:
    _, data = halves(given["data"])
    for selection in (given["network"].selection, replace(given["network"].selection, identity_sites=True)):
        network = prepare(given["network"].source, selection)
        with series(network, given["calibration"], data, OPTIONS, replace(SETTINGS, extras=())) as conversions:
            for steps, coding in ((2, "rate"), (4, "phase")):
                options = replace(OPTIONS, time_steps=steps, coding=coding)
                whole = merge([conversions.part(options)]).total_energy_snn
                assert rough_energy(conversions, options) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize(
    "lists", [([2, 2], ["rate"], ["max"]), ([2], ["rate"] * 2, ["max"]), ([2], ["rate"], ["max"] * 2)]
)
def test_a_list_of_a_sweep_names_each_once(lists: tuple[list[Any], ...]) -> None:
    with pytest.raises(OptionError, match="one is named twice; name each once"):
        combinations(OPTIONS, *lists)
