"""Sums of layers on the same counts, and normalised counts, in the integer form."""

import numpy as np
import pytest

from tests.forms.integers import RealNet


def branches(group=1, stride=1, own=True, other=False, taps=3):
    """Layers of three taps and of one, and the counts themselves, normalised: as RepVGG is trained."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w0', 8, 3, 1, 1)}", "c0")
    y = source = net.site("c0", "y", 8)
    if other:
        net.op("Conv", f"x {net.weight('w9', 8, 3, 1, 1)}", "c9")
        source = net.site("c9", "y9", 8)
    more = {"group": group, "strides": [stride] * 2}
    net.op("Conv", f"{y} {net.weight('w1', 8, 8 // group, taps, taps)}", "c1", pads=[1] * 4, **more)
    net.op("Conv", f"{source} {net.weight('w2', 8, 8 // group, 1, 1)} {net.weight('b2', 8)}", "c2", **more)
    net.op("Add", "c2 c1", "s")
    if own:
        net.op("Mul", f"y {net.constant('scale', net.random.uniform(-1, 1, (8, 1, 1)))}", "scaled")
        net.op("Add", f"scaled {net.constant('added', net.random.normal(size=(8, 1, 1)))}", "n")
        net.op("Add", "n s", "s3")
    net.site("s3" if own else "s", "z", 8)
    net.op("GlobalAveragePool", "z", "g")
    return net.compare({"x": (3, 9, 9)}, {"g": 4}, ranges={"x": (-4.0, 4.0)})


@pytest.mark.parametrize(("group", "stride", "own"), [(1, 1, True), (8, 1, True), (1, 2, False), (2, 1, False)])
def test_layers_on_the_same_counts_are_one_convolution(group: int, stride: int, own: bool) -> None:
    """Every count is held to the bound that the rounding of the summed weights leaves."""
    found = branches(group, stride, own)
    assert found.left == ()
    assert found.ops.count("QLinearConv") == 2
    assert "QLinearAdd" not in found.ops
    assert found.flips["z"] < 0.1


def test_three_terms_on_other_counts_stay_float() -> None:
    found = branches(other=True)
    assert any("too many terms" in entry.reason for entry in found.left)


def dense(ranges, division=False):
    """Two layers side by side, normalised: neurons read c·x + d, or x/c + d. Then a layer and neurons."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w0', 8, 3, 3, 3)} {net.weight('b0', 8)}", "c0", pads=[1] * 4)
    net.op("Conv", f"x {net.weight('w1', 12, 3, 1, 1)}", "c1")
    net.op("Concat", "c0 c1", "joined", axis=1)
    scale = net.constant(
        "scale", net.random.uniform(0.5, 1.5, (20, 1, 1)) * np.where(np.arange(20) % 5, 1, -1)[:, None, None]
    )
    net.op("Div" if division else "Mul", f"joined {scale}", "scaled")
    net.op("Add", f"scaled {net.constant('added', net.random.normal(size=(1, 20, 1, 1)))}", "n")
    net.site("n", "y", 20)
    net.op("Conv", f"y {net.weight('w2', 6, 20, 1, 1)}", "c2")
    net.site("c2", "y2", 6)
    net.op("GlobalAveragePool", "y2", "z")
    return net.compare({"x": (3, 8, 8)}, {"z": 4}, ranges=ranges)


@pytest.mark.parametrize("division", [False, True])
def test_a_normalisation_in_front_of_neurons_is_integer(division: bool) -> None:
    """What is concatenated has a scale each, and nothing is rescaled but by the layer that counts."""
    found = dense({"x": (-3.2, 3.0), "c0": (-7.0, 8.0), "c1": (-4.0, 4.0)}, division)
    assert found.left == ()
    assert found.encoded == ("x", "c0", "c1")
    assert found.ops.count("QLinearConv") == 4
    assert not {"Add", "Div", "Conv", "QLinearConcat"} & {*found.ops}
    assert found.flips["y"] < 0.1
    assert "ParallelNeuronCount" in [entry.op for entry in dense(None, division).left]


def test_counts_that_are_normalised_are_the_same_counts() -> None:
    """y·c + d is a shortcut: nothing but the layer that rescales it is left of the product."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w0', 8, 3, 3, 3)}", "c0", pads=[1] * 4)
    net.site("c0", "y", 8)
    net.op("Mul", f"y {net.constant('scale', net.random.uniform(0.5, 1.5, (8, 1, 1)))}", "scaled")
    net.op("Add", f"scaled {net.constant('added', net.random.normal(size=(8, 1, 1)))}", "n")
    net.op("Conv", f"y {net.weight('w1', 8, 8, 3, 3)}", "c1", pads=[1] * 4)
    net.op("Add", "c1 n", "s")
    net.site("s", "y1", 8)
    net.op("GlobalAveragePool", "y1", "z")
    found = net.compare({"x": (3, 8, 8)}, {"z": 4}, ranges={"x": (-3.2, 3.0)})
    assert found.left == ()
    assert found.ops.count("QLinearAdd") == 1
    assert found.flips["y1"] < 0.1


def test_products_of_floats_that_exist_are_as_exact_as_these() -> None:
    """A layer reads x as uint8. Products of x that are read as floats are products of x itself."""
    net = RealNet("rate", 16)
    net.op("Conv", f"x {net.weight('w0', 8, 3, 3, 3)}", "c0", pads=[1] * 4)
    net.site("c0", "y", 8)
    net.op("Mul", f"x {net.constant('scale', net.random.uniform(0.5, 1.5, (3, 1, 1)))}", "scaled")
    net.op("Sin", "scaled", "one")
    net.op("Div", f"scaled {net.constant('divisor', net.random.uniform(0.5, 1.5, (3, 1, 1)))}", "again")
    net.op("Exp", "again", "two")
    found = net.compare({"x": (3, 8, 8)}, {"y": 4, "one": 4, "two": 4}, ranges={"x": (-3.2, 3.0)})
    assert found.encoded == ("x",)
    for name in ("one", "two"):
        np.testing.assert_allclose(found.integer[name], found.folded[name], rtol=1e-6)
