"""graphpass.maths.energy against sums by hand, and what holds for all counts."""

import doctest
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths import energy
from graphpass.maths.energy import (
    MODELS,
    Energy,
    EnergyEstimate,
    LayerWork,
    bits_of,
    firing,
    interpolated,
    numbers,
    quantising,
    spikes,
    stepped,
)
from tests.properties import examples

KIB = 1024
MODEL = st.sampled_from(sorted(MODELS))
SIZES = st.integers(1, 1 << 22)
COUNTS = st.integers(0, 1 << 30)
WORKS = st.builds(
    LayerWork,
    pairs=COUNTS, inputs=SIZES, outputs=SIZES, events=COUNTS, weights=SIZES, biases=st.sampled_from([0, 5]),
    convolves=st.booleans(), places=st.integers(0, 100),
)  # fmt: skip
# a convolution of 3 × 3 with 16 inputs and 32 outputs on 8 × 8 positions
LAYER = LayerWork(
    pairs=200_000, inputs=1024, outputs=2048, events=700, weights=4608, biases=32, convolves=True, places=288
)


def parts(energy: Energy) -> tuple[float, ...]:
    return energy.arithmetic, energy.weights, energy.state, energy.activations


def test_a_convolution_of_numbers_by_lemaire_in_pj():
    """What each memory holds decides: 18 KiB of weights, 128 B of biases, 4 KiB of inputs, 8 KiB of outputs."""
    weights, biases, inputs = 10 + 10 * 10 / 24, 10 * 128 / 8192, 5.0
    expected = (
        200_000 * 3.2 + 2048 * 0.1 + (1024 + 2048 + 288) * 0.1,
        200_000 * weights + 2048 * biases,
        0.0,
        200_000 * inputs + 2048 * 10.0,
    )
    assert parts(numbers(LAYER, MODELS["lemaire22"])) == pytest.approx(expected, rel=1e-12)


def test_the_same_convolution_of_spikes_by_lemaire_in_pj():
    """Sums take 8 KiB and the trains of 1,024 neurons and 4 steps 512 bytes; two products find the place of a spike."""
    weights, biases, sums, trains = 10 + 10 * 10 / 24, 10 * 128 / 8192, 10.0, 10 / 16
    expected = (
        200_000 * 0.2 + 2048 * 0.1 + 700 * 2 * 3.2,
        200_000 * weights + 2048 * biases,
        (2 * 200_000 + 2048) * sums,
        700 * trains,
    )
    assert parts(spikes(LAYER, MODELS["lemaire22"], 4)) == pytest.approx(expected, rel=1e-12)


def test_the_same_convolution_by_horowitz_in_pj():
    """Half a word for each number of 32 bits; no energy of addresses."""
    model = MODELS["horowitz45"]
    arithmetic = 200_000 * 4.6 + 2048 * 0.9
    weights = 200_000 * 20 / 2 + 2048 * 10 / 2
    expected = (arithmetic, weights, 0.0, 200_000 * 10 / 2 + 2048 * 10 / 2)
    assert parts(numbers(LAYER, model)) == pytest.approx(expected, rel=1e-12)
    expected = (200_000 * 0.9 + 2048 * 0.9, weights, (2 * 200_000 + 2048) * 10 / 2, 700 * 10 / 2)
    assert parts(spikes(LAYER, model, 4)) == pytest.approx(expected, rel=1e-12)


def test_three_bits_take_less_of_a_product_and_of_a_word():
    found = numbers(LAYER, MODELS["lemaire22"], 3, 3)
    assert found.arithmetic == pytest.approx(
        200_000 * (3.1 * 3 / 32 + 0.1) + 2048 * 0.1 + (1024 + 2048 + 288) * 0.1, rel=1e-12
    )
    inputs, outputs = 10 * 1024 * 3 / 8 / 8192, 10 * 2048 * 3 / 8 / 8192
    assert found.activations == pytest.approx((200_000 * inputs + 2048 * outputs) * 3 / 32, rel=1e-12)
    assert found.weights == numbers(LAYER, MODELS["lemaire22"]).weights


def test_a_matrix_reads_its_input_once_and_a_product_of_activations_has_no_weights():
    matrix = replace(LAYER, convolves=False, places=0, biases=0)
    found = numbers(matrix, MODELS["lemaire22"])
    assert found.activations == pytest.approx(1024 * 5.0 + 2048 * 10.0, rel=1e-12)
    product = numbers(replace(matrix, product=True), MODELS["lemaire22"])
    assert product.weights == 0
    assert product.activations == pytest.approx(found.activations + found.weights, rel=1e-12)


def test_what_the_largest_cache_does_not_hold_is_moved_once():
    model, held = MODELS["horowitz45"], 32 * (1 << 19)  # bits: 2 MiB
    many = model.traffic(1 << 22, 32, held)
    assert many == pytest.approx((1 << 22) * 100 / 2 + held / 64 * 1300, rel=1e-12)
    assert model.traffic(100, 32, held) == pytest.approx(100 * (50 + 650), rel=1e-12)  # never more than is read
    assert model.traffic(100, 32, 8 * KIB * KIB) == 100 * 50


def test_the_examples_of_the_docstrings():
    found = doctest.testmod(energy)
    assert found.attempted > 8 and found.failed == 0


@pytest.mark.parametrize("price", [interpolated, stepped])
def test_prices_are_those_of_the_sources(price):
    assert [price(size * KIB) for size in (8, 32, 1024)] == [10, 20, 100]


@examples(100)
@given(MODEL, WORKS, st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(1, 16))
def test_more_spikes_never_take_less(name, work, pairs, events, steps):
    more = replace(work, pairs=work.pairs + pairs, events=work.events + events)
    few, many = (parts(spikes(each, MODELS[name], steps)) for each in (work, more))
    assert all(one <= other for one, other in zip(few, many, strict=True))


@examples(100)
@given(MODEL, st.integers(1, 1 << 12), st.integers(1, 64), st.integers(1, 8), st.integers(2, 5))
def test_dense_trains_cost_in_proportion_to_the_steps(name, inputs, fan_out, steps, times):
    """But for what does not depend on spikes: sums that are cleared and biases. All trains fit the least memory."""

    def dense(t):
        work = LayerWork(inputs * fan_out * t, inputs, fan_out, inputs * t, inputs * fan_out, biases=1)
        return spikes(work, MODELS[name], t)

    none = spikes(replace(LAYER, pairs=0, events=0, outputs=fan_out, biases=1), MODELS[name], 1)
    one, several = dense(steps), dense(steps * times)
    for part in ("arithmetic", "weights", "state"):
        fixed = getattr(none, part)
        assert getattr(several, part) - fixed == pytest.approx(times * (getattr(one, part) - fixed), rel=1e-9, abs=1e-9)


@examples(100)
@given(MODEL, WORKS, st.integers(1, 16), st.integers(2, 256), SIZES)
def test_without_spikes_only_what_is_static_is_left(name, work, steps, levels, neurons):
    """Biases are added to cleared sums, and neurons compare; no weight is read and nothing is sent."""
    model, silent = MODELS[name], replace(work, pairs=0, events=0)
    found = spikes(silent, model, steps)
    summed = work.outputs if work.biases else 0
    assert found.arithmetic == pytest.approx(summed * model.addition, rel=1e-12)
    assert found.weights == model.traffic(summed, 32, work.biases * 32)
    assert found.state == model.traffic(work.outputs, 32, work.outputs * 32)
    assert found.activations == 0
    fired = firing(neurons, 0, levels, model, steps)
    assert fired.activations == 0 and fired.weights == 0
    assert fired.arithmetic == quantising(neurons, levels, model).arithmetic > 0


@examples(100)
@given(MODEL, WORKS, st.integers(1, 31))
def test_fewer_bits_never_take_more(name, work, bits):
    few, many = (parts(numbers(work, MODELS[name], each, each)) for each in (bits, bits + 1))
    assert all(one <= other for one, other in zip(few, many, strict=True))


@given(st.integers(2, 1 << 16))
def test_bits_are_those_that_hold_all_levels(levels):
    assert 2 ** (bits_of(levels) - 1) < levels <= 2 ** bits_of(levels)


def test_energies_add_part_by_part():
    assert parts(Energy(1, 2, 3, 4) + Energy(10, 20, 30, 40)) == (11, 22, 33, 44)
    assert Energy(1, 2, 3, 4).total == 10


@pytest.mark.parametrize(
    ("ann", "quantised", "snn", "words"),
    [
        (100.0, 50.0, 40.0, "Spikes save energy: the SNN takes 0.4 × the energy of the ANN and 0.8 ×"),
        (
            100.0,
            50.0,
            80.0,
            "Fewer levels save energy, spikes do not: the SNN takes 0.8 × the energy of the ANN and 1.6",
        ),
        (100.0, 200.0, 150.0, "Spikes do not save energy: the SNN takes 1.5 × the energy of the ANN and 0.75 ×"),
        (100.0, math.nan, math.nan, "Whether spikes save energy is not known"),
    ],
)
def test_the_verdict_says_whether_spikes_pay(ann, quantised, snn, words):
    found = EnergyEstimate("lemaire22", 3, Energy(ann), Energy(quantised), Energy(snn), 0.25)
    assert found.verdict.startswith(words)
    assert math.isnan(snn) or "numbers of 3 bits, at 0.25 spikes per synapse" in found.verdict
    assert math.isnan(snn) or "numbers of 1 bit, at" in replace(found, bits=1).verdict


def test_a_network_without_operations_has_no_ratio():
    found = EnergyEstimate("lemaire22", 3, Energy(), Energy(), Energy(1.0), None)
    assert found.ratio is None and found.quantised_ratio is None
    assert found.verdict.startswith("Whether spikes save energy is not known")
