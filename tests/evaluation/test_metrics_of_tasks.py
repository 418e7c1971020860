"""Metrics of tasks on outputs whose figures are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.datasets.dataset import Batch
from graphpass.errors import DataError, OptionError
from graphpass.evaluation.comparison import Comparison
from graphpass.evaluation.metrics.registry import METRICS, metrics_of
from graphpass.evaluation.metrics.score import Metric, Sampled, Score, spread_of
from graphpass.maths.metrics import Spread

RANDOM = np.random.default_rng(0)


def metric(text: str) -> Metric:
    return metrics_of([text], allow_code=True).by_name[text]


def figures(
    text: str, outputs: dict[str, np.ndarray], labels: Any = None, reference: dict[str, np.ndarray] | None = None
) -> dict[str, float | None]:
    """reference: None where it is the ANN itself that is scored."""
    size = len(next(iter((reference or outputs).values()))) if labels is None else len(labels)
    batch = Sampled(size, None if labels is None else np.asarray(labels), np.arange(size) % 2 == 0)
    return metric(text).score(outputs, batch, outputs if reference is None else reference).figures


def frames(*texts: list[int]) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[np.array(texts)]


def test_lines_of_text() -> None:
    """1 2, 1 and 3 against 1 2, 1 1 and 2 2: one exact; 0 + 1 + 2 edits of 2 + 2 + 2 characters."""
    scores = frames([1, 0, 2], [1, 1, 1], [3, 3, 0])
    labels = [[1, 2], [1, 1], [2, 2]]
    found = figures("ctc", {"scores": scores}, labels)
    assert found == {"exact": pytest.approx(1 / 3), "character_error_rate": 0.5}  # one division each
    other = figures("ctc", {"scores": scores}, None, {"scores": frames([1, 0, 2], [1, 0, 1], [3, 0, 0])})
    assert other == {"same_text": pytest.approx(2 / 3)}
    assert figures("ctc:axis=1,output=s", {"b": scores[:, 0], "s": scores.swapaxes(0, 1)}, labels) == found
    assert figures("ctc:blank=-1", {"s": frames([3, 1, 3])}, [[1]])["exact"] == 1
    assert figures("ctc", {"s": frames([0, 0, 0])}, [[-1, -1]]) == {"exact": 1.0, "character_error_rate": None}


def test_vectors_and_a_probe_on_the_samples_that_it_was_not_fitted_on() -> None:
    labels = np.arange(60) % 3
    vectors = np.eye(3)[labels] + 0.01 * RANDOM.normal(size=(60, 3))
    training = np.arange(60) % 2 == 0
    fitted = metric("embedding").fitted({"v": vectors[training]}, labels[training])
    wrong = np.where(training[:, None], vectors[::-1], vectors)  # none of these counts
    batch = Sampled(60, labels, training)
    found = fitted.score({"v": wrong}, batch, {"v": vectors}).figures
    assert found["probe_accuracy"] == 1.0
    assert fitted.score({"v": wrong}, batch, {"v": vectors}).means["probe_accuracy"].denominator.exact == 30
    assert fitted.score({"v": np.roll(vectors, 1, 0)}, batch, {"v": vectors}).figures["probe_accuracy"] == 0.0
    cosine = figures("embedding", {"v": vectors}, None, {"v": -vectors[:, :, None]})
    assert cosine == {"cosine": pytest.approx(-1)}  # float64


def test_images() -> None:
    """Errors of 0.1 everywhere are 20 dB of a peak of 1; equal images 100."""
    image = RANDOM.random((2, 3, 6, 6))
    near = image + np.array([0.1, 0.0])[:, None, None, None]
    assert figures("psnr", {"y": near}, image) == {"psnr": pytest.approx((20 + 100) / 2)}
    framed = near.copy()
    framed[..., 0] = 99
    assert figures("psnr:border=1", {"y": framed}, image) == {"psnr": pytest.approx(60)}
    scaled = figures("psnr:peak=255", {"y": 255 * near}, None, {"y": 255 * image})
    assert scaled == {"psnr_to_ann": pytest.approx(60)}


def test_numbers() -> None:
    y, a, labels = np.array([[3.0], [0.0]]), np.array([[2.0], [0.0]]), np.array([1.0, 1.0])
    assert figures("regression", {"y": y}, labels) == {"mean_absolute_error": 1.5, "mean_squared_error": 2.5}
    found = figures("regression", {"y": y}, None, {"y": a})
    assert found == {"difference_to_ann": 0.5, "relative_l2": 0.5}  # of the sample whose a is not zero


BOXES = np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]], np.float32)
SCORES = np.array([[[0.9, 0.1], [0.2, 0.8], [0.1, 0.05]]], np.float32)
TRUE = np.array([[[0, 0, 10, 10, 0], [20, 20, 30, 30, 1], [0, 0, 0, 0, -1]]], np.float32)
CENTRED = np.concatenate([(BOXES[..., :2] + BOXES[..., 2:]) / 2, BOXES[..., 2:] - BOXES[..., :2]], -1)
SIZED = np.concatenate([BOXES[..., :2], BOXES[..., 2:] - BOXES[..., :2]], -1)
JOINT = np.concatenate([CENTRED, np.ones((1, 3, 1)), SCORES], -1)


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("detection:boxes=b,scores=s", {"s": SCORES, "b": BOXES}),
        ("detection:boxes=b,scores=s,format=xywh", {"s": SCORES, "b": SIZED}),
        ("detection:boxes=b,scores=s,classes=c", {"s": SCORES.max(2), "b": BOXES, "c": SCORES.argmax(2)}),
        ("detection:boxes=b,scores=s,nms=0.5", {"s": SCORES.repeat(2, 1), "b": BOXES.repeat(2, 1)}),
        ("detection:format=cxcywh,objectness=1", {"o": JOINT.repeat(3, 1)}),
        ("detection:format=cxcywh,objectness=1", {"o": JOINT.repeat(3, 1).transpose(0, 2, 1)}),
    ],
)
def test_detectors_of_many_formats(text: str, outputs: dict[str, np.ndarray]) -> None:
    text = text if "objectness" not in text else f"{text},nms=0.5"
    assert figures(text, outputs, TRUE) == {"map50": 1.0, "map75": 1.0, "map50_95": 1.0}
    assert figures(text, outputs, None, dict(outputs)) == {"ann_boxes_found": 1.0, "boxes_of_ann": 1.0}


def test_boxes_against_those_of_the_ann() -> None:
    """The ANN has two; this finds one of them, and another one of the wrong class."""
    found = figures(
        "detection:boxes=b,scores=s",
        {"b": BOXES, "s": SCORES[..., ::-1] * [[[1.0], [0], [10]]]},
        None,
        {"b": BOXES, "s": SCORES[..., ::-1]},
    )
    assert found == {"ann_boxes_found": 0.5, "boxes_of_ann": 0.5}


def test_the_mean_of_average_precision_over_overlaps() -> None:
    """IoU 0.72: a hit at 0.50 … 0.70, five of ten."""
    near = np.array([[[0, 0, 10, 7.2]]], np.float32)
    found = figures("detection:boxes=b,scores=s", {"b": near, "s": SCORES[:, :1]}, TRUE[:, :1])
    assert found == {"map50": 1.0, "map75": 0.0, "map50_95": 0.5}


def test_scores_merge_as_if_they_had_been_one() -> None:
    scores, labels = frames([1, 0, 2], [1, 1, 1], [3, 3, 0]), np.array([[1, 2], [1, 1], [2, 2]])
    parts = Score()
    for k in range(3):
        batch = Sampled(1, labels[k : k + 1], np.ones(1, bool))
        part = {"s": scores[k : k + 1]}
        parts = parts.merge(metric("ctc").score(part, batch, part))
    assert parts.figures == figures("ctc", {"s": scores}, labels)


CODE = """
import numpy as np
def figure(outputs, labels, reference):
    own = outputs["y"].sum(1)
    return {"sum": own, "share": (own, reference["y"].sum(1)), "is_ann": np.full(len(own), outputs is reference)}
def fails(outputs, labels, reference):
    raise KeyError("no")
def short(outputs, labels, reference):
    return {"sum": [1.0]}
def bare(outputs, labels, reference):
    return 3
def comes(outputs, labels, reference):
    return {"sum": outputs["y"].sum(1)} | ({"late": [1.0]} if len(outputs["y"]) == 1 else {})
def goes(outputs, labels, reference):
    return {"sum": outputs["y"].sum(1)} | ({"early": [1.0] * 2} if len(outputs["y"]) == 2 else {})
def words(outputs, labels, reference):
    return {"sum": ["a", "b"]}
"""


def test_a_function_of_the_user(tmp_path: Path) -> None:
    (path := tmp_path / "mine.py").write_text(CODE)
    a = {"y": np.array([[1.0, 1], [2, 2]])}
    y = {"y": 3 * a["y"]}
    assert figures(f"{path}:figure", y, None, a) == {"sum": 9.0, "share": 3.0, "is_ann": 0.0}
    assert figures(f"{path}:figure", a) == {"sum": 3.0, "share": 1.0, "is_ann": 1.0}
    for name, what in (("fails", "failed"), ("short", "has shape"), ("bare", "gave a int"), ("words", "numbers")):
        with pytest.raises(DataError, match=f"mine.py:{name}: .*{what}|mine.py:{name}: {what}"):
            figures(f"{path}:{name}", a)
    with pytest.raises(OptionError, match="code is not run here"):
        metrics_of([f"{path}:figure"])
    with pytest.raises(DataError, match=r"has no function 'other'; define other\(\) in it, taking outputs"):
        metrics_of([f"{path}:other"], allow_code=True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("bleu", "unknown metric 'bleu'; choose one of classes, ctc"),
        ("classes:top=3", "metric classes:top=3: it has no parameters; write classes"),
        ("ctc:blank", "'blank' is not one of its parameters"),
        ("ctc:colour=1", "'colour=1' is not one of its parameters; write ctc:name=value, with output, blank, axis"),
        ("ctc:blank=1_0", "blank: '1_0' is not a whole number"),
        ("psnr:peak=+1", r"peak: '\+1' is not a number"),
        ("psnr:peak=nan", "peak: 'nan' is not a number"),
        ("ctc:blank=x", "blank: 'x' is not a whole number"),
        ("ctc:axis=2", "axis 2"),
        ("embedding:probe=1", "not one of its parameters"),
        ("psnr:peak=0", "peak 0"),
        ("detection:format=yxyx", "format 'yxyx'"),
        ("detection:iou=2", "iou 2"),
        ("nothing.py:f", "no such file"),
    ],
)
def test_names_and_parameters_that_make_no_sense(text: str, what: str) -> None:
    with pytest.raises(OptionError, match=what):
        metrics_of([text], allow_code=True)


def test_what_is_measured_where_nothing_is_named() -> None:
    assert metrics_of([]).classes and not metrics_of([]).by_name
    assert not metrics_of(["ctc"]).classes
    assert metrics_of(["classes", *METRICS]).classes
    with pytest.raises(OptionError, match="named twice"):
        metrics_of(["ctc", "ctc"])


@pytest.mark.parametrize(
    ("text", "outputs", "labels", "error"),
    [
        ("ctc", {"y": np.zeros((2, 3))}, None, OptionError),
        ("ctc:output=z", {"y": np.zeros((2, 3, 4))}, None, OptionError),
        ("ctc:axis=1", {"y": np.zeros((2, 1, 4))}, [[1], [1]], OptionError),
        ("ctc:blank=4", {"y": np.zeros((2, 3, 4))}, None, OptionError),
        ("ctc", {"y": np.zeros((2, 3, 4))}, [1, 2], DataError),
        ("ctc", {"y": np.zeros((2, 3, 4))}, [[1.0], [2.0]], DataError),
        ("embedding", {"y": np.zeros((2, 3, 4))}, None, OptionError),
        ("psnr", {"y": np.zeros((2, 3))}, None, OptionError),
        ("psnr", {"y": np.zeros((2, 3, 4, 4))}, np.zeros((2, 3, 8, 8)), DataError),
        ("psnr:border=2", {"y": np.zeros((2, 3, 4, 4))}, np.zeros((2, 3, 4, 4)), OptionError),
        ("regression", {"y": np.zeros((2, 3))}, np.zeros((2, 4)), OptionError),
        ("detection", {"y": np.zeros((2, 3, 4))}, None, OptionError),
        ("detection:boxes=b,scores=s", {"b": np.zeros((1, 3, 4)), "s": np.zeros((1, 2, 4))}, None, OptionError),
        ("detection:boxes=b,scores=s", {"b": np.zeros((1, 3, 4)), "s": np.zeros((1, 3))}, [[1]], DataError),
    ],
)
def test_outputs_and_labels_that_do_not_fit(text: str, outputs: Any, labels: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"metric {text.partition(':')[0]}|labels of"):
        figures(text, outputs, labels)


def test_the_probe_needs_classes() -> None:
    with pytest.raises(DataError, match="are not classes"):
        metric("embedding").fitted({"y": np.zeros((2, 3))}, np.zeros((2, 2), np.int64))


def test_noise_is_that_of_the_difference_between_the_networks() -> None:
    """Of 40, the SNN wins 2 and loses 6 that the ANN has right: σ² = (8 − 4²/40) / (40·39). The rest is equal."""
    labels = np.zeros(40, np.int64)
    right, wrong = frames([0, 0, 0]), frames([1, 1, 1])
    ann = np.concatenate([right] * 20 + [wrong] * 20)
    snn = np.concatenate([right] * 14 + [wrong] * 6 + [right] * 2 + [wrong] * 18)
    texts = np.where(labels[:, None] == 0, -1, 0)
    batch = Sampled(40, texts, np.zeros(40, bool))
    scores = {
        name: metric("ctc").score({"s": values}, batch, {"s": ann}) for name, values in (("ann", ann), ("snn", snn))
    }
    spread = spread_of(scores["snn"], scores["ann"])["exact"]
    assert spread.ratio.value == pytest.approx(-4 / 40)
    assert spread.noise == pytest.approx(((8 - 4**2 / 40) / (40 * 39)) ** 0.5)


def test_noise_of_boxes_is_by_image() -> None:
    """Found 2 of 2 and 0 of 4 boxes: r = 1/3, and each image adds (x − r·d)². Images without boxes say nothing."""
    spread = Spread().add(np.array([2.0, 0.0]), np.array([2.0, 4.0]))
    assert spread.noise == pytest.approx((2 * ((2 - 2 / 3) ** 2 + (0 - 4 / 3) ** 2)) ** 0.5 / 6)
    assert spread.add(np.zeros(5), np.zeros(5)).noise == spread.noise


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("comes", "samples 7 to 7, ann have, unlike those before them, the figure 'late'"),
        ("goes", "samples 7 to 7, ann lack the figure 'early'"),
    ],
)
def test_figures_that_come_or_go_are_refused(tmp_path: Path, name: str, what: str) -> None:
    """They would be means over some of the batches, beside others that are means over all."""
    (path := tmp_path / "mine.py").write_text(CODE)
    metrics = metrics_of([f"{path}:figure", f"{path}:{name}"], allow_code=True)
    found = Comparison(("snn",))
    for place, size in ((3, 2), (5, 2), (7, 1)):
        outputs = {network: {"y": np.ones((size, 2))} for network in ("ann", "snn")}
        batch = Batch({"x": np.ones((size, 2))}, None)
        if size == 1:
            with pytest.raises(DataError, match=f"mine.py:{name}: {what}; return the same figures for every batch"):
                found.update(place, batch, outputs, metrics, np.zeros(size, bool))
        else:
            found.update(place, batch, outputs, metrics, np.zeros(size, bool))
