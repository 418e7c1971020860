"""Integer currents of curved activations: the steps hold every threshold, layers are integer, counts are explained."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.forms.integer.curved import FINE, encoding_within
from graphpass.forms.registry import COUNTS, counts_of, encoded_of, floats_of
from tests.forms.test_curved_networks import ACTIVATIONS, X, converted, error, network, saved
from tests.models import optimised_ops, run
from tests.properties import examples


def count(x, rising, falling):
    """#{k : x ≥ b_k} + #{k : x < c_k}; x [P, C]."""
    return (x >= rising[:, None]).sum(0) + (x < falling[:, None]).sum(0)


@st.composite
def thresholds(draw):
    """Thresholds of some channels that rise, and fall below them, far from 0 or not, some of them infinite."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels, channels = draw(st.integers(1, 255)), draw(st.integers(1, 5))
    centre, width = random.normal(0, draw(st.sampled_from([0.1, 1, 30])), channels), 10.0 ** random.uniform(-2, 2)
    rising = np.sort(random.normal(centre, width, (levels, channels)), 0)
    falling = np.full_like(rising, -np.inf)
    some = draw(st.integers(0, levels))
    falling[:some] = rising.min(0) - np.sort(random.exponential(width, (some, channels)), 0)
    rising[levels - draw(st.integers(0, levels)) :] = np.inf
    return rising.astype(np.float32), falling.astype(np.float32)


@examples(200)
@given(thresholds(), st.integers(0, 2**32))
def test_steps_hold_every_threshold(both, seed):
    """A current's count changes only where a threshold lies between it and its step, at most half a step away."""
    rising, falling = both
    code = encoding_within(rising, falling)
    if code is None:
        return
    finite = np.concatenate([rising, falling])
    finite = np.where(np.isfinite(finite), finite, 0)
    span = np.abs(finite).max(initial=1e-3)
    random = np.random.default_rng(seed)
    x = (random.normal(size=(300, rising.shape[1])) * span * 2).astype(np.float32)
    q = np.clip(np.rint(x / code.scale) + code.zero, 0, 255)
    seen = (code.scale * (q - code.zero)).astype(np.float32)
    step = np.broadcast_to(code.scale, x.shape[1:])
    nearest = np.abs(x[:, None] - np.concatenate([rising, falling])[None]).min(1)  # infinite ones are far
    changed = count(x, rising, falling) != count(seen, rising, falling)
    assert (nearest[changed] <= np.broadcast_to(step, x.shape)[changed] * 0.51).all()


def test_one_step_for_all_channels_where_that_is_fine_enough():
    rising = np.linspace(-1, 1, 9, dtype=np.float32)[:, None] * np.float32([[1, 1.2]])
    below = np.full_like(rising, -np.inf)
    assert encoding_within(rising, below).scale.shape == ()
    assert encoding_within(rising * np.float32([1, 9]), below).scale.shape == (2,)
    gap = 0.25 / float(encoding_within(rising, below).scale)
    assert gap >= FINE


def test_thresholds_that_have_no_steps():
    high = np.full((3, 2), np.inf, np.float32)
    never = encoding_within(high, -high)  # no current fires it
    assert never.scale > 0
    assert encoding_within(np.full((1, 1), 1e-44, np.float32), -high[:1, :1]) is None
    dense = np.concatenate([np.linspace(0, 0.01, 100), [5.0]]).astype(np.float32)[:, None]
    assert encoding_within(dense, np.full_like(dense, -np.inf)) is None


@pytest.mark.some(6)
@pytest.mark.parametrize(
    ("kind", "steps"),
    [(kind, steps) for kind in sorted(set(ACTIVATIONS) - {"absolute", "prelu"}) for steps in (4, 8)],
)
def test_layers_in_front_of_curved_activations_are_integer(kind, steps, tmp_path):
    """All three layers in front of an activation, and the sum; what they lose beside the folded form is small."""
    model = network(kind)
    path, (a,) = saved(tmp_path, model), run(model, X)
    folded = run(converted(path, time_steps=steps, coding="phase").proto, X)[0]
    proto = converted(path, time_steps=steps, coding="phase", form="integer").proto
    ops = optimised_ops(proto)
    assert ops.count("QLinearConv") + ops.count("QGemm") >= 4
    assert not {"Conv", "FusedConv"} & set(ops)
    assert {"c0", "s", "c2"} <= set(encoded_of(proto))
    assert all("activation in floats" in entry.reason for entry in floats_of(proto))
    assert len(counts_of(proto)) >= 3, COUNTS
    (plain,) = run(proto, X)
    (fast,) = run(proto, X, optimised=True)
    assert error(fast, plain) <= 0.02  # ties that integers round the other way
    # outputs of these hardly vary beside what int8 rounds in the last layer, with float layers too
    if kind not in ("sigmoid", "log_sigmoid"):
        assert error(fast, a) <= 1.5 * error(folded, a) + 0.16


def test_a_layer_counts_what_f_gives_where_thresholds_differ_between_channels(tmp_path):
    """No float is multiplied channel by channel; with fine levels, 255 steps of f(x) would be too coarse."""
    path, (a,) = saved(tmp_path, network("silu")), run(network("silu"), X)
    for steps, layers in ((4, 3), (8, 0)):
        proto = converted(path, time_steps=steps, coding="phase", form="integer").proto
        values = [name for each in proto.graph.node for name in each.output if name.endswith("/count/values")]
        assert len(values) == layers
        assert error(run(proto, X)[0], a) < 0.5


@pytest.mark.parametrize("kind", ["silu", "gelu", "tanh", "elu"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_few_levels_lose_little_beside_the_folded_form(kind, steps, tmp_path):
    """The first and the last count of every channel can be reached, and y = A·n + o keeps its o in front of padding."""
    model = network(kind)
    path, (a,) = saved(tmp_path, model), run(model, X)
    folded, integer = (run(converted(path, time_steps=steps, form=form).proto, X)[0] for form in ("folded", "integer"))
    assert error(integer, a) < 1.15 * error(folded, a) + 0.02


def test_the_last_steps_of_a_current_reach_the_first_and_the_last_count(tmp_path):
    """Where a layer counts f(x), rounded to a step, on the codes 0 and 255 of x."""
    path = saved(tmp_path, network("silu"))
    for steps in (1, 2):
        proto = converted(path, time_steps=steps, form="integer").proto
        names = [name for each in proto.graph.node for name in each.output if name.endswith("/count/values")]
        assert names
        counts = [name.removesuffix("/values") for name in names]
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in counts)
        for values in run(proto, np.concatenate([X, 50 * X]))[-len(counts) :]:
            assert set(values.max((0, 2, 3)).tolist()) == {steps}


def test_currents_whose_thresholds_lie_too_close_together_stay_float(tmp_path):
    """Slopes between 0.5 and −1: some channels have all levels within a part of the range of the others."""
    path = saved(tmp_path, network("prelu"))
    proto = converted(path, time_steps=8, coding="phase", form="integer").proto
    left = {entry.node: entry.reason for entry in floats_of(proto)}
    assert "read as floats" in left["c0"]
    assert "c0" not in encoded_of(proto)
