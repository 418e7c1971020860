"""Which metrics a request may name: those of graphpass, and nothing for which code would have to be run."""

import pytest
from pydantic import ValidationError

from graphpass.evaluation.metrics.registry import CLASSES, METRICS, metrics_of
from service.api.requests import ConversionOptions, EvaluationOptions, SweepOptions


@pytest.mark.parametrize("name", [CLASSES, *METRICS, "ctc:blank=-1,axis=1", "detection:boxes=a/b:0,scores=s.1"])
def test_every_metric_has_its_name(name: str) -> None:
    for options in (ConversionOptions, EvaluationOptions, SweepOptions):
        assert options(metric=[name]).metric == [name]
    metrics_of([name])


@pytest.mark.parametrize("name", ["mine.py:f", "ctc.py:f", "bleu", "", "ctc:", "ctc:blank=\n", "ctc:" + 300 * "x"])
def test_nothing_else_has(name: str) -> None:
    for options in (ConversionOptions, EvaluationOptions, SweepOptions):
        with pytest.raises(ValidationError):
            options(metric=[name])
