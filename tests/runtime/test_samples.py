"""Where the samples are in a network's outputs, and short batches of networks of fixed batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.errors import SessionError
from graphpass.runtime.samples import cut, mixed, run_padded, sample_axes
from graphpass.runtime.session import open_session, pad_batch, pad_inputs, run
from tests.models import build, node
from tests.properties import examples

FRAMES = 4


def network(batch: int | str = FRAMES):
    """x [N, 4 frames, 3 features]: outputs whose first axis has 4 of something, samples or not."""
    return build(
        [
            node("MatMul", "x w", "scores", "scores"),  # [N, 4, 3]
            node("Transpose", "scores", "text", "text", perm=[1, 0, 2]),  # [4 frames, N, 3]
            node("Transpose", "scores", "last", "last", perm=[1, 2, 0]),  # [4 frames, 3, N]
            node("ReduceMean", "x", "mean", "mean", axes=[0], keepdims=0),  # [4 frames, 3]
            node("Reshape", "mean flat", "long", "long"),  # [12]
            node("ReduceMax", "x", "most", "most", keepdims=0),  # []
            node("Greater", "scores zero", "bools", "bools"),
            node("Cast", "bools", "above", "above", to=1),  # [N, 4, 3]
            node("ArgMax", "text", "numbers", "numbers", axis=2, keepdims=0),
            node("Cast", "numbers", "classes", "classes", to=1),  # [4 frames, N]
            node("Reshape", "x flat2", "rows", "rows"),
            node("Transpose", "rows", "columns", "columns", perm=[1, 0]),
            node("MatMul", "rows columns", "alike", "alike"),  # [N, N]: of pairs of samples
        ],
        {"x": [batch, FRAMES, 3]},
        dict.fromkeys(("scores", "text", "last", "mean", "long", "most", "above", "classes", "alike")),
        {
            "w": np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32),
            "zero": 0.0,
            "flat": np.array([-1]),
            "flat2": np.array([0, -1]),
        },
    )


AXES = {
    "scores": 0, "text": 1, "last": 2, "mean": None, "long": None, "most": None, "above": 0, "classes": 1,
    "alike": None,
}  # fmt: skip


def inputs(samples: int, seed: int = 1):
    return {"x": np.random.default_rng(seed).standard_normal((samples, FRAMES, 3)).astype(np.float32)}


@pytest.mark.parametrize("batch", [FRAMES, "N"])
def test_samples_are_found_wherever_they_are(batch):
    assert sample_axes(open_session(network(batch)), inputs(FRAMES)) == AXES


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_batch_that_is_filled_up_has_the_same_axes(samples):
    """One repeated sample is distinguished from its mirror image; the frames of a sample differ anyway."""
    assert sample_axes(open_session(network()), pad_inputs(inputs(samples), FRAMES)) == AXES


def test_one_sample_of_a_free_batch():
    found = sample_axes(open_session(network("N")), inputs(1))
    assert (found["scores"], found["text"]) == (0, 1)


def test_a_batch_of_integers_that_are_rows_of_a_table():
    """Turned around they are rows still."""
    model = build(
        [node("Cast", "x", "ids", "ids", to=7), node("Gather", "table ids", "e", "e"),
         node("Transpose", "e", "y", "y", perm=[1, 0, 2])],
        {"x": [3, 3]}, {"y": None}, {"table": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)},
    )  # fmt: skip
    assert sample_axes(open_session(model), {"x": np.float32([[1, 4, 2]] * 3)}) == {"y": 1}


def test_random_outputs_have_no_samples():
    model = build(
        [node("RandomNormalLike", "x", "y", "y", dtype=1), node("Neg", "x", "z", "z")],
        {"x": [3, 4]}, {"y": None, "z": None}, {},
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert sample_axes(open_session(model), {"x": x}) == {"y": None, "z": 0}


def test_values_that_are_not_finite_are_no_obstacle():
    model = build([node("Log", "x", "y", "y")], {"x": [3, 2]}, {"y": None}, {})
    assert sample_axes(open_session(model), {"x": np.float32([[-1, 0], [1, 2], [3, 4]])}) == {"y": 0}


@examples(25)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_short_batch_gives_what_the_samples_give_alone(samples, seed):
    given = inputs(samples, seed)
    found = run_padded(open_session(network()), given, FRAMES, AXES)
    alone = run_padded(open_session(network("N")), given, None, AXES)
    for name, axis in AXES.items():
        if axis is None:
            assert found[name].shape == network_shape(name)
        else:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-5, atol=1e-6)  # sums of three products


def network_shape(name: str):
    """Of what belongs to the whole batch, padding and all."""
    return {"mean": (FRAMES, 3), "long": (12,), "most": (), "alike": (FRAMES, FRAMES)}[name]


def test_padding_repeats_the_last_sample():
    x = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(pad_batch(x, 5), x[[0, 1, 2, 2, 2]])


def test_outputs_without_a_known_axis_stay_whole():
    outputs = {"a": np.zeros((4, 2)), "b": np.zeros((4, 2)), "c": np.zeros((2, 4))}
    found = cut(outputs, 3, {"a": 0, "b": None, "c": 1})
    assert {name: values.shape for name, values in found.items()} == {"a": (3, 2), "b": (4, 2), "c": (2, 3)}


def test_a_batch_that_is_too_long_is_no_crash():
    with pytest.raises(SessionError, match="a batch of 5 samples does not fit a model of fixed batch 4"):
        run_padded(open_session(network()), inputs(5), FRAMES, AXES)


def mixing(nodes, constants=None, batch: int | str = "N", seed: int = 1):
    """What `mixed` says of a network of x [N, 4, 3] with the output y."""
    session = open_session(build(nodes, {"x": [batch, FRAMES, 3]}, {"y": None}, constants or {}, opset=17))
    return mixed(session, inputs(FRAMES, seed), run(session, inputs(FRAMES, seed)))


MIXING = {
    "centred": [node("ReduceMean", "x", "m", "m", axes=[0]), node("Sub", "x m", "y", "y")],
    "softmax": [node("Softmax", "x", "y", "y", axis=0)],
    "whole": [node("ReduceL2", "x", "n", "n"), node("Div", "x n", "y", "y")],
    "neighbour": [node("Gather", "x others", "o", "o", axis=0), node("Add", "x o", "y", "y")],
    "elsewhere": [
        node("ReduceMax", "x", "m", "m", axes=[0]), node("Div", "x m", "q", "q"),
        node("Transpose", "q", "y", "y", perm=[1, 0, 2]),
    ],
    "numbers": [node("ReduceMean", "x", "m", "m", axes=[0]), node("Greater", "x m", "g", "g"),
        node("Cast", "g", "y", "y", to=1),
    ],
}  # fmt: skip
APART = {
    "alone": [node("MatMul", "x w", "y", "y")],
    "layer": [node("LayerNormalization", "x scale", "y", "y")],
    "attention": [
        node("Transpose", "x", "t", "t", perm=[0, 2, 1]), node("MatMul", "x t", "s", "s"),
        node("Softmax", "s", "p", "p"), node("MatMul", "p x", "y", "y"),
    ],
    "frames first": [node("Transpose", "x", "y", "y", perm=[1, 0, 2])],
    "mean of frames": [node("ReduceMean", "x", "m", "m", axes=[1]), node("Sub", "x m", "y", "y")],
    "a figure of the batch": [node("ReduceMean", "x", "y", "y", axes=[0], keepdims=0)],
    "pairs": [
        node("Reshape", "x flat", "r", "r"), node("Transpose", "r", "c", "c", perm=[1, 0]),
        node("MatMul", "r c", "y", "y"),
    ],
}  # fmt: skip
CONSTANTS = {
    "w": np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32),
    "scale": np.ones(3, np.float32),
    "flat": np.array([0, -1]),
    "others": np.array([3, 0, 1, 2]),
}


@pytest.mark.parametrize("batch", [FRAMES, "N"])
@pytest.mark.parametrize("name", [*MIXING, *APART])
def test_outputs_in_which_samples_depend_on_each_other(name: str, batch: int | str) -> None:
    assert mixing((MIXING | APART)[name], CONSTANTS, batch) == (["y"] if name in MIXING else [])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most", [1, 3])
def test_detections_of_single_samples_are_not_mixed(most: int, seed: int) -> None:
    """With one detection a sample, as many rows as samples."""
    nodes = [
        node("MatMul", "x w4", "boxes", "boxes"), node("ReduceSum", "x two", "sums", "sums", keepdims=0),
        node("Unsqueeze", "sums one", "scores", "scores"),
        node("NonMaxSuppression", "boxes scores most overlap least", "picked", "nms"),
        node("Cast", "picked", "y", "y", to=1),
    ]  # fmt: skip
    w4 = np.abs(np.random.default_rng(0).standard_normal((3, 4))).astype(np.float32)
    constants = {"w4": w4, "two": np.array([2]), "one": np.array([1]), "most": np.array([most]),
                 "overlap": np.float32([0.5]), "least": np.float32([-100 if most == 1 else 0])}  # fmt: skip
    assert mixing(nodes, constants, seed=seed) == []


def test_a_network_that_does_not_run_on_equal_samples_is_not_said_to_mix() -> None:
    nodes = [
        node("Gather", "x first", "f", "f", axis=0), node("Equal", "x f", "e", "e"), node("Cast", "e", "i", "i", to=7),
        node("ReduceSum", "i", "count", "count", keepdims=0), node("Div", "count four", "far", "far"),
        node("Gather", "x far", "y", "y", axis=0),
    ]  # fmt: skip
    assert mixing(nodes, {"first": np.array([0]), "four": np.array(4)}) == []
