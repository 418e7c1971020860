"""Neurons in onnxruntime's blocked layout: the numbers of the plain session, bit for bit, on every kind of network.

Where the layout is not to be had, the session says why and runs the model as it is.
"""

from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from graphpass.runtime import nchwc as blocked
from graphpass.runtime import session as session_module
from graphpass.runtime.session import open_session
from tests.properties import examples
from tests.runtime.blocked import BlockedNet, compared, images, in_blocks, needs_blocks, silu, stays_plain

pytestmark = needs_blocks


def chain(**options):
    """Two convolutions with a neuron each, and a third convolution."""
    net = BlockedNet()
    one = net.neuron(net.conv("x", 32), **options)
    two = net.neuron(net.conv(one, 32), **options)
    return net, net.conv(two, 16)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("rank", [3, 4])
def test_a_chain(per_channel, rank):
    net, y = chain(per_channel=per_channel)
    for value in net.constants:  # [1, C, 1, 1] instead of [C, 1, 1]
        if rank == 4 and len(value.dims) == 3:
            value.dims.insert(0, 1)
    in_blocks(net.model(y), 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_more_elements_than_one_task_takes(threads):
    net, y = chain()
    in_blocks(net.model(y), 2, x=images(3, 61, 67), threads=threads)


@pytest.mark.parametrize("channels", [16, 20, 24, 40])
def test_channels_that_do_not_fill_their_blocks(channels):
    net = BlockedNet()
    one = net.neuron(net.conv("x", channels))
    two = net.neuron(net.conv(one, channels, group=channels))
    in_blocks(net.model(net.conv(two, channels, 1), one), 2)


@pytest.mark.parametrize("coarse", [True, False])
def test_residual_sums_are_those_of_the_plain_session(coarse):
    """Also where another order of adding the bias and the shortcut would give another last digit."""
    net = BlockedNet(coarse=coarse)
    x = net.neuron(net.conv("x", 32))
    for _ in range(6):
        inner = net.neuron(net.conv(x, 32))
        x = net.neuron(net.node("Add", net.conv(inner, 32), x))
    shortcut = net.conv(x, 48, 1, strides=[2, 2])
    x = net.neuron(net.node("Add", net.conv(net.neuron(net.conv(x, 48, strides=[2, 2])), 48), shortcut))
    in_blocks(net.model(net.conv(x, 16)), 15)


def test_pools_pads_and_concatenations():
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    pooled = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    pads = net.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    padded = net.node("Pad", net.neuron(net.conv(pooled, 32, strides=[2, 2])), pads)
    one, two = (net.neuron(net.conv(padded, 16)) for _ in range(2))
    joined = net.node("Concat", one, two, channels=32, axis=1)
    in_blocks(net.model(net.conv(net.neuron(net.node("Add", net.conv(joined, 32), joined)), 8)), 5)


def test_a_convolution_in_front_of_two_neurons_and_of_an_output():
    net = BlockedNet()
    current = net.conv("x", 32)
    one, two = net.neuron(current), net.neuron(current)
    in_blocks(net.model(current, one, net.conv(one, 16), net.conv(two, 16)), 2)


def test_activations_that_look_like_stand_ins_stay():
    net = BlockedNet()
    x = net.node("Tanh", net.conv("x", 32))
    x = net.neuron(net.conv(x, 32))
    in_blocks(net.model(net.node("Tanh", net.conv(x, 32)), net.node("Sigmoid", net.conv(x, 32))), 1)


def test_transposed_axes_of_one_size_are_not_taken_for_channels():
    net = BlockedNet()
    x = net.neuron(net.conv("x", 16))
    turned = net.node("Transpose", net.conv(x, 16), perm=[0, 2, 1, 3])
    back = net.node("Transpose", net.neuron(turned), perm=[0, 2, 1, 3])
    in_blocks(net.model(net.conv(back, 16)), 1, x=images(2, 16, 16))


def test_parameters_along_another_axis_or_computed_ones():
    net = BlockedNet()
    x = net.neuron(net.conv("x", 16))
    y = net.neuron(net.conv(x, 16))
    for position in range(1, 5):
        net.nodes[-1].input[position] = net.constant(np.full(16, 0.5, np.float32))
    z = net.neuron(net.conv(y, 16))
    threshold = net.node("Abs", net.nodes[-1].input[1], channels=16)
    net.nodes[-2].input[1] = threshold
    net.nodes[-2:] = net.nodes[:-3:-1]
    in_blocks(net.model(net.conv(z, 16)), 1, x=images(2, 16, 16))


@pytest.mark.parametrize("large", [0, session_module.LARGE])
def test_weights_in_files_while_the_model_is_optimised(large, monkeypatch, tmp_path):
    """The session still has them when the temporary files are gone."""
    monkeypatch.setattr(session_module, "LARGE", large)
    net = BlockedNet()
    one = net.neuron(net.conv("x", 48))
    pooled = net.node("MaxPool", net.neuron(net.conv(one, 48)), kernel_shape=[2, 2])
    proto = net.model(net.conv(net.neuron(net.conv(pooled, 48)), 16), one)
    assert any(value.ByteSize() > session_module.LARGE for value in proto.graph.initializer)
    before = proto.SerializeToString()
    in_blocks(proto, 3)
    assert proto.SerializeToString() == before
    onnx.save(proto, tmp_path / "model.onnx")
    in_blocks(tmp_path / "model.onnx", 3)


def test_it_stays_plain_where_not_all_weights_could_be_written(monkeypatch):
    net = BlockedNet()
    x = net.neuron(net.conv("x", 48))
    proto = net.model(net.conv(net.neuron(net.conv(x, 48)), 48))
    optimised = session_module._optimised

    def on_a_full_disk(given, folder):
        made = optimised(given, folder)
        with open(folder / "optimised.weights", "r+b") as file:
            file.truncate(100)
        return made

    monkeypatch.setattr(session_module, "_optimised", on_a_full_disk)
    stays_plain(proto, "")


CURVED = ("LeakyRelu", "HardSigmoid", "HardSwish", "Gelu", "Tanh")
KINDS = ("conv", "depthwise", "residual", "projection", "pool", "two", "mean", "silu", "silu sum", "weighed", *CURVED)


@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6), st.sampled_from([8, 16, 24, 32]), st.booleans(), st.data()
)
@examples(40)
def test_any_network_gives_the_numbers_of_the_plain_session(kinds, channels, coarse, data):
    net = BlockedNet(data.draw(st.integers(0, 9)), coarse)
    x, outputs = net.neuron(net.conv("x", channels)), []
    for kind in kinds:
        per_channel = data.draw(st.booleans())
        if kind == "conv":
            x = net.neuron(net.conv(x, data.draw(st.sampled_from([8, 16, 24, 32, 48])), bias=False), per_channel)
        elif kind == "depthwise":
            x = net.neuron(net.conv(x, net.channels[x], group=net.channels[x]), per_channel)
        elif kind == "residual":
            inner = net.neuron(net.conv(x, 16), per_channel)
            x = net.neuron(net.node("Add", x, net.conv(inner, net.channels[x], 1)))
        elif kind == "projection":
            x = net.neuron(net.node("Add", net.conv(x, 32), net.conv(x, 32, 1)), per_channel)
        elif kind == "silu":
            x = net.neuron(silu(net, net.conv(x, 16)), per_channel)
        elif kind == "silu sum":
            x = net.neuron(silu(net, net.node("Add", net.conv(x, net.channels[x]), x)), per_channel)
        elif kind in CURVED:
            alpha = {"alpha": 0.1} if kind in CURVED[:2] else {}
            x = net.neuron(net.node(kind, net.conv(x, 32), **alpha), per_channel)
        elif kind == "weighed":
            weights = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", x), net.channels[x], 1))
            x = net.neuron(net.conv(net.node("Mul", x, weights), 16), per_channel)
        elif kind == "pool":
            x = net.node("MaxPool", x, kernel_shape=[2, 2], pads=[1, 1, 1, 1])
        elif kind == "two":
            parts = [net.neuron(net.conv(x, 16), per_channel) for _ in range(2)]
            x = net.node("Concat", *parts, channels=32, axis=1)
        else:
            outputs.append(net.node("GlobalAveragePool", x))
    with mock.patch.object(session_module, "LARGE", data.draw(st.sampled_from([0, 1 << 12, session_module.LARGE]))):
        compared(net.model(net.conv(x, 16), *outputs))


def test_it_stays_plain_without_convolutions_of_constant_weights():
    net = BlockedNet()
    x = net.node("Relu", "x")
    stays_plain(net.model(net.neuron(x)), "no neuron stands between convolutions")


def test_it_stays_plain_where_onnxruntime_does_not_convolve_in_blocks(monkeypatch):
    net, y = chain()
    optimised = session_module._optimised

    def without(proto, folder):
        """As an onnxruntime without blocks: it leaves stand-ins between convolutions as they are."""
        optimised(proto, folder)
        return proto

    monkeypatch.setattr(session_module, "_optimised", without)
    stays_plain(net.model(y), "onnxruntime convolves none of the neurons' inputs in blocks")


def test_a_stand_in_that_disappears_stays_a_neuron(monkeypatch):
    net, y = chain()
    optimised = session_module._optimised

    def loses_the_first(proto, folder):
        made = optimised(proto, folder)
        stand_ins = [node for node in made.graph.node if node.name.startswith(blocked.PREFIX)]
        if len(stand_ins) == 2:
            stand_ins[0].name = "another"
        return made

    monkeypatch.setattr(session_module, "_optimised", loses_the_first)
    in_blocks(net.model(y), 1)


def test_it_stays_plain_where_stand_ins_come_and_go(monkeypatch):
    net, y = chain()
    seen = []

    def another(*_):
        seen.append(None)
        return frozenset([f"t{2 * (len(seen) % 2) + 1}"])  # the output of the one neuron, then of the other

    monkeypatch.setattr(blocked, "blocked_outputs", another)
    stays_plain(net.model(y), "does not settle")


def test_whatever_goes_wrong_the_model_runs_as_it_is(monkeypatch):
    net, y = chain()

    def fails(*_):
        raise RuntimeError("an optimiser of tomorrow")

    for place in ("_optimised", "_channel_block"):
        with monkeypatch.context() as patched:
            patched.setattr(session_module, place, fails)
            stays_plain(net.model(y), "an optimiser of tomorrow")
    with monkeypatch.context() as patched:
        patched.setattr(blocked, "finished", lambda *_: onnx.ModelProto())
        stays_plain(net.model(y), "")
    with monkeypatch.context() as patched:
        patched.setattr(blocked, "same_arithmetic", lambda *_: False)
        stays_plain(net.model(y), "in another order")


def test_it_stays_plain_for_large_models_external_data_and_subgraphs(monkeypatch, tmp_path):
    net, y = chain()
    proto = net.model(y)
    with monkeypatch.context() as patched:
        patched.setattr(session_module, "LARGEST_BLOCKED", 1000)
        stays_plain(proto, "larger than")
    onnx.save(proto, tmp_path / "one.onnx")
    in_blocks(tmp_path / "one.onnx", 2)
    onnx.save(proto, tmp_path / "two.onnx", save_as_external_data=True, location="two.data", size_threshold=0)
    stays_plain(tmp_path / "two.onnx", "external data")
    branch = helper.make_graph(
        [helper.make_node("Identity", [y], ["z"])], "branch", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    net.node("If", net.constant(np.array(True)), channels=16, then_branch=branch, else_branch=branch)
    stays_plain(net.model(y, net.nodes[-1].output[0]), "subgraphs")


def test_it_stays_plain_where_names_would_collide():
    net, y = chain()
    net.nodes[0].name = f"{blocked.PREFIX}0"
    stays_plain(net.model(y), "names that begin with")


def test_function_bodies_stay_plain():
    net, y = chain()
    session = open_session(net.model(y), use_native=False)
    assert (session.neurons, session.layout) == ("function bodies", "plain")


def test_the_width_of_a_block_is_seen():
    x = np.arange(128, dtype=np.float32).reshape(1, 64, 1, 2)
    for block in (8, 16):
        assert blocked.channel_block(x, x.reshape(64 // block, block, 2).transpose(0, 2, 1)) == block
    assert blocked.channel_block(x, x) == 0
