"""Perplexity against its definition, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto

import graphpass
from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.evaluation.metrics.score import Sampled, Score
from graphpass.maths import metrics
from graphpass.records import any_number, json_of, record_of
from tests.models import build, node

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))


def score(text, outputs, labels=None, reference=None):
    """reference: None where it is the ANN itself that is scored."""
    size = len(next(iter(outputs.values())))
    batch = Sampled(size, None if labels is None else np.asarray(labels), np.zeros(size, bool))
    return metrics_of([text]).by_name[text].score(outputs, batch, outputs if reference is None else reference)


def logits(data, shape):
    return data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-9, 9, width=32)))


def defined(y, a, labels):
    """Every figure, in floats of Python."""
    losses, ratios, kl, same = [], [], [], []
    for place in np.ndindex(labels.shape):
        if labels[place] < 0:
            continue
        p, q = (np.exp(each[place].astype(float)) / np.exp(each[place].astype(float)).sum() for each in (a, y))
        losses.append(-math.log(q[labels[place]]))
        ratios.append(losses[-1] + math.log(p[labels[place]]))
        kl.append(float((p * np.log(p / q)).sum()))
        same.append(y[place].argmax() == a[place].argmax())
    if not losses:
        return dict.fromkeys(["perplexity", "perplexity_ratio", "kl_to_ann", "same_token"])
    perplexities = [math.exp(sum(each) / len(each)) for each in (losses, ratios)]
    return dict(
        zip(
            ["perplexity", "perplexity_ratio", "kl_to_ann", "same_token"],
            [*perplexities, sum(kl) / len(kl), sum(same) / len(same)],
            strict=True,
        )
    )


@given(SHAPES, st.data())
def test_figures_are_those_of_the_definition_however_the_samples_are_cut(shape, data):
    y, a = logits(data, shape), logits(data, shape)
    labels = data.draw(hnp.arrays(np.int64, shape[:2], elements=st.integers(-1, shape[2] - 1)))
    labels[labels < 0] = -100
    whole = Score().merge(score("perplexity", {"y": y}, labels, {"y": a}))
    expected = defined(y, a, labels)
    for name, value in expected.items():
        found = whole.figures[name]
        assert found is None if value is None else found == pytest.approx(value, rel=1e-9, abs=1e-12)
    cut = data.draw(st.integers(0, shape[0]))
    parts = Score()
    for part in (slice(cut, None), slice(0, cut)):
        if y[part].size:
            parts = parts.merge(score("perplexity", {"y": y[part]}, labels[part], {"y": a[part]}))
    assert parts.figures == whole.figures
    assert record_of(Score, json_of(whole), number=any_number) == whole
    assert set(score("perplexity", {"y": y}, labels).figures) == {"perplexity"}


def test_uniform_logits_are_as_perplexing_as_there_are_tokens():
    assert score("perplexity", {"y": np.zeros((2, 3, 50))}, np.full((2, 3), 7)).figures == {
        "perplexity": pytest.approx(50.0, rel=1e-14)
    }
    same = np.random.default_rng(0).normal(size=(2, 3, 5))
    found = score("perplexity", {"y": same}, np.ones((2, 3), int), {"y": same.copy()}).figures
    assert (found["perplexity_ratio"], found["kl_to_ann"], found["same_token"]) == (1.0, 0.0, 1.0)


def test_a_token_that_is_ruled_out_is_infinitely_perplexing():
    assert score("perplexity", {"y": np.array([[[0.0, -np.inf]]])}, [[1]]).figures["perplexity"] == math.inf
    assert score("perplexity", {"y": np.array([[[0.0, -1e5]]])}, [[1]]).figures["perplexity"] == math.inf  # exp(1e5)


def test_without_labels_all_positions_are_compared():
    y, a = np.eye(3)[None] * 5.0, np.eye(3)[None, ::-1] * 5.0
    found = score("perplexity", {"y": y}, None, {"y": a}).figures
    assert set(found) == {"kl_to_ann", "same_token"} and found["same_token"] == pytest.approx(1 / 3)
    assert score("perplexity", {"y": y}).figures == {}


def test_labels_that_are_the_text_are_shifted():
    y = np.random.default_rng(1).normal(size=(2, 4, 5))
    text = np.array([[0, 3, 1, 4], [2, 2, -100, 1]])
    shifted = np.concatenate([text[:, 1:], np.full((2, 1), -100)], 1)
    found = score("perplexity:shift=1", {"y": y}, text).figures
    assert found == score("perplexity", {"y": y}, shifted).figures
    reference = {"y": y[..., ::-1]}
    assert (
        score("perplexity:shift=1", {"y": y}, text, reference).figures
        == score("perplexity", {"y": y}, shifted, reference).figures
    )


def test_long_texts_are_summed_in_blocks(monkeypatch):
    y, a = np.random.default_rng(2).normal(size=(2, 2, 9, 7))
    labels = np.arange(18).reshape(2, 9) % 7
    whole = Score().merge(score("perplexity", {"y": y}, labels, {"y": a})).figures
    monkeypatch.setattr(metrics, "BLOCK", 14)
    found = score("perplexity", {"y": y}, labels, {"y": a}).figures
    assert found == {name: pytest.approx(value, rel=1e-12) for name, value in whole.items()}  # another order of sums


@pytest.mark.parametrize(
    ("text", "shape", "labels", "error", "said"),
    [
        ("perplexity", (2, 3, 5), np.zeros((2, 3)), DataError, "float64 and shape .2, 3. are not tokens"),
        ("perplexity", (2, 3, 5), np.zeros(2, int), DataError, "shape .2. are not tokens"),
        ("perplexity", (2, 3, 5), np.zeros((2, 4), int), DataError, "shape .2, 4. for logits of shape .2, 3, 5."),
        ("perplexity", (2, 3, 5), np.full((2, 3), 5), DataError, "label 5 is not one of the 5 tokens 0 … 4"),
        ("perplexity", (2, 5), np.zeros((2, 1), int), OptionError, "no output of shape"),
        ("perplexity:output=z", (2, 3, 5), np.zeros((2, 3), int), OptionError, "no output 'z'"),
        ("perplexity:shift=2", (2, 3, 5), np.zeros((2, 3), int), OptionError, "shift 2"),
        ("perplexity:blank=2", (2, 3, 5), np.zeros((2, 3), int), OptionError, "not one of its parameters"),
    ],
)
def test_what_does_not_fit_is_refused(text, shape, labels, error, said):
    with pytest.raises(error, match=said):
        score(text, {"y": np.zeros(shape)}, labels)


def test_a_small_language_model_is_evaluated(tmp_path: Path):
    """Tokens → embedding → ReLU layers → logits, over the public function: all three networks have figures."""
    random = np.random.default_rng(0)
    shapes = {"e": (11, 8), "u": (8, 16), "w": (16, 11)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        node("Gather", "e tokens", "x", "embedding"),
        node("MatMul", "x u", "h", "up"),
        node("Relu", "h", "a", "relu"),
        node("MatMul", "a w", "logits", "head"),
    ]
    model = build(nodes, {"tokens": ["N", "S"]}, {"logits": None}, weights)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    tokens = random.integers(0, 11, (20, 6))
    labels = np.where(np.arange(6) < 4, np.roll(tokens, -1, 1), -100)
    done = graphpass.convert(model, {"tokens": tokens}, time_steps=8, coding="phase")
    found = graphpass.evaluate(model, done, {"tokens": tokens, "labels": labels}, metric="perplexity")
    figures = {each.name: each for each in found.metrics}
    ann, snn = figures["perplexity"].ann, figures["perplexity"].snn
    assert (
        figures["perplexity_ratio"].snn == pytest.approx(snn / ann, rel=1e-9)
        and figures["perplexity_ratio"].ann is None
    )
    assert 0.9 < snn / ann < 1.1 and figures["same_token"].snn > 0.9 and figures["kl_to_ann"].snn < 0.01


def test_the_smallest_lead_makes_a_token_the_most_likely():
    """1e-41 is lost in a logarithm of a softmax."""
    y, a = np.zeros((1, 1, 2), np.float32), np.float32([[[0, 1e-41]]])
    assert score("perplexity", {"y": y}, [[0]], {"y": a}).figures["same_token"] == 0
