"""What stands in front of neurons and behind them, where they work in onnxruntime's blocked layout."""

import numpy as np
import pytest

from tests.runtime.blocked import BlockedNet, images, in_blocks, needs_blocks, silu, stays_plain

pytestmark = needs_blocks


OTHERS = ["GlobalAveragePool", "AveragePool", "Relu", "Softmax", "ReduceMean", "Transpose", "Ceil"]


@pytest.mark.parametrize("op", OTHERS)
@pytest.mark.parametrize(("also", "neurons"), [("Conv", 2), ("Abs", 1)])
def test_readers_that_would_compute_otherwise_read_the_layout_of_the_model(op, also, neurons):
    """A neuron that nothing reads in blocks stays as it is."""
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    x = net.neuron(net.conv(x, 32))
    attributes = {"kernel_shape": [2, 2]} if op == "AveragePool" else {}
    other = net.conv(x, 16) if also == "Conv" else net.node(also, x)
    in_blocks(net.model(net.node(op, x, **attributes), other), neurons)


def test_a_reader_that_onnxruntime_removes_leaves_its_output():
    """Two transpositions that undo each other in front of an output of the network."""
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    moved = net.node("Transpose", net.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    in_blocks(net.model(net.conv(x, 16), moved), 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [16, 24, 32])
def test_curved_activations_in_front_of_neurons_stay_in_blocks(channels, threads):
    """A residual network of SiLU, as the folded form has it: f in floats, then neurons."""
    net = BlockedNet()
    x = net.neuron(silu(net, net.conv("x", channels)))
    for _ in range(2):
        inner = net.neuron(silu(net, net.conv(x, channels)))
        x = net.neuron(silu(net, net.node("Add", net.conv(inner, channels), x)))
    in_blocks(net.model(net.conv(x, 16)), 5, threads=threads)


@pytest.mark.parametrize(
    "op", ["HardSwish", "HardSigmoid", "LeakyRelu", "Gelu", "Tanh", "Sigmoid", "Relu", "Elu", "Softplus"]
)
@pytest.mark.parametrize("channels", [16, 20])
def test_activations_in_front_of_neurons(op, channels):
    """Those that onnxruntime computes in blocks, and those that it computes in the layout of the model: Relu and
    LeakyRelu behind a sum, Elu and Softplus.
    """
    net = BlockedNet()
    x = net.neuron(net.node(op, net.conv("x", channels)))
    for _ in range(2):
        inner = net.neuron(net.node(op, net.conv(x, channels)))
        x = net.neuron(net.node(op, net.node("Add", net.conv(inner, channels), x)))
    proto, x = net.model(net.conv(x, 16)), images(3, 13, 11)
    if op in ("Elu", "Softplus"):
        stays_plain(proto, "no neuron stands between", x=x)
    else:
        in_blocks(proto, 3 if op.endswith("Relu") else 5, x=x)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_enlarged_images(mode):
    """Copies of numbers stay in blocks; means of them, which would be others there, do not."""
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    how = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    larger = net.node("Resize", x, "", scales, **how)
    larger = net.node("Concat", larger, net.node("Resize", net.conv(x, 16), "", scales, **how), channels=48, axis=1)
    x = net.neuron(net.conv(larger, 32))
    y = net.neuron(net.node("Resize", net.conv(x, 16), "", scales, **how))
    in_blocks(net.model(net.conv(y, 16), net.conv(x, 16)), 3 if mode == "nearest" else 2)


def test_channels_that_are_weighed():
    """Squeeze and excitation: a mean and a product read the same neurons as a convolution."""
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    for op in ("GlobalAveragePool", "ReduceMean"):
        x = net.neuron(net.conv(x, 32))
        axes = [net.constant(np.array([2, 3]))] if op == "ReduceMean" else []
        weights = net.neuron(net.conv(net.node(op, x, *axes), 16, 1))
        weights = net.node("HardSigmoid", net.conv(weights, 32, 1), alpha=0.2)
        x = net.node("Add", net.conv(net.node("Mul", x, weights), 32), net.conv(x, 32))
    in_blocks(net.model(net.conv(net.neuron(x), 16)), 6)


def test_pools_and_normalisations_in_front_of_neurons():
    """As in a DenseNet. A pool of neurons is computed in the layout of the model, as in the plain session."""
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    for behind_a_layer in (True, False):
        pooled = net.conv(x, 16) if behind_a_layer else x
        pool = net.node("AveragePool", pooled, kernel_shape=[2, 2], strides=[2, 2])
        channels = 16 + net.channels[pooled]
        x = net.node("Concat", pool, net.conv(x, 16, strides=[2, 2], pads=[1, 1, 0, 0]), axis=1, channels=channels)
        norm = [net.constant(np.linspace(0.5, 1.5, channels, dtype=np.float32)) for _ in range(4)]
        x = net.neuron(net.node("BatchNormalization", x, *norm))
    in_blocks(net.model(net.conv(x, 16)), 2, x=images(2, 16, 16))


def test_a_sum_that_something_else_reads_is_in_the_layout_of_the_model():
    net = BlockedNet()
    x = net.neuron(net.conv("x", 32))
    x = net.neuron(net.conv(x, 32))
    total = net.node("Add", net.conv(x, 32), x)
    in_blocks(net.model(net.node("GlobalAveragePool", total), net.conv(net.neuron(total), 16)), 2)
