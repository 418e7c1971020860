"""A search finds what trying everything finds, reports on data that it did not choose by, and goes on where it was."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphpass import api
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for
from graphpass.errors import DataError, OptionError
from graphpass.evaluation.drop import Drop
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.graph.model import load
from graphpass.network import prepare
from graphpass.report.pages import search_report
from graphpass.report.trials import conclusion
from graphpass.searching import course, looks
from graphpass.searching.search import search
from graphpass.searching.trials import Found, Goal, Setting, Trial
from tests.models import build, node

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"
QUICK = EvaluationSettings(threads=1, rounds=1, operation_samples=8)
OPTIONS = CalibrationOptions(threads=1, method="percentile")


@pytest.fixture(scope="module")
def fashion() -> dict[str, Any]:
    source = load(EXAMPLE / "fashion_mnist.onnx")
    rows = {}
    for name, count in (("calibration", 64), ("evaluation", 600)):
        with np.load(EXAMPLE / f"{name}.npz") as stored:
            rows[name] = dataset_for(source, {each: stored[each][:count] for each in stored})
    return {"network": prepare(source), "calibration": rows["calibration"], "data": rows["evaluation"]}


def found_in(fashion: dict[str, Any], goal: Goal, **more: Any) -> Found:
    return search(**fashion, goal=goal, options=OPTIONS, evaluation=QUICK, **more)


def test_it_finds_the_cheapest_of_all_settings(fashion: dict[str, Any]) -> None:
    """Beside every T and code on the same half of the data: at most as dear as the best within the limit."""
    from graphpass.datasets.halves import halves
    from graphpass.sweeps import sweep

    found = found_in(fashion, Goal(1.5))
    assert found.chosen is not None and found.conversion and found.evaluation and found.drop
    judged, rest = halves(fashion["data"])
    rows = [
        row.evaluation
        for coding, steps in course.STEPS.items()
        for row in sweep(fashion["network"], fashion["calibration"], judged, time_steps=steps[:6], codings=[coding],
                         methods=["percentile"], options=OPTIONS, evaluation=replace(QUICK, others=("snn",)))
    ]  # fmt: skip
    good = [row.total_energy_snn for row in rows if 100 * (row.ann.top1 - row.snn.top1) <= 1.5]
    chosen = found.trials[found.chosen]
    assert chosen.within and chosen.energy <= min(good) * 1.02
    assert len([trial for trial in found.trials if not trial.is_quick]) <= 3
    assert found.evaluation.provenance.evaluation_data.endswith("the odd samples")
    assert found.evaluation.samples == rest.samples and found.evaluation.baseline.accuracy.top1 is not None
    assert [site.levels for site in found.conversion.plan.sites] == [
        chosen.setting.levels.get(site.name, max(2, found.conversion.plan.levels))
        for site in found.conversion.plan.sites
    ]


def test_it_goes_on_where_it_was_interrupted(fashion: dict[str, Any], tmp_path: Path) -> None:
    whole = found_in(fashion, Goal(1.0, codings=("phase",)), cache=tmp_path / "a")
    calls: list[Trial] = []

    def stop(trial: Trial) -> None:
        calls.append(trial)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found_in(fashion, Goal(1.0, codings=("phase",)), cache=tmp_path / "b", tried=stop)
    again = found_in(fashion, Goal(1.0, codings=("phase",)), cache=tmp_path / "b")
    assert [each.seconds < 1 for each in again.trials][:2] == [True, True]  # found, not made
    assert [(each.setting, each.drop, each.energy) for each in again.trials] == [
        (each.setting, each.drop, each.energy) for each in whole.trials
    ]
    assert again.conversion and whole.conversion
    assert again.conversion.proto.SerializeToString() == whole.conversion.proto.SerializeToString()


@pytest.mark.parametrize("minimise", ["time-steps", "latency"])
def test_other_aims(fashion: dict[str, Any], minimise: str) -> None:
    found = found_in(fashion, Goal(2.0, minimise, most_steps=8))
    assert found.chosen is not None
    good = [trial for trial in found.trials if trial.within and not trial.is_quick]
    least = min(trial.cost for trial in good)
    assert found.trials[found.chosen].cost <= (1.05 if minimise == "latency" else 1) * least
    assert all(trial.setting.time_steps <= 8 for trial in found.trials)
    if minimise == "time-steps":
        assert found.trials[found.chosen].cost == found.trials[found.chosen].setting.time_steps


def test_where_nothing_is_good_enough_it_names_the_sites(fashion: dict[str, Any]) -> None:
    found = found_in(fashion, Goal(1e-9, most_steps=1))
    assert found.chosen is None and found.conversion is None and found.evaluation is None
    names = [site.name for site in fashion["network"].coverage.sites]
    assert found.demanding and set(found.demanding) <= set(names)
    left = [trial for trial in found.trials if trial.setting.left]
    assert left and all(trial.purpose == "analogue sites" for trial in left[:1])
    assert left[0].drop.value < found.trials[0].drop.value  # less is lost with the most demanding sites analogue
    json.dumps(found.to_json(), allow_nan=False)
    assert set(found.shares) == set(names)
    assert sum(found.shares.values()) == pytest.approx(1) and list(found.shares)[:3] == list(found.demanding)
    page = search_report(found)
    assert all(name in page for name in names) and "no setting lost at most" in page


def network_with_a_wild_site() -> onnx.ModelProto:
    """Two branches: one well behaved, one whose activation is 1,000 times as large in one of 200 samples."""
    random = np.random.default_rng(0)
    nodes = [
        node("Gemm", "x w1", "a", "tame_layer"), node("Relu", "a", "ra", "tame"),
        node("Gemm", "x w2", "b", "wild_layer"), node("Exp", "b", "eb", "exp"), node("Relu", "eb", "rb", "wild"),
        node("Concat", "ra rb", "c", "join", axis=1), node("Gemm", "c w3", "y", "last"),
    ]  # fmt: skip
    weights = {"w1": (8, 16), "w2": (8, 16), "w3": (32, 4)}
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    constants["w2"] *= 2
    return build(nodes, {"x": ["N", 8]}, {"y": ["N", 4]}, constants)


def test_a_demanding_site_stays_analogue_where_that_is_what_it_takes() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((400, 8)).astype(np.float32)
    found = api.search(network_with_a_wild_site(), x[:200], x[200:], max_drop=3.0, time_steps=3, threads=1)
    assert found.chosen is not None
    assert found.trials[found.chosen].setting.left == ("wild",)
    assert [site.name for site in found.conversion.plan.sites] == ["tame"]
    assert any(entry.node == "wild" for entry in found.conversion.plan.left)


def test_arguments_that_make_no_sense() -> None:
    proto, x = network_with_a_wild_site(), np.zeros((8, 8), np.float32)
    with pytest.raises(OptionError, match="a search needs max_drop"):
        api.search(proto, x, x)
    with pytest.raises(OptionError, match="max_drop is 0"):
        api.search(proto, x, x, max_drop=0)
    with pytest.raises(OptionError, match="minimise"):
        api.search(proto, x, x, max_drop=1, minimise="cost")
    with pytest.raises(OptionError, match="coding"):
        api.search(proto, x, x, max_drop=1, coding="morse")
    with pytest.raises(DataError, match="3 samples; one half decides"):
        api.search(proto, x, x[:3], max_drop=1)
    with pytest.raises(OptionError, match="cannot be set on metric regression here; give labels"):
        api.search(proto, x, x, max_drop=1, metric="regression")


def test_settings_without_levels_are_uniform() -> None:
    assert Setting(4, "rate").is_uniform and not Setting(4, "rate", {"a": 3}).is_uniform


def test_steps_beyond_the_usual_ones_and_between_them_are_tried_where_they_are_allowed() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((40, 8)).astype(np.float32)
    many = api.search(network_with_a_wild_site(), x, x, max_drop=1e-6, time_steps=100, coding="rate", threads=1)
    assert max(trial.setting.time_steps for trial in many.trials) == 100
    few = api.search(network_with_a_wild_site(), x, x, max_drop=1e-6, time_steps=5, coding="rate", threads=1)
    assert max(trial.setting.time_steps for trial in few.trials) == 5


def test_a_target_with_fewer_levels_is_searched_within_them() -> None:
    x = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    how = {"form": "integer", "target": "tensorrt", "coding": "phase", "exclude": "wild", "threads": 1}
    found = api.search(network_with_a_wild_site(), x, x, max_drop=1e-6, **how)
    assert 0 < max(trial.setting.time_steps for trial in found.trials) <= 7


def test_a_function_is_asked_again(tmp_path: Path) -> None:
    """It may give other samples: what it gave last time is not kept. Too few samples are seen before the work."""
    onnx.save(network_with_a_wild_site(), tmp_path / "ann.onnx")
    code = tmp_path / "data.py"
    text = "import numpy as np\ndef f():\n    yield {'x': np.random.default_rng(0).normal(size=(N, 8))}\n"
    code.write_text(text.replace("N", "40"))
    how = {"max_drop": 90, "method": "max", "threads": 1, "cache": tmp_path / "kept", "allow_code": True}
    api.search(tmp_path / "ann.onnx", f"{code}:f", f"{code}:f", **how)
    assert list((tmp_path / "kept").glob("*")) == [] if (tmp_path / "kept").exists() else True
    code.write_text(text.replace("N", "2"))
    with pytest.raises(DataError, match="2 samples; one half decides"):
        api.search(tmp_path / "ann.onnx", f"{code}:f", f"{code}:f", **how)


@pytest.mark.parametrize(
    ("lost", "noise", "verdict", "words"),
    [
        (0.4, None, "within", "it lost 0.40 points of top1"),
        (1.5, 1.0, "within noise", "That is more than 1, but the noise explains it"),
        (2.5, 1.0, "exceeded", "That is more than 1 by more than its noise: allow less, or give more samples"),
        (1.5, None, "exceeded", "That is more than 1: allow less, or give more samples"),
        (1.5, math.nan, "exceeded", "That is more than 1: allow less, or give more samples"),
    ],
)
def test_it_says_whether_the_other_half_bears_the_choice_out(
    lost: float, noise: float | None, verdict: str, words: str
) -> None:
    trial = Trial("levels", Setting(4, "phase"), Drop("top1", "points", 0.5, 0.2), True, 1.0, 1.0, 1.0, 0.0, 0.2, 1.0)
    found = Found(Goal(1.0), (trial,), 0, 0, "no cheaper one", drop=Drop("top1", "points", lost, noise))
    assert found.verdict == found.to_json()["verdict"] == verdict
    assert words in conclusion(found)


def test_quick_looks_judge_some_batches_and_are_never_chosen(
    fashion: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of four batches of a half."""
    monkeypatch.setattr(looks, "JUDGED", 64)
    found = found_in(fashion, Goal(2.0))
    assert found.chosen is not None
    full = found.trials[found.chosen]
    assert not full.is_quick
    look = next(each for each in found.trials if each.is_quick and each.setting == full.setting)
    assert look.purpose == full.stage and look.drop.noise and full.drop.noise
    assert look.drop.noise > 1.2 * full.drop.noise
    assert look.energy == pytest.approx(full.energy, rel=0.1)


def test_there_are_no_quick_looks_where_there_is_little_data(fashion: dict[str, Any]) -> None:
    few = next(iter(fashion["calibration"].batches(20))).inputs
    given = {**fashion, "calibration": dataset_for(fashion["network"].source, dict(few))}
    found = search(**given, goal=Goal(2.0, codings=("phase",)), options=OPTIONS, evaluation=QUICK)
    assert not any(trial.is_quick for trial in found.trials)


@pytest.mark.parametrize("steps", [4, 5])
def test_a_qcfs_network_is_found_at_its_own_levels(steps: int) -> None:
    """They lose nothing. More levels lose much, so that none of them may rule these out; T = 5 is no usual one."""
    random = np.random.default_rng(0)
    chain = ["Div", "Mul", "Add", "Floor", "Div", "Clip", "Mul"]
    others = ["g", "l", "half", None, "l", "zero one", "g"]
    nodes, last = [node("Gemm", "x w0", "t0", "first")], "t0"
    for k, (op, other) in enumerate(zip(chain, others, strict=True)):
        nodes.append(node(op, f"{last} {other}" if other else last, f"q{k}", f"{op.lower()}{k}"))
        last = f"q{k}"
    nodes.append(node("Gemm", f"{last} w1", "y", "second"))
    numbers = {"g": 2.0, "l": float(steps), "half": 0.5, "zero": 0.0, "one": 1.0}
    constants = {name: np.float32(value) for name, value in numbers.items()}
    for name, shape in (("w0", (8, 64)), ("w1", (64, 5))):
        constants[name] = random.standard_normal(shape).astype(np.float32)
    proto = build(nodes, {"x": ["N", 8]}, {"y": ["N", 5]}, constants)
    x = random.standard_normal((200, 8)).astype(np.float32)
    found = api.search(proto, x[:100], x[100:], max_drop=0.5, threads=1)
    assert found.chosen is not None
    trial = found.trials[found.chosen]
    assert (trial.setting.time_steps, trial.setting.coding, trial.drop.value) == (steps, "rate", 0.0)
