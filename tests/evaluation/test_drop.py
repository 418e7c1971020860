"""The drop of an evaluation: of labels, of agreement, of each metric, and its noise."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphpass.errors import OptionError
from graphpass.evaluation.drop import FIGURES, drop_of
from graphpass.evaluation.metrics.registry import METRICS
from graphpass.evaluation.results import Accuracy, MetricResult, OutputResult


def found(**values: Any) -> Any:
    """An evaluation with what a drop is made of."""
    known = {
        "samples": 400, "ann": Accuracy(None, None), "snn": Accuracy(None, None), "agreement": None,
        "metrics": (), "outputs": (OutputResult("y", 0.1, 0.9, None),),
    }  # fmt: skip
    return SimpleNamespace(**(known | values))


def test_of_labels_it_is_points_of_top1_and_of_none_points_of_agreement() -> None:
    labelled = found(ann=Accuracy(0.9, None), snn=Accuracy(0.88, None), agreement=0.96)
    drop = drop_of(labelled)
    assert (drop.figure, drop.unit, drop.value, drop.noise) == (
        "top1",
        "points",
        pytest.approx(2.0),
        pytest.approx(1.0),
    )
    drop = drop_of(found(agreement=0.96))
    assert (drop.figure, drop.value, drop.noise) == ("agreement", pytest.approx(4.0), pytest.approx(0.98, abs=0.001))
    assert drop_of(found()).value == pytest.approx(10) and "cosine of y" in str(drop_of(found()))


def test_the_noise_of_a_difference_is_at_least_what_repeated_samples_show() -> None:
    """Two networks that differ on a share of the samples, one of them right as often as the other."""
    random, drops = np.random.default_rng(0), []
    for _ in range(400):
        apart = random.random(400) < 0.1
        hit = random.random(400) < 0.5
        drops.append(100 * float((apart & hit).mean() - (apart & ~hit).mean()))
    noise = drop_of(found(ann=Accuracy(0.9, None), snn=Accuracy(0.9, None), agreement=0.9)).noise
    assert np.std(drops) <= noise * 1.1


@pytest.mark.parametrize(
    ("metric", "name", "ann", "snn", "expected"),
    [
        ("ctc:blank=0", "exact", 0.8, 0.75, 5.0), ("ctc", "same_text", None, 0.98, 2.0),
        ("embedding", "cosine", None, 0.99, 1.0), ("psnr", "psnr", 30.0, 29.5, 0.5),
        ("detection", "map50", 0.5, 0.6, -10.0), ("detection", "ann_boxes_found", None, 0.9, 10.0),
        ("regression", "mean_absolute_error", 2.0, 2.2, 10.0), ("perplexity", "perplexity", 20.0, 21.0, 5.0),
        ("perplexity", "perplexity", 20.0, math.inf, math.inf), ("psnr", "psnr", 30.0, math.nan, math.inf),
        ("ctc", "same_text", None, None, math.inf),
    ],
)  # fmt: skip
def test_of_metrics(metric: str, name: str, ann: float | None, snn: float | None, expected: float) -> None:
    other = MetricResult(metric, "something", 1.0, 0.0, 0.0)
    drop = drop_of(found(metrics=(other, MetricResult(metric, name, ann, snn, None)), agreement=1.0), metric)
    assert drop.value == pytest.approx(expected) and metric in drop.figure


def test_labels_decide_before_likeness() -> None:
    both = (MetricResult("ctc", "same_text", None, 0.5, None), MetricResult("ctc", "exact", 0.8, 0.8, None))
    assert drop_of(found(metrics=both), "ctc").value == 0


def test_a_metric_without_such_a_figure_is_refused() -> None:
    with pytest.raises(OptionError, match="cannot be set on metric psnr here; give labels, for psnr"):
        drop_of(found(metrics=(MetricResult("psnr", "psnr_to_ann", None, 30.0, 30.0),)), "psnr")
    with pytest.raises(OptionError, match=r"metric m\.py:f here; choose one of classes"):
        drop_of(found(metrics=(MetricResult("m.py:f", "value", 1.0, 1.0, 1.0),)), "m.py:f")
    with pytest.raises(OptionError, match="no output is compared by numbers"):
        drop_of(found(outputs=(replace(found().outputs[0], cosine_similarity=None),)))


def test_every_metric_is_known() -> None:
    assert set(FIGURES) == set(METRICS)


def test_a_drop_of_exactly_the_limit_is_within_it() -> None:
    for samples in (100, 200, 400, 500, 1000):
        for wrong in range(samples // 10):
            assert drop_of(found(samples=samples, agreement=1 - wrong / samples)).value <= 100 * wrong / samples + 1e-12
    assert drop_of(found(agreement=0.98)).value == 2


def test_what_is_named_first_decides() -> None:
    both = found(metrics=(MetricResult("embedding", "cosine", None, 0.9, None),), agreement=0.95)
    assert drop_of(both, "classes").figure == "agreement" == drop_of(both).figure
    assert drop_of(both, "embedding").value == 10


def test_no_share_of_no_error() -> None:
    nothing = found(metrics=(MetricResult("regression", "mean_absolute_error", 0.0, 0.1, None),))
    with pytest.raises(OptionError, match="the network itself makes no error"):
        drop_of(nothing, "regression")
