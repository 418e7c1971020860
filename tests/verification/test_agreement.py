"""The graph of magnitudes: what rounding of a sum may follow."""

import numpy as np

from graphpass.verification.agreement import SAME_NODE, magnitudes
from tests.forms.nets import Net
from tests.models import run


def test_a_product_of_two_activations_has_the_size_of_its_terms():
    """Terms may cancel; then forms that a runtime fuses differently differ by what rounding takes of the terms."""
    net = Net()
    net.op("Tanh", "x", "u")
    net.op("Transpose", "u", "v", perm=[0, 2, 1])
    net.op("MatMul", "u v", "p")
    net.op("Reshape", f"p {net.constant('flat', [0, -1])}", "current")
    net.neuron("current", "z", (4,))
    graph = net.graph({"x": ["N", 2, 6]}, {"z": 2})
    found = magnitudes(graph, ["current"], "rate")
    values = np.tanh(np.random.default_rng(0).normal(size=(3, 2, 6))).astype(np.float32)
    assert found.proto is not None
    assert set(found.sources.values()) == {"u", "v"}
    tensors = {"u": values, "v": values.transpose(0, 2, 1)}
    (m,) = run(found.proto, *(np.abs(tensors[found.sources[each.name]]) for each in found.proto.graph.input))
    expected = np.abs(tensors["u"]) @ np.abs(tensors["v"])
    np.testing.assert_allclose(m, expected.reshape(3, 4), rtol=1e-6)
    assert found.roundings["current"] >= SAME_NODE + 6
