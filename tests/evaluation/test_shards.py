"""Evaluations in parts: wherever the samples are cut, the merged result is the same, bit for bit."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphpass.evaluation.evaluate as module
from graphpass.conversion import convert
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import DataError
from graphpass.evaluation.evaluate import EvaluationSettings, Pair, compare, measure, open_pair
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.evaluation.metrics.score import Score
from graphpass.evaluation.metrics.training import of_training, training_stride
from graphpass.evaluation.results import Evaluation
from graphpass.evaluation.shards import EvaluationShard, from_text, merge
from graphpass.graph.model import load, save
from graphpass.maths.detection import Detections
from graphpass.maths.metrics import Sum
from graphpass.runtime.session import input_specs
from tests.models import build, node

SAMPLES = 103  # no multiple of a batch
BATCH = 8


@pytest.fixture(scope="module", params=["free", "fixed", "integer", "probability"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("partial")
    generator = np.random.default_rng(3)
    rows, classes = (5, 12) if request.param == "fixed" else ("N", 1 if request.param == "probability" else 12)
    nodes = [
        node("Gemm", "x u", "h", "first"),
        node("Relu", "h", "a", "relu"),
        node("Gemm", "a w", "s", "last"),
        node("Sigmoid", "s", "scores", "sigmoid"),
        node("ArgMax", "s", "best", "best", axis=1),
    ]
    weights = {"u": generator.normal(size=(6, 16)), "w": generator.normal(size=(16, classes))}
    model = build(
        nodes,
        {"x": (rows, 6)},
        {"scores": (rows, classes)},
        {name: value.astype(np.float32) for name, value in weights.items()},
    )
    extra = model.graph.output.add()
    extra.name = "best"
    extra.type.tensor_type.elem_type = 7
    save(model, folder / "ann.onnx")
    source = load(folder / "ann.onnx")
    form = "integer" if request.param == "integer" else "folded"
    calibration = {"x": generator.normal(size=(20, 6)).astype(np.float32)}
    return open_pair(
        source, convert(source, calibration, form=form).proto, EvaluationSettings(batch=BATCH, threads=1, rounds=1)
    )


@pytest.fixture(scope="module")
def dataset(pair: Pair) -> Dataset:
    generator = np.random.default_rng(4)
    classes = 2 if pair.sessions["ann"].get_outputs()[0].shape[1] == 1 else 12
    arrays = {
        "x": generator.normal(size=(SAMPLES, 6)).astype(np.float32) * 10.0 ** generator.integers(-6, 6, (SAMPLES, 1)),
        "labels": generator.integers(0, classes, SAMPLES),
    }
    return from_arrays({**arrays, "x": arrays["x"].astype(np.float32)}, input_specs(pair.sessions["ann"]))


def figures(found: Evaluation) -> dict:
    """All that is not timed."""
    document = found.to_json()
    document.pop("latency_ms")
    document["provenance"].pop("date")
    return document


@pytest.fixture(scope="module")
def whole(pair: Pair, dataset: Dataset) -> EvaluationShard:
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "SHORTEST_TIMING", 0.0)
    with patch.context():
        return replace(compare(pair, dataset), measured=measure(pair, dataset))


@pytest.mark.parametrize("cuts", [[], [1], [8], [50], [16, 17], [3, 40, 64, 102], [*range(8, SAMPLES, 8)]])
def test_every_cut_gives_the_same_result(pair: Pair, dataset: Dataset, whole: EvaluationShard, cuts: list[int]) -> None:
    parts = [compare(pair, dataset, start, stop) for start, stop in pairwise([0, *cuts, SAMPLES])]
    assert {part.total for part in parts} == {SAMPLES}
    parts[-1] = replace(parts[-1], measured=whole.measured)
    found = merge([from_text(part.to_text()) for part in parts])
    assert figures(found) == figures(merge([whole]))
    assert found.samples == SAMPLES and found.ann.top1 is not None


PLUGIN = (
    "def f(outputs, labels, reference):\n    return {'top': outputs['scores'].max(1), 'drawn': (labels, labels + 1)}\n"
)


@pytest.mark.parametrize("cuts", [[8], [16, 17], [*range(8, SAMPLES, 8)]])
def test_metrics_are_the_same_wherever_samples_are_cut(
    pair: Pair, dataset: Dataset, whole: EvaluationShard, cuts: list[int], tmp_path: Path
) -> None:
    """A probe, which every part fits by itself, and a function of the user."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    metrics = metrics_of(["classes", "embedding:output=scores", f"{tmp_path / 'mine.py'}:f"], allow_code=True)
    with_metrics = replace(pair, options=replace(pair.options, metrics=metrics))
    parts = [compare(with_metrics, dataset, start, stop) for start, stop in pairwise([0, *cuts, SAMPLES])]
    parts[-1] = replace(parts[-1], measured=whole.measured)
    found = merge([from_text(part.to_text()) for part in parts])
    alone = merge([replace(compare(with_metrics, dataset), measured=whole.measured)])
    assert figures(found) == figures(alone)
    assert [each.name for each in found.metrics] == ["probe_accuracy", "cosine", "top", "drawn"]
    assert found.ann.top1 == merge([whole]).ann.top1
    probe, cosine, top, drawn = found.metrics
    assert cosine.ann is None and cosine.snn is not None and -1 <= cosine.snn <= 1
    assert top.ann != top.snn and drawn.ann == drawn.snn == drawn.baseline
    assert probe.ann is not None and 0 <= probe.ann <= 1


def test_parts_that_measure_other_things_are_not_merged(pair: Pair, dataset: Dataset, whole: EvaluationShard) -> None:
    with_metrics = replace(
        pair, options=replace(pair.options, metrics=metrics_of(["classes", "embedding:output=scores"]))
    )
    one, two = compare(with_metrics, dataset, 0, 40), compare(pair, dataset, 40, SAMPLES)
    with pytest.raises(DataError, match="different evaluations"):
        merge([replace(one, measured=whole.measured), two])


def test_boxes_are_kept_as_they_are(whole: EvaluationShard) -> None:
    boxes = Detections({"1": 2}, {"1": (0.1, 1 / 3)}, {"1": (1, 1023)})
    scores = {"detection": {"ann": Score({}, boxes)}}
    part = replace(whole, comparison=replace(whole.comparison, scores=scores))
    assert from_text(part.to_text()).comparison.scores == scores


def test_the_training_part_is_a_share_of_what_is_compared(dataset: Dataset) -> None:
    assert training_stride(dataset, None) == 2
    assert training_stride(replace(dataset, samples=10_000), None) == 5
    assert training_stride(replace(dataset, samples=10_000), 300) == 2
    assert training_stride(replace(dataset, samples=None), None) == 2
    assert of_training(3, 4, 3).tolist() == [True, False, False, True]


def test_the_limit_is_of_the_whole(pair: Pair, dataset: Dataset, whole: EvaluationShard) -> None:
    limited = replace(pair, options=replace(pair.options, limit=30))
    parts = [compare(limited, dataset, start, stop) for start, stop in ((0, 16), (16, 48), (48, 400))]
    assert (parts[-1].start, parts[-1].stop, parts[-1].total) == (30, 30, 30)
    parts[0] = replace(parts[0], measured=whole.measured)
    alone = merge([replace(compare(limited, dataset), measured=whole.measured)])
    assert figures(merge(parts)) == figures(alone) and alone.samples == 30


def test_what_is_missing_twice_or_foreign_is_refused(pair: Pair, dataset: Dataset, whole: EvaluationShard) -> None:
    one, two, three = (compare(pair, dataset, *span) for span in ((0, 40), (40, 80), (80, SAMPLES)))
    one = replace(one, measured=whole.measured)
    for parts in ([], [one], [one, two], [one, three], [two, one, three], [one, two, two, three], [one, one, two]):
        with pytest.raises(DataError):
            merge(parts)
    with pytest.raises(DataError, match="2 parts of an evaluation with measurements"):
        merge([one, two, replace(three, measured=whole.measured)])
    other = replace(two, comparison=replace(two.comparison, class_output="another"))
    with pytest.raises(DataError, match="different evaluations"):
        merge([one, other, three])


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"start": 0}', "[" * 100_000])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a part of an evaluation"):
        from_text(text)


def test_a_part_with_a_field_of_another_type_is_refused(whole: EvaluationShard) -> None:
    for field, value in (("start", "0"), ("comparison", 3), ("measured", {}), ("total", 1.5)):
        with pytest.raises(DataError, match="not a part of an evaluation"):
            from_text(json.dumps({**json.loads(whole.to_text()), field: value}))


def test_data_of_unknown_length_cannot_be_cut(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\ndef f():\n    yield {'x': np.ones((9, 6), np.float32)}\n    yield {'x': np.ones((4, 6))}\n"
    )
    source = open_dataset(f"{tmp_path / 'data.py'}:f", input_specs(pair.sessions["ann"]), allow_code=True)
    assert compare(pair, source).total == 13
    with pytest.raises(DataError, match="the number of samples is not known"):
        compare(pair, source, 0, 8)


@given(st.lists(st.floats(), max_size=12), st.randoms())
def test_a_sum_does_not_depend_on_the_order(terms: list[float], random) -> None:
    def summed(values: list[float]) -> Sum:
        return Sum() if not values else Sum().add(values[0]) if len(values) == 1 else split(values)

    def split(values: list[float]) -> Sum:
        place = random.randint(1, len(values) - 1)
        return summed(values[:place]).merge(summed(values[place:]))

    expected = float(summed(terms))
    shuffled = list(terms)
    random.shuffle(shuffled)
    np.testing.assert_equal(float(summed(shuffled)), expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_float64_is_infinite(sign: int) -> None:
    assert float(Sum().add(sign * 1.7e308).add(sign * 1.7e308)) == sign * np.inf
