"""Networks of convolutions and neurons, grown node by node, and what the tests of the blocked layout ask of them."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.forms import operators
from graphpass.forms.operators import FOLDED_NEURON
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.runtime import native
from graphpass.runtime import session as session_module
from graphpass.runtime.nchwc import NotBlocked
from graphpass.runtime.session import open_session

LEVELS = 5


class BlockedNet:
    """Grows node by node: every method takes the names of its inputs and gives back that of its output."""

    def __init__(self, seed=0, coarse=False):
        self.random, self.coarse = np.random.default_rng(seed), coarse
        self.nodes, self.constants, self.channels = [], [], {"x": 3}

    def constant(self, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, op, *inputs, channels=None, domain="", name=None, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name or f"n{output}", domain=domain, **attributes))
        self.channels[output] = channels or self.channels[inputs[0]]
        return output

    def conv(self, x, channels, size=3, group=1, bias=True, **attributes):
        weights = self.random.normal(size=(channels, self.channels[x] // group, size, size)).astype(np.float32)
        weights = np.round(8 * weights) / 8 if self.coarse else weights / np.float32(np.sqrt(weights[0].size))
        inputs = [self.constant(weights)]
        if bias:
            inputs.append(self.constant(np.round(self.random.normal(size=channels), 1).astype(np.float32)))
        pads = [size // 2] * 4
        return self.node("Conv", x, *inputs, channels=channels, group=group, **{"pads": pads, **attributes})

    def neuron(self, x, per_channel=True, rank=3):
        """Thresholds that numbers meet exactly where the weights are coarse."""
        shape = (self.channels[x] if per_channel else 1, *(1,) * (rank - 1))
        parts = [self.random.choice([0.25, 0.5], shape) if self.coarse else self.random.uniform(0.1, 0.6, shape)]
        parts += [self.random.choice([0, 0.125, 0.25], shape), self.random.uniform(0.2, 1, shape)]
        parts += [self.random.choice([0, 0.25], shape)]
        names = [self.constant(part.astype(np.float32)) for part in parts]
        over_time = {"time_steps": LEVELS - 1, "levels": LEVELS, "coding": "rate"}
        return self.node(FOLDED_NEURON, x, *names, domain=SPIKING_DOMAIN, **over_time)

    def model(self, *outputs):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])]
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", inputs, made, self.constants)
        opsets = [helper.make_opsetid("", 21), operators.opset_import()]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        proto.functions.extend(operators.functions("rate", 21))
        proto.metadata_props.add(key="made of", value="tests")
        return proto


def silu(net, x):
    return net.node("Mul", x, net.node("Sigmoid", x))


def channel_block():
    try:
        return session_module._channel_block() if native.library() else 0
    except NotBlocked:
        return 0


BLOCK = channel_block()
needs_blocks = pytest.mark.skipif(
    not BLOCK, reason="needs the native operators, and an onnxruntime that convolves in blocks"
)


def images(batch=2, height=12, width=12):
    x = np.random.default_rng(0).normal(0, 1, (batch, 3, height, width)).astype(np.float32)
    return np.round(x * 4) / 4


def compared(proto, x=None, threads=1):
    """The session that works in blocks where it can, after its outputs were compared with those of the plain one."""
    plain = open_session(proto, threads=threads, use_blocked=False)
    assert plain.layout == "plain"
    session = open_session(proto, threads=threads)
    assert session.neurons == "native"
    for value in [x] if x is not None else [images(), images(1, 7, 9)]:
        for one, other in zip(session.run(None, {"x": value}), plain.run(None, {"x": value}), strict=True):
            np.testing.assert_array_equal(one, other)
    ends = [
        [(end.name, end.type, [isinstance(size, int) and size for size in end.shape]) for end in one.get_outputs()]
        for one in (session, plain)
    ]
    assert ends[0] == ends[1]
    assert session.get_modelmeta().custom_metadata_map == plain.get_modelmeta().custom_metadata_map
    return session


def in_blocks(proto, neurons, **options):
    session = compared(proto, **options)
    assert session.layout == "blocked", session.reason
    assert re.fullmatch(rf"{neurons} neurons? in blocks of {BLOCK}", session.reason), session.reason


def stays_plain(proto, reason, **options):
    session = compared(proto, **options)
    assert session.layout == "plain"
    assert reason in session.reason
