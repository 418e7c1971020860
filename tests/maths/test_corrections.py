"""Corrections: regressions against dense solutions, and errors that must fall."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths import corrections
from graphpass.maths.corrections import (
    BLOCKS,
    HELD_OUT,
    RIDGE,
    Gram,
    Regression,
    apply,
    choose_penalty,
    compensate,
    ends,
    indistinct,
    mean_gain,
    mean_shift,
    refine,
    scale_back,
)
from graphpass.maths.curves import curve_of
from graphpass.maths.thresholds import largest, least_error, squared_error
from tests.properties import examples

# float32 products of a few hundred rows, summed in float64: about 1e-6 of the size of the result.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def dense(u, r, ridge):
    """The same ridge regression by one least-squares solve: rows √λ·I under the centred inputs."""
    u, r = u.astype(np.float64), r.astype(np.float64)
    centred, aim = u - u.mean(0), r - r.mean(0)
    penalty = ridge * (centred**2).sum() / u.shape[1]
    rows = np.vstack([centred, np.sqrt(penalty) * np.eye(u.shape[1])])
    weight = np.linalg.lstsq(rows, np.vstack([aim, np.zeros((u.shape[1], r.shape[1]))]), rcond=None)[0]
    return weight, r.mean(0) - u.mean(0) @ weight


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]), st.sampled_from([1e-3, 1e-2, 1.0]))
@examples(30)
def test_compensate_is_the_dense_solution_of_each_group(seed, groups, ridge):
    generator = np.random.default_rng(seed)
    inputs = (generator.standard_normal((groups, 120, 6)) + 3).astype(np.float32)
    residual = generator.standard_normal((120, 2 * groups)).astype(np.float32)
    weight, bias = compensate(inputs, residual, ridge)
    assert weight.shape == (groups, 6, 2)
    assert bias.shape == (2 * groups,)
    for group in range(groups):
        columns = slice(2 * group, 2 * group + 2)
        expected_weight, expected_bias = dense(inputs[group], residual[:, columns], ridge)
        np.testing.assert_allclose(weight[group], expected_weight, **CLOSE)
        np.testing.assert_allclose(bias[columns], expected_bias, **CLOSE)


@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_more_inputs_than_rows(ridge):
    generator = np.random.default_rng(4)
    inputs = (generator.standard_normal((1, 30, 90)) + 3).astype(np.float32)
    residual = generator.standard_normal((30, 3)).astype(np.float32)
    expected = dense(inputs[0], residual, ridge)
    for found, wanted in zip(compensate(inputs, residual, ridge), (expected[0][None], expected[1]), strict=True):
        np.testing.assert_allclose(found, wanted, **CLOSE)


def test_compensate_finds_a_known_change():
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((1, 5000, 4)).astype(np.float32)
    change = generator.standard_normal((4, 3)).astype(np.float32)
    weight, bias = compensate(inputs, inputs[0] @ change + 2, ridge=1e-6)
    np.testing.assert_allclose(weight[0], change, **CLOSE)
    np.testing.assert_allclose(bias, 2, **CLOSE)


def test_rows_beyond_one_block_are_all_used():
    generator = np.random.default_rng(1)
    inputs = generator.standard_normal((1, 9000, 3)).astype(np.float32)
    residual = (inputs[0, :, :2] * np.linspace(0, 1, 9000)[:, None]).astype(np.float32)
    expected = dense(inputs[0], residual, 1e-2)
    for found, wanted in zip(compensate(inputs, residual, 1e-2), (expected[0][None], expected[1]), strict=True):
        np.testing.assert_allclose(found, wanted, **CLOSE)


def test_inputs_that_do_not_vary_get_no_weight():
    inputs = np.full((2, 20, 3), 1.5, np.float32)
    residual = np.random.default_rng(2).standard_normal((20, 4)).astype(np.float32)
    weight, bias = compensate(inputs, residual)
    np.testing.assert_allclose(weight, 0, atol=1e-6)
    np.testing.assert_allclose(bias, residual.mean(0), **CLOSE)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(300, 5), (40, 70)])
def test_solving_again_from_the_solution_changes_nothing(rows, size, repeated):
    generator = np.random.default_rng(3)
    inputs = generator.standard_normal((2, rows, size)).astype(np.float32)
    residual = generator.standard_normal((rows, 4)).astype(np.float32)
    equations = Regression(inputs, 0.1, repeated)
    weight, bias = equations.solve(residual)
    again, more = equations.solve(residual - apply(inputs, weight, bias), weight)
    np.testing.assert_allclose(again, 0, atol=CLOSE["atol"])
    np.testing.assert_allclose(more, 0, atol=CLOSE["atol"])


@given(st.integers(0, 2**31))
@examples(50)
def test_the_target_of_refinement_is_the_nearest_equivalent_value(seed):
    x, z = np.random.default_rng(seed).uniform(-3, 3, (2, 50, 2)).astype(np.float32)
    low, high = np.float32([-1, 0]), np.float32([1, 2])
    target = np.clip(z, *indistinct(x, low, high))
    np.testing.assert_array_equal(np.clip(target, low, high), np.clip(x, low, high))
    assert (np.abs(target - z) <= np.abs(x - z)).all()


def test_ends_are_the_middles_of_the_outer_levels():
    low, high = ends(largest(np.array([4.0]), 5, np.array([-4.0])), 5)
    assert (low.tolist(), high.tolist()) == ([-4], [4])


def quantised_layer(seed, levels=3):
    """x = u·M before conversion, u from a layer quantised to few levels: inputs, x, x_q, a."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((6, 12)).astype(np.float32)
    u = np.maximum(generator.standard_normal((4000, 6)).astype(np.float32) @ mixing, 0)
    matrix = (generator.standard_normal((12, 5)) - 0.3).astype(np.float32)
    u_q = least_error(u, u, levels).output(u, levels)
    x, x_q = u @ matrix, u_q @ matrix
    return u_q[None], x, x_q, np.maximum(x, 0)


@pytest.mark.parametrize("seed", range(4, 7))
def test_compensation_lowers_the_error_and_refinement_lowers_it_more(seed):
    inputs, x, x_q, a = quantised_layer(seed)

    def left(z):
        return float(squared_error(least_error(z, a, 3).output(z, 3), a).sum())

    ridge = 1e-2  # judged on the fitted rows, 12 inputs for 4,000 of them: nothing to overfit
    compensated = x_q + apply(inputs, *compensate(inputs, x - x_q, ridge))
    refined = x_q + apply(inputs, *refine(inputs, x, x_q, lambda z: ends(least_error(z, a, 3), 3), ridge))
    assert left(compensated) < left(x_q)
    assert left(refined) < left(compensated)


@pytest.mark.parametrize("kind", ["silu", "sigmoid", "elu", "tanh"])
def test_refinement_of_curved_activations_lowers_the_error_behind_them(kind):
    """Where f is flat, a distance of pre-activations is none of what it gives."""
    generator = np.random.default_rng(3)
    inputs = generator.normal(size=(1, 400, 12)).astype(np.float32)
    curve = curve_of(kind, {"alpha": 1.0})
    x = (inputs[0] @ generator.normal(size=(12, 5)) - 1).astype(np.float32)
    x_q = (0.7 * x + 0.5 * np.sin(2 * x) + 0.3).astype(np.float32)
    error = lambda z: float(squared_error(curve.value(z), curve.value(x)).sum())  # noqa: E731
    wide = lambda z: (np.full(5, -1e3, np.float32), np.full(5, 1e3, np.float32))  # noqa: E731
    compensated = x_q + apply(inputs, *compensate(inputs, x - x_q, 1e-2))
    refined = x_q + apply(inputs, *refine(inputs, x, x_q, wide, 1e-2, 20, seen=curve.seen(x)))
    assert error(refined) < 0.99 * error(compensated) < error(x_q)


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("before", [False, True])
def test_what_a_correction_adds_is_the_same_in_memory_that_was_used_before(groups, before):
    rng = np.random.default_rng(groups)
    inputs = rng.standard_normal((groups, 150, 4), np.float32)
    weight, bias = rng.standard_normal((groups, 4, 6 // groups)), rng.standard_normal(6)
    given = rng.standard_normal((150, 6), np.float32) if before else None
    one = apply(inputs, weight, bias, given)
    memory = np.full((groups, 150, 6 // groups), np.nan, np.float32), np.full((150, 6), np.nan, np.float32)
    np.testing.assert_array_equal(apply(inputs, weight, bias, given, memory), one)
    exact = np.einsum("gpk,gkc->pgc", inputs.astype(np.float64), weight).reshape(150, 6) + bias
    np.testing.assert_allclose(one, exact if given is None else exact + given, rtol=1e-5, atol=1e-5)  # float32 sums


def test_refine_without_steps_is_compensate():
    inputs, x, x_q, a = quantised_layer(0)
    plain = compensate(inputs, x - x_q)
    for one, other in zip(
        refine(inputs, x, x_q, lambda z: ends(least_error(z, a, 3), 3), rounds=0), plain, strict=True
    ):
        np.testing.assert_allclose(one, other, **CLOSE)  # solved, or multiplied by an inverse


def test_the_same_data_gives_the_same_bits():
    inputs, x, x_q, a = quantised_layer(1)
    runs = [refine(inputs, x, x_q, lambda z: ends(least_error(z, a, 3), 3)) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_da_qcfs_moves_the_shift_by_the_mean_difference_and_the_gain_by_the_mean_error():
    generator = np.random.default_rng(4)
    x = generator.standard_normal((4000, 3)).astype(np.float32)
    x_q = 0.8 * x - 0.3
    a = np.maximum(x, 0)
    start = largest(a.max(0), 5)
    shifted = mean_shift(start, (x - x_q).mean(0))
    np.testing.assert_allclose(shifted.shift, start.shift + (x - x_q).mean(0), **CLOSE)
    error = (a - shifted.output(x_q, 5)).mean(0)
    final = mean_gain(shifted, error, 4)
    np.testing.assert_allclose(final.amplitude, start.amplitude + error / 4, **CLOSE)
    assert (np.abs((a - final.output(x_q, 5)).mean(0)) < np.abs(error)).all()


def test_da_qcfs_gain_does_not_turn_negative():
    start = largest(np.array([4.0]), 5)
    assert mean_gain(start, np.array([-100.0]), 4).amplitude.tolist() == [0]


def drawn(seed, rows, size, noise, follows):
    """Inputs and a residual that follows them, is a constant, or is noise about 0, with noise."""
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((1, rows, size)).astype(np.float32) + 1
    change = {"inputs": inputs[0] @ generator.standard_normal((size, 4)), "constant": np.full((rows, 4), 3.0)}
    residual = change.get(follows, 0) + noise * generator.standard_normal((rows, 4))
    return inputs, residual.astype(np.float32)


def test_a_correction_is_made_where_it_serves_unseen_rows():
    """Few rows of much noise are not worth weights; rows about 0 hardly biases."""
    assert choose_penalty(*drawn(0, 4096, 8, 0.1, "inputs"))[1] == RIDGE
    assert choose_penalty(*drawn(1, 64, 48, 20, "inputs"))[1] in (np.inf, None)
    assert choose_penalty(*drawn(2, 64, 48, 1, "constant"))[1] == np.inf
    assert choose_penalty(*drawn(3, 64, 48, 1, "nothing"))[1] in (None, np.inf)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_the_size_of_the_inputs_decides_nothing(unit):
    inputs, residual = drawn(0, 4096, 8, 0.1, "inputs")
    assert choose_penalty(inputs * np.float32(unit), residual)[1] == choose_penalty(inputs, residual)[1] == RIDGE


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 5.0]))
@examples(20)
def test_what_is_chosen_has_the_least_error_on_held_out_rows(seed, noise):
    """As a regression on the other rows gives it, solved anew."""
    inputs, residual = drawn(seed, 320, 12, noise, "inputs")
    gram, ridge, right = choose_penalty(inputs, residual)
    if right is not None:
        for one, other in zip(compensate(gram, residual, RIDGE, right), compensate(inputs, residual), strict=True):
            np.testing.assert_allclose(one, other, **CLOSE)
    np.testing.assert_allclose(gram.system, Gram(inputs).system, rtol=1e-5, atol=1e-2)
    held = np.arange(320) * BLOCKS // 320 % HELD_OUT == HELD_OUT - 1
    errors = {None: np.square(residual[held], dtype=np.float64).sum()}
    errors[np.inf] = np.square(residual[held] - residual[~held].mean(0), dtype=np.float64).sum()
    weight, bias = compensate(inputs[:, ~held], residual[~held])
    errors[RIDGE] = np.square(residual[held] - apply(inputs[:, held], weight, bias), dtype=np.float64).sum()
    assert errors[ridge] <= min(errors.values()) * (1 + 1e-4)


@pytest.mark.parametrize("rows", [300, 10])
def test_many_outputs_are_solved_in_parts(monkeypatch, rows):
    """As those of a language model's last layer; with fewer rows than inputs, too."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((1, rows, 12)).astype(np.float32)
    residual = generator.standard_normal((rows, 50)).astype(np.float32)
    whole, chosen = compensate(inputs, residual), choose_penalty(inputs, residual)[1]
    monkeypatch.setattr(corrections, "COLUMNS", 7)
    for one, other in zip(whole, compensate(inputs, residual), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    assert choose_penalty(inputs, residual)[1] == chosen


@given(st.integers(0, 2**31), st.sampled_from([0.6, 0.8, 1.0]))
@examples(20)
def test_outputs_get_their_scale_back(seed, slope):
    """Slope 1 on what is wanted, the same mean; the rare large values are as large on average as they should be."""
    generator = np.random.default_rng(seed)
    x = (generator.standard_normal((4000, 3)) ** 3 + 5).astype(np.float32)
    x_q = (slope * (x - 5) + 2 + 0.1 * generator.standard_normal(x.shape)).astype(np.float32)
    gain, shift = scale_back(x, x_q)
    y = gain * x_q + shift
    np.testing.assert_allclose(y.mean(0), x_q.mean(0), rtol=1e-4)
    wanted = x - x.mean(0)
    fitted = (wanted * (y - y.mean(0))).sum(0) / np.square(wanted).sum(0)
    np.testing.assert_allclose(fitted, 1, rtol=1e-2)  # 0.1 of noise over 4000 rows


@pytest.mark.parametrize("unit", [1e-25, 1, 1e25])
def test_no_output_gets_less_scale_or_more_than_twice(unit):
    x = (np.random.default_rng(0).standard_normal((500, 4)) ** 3 * unit).astype(np.float32)
    x_q = x * np.float32([3, 1e-3, -1, 0])
    gain, shift = scale_back(x, x_q)
    np.testing.assert_array_equal(gain, [1, 2, 1, 1])
    np.testing.assert_allclose(shift, x_q.mean(0) * (1 - gain), atol=1e-6 * unit)


def test_outputs_without_rare_large_values_stay_as_they_are():
    """Normal and even ones: the kurtosis is 3 and 1.8."""
    generator = np.random.default_rng(0)
    x = np.stack([generator.standard_normal(5000), generator.random(5000)], axis=1).astype(np.float32)
    gain, shift = scale_back(x, x / 2)
    assert (gain == 1).all() and (shift == 0).all()
