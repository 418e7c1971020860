"""Activations whose parameters are more than neurons have: they stay analogue, and are listed with the reason."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.sites.sites import UNREAD, Coverage, find_sites
from tests.models import build, node
from tests.sites.test_sites import left

K = np.ones((4, 4, 1, 1), np.float32)


def between(activation: str, opset: int = 17, **constants: np.ndarray) -> Coverage:
    """Of Conv → the activation of h and of other inputs → Conv."""
    op, _, inputs = activation.partition(" ")
    nodes = [node("Conv", "x k", "h", "conv"), node("ReduceMax", "x", "most", keepdims=0),
             node(op, f"h {inputs}", "a", "act"), node("Conv", "a k", "y", "conv2")]  # fmt: skip
    model = build(nodes, {"x": ["N", 4, 5, 5]}, {"y": None}, {"k": K, **constants}, opset=opset)
    return find_sites(gs.import_onnx(model).toposort())


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (1, 1), (1,)])
@pytest.mark.parametrize("slope", [-1.0, 0.5])
def test_slopes_along_the_channels_are_neurons(shape, slope):
    found = between("PRelu slope", slope=np.full(shape, slope, np.float32))
    assert [site.name for site in found.sites] == ["act"] and found.sites[0].curve


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 1, 1, 5)])
@pytest.mark.parametrize("slope", [-1.0, 0.5])
def test_slopes_along_another_axis_are_no_neurons(shape, slope):
    """One line for all of them loses their side below 0, however many levels there are."""
    found = between("PRelu slope", slope=np.full(shape, slope, np.float32))
    assert not found.sites and found.complete
    assert left(found)["act"].startswith("its slopes vary along an axis that is not known to be that of its channels")


def test_slopes_tell_the_axis_where_no_layer_does():
    nodes = [node("PRelu", "x slope", "a", "act"), node("Flatten", "a", "f", "flat"), node("MatMul", "f w", "y", "fc")]
    constants = {"slope": np.full((3, 1), 0.5, np.float32), "w": np.ones((12, 2), np.float32)}
    model = build(nodes, {"x": ["N", 3, 4]}, {"y": None}, constants)
    (site,) = find_sites(gs.import_onnx(model).toposort()).sites
    assert site.axis == -2


@pytest.mark.parametrize(
    ("activation", "constants"),
    [
        ("PRelu most", {}),  # computed
        ("PRelu slope", {"slope": np.full((4, 1, 5), 0.5, np.float32)}),
        ("Clip - most", {}),
        ("Clip most", {}),
        ("Clip low low", {"low": np.float32(0.5)[...]}),
    ],
)
def test_parameters_that_are_no_constants_are_named(activation, constants):
    found = between(activation, **constants)
    assert not found.sites and found.complete
    assert left(found)["act"] == UNREAD[activation.split()[0]]


def test_what_reaches_no_layer_or_is_no_float_is_not_named():
    nodes = [node("Conv", "x k", "h", "conv"), node("ReduceMax", "x", "most", keepdims=0),
             node("Cast", "h", "i", to=7), node("Clip", "i one two", "j", "whole"), node("Cast", "j", "f", to=1),
             node("Conv", "f k", "c", "conv2"), node("Clip", "c most", "y", "last")]  # fmt: skip
    constants = {"k": K, "one": np.int64(1)[...], "two": np.int64(2)[...]}
    model = build(nodes, {"x": ["N", 4, 5, 5]}, {"y": None}, constants)
    assert not {"whole", "last"} & left(find_sites(gs.import_onnx(model).toposort())).keys()
