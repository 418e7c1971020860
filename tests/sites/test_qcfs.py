"""Chains of clip, floor and shift: the quantised activations of networks that were trained with QCFS."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.neuron import Neuron
from graphpass.sites.activations import find_activations
from tests.models import run
from tests.properties import examples
from tests.sites.spelled import SHAPE, find, model_of, spell, x_of

# θ: threshold, T: levels; c = T/θ, r = θ/T. Orders of clip, floor, shift seen in published code.
CHAINS = [
    "Div x θ > a; Clip a zero one > b; Mul b T > d; Add d half > e; Floor e > f; Div f T > g; Mul g θ > y",
    "Div x θ > a; Mul a T > b; Add b half > d; Floor d > e; Div e T > f; Clip f zero one > g; Mul g θ > y",
    "Mul x c > a; Add half a > b; Floor b > d; Clip d zero T > e; Mul r e > y",
    "Relu x > a; Mul c a > b; Add b half > d; Floor d > e; Min e T > f; Mul f r > y",
    "Clip x zero θ > a; Div a r > b; Add b half > d; Floor d > e; Mul e r > y",
    "Mul x c > a; Round a > b; Max b zero > d; Min T d > e; Mul e r > y",
    "Div x θ > a; Clip a zero one > b; Mul b T > d; Round d > f; Div f T > g; Mul g θ > y",
]


def chain(text, threshold, levels, extra=None):
    ascii_text = text.replace("θ", "theta")
    theta = np.asarray(threshold, np.float32)
    constants = {
        "theta": theta,
        "T": np.float32(levels),
        "c": levels / theta,
        "r": theta / levels,
        **(extra or {}),
    }
    return model_of(spell(ascii_text), constants)


def check_chain(model, x, steps, kinds=("qcfs",)):
    found = find_activations(gs.import_onnx(model))
    assert [each.kind for each in found] == list(kinds)
    parameters = dict(found[0].parameters)
    assert parameters.pop("steps") == steps
    neuron = Neuron(**parameters, levels=steps + 1)
    y, level = run(model, x)[0], (x + neuron.shift) / neuron.threshold
    # Within 1e-4 of a level the float32 rounding of x·T/θ decides on either side: such x are not compared.
    clear = np.abs(level - np.round(level)) > 1e-4
    assert clear.mean() > 0.9
    # θ·n/T is rounded twice in float32
    np.testing.assert_allclose(neuron.fire(x)[clear], y[clear], rtol=1e-5, atol=1e-6)
    return found[0]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("text", CHAINS)
def test_qcfs_chains(text, per_channel):
    threshold = np.linspace(0.5, 4, 6).reshape(1, 6, 1, 1) if per_channel else 2.5
    if per_channel and "Clip x zero θ" in text:
        text = text.replace("Clip x zero θ", "Clip x zero one")
        threshold = np.ones((1, 6, 1, 1))
    activation = check_chain(chain(text, threshold, 8), x_of(), 8)
    assert (activation.input.name, activation.output.name) == ("x", "y")
    np.testing.assert_allclose(
        activation.parameters["threshold"] * 8, np.float32(threshold), rtol=1e-6
    )  # two roundings
    np.testing.assert_allclose(activation.parameters["shift"] * 16, np.float32(threshold), rtol=1e-5)
    np.testing.assert_allclose(activation.parameters["amplitude"] * 8, np.float32(threshold), rtol=1e-6)
    assert np.all(np.abs(activation.parameters["offset"]) < 1e-6)


@examples(25)
@given(st.sampled_from(CHAINS), st.floats(0.01, 100), st.integers(1, 255))
def test_qcfs_chains_of_any_threshold_and_levels(text, threshold, levels):
    x = (np.random.default_rng(levels).uniform(-0.5, 1.5, SHAPE) * threshold).astype(np.float32)
    check_chain(chain(text, threshold, levels), x, levels)


def test_a_chain_with_an_offset_and_a_negative_scale():
    text = "Add x one > a; Mul a two > b; Floor b > d; Clip d low2 six > e; Mul e minus > f; Sub f half > y"
    activation = check_chain(chain(text, 1, 4, {"low2": np.float32(-2)}), x_of(), 8)
    assert activation.parameters["amplitude"] == -1 and activation.parameters["offset"] == 1.5


NO_CHAINS = {
    "no upper bound": "Mul x two > a; Floor a > b; Relu b > y",
    "more than 255 steps": "Mul x two > a; Floor a > b; Clip b zero many > y",
    "a clip between two levels": "Mul x two > a; Floor a > b; Clip b zero broken > y",
}


@pytest.mark.parametrize("case", NO_CHAINS)
def test_what_is_no_qcfs_chain(case):
    extra = {
        "many": 256.0,
        "broken": 2.5,
    }
    assert "qcfs" not in [each.kind for each in find(spell(NO_CHAINS[case]), extra)]


@pytest.mark.parametrize("last", ["Mul d two > y", "Mul d wide > y"])
def test_a_chain_starts_behind_what_does_not_fit(last):
    """A falling scale is no threshold, and two channel axes are not one: what makes them stays out."""
    scale = "minus" if "two" in last else "slope"
    text = f"Mul x {scale} > a; Floor a > b; Clip b zero six > d; {last}"
    (activation,) = find(spell(text), {"wide": np.arange(1, 6, dtype=np.float32)})
    assert (activation.kind, activation.input.name, activation.output.name) == ("qcfs", "a", "y")


def test_two_chains_in_a_row_are_two_activations():
    first = CHAINS[0].replace("> y", "> h")
    second = (
        "Div h θ > a2; Clip a2 zero one > b2; Mul b2 T > d2; Add d2 half > e2; "
        "Floor e2 > f2; Div f2 T > g2; Mul g2 θ > y"
    )
    found = find_activations(gs.import_onnx(chain(f"{first}; {second}", 2.0, 4)))
    assert [each.kind for each in found] == ["qcfs", "qcfs"]
    between = found[0].output
    assert found[1].input is between and found[1].output.name == "y"


def test_a_chain_ends_where_others_read_it():
    text = CHAINS[0].replace("> y", "> h") + "; Mul h two > y; Neg h > n"
    model = model_of(spell(text.replace("θ", "theta")), {"theta": np.float32(2), "T": np.float32(4)}, ("y", "n"))
    (activation,) = find_activations(gs.import_onnx(model))
    assert activation.output.name == "h"
