"""The native operators against the numpy definition, bit for bit, and what they say of wrong use.

The models here carry no function bodies: only the library can run them.
"""

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graphpass.forms import operators
from graphpass.forms.operators import (
    BLOCKED_NEURON,
    BLOCKED_NEURON_OF_SUM,
    COUNT_NEURON,
    FOLDED_NEURON,
    THRESHOLD_NEURON,
    THRESHOLD_TRAIN,
    TIME_MEAN,
    TIME_REPEAT,
    TRAIN_NEURON,
)
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import CODINGS, Neuron, ThresholdNeuron, levels_of, spike_train, step_weights
from graphpass.runtime import native
from graphpass.runtime.session import open_session
from tests.properties import examples

pytestmark = pytest.mark.skipif(native.library() is None, reason="the native operators are not built")

PARTS = ("threshold", "shift", "amplitude", "offset")
NAMES = (*PARTS, "added")
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
}
WANTED = {FOLDED_NEURON: 4, COUNT_NEURON: 2, TRAIN_NEURON: 2, TIME_MEAN: 0, TIME_REPEAT: 0}


def model(op, dtype, parameters, **attributes):
    """x as float32 → cast → the operator → cast → y as float32 (counts: uint8), since numpy has no bfloat16."""
    kind = TYPES[np.dtype(dtype)]
    names = list(NAMES[: len(parameters)])
    counted = op == COUNT_NEURON
    nodes = [
        helper.make_node("Cast", ["x32"], ["x"], to=kind),
        helper.make_node(op, ["x", *names], ["r"], "neuron", domain=SPIKING_DOMAIN, **attributes),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.UINT8 if counted else TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x32", *names)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8 if counted else TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid("", 21), operators.opset_import()]
    return helper.make_model(helper.make_graph(nodes, "one", inputs, outputs), opset_imports=opsets, ir_version=10)


def call(op, x, *parameters, threads=1, providers=None, **attributes):
    session = open_session(model(op, x.dtype, parameters, **attributes), providers, threads)
    assert session.neurons == "native"
    feeds = dict(zip(("x32", *NAMES), (x.astype(np.float32), *parameters), strict=False))
    return session.run(None, feeds)[0]


def equal(got, expected):
    """The same numbers, NaN where NaN, and −0 is 0."""
    np.testing.assert_array_equal(got, np.asarray(expected).astype(got.dtype))


@st.composite
def cases(draw):
    coding = draw(st.sampled_from(CODINGS))
    steps = draw(st.integers(1, 255 if coding == "rate" else 8))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 7, 16, 33]), max_size=4)))
    if np.prod(shape, initial=1) * steps > 200_000:
        steps = 3
    axis = draw(st.none() | st.sampled_from(range(len(shape)))) if shape else None
    dtype = draw(st.sampled_from(list(TYPES)))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    levels = levels_of(steps, coding)
    size = () if axis is None else (shape[axis], *(1,) * (len(shape) - axis - 1))
    theta = generator.uniform(0.5, 3, size) / levels
    parts = [np.asarray(part, np.float32) for part in (theta, *(generator.normal(size=size) for _ in range(3)))]
    if axis is not None and draw(st.booleans()):  # one value beside values a channel
        parts[draw(st.integers(0, 3))] = np.float32([0.75])
    neuron = Neuron(*parts, levels)
    x = np.asarray(generator.normal(0.3, 1.5, shape))
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30])[: x.size]
    x.reshape(-1)[: len(special)] = special
    with np.errstate(over="ignore"):
        return neuron, np.asarray(x.astype(np.float32).astype(dtype)), steps, coding, axis


def attributes_of(steps, coding):
    return {"time_steps": steps, "levels": levels_of(steps, coding), "coding": coding}


def check_neurons_and_counts(case, **options):
    neuron, x, steps, coding, _ = case
    parts = [getattr(neuron, part) for part in PARTS]
    expected = np.where(np.isnan(x), np.float32(np.nan), neuron.decode(neuron.count(x)))
    equal(call(FOLDED_NEURON, x, *parts, **attributes_of(steps, coding), **options), expected.astype(x.dtype))
    counts = call(COUNT_NEURON, x, *parts[:2], **attributes_of(steps, coding), **options)
    assert counts.dtype == np.uint8
    equal(counts, neuron.count(x))


def check_trains(case, **options):
    neuron, x, steps, coding, axis = case
    if not x.ndim or axis == 0:
        return
    over_time, parts = attributes_of(steps, coding), (neuron.threshold, neuron.shift)
    trains = spike_train(neuron.count(x), steps, coding).reshape(steps * len(x), *x.shape[1:])
    equal(call(TRAIN_NEURON, x, *parts, input_steps=1, **over_time, **options), trains)
    # a current a step: the mean sums in order in float32
    currents = np.stack([x.astype(np.float32) * (1 + k) / steps for k in range(steps)]).astype(x.dtype)
    weights, total = step_weights(steps, coding), np.float32(0)
    with np.errstate(invalid="ignore", over="ignore"):
        for weight, current in zip(weights, currents.astype(np.float32), strict=True):
            total = total + weight * current
        mean = (total / weights.sum()).astype(np.float32) if steps > 1 else currents[0].astype(np.float32)
    flat = currents.reshape(steps * len(x), *x.shape[1:])
    equal(call(TIME_MEAN, flat, time_steps=steps, coding=coding, **options), mean.astype(x.dtype))
    trains = spike_train(neuron.count(mean), steps, coding).reshape(steps * len(x), *x.shape[1:])
    equal(call(TRAIN_NEURON, flat, *parts, input_steps=steps, **over_time, **options), trains)


@st.composite
def threshold_cases(draw):
    """Neurons with a threshold of its own for every step, some of which every x or none reaches."""
    even, x, steps, coding, axis = draw(cases())
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = next(
        (p.shape for p in (even.amplitude, even.offset, even.threshold) if np.size(p) > 1), np.shape(even.shift)
    )
    rising = np.sort(generator.normal(0.5, 1.5, (even.levels - 1, *size)), axis=0).astype(np.float32)
    falling = rising[:1] - np.cumsum(generator.uniform(0, 1, rising.shape), axis=0).astype(np.float32)
    falling[draw(st.integers(0, len(falling))) :] = -np.inf
    always, never = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    rising[:always] = falling[:always] = -np.inf
    rising[len(rising) - never :] = np.inf
    return ThresholdNeuron(rising, falling, even.amplitude, even.offset), x, steps, coding, axis


def check_threshold_neurons(case, **options):
    neuron, x, steps, coding, axis = case
    parts = [neuron.rising, neuron.falling, neuron.amplitude, neuron.offset]
    expected = np.where(np.isnan(x), np.float32(np.nan), neuron.decode(neuron.count(x)))
    with np.errstate(over="ignore"):
        equal(call(THRESHOLD_NEURON, x, *parts, **attributes_of(steps, coding), **options), expected.astype(x.dtype))
    if not x.ndim or axis == 0:
        return
    over_time = {**attributes_of(steps, coding), "input_steps": 1}
    trains = spike_train(neuron.count(x), steps, coding).reshape(steps * len(x), *x.shape[1:])
    equal(call(THRESHOLD_TRAIN, x, *parts[:2], **over_time, **options), trains)


def about_borders(theta, shift, levels):
    """k·θ − ψ, k = −1 … levels + 1, and the three floats on either side of each. [channels, numbers]"""
    with np.errstate(over="ignore", under="ignore"):
        border = np.arange(-1, levels + 2, dtype=np.float32) * theta[:, None] - shift[:, None]
    found = [border]
    for direction in (np.float32(-np.inf), np.float32(np.inf)):
        step = border
        for _ in range(3):
            with np.errstate(over="ignore", under="ignore"):
                step = np.nextafter(step, direction)
            found.append(step)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("levels", [2, 5, 17, 256])
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1.0, 1e20, 3e36])
def test_counts_are_exact_about_every_border(levels, scale):
    """Thresholds from subnormal ones to those whose borders overflow; channels along axis 1, last and in blocks."""
    generator = np.random.default_rng(levels)
    theta = np.maximum((generator.uniform(0.5, 3, 48) * scale).astype(np.float32), np.float32(1e-45))
    theta[:4] = np.float32(scale) * np.float32([1, 1 - 2**-24, 1 + 2**-23, 0.1])
    theta[theta == 0] = np.float32(1e-45)
    shift = np.where(np.arange(48) % 3, generator.normal(size=48) * scale, 0).astype(np.float32)
    x = about_borders(theta, shift, levels)
    parts = [theta, shift, np.ones(48, np.float32), np.zeros(48, np.float32)]
    over_time = {**attributes_of(4, "rate"), "levels": levels}
    along = [part.reshape(-1, 1) for part in parts]
    expected = Neuron(*along, levels).count(x)
    assert expected.min() == 0 and expected.max() == levels - 1
    equal(call(COUNT_NEURON, x, *along[:2], **over_time), expected)
    equal(call(FOLDED_NEURON, x, *along, **over_time), expected)
    last = np.ascontiguousarray(x.T)
    equal(call(COUNT_NEURON, last, *parts[:2], **over_time), expected.T)
    equal(call(FOLDED_NEURON, last, *parts, **over_time), expected.T)
    whole, filled = x[None, :, :, None], expected[None, :, :, None]
    along = [part.reshape(-1, 1, 1) for part in parts]
    for block in (8, 16):
        got = call(BLOCKED_NEURON, blocks(whole, block), *along, block=block, **over_time)
        equal(got, blocks(filled, block))


@given(cases())
@examples(60)
def test_neurons_and_counts_bit_for_bit(case):
    check_neurons_and_counts(case)


@given(cases())
@examples(60)
def test_trains_bit_for_bit(case):
    check_trains(case)


@given(threshold_cases())
@examples(60)
def test_thresholds_of_every_step_bit_for_bit(case):
    check_threshold_neurons(case)


def blocks(x, block):
    """[N, C, H, W] in memory as [N, C/block, H, W, block]; the shape stays."""
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2)).reshape(x.shape)


@given(
    st.sampled_from([8, 16]),
    st.tuples(*(st.integers(0, 3) for _ in range(4))),
    st.booleans(),
    st.integers(0, 2**31),
    st.sampled_from([2, 5, 256]),
)
@examples(60)
def test_blocks_of_channels_bit_for_bit(block, shape, single, seed, levels):
    generator = np.random.default_rng(seed)
    shape = (shape[0], shape[1] * block, 3 * shape[2], 37 * shape[3])
    size = (1 if single else shape[1], 1, 1)
    theta = (generator.uniform(0.5, 3, size) / levels).astype(np.float32)
    parts = [theta, *(generator.normal(size=size).astype(np.float32) for _ in range(3))]
    neuron = Neuron(*parts, levels)
    x, added = (generator.normal(0.3, 1.5, shape).astype(np.float32) for _ in range(2))
    special = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30, 3e38])[: x.size]
    x.reshape(-1)[: len(special)] = special
    over_time = {**attributes_of(4, "rate"), "levels": levels, "block": block}
    equal(call(BLOCKED_NEURON, blocks(x, block), *parts, **over_time), blocks(neuron.fire(x), block))
    added.reshape(-1)[-1:] = 3e38
    with np.errstate(over="ignore"):
        fired = neuron.fire(x + added)
    both = (*parts, blocks(added, block))
    equal(call(BLOCKED_NEURON_OF_SUM, blocks(x, block), *both, **over_time), blocks(fired, block))


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_of_channels_on_threads(threads):
    x = np.random.default_rng(0).normal(0.3, 1.5, (3, 48, 41, 43)).astype(np.float32)
    parts = np.random.default_rng(1).uniform(0.1, 1, (4, 48, 1, 1)).astype(np.float32)
    got = call(BLOCKED_NEURON, blocks(x, 16), *parts, threads=threads, block=16, **attributes_of(4, "rate"))
    equal(got, blocks(Neuron(*parts, 5).fire(x), 16))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_repeating(dtype):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    equal(call(TIME_REPEAT, x, time_steps=3, coding="rate"), np.tile(x.astype(np.float32), (3, 1, 1)))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("shape", [(3, 5, 101, 103), (2, 77_000, 3), (401, 257), (1100, 1009)])
def test_threads_give_the_same(shape, threads):
    """More elements than one task takes, cut in the middle of channels."""
    generator = np.random.default_rng(0)
    x = generator.normal(0.3, 1.5, shape).astype(np.float32)
    size = (shape[1], *(1,) * (len(shape) - 2))
    neuron = Neuron(*(generator.uniform(0.1, 1, size).astype(np.float32) for _ in range(4)), 9)
    parts = [getattr(neuron, part) for part in PARTS]
    over_time = attributes_of(8, "rate")
    equal(call(FOLDED_NEURON, x, *parts, threads=threads, **over_time), neuron.fire(x))
    train = call(TRAIN_NEURON, x, *parts[:2], threads=threads, input_steps=1, **over_time)
    equal(train, spike_train(neuron.count(x), 8, "rate").reshape(-1, *shape[1:]))
    equal(call(TIME_MEAN, train, threads=threads, time_steps=8, coding="rate"), neuron.count(x) / np.float32(8))


@pytest.mark.slow
def test_more_elements_than_31_bits_count():
    x = np.zeros((1, 2**31 + 3), np.float32)
    x[0, -2:] = 1.0, 2.0
    one = np.ones(1, np.float32)
    counts = call(COUNT_NEURON, x, one, one, threads=0, **attributes_of(4, "rate"))
    assert counts[0, -3:].tolist() == [1, 2, 3]
    assert int(counts[0, :-2].min()) == int(counts[0, :-2].max()) == 1


ONE, X = np.ones(1, np.float32), np.zeros((4, 3, 2), np.float32)
BLOCKS, BLOCK_PARTS = np.zeros((1, 8, 3, 2), np.float32), [np.ones((1, 1, 1), np.float32)] * 4
WRONG = {
    "two axes": ((FOLDED_NEURON, X, np.ones((3, 2), np.float32), ONE, ONE, ONE), {}, "threshold of shape"),
    "other channels": ((FOLDED_NEURON, X, ONE, np.ones((5, 1), np.float32), ONE, ONE), {}, "shift of shape"),
    "more axes": ((COUNT_NEURON, X, np.ones((4, 3, 1, 1), np.float32), ONE), {}, "threshold of shape"),
    "axes differ": (
        (COUNT_NEURON, X, np.ones((3, 1), np.float32), np.ones(2, np.float32)), {}, "another parameter along axis 1"),
    "too few inputs": ((FOLDED_NEURON, X, ONE, ONE), {}, ""),
    "blocks of 7": ((BLOCKED_NEURON, BLOCKS, ONE, ONE, ONE, ONE), {"block": 7}, "block is 7"),
    "no blocks": ((BLOCKED_NEURON, X[None], ONE, ONE, ONE, ONE), {"block": 8}, "no blocks of 8 channels"),
    "three axes": ((BLOCKED_NEURON, X, ONE, ONE, ONE, ONE), {"block": 8}, "no blocks of 8 channels"),
    "block parameters": (
        (BLOCKED_NEURON, BLOCKS, ONE, ONE, ONE, ONE), {"block": 8}, "parameter 0 has shape [1], not one value or one"),
    "blocks of a sum": (
        (BLOCKED_NEURON_OF_SUM, BLOCKS, *BLOCK_PARTS, X[None]), {"block": 8}, "and [1, 4, 3, 2] are added"),
    "levels": ((COUNT_NEURON, X, ONE, ONE), {"levels": 1}, "levels is 1"),
    "time_steps": ((COUNT_NEURON, X, ONE, ONE), {"time_steps": 0}, "time_steps is 0"),
    "coding": ((COUNT_NEURON, X, ONE, ONE), {"coding": "burst"}, "burst"),
    "steps that do not divide": (
        (TRAIN_NEURON, X, ONE, ONE), {"time_steps": 3, "levels": 4, "input_steps": 3}, "3 time-steps along axis 0"),
    "thresholds of other steps": (
        (THRESHOLD_NEURON, X, np.ones((3, 1), np.float32), np.ones((3, 1), np.float32), ONE, ONE), {},
        "does not hold 4 steps"),
    "axes of thresholds": (
        (THRESHOLD_TRAIN, X, np.ones((4, 3, 1), np.float32), np.ones((4, 1), np.float32)), {"input_steps": 1},
        "vary along different axes"),
    "input_steps": ((TRAIN_NEURON, X, ONE, ONE), {"input_steps": 2}, "input_steps is 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_an_error_that_names_the_operator(case):
    (op, x, *parameters), changed, said = WRONG[case]
    with pytest.raises(Exception, match=op) as caught:
        call(op, x, *parameters, **{**attributes_of(4, "rate"), **changed})
    assert said in str(caught.value)


def test_the_shape_of_a_train_is_inferred():
    """A Reshape to a fixed shape behind it shows that symbolic axes stay and the steps multiply."""
    one = open_session(model(COUNT_NEURON, np.float32, (ONE, ONE), **attributes_of(4, "rate")))
    assert one.get_outputs()[0].type == "tensor(uint8)"


def test_bodies_run_where_the_library_is_not_wanted():
    proto = model(FOLDED_NEURON, np.float32, (ONE,) * 4, **attributes_of(4, "rate"))
    proto.functions.extend(operators.functions("rate", 21))
    for use_native, neurons in ((True, "native"), (False, "function bodies")):
        session = open_session(proto, use_native=use_native)
        assert session.neurons == neurons
        assert isinstance(session, ort.InferenceSession)
        feeds = dict(zip(("x32", *PARTS), (X, ONE, ONE, ONE, ONE), strict=True))
        equal(session.run(None, feeds)[0], np.full_like(X, 2))
