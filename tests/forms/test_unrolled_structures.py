"""The unrolled form of poolings, attention, bodies, computed shapes and outputs."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphpass.forms import operators
from graphpass.forms.preparation import compute_constants
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import spike_inputs, unroll
from tests.forms.nets import RELATIVE, Net, every_code
from tests.models import FLOAT, HALF, build, node, ops, run


@every_code
def test_max_pooling_behind_moved_spikes(coding, steps):
    """SPPF: poolings of poolings, joined. Phase: neurons behind each send its counts again, exactly."""
    net = Net(coding, steps)
    net.neuron("x", "a", (2, 1, 1), np.reshape([1, 3], (2, 1, 1)), offset=np.reshape([1, -1], (2, 1, 1)))
    net.neuron("x", "b", (2, 1, 1), 0, offset=2)
    net.op("Concat", "a b", "ab", axis=1)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    net.op("MaxPool", "ab", "p", **window)
    net.op("MaxPool", "p", "q", **window)
    net.op("Concat", "ab p q", "j", axis=1)
    net.op("Conv", f"j {net.weight('w', 2, 12, 1, 1)}", "c")
    unrolled = net.check({"x": (2, 5, 5)}, {"c": 4})
    assert spike_inputs(unrolled) == {"c": True}
    again = [each.name for each in unrolled.nodes if each.op == operators.TRAIN_NEURON][2:]
    assert sorted(again) == (["p/neuron", "q/neuron"] if coding == "phase" else [])


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_digits_are_not_pooled_one_by_one(steps):
    """Of 5 = 101 and 2 = 010 the largest is 5, and the largest of each digit 111."""
    net = Net("phase", steps)
    for name in ("a", "b"):
        net.neuron("x", name, (2, 1), amplitude=1)
    net.op("Concat", "a b", "ab", axis=1)
    net.op("MaxPool", "ab", "p", kernel_shape=[2])
    net.op("Conv", f"p {net.weight('w', 2, 4, 1)}", "c")
    counts = np.stack(
        [np.arange(2**steps), np.arange(2**steps)[::-1]], -1
    )  # beside each other: a number and its complement
    x = np.broadcast_to(3.0 * counts.reshape(1, 1, -1), (1, 2, 2 * 2**steps)).astype(np.float32)
    graph = net.graph({"x": ["N", 2, x.shape[2]]}, {"c": 3})
    folded, unrolled = (run(assemble(each, "phase"), x)[0] for each in (graph, unroll(graph.copy())))
    np.testing.assert_allclose(unrolled, folded, rtol=RELATIVE, atol=RELATIVE * np.abs(folded).max())


def test_zeros_around_spikes_with_offsets_are_pooled_as_values():
    """The largest of a spike's value and a zero that padding adds is no spike: the pooling works on the mean."""
    net = Net("rate", 3)
    net.neuron("x", "y", (2, 1, 1), amplitude=1, offset=-1)
    net.op("Pad", f"y {net.constant('pads', [0, 0, 1, 1, 0, 0, 1, 1])}", "p")
    net.op("MaxPool", "p", "m", kernel_shape=[2, 2])
    net.op("Conv", f"m {net.weight('w', 2, 2, 1, 1)}", "c")
    assert spike_inputs(net.check({"x": (2, 4, 4)}, {"c": 4})) == {"c": False}


@every_code
def test_transformer_block(coding, steps):
    """Projections see spikes; Softmax, LayerNormalization and products of activations see the mean."""
    net = Net(coding, steps)
    net.neuron("x", "u", (4,), amplitude=np.array([1, 2, 1, 3]), offset=-2)
    for name in ("q", "k", "v"):
        net.op("MatMul", f"u {net.weight('w' + name, 4, 4)}", name)
    net.op("Reshape", f"q {net.constant('heads', [0, -1, 2, 2])}", "q4")
    net.op("Transpose", "q4", "q5", perm=[0, 2, 1, 3])
    net.op("Reshape", "k heads", "k4")
    net.op("Transpose", "k4", "k5", perm=[0, 2, 3, 1])
    net.op("MatMul", "q5 k5", "scores")
    net.op("Softmax", "scores", "attention", axis=-1)
    net.op("Reshape", "v heads", "v4")
    net.op("Transpose", "v4", "v5", perm=[0, 2, 1, 3])
    net.op("MatMul", "attention v5", "mixed")
    net.op("Transpose", "mixed", "mixed4", perm=[0, 2, 1, 3])
    net.op("Reshape", f"mixed4 {net.constant('merge', [0, -1, 4])}", "mixed3")
    net.op("Add", f"mixed3 {net.constant('nudge', [0.0, 0, 0, 0])}", "context")
    net.op("Mul", "context x", "gated")
    net.op("LayerNormalization", f"gated {net.weight('gain', 4)}", "z", axis=-1)
    unrolled = net.check({"x": (5, 4)}, {"z": 3})
    assert spike_inputs(unrolled) == {"q": True, "k": True, "v": True}
    assert ops(unrolled).count("TimeMean") == 3


@every_code
@pytest.mark.parametrize("amplitude", [2, -2])
def test_max_pooling(coding, steps, amplitude):
    """Rate: per step. Phase: in front of the neuron, which stays for its other reader. Falling: of the mean."""
    net = Net(coding, steps)
    net.op("Conv", f"x {net.weight('w0', 2, 2, 1, 1)}", "c0")
    net.neuron("c0", "y0", (1,))
    net.op("Conv", f"y0 {net.weight('w1', 2, 2, 1, 1)}", "c1")
    net.neuron("c1", "y", (2, 1, 1), amplitude=amplitude, offset=1)
    net.op("MaxPool", "y", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.op("Conv", f"p {net.weight('w', 2, 2, 1, 1)}", "c")
    net.op("Conv", f"y {net.weight('v', 2, 2, 1, 1)}", "d")
    unrolled = net.check({"x": (2, 6, 6)}, {"c": 4, "d": 4})
    assert spike_inputs(unrolled)["c"] == (amplitude > 0)
    neurons = [each.name for each in unrolled.nodes if each.op == operators.TRAIN_NEURON]
    assert ("y/neuron/pooled" in neurons) == (coding == "phase" and amplitude > 0)


@every_code
def test_float16(coding, steps):
    net = Net(coding, min(steps, 3), dtype=HALF)
    net.op("Conv", f"x {net.weight('w1', 2, 2, 1, 1)}", "c1")
    net.neuron("c1", "y1", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1))
    net.op("Conv", f"y1 {net.weight('w2', 2, 2, 3, 3)}", "c2")
    unrolled = net.check({"x": (2, 4, 4)}, {"c2": 4})
    assert next(each for each in unrolled.nodes if each.name == "c2").inputs[1].dtype == np.float16


def test_fixed_batch_reshapes():
    """A target that names the batch is freed, whatever it merges; axes that move the batch see the mean."""
    net = Net(seed=1)
    net.neuron("x", "y", (2, 1, 1), amplitude=np.array([1, 2]).reshape(2, 1, 1))
    net.op("Reshape", f"y {net.constant('to', [1, -1])}", "flat")
    net.op("MatMul", f"flat {net.weight('w', 8, 3)}", "m")
    net.op("Reshape", f"y {net.constant('two', [2, 4])}", "rows")
    net.op("MatMul", f"rows {net.weight('v', 4, 3)}", "k")
    net.op("Transpose", "y", "turned", perm=[1, 0, 2, 3])
    net.op("ReduceSum", f"turned {net.constant('one', [1])}", "total")
    unrolled = net.check({"x": (2, 2, 2)}, {"m": 2, "k": 2, "total": 4}, batch=1)
    assert spike_inputs(unrolled)["m"]


def test_computed_shape_of_a_train():
    net = Net()
    net.neuron("x", "y", (2, 1, 1), amplitude=2)
    net.op("Shape", "y", "shape")
    net.op("Cast", "shape", "floats", to=FLOAT)
    net.op("Conv", f"y {net.weight('w', 2, 2, 1, 1)}", "c")
    net.op("ReduceSum", "floats", "sum", keepdims=0)
    net.op("Add", "c sum", "z")
    net.check({"x": (2, 3, 3)}, {"z": 4})


def test_outputs_that_are_trains_and_neurons_with_fewer_levels():
    net = Net("rate", 5)
    net.neuron("x", "y", (3,), amplitude=np.array([1, 2, 3]), offset=1, levels=4)
    net.op("Mul", f"y {net.constant('by', [1.0, -2, 3])}", "scaled")
    net.op("Sub", f"{net.constant('from', 7.0)} scaled", "z")
    net.op("MatMul", f"z {net.weight('w', 3, 2)}", "m")
    unrolled = net.check({"x": (3,)}, {"y": 2, "z": 2, "m": 2})
    assert spike_inputs(unrolled) == {"m": True}


def test_parameters_along_the_first_axis_leave_time_at_once():
    net = Net()
    net.op("Transpose", "x", "turned", perm=[1, 0])
    net.neuron("turned", "y", (3, 1), amplitude=np.array([[1], [2], [3]]))
    net.op("Transpose", "y", "back", perm=[1, 0])
    net.op("MatMul", f"back {net.weight('w', 3, 2)}", "m")
    assert spike_inputs(net.check({"x": (3,)}, {"m": 2})) == {"m": False}


def test_a_constant_that_widens_its_train():
    net = Net(seed=1)
    net.neuron("x", "y", (3,), amplitude=np.array([1, 2, 3]), offset=1)
    net.op("Mul", f"y {net.constant('by', [[[1.0], [-2]]])}", "wide")
    net.op("MatMul", f"wide {net.weight('w', 3, 2)}", "m")
    net.check({"x": (1, 3)}, {"m": 3})


def test_computed_pads_are_constants():
    net = Net(seed=1)
    net.neuron("x", "y", (2, 1, 1), amplitude=2)
    net.op("ConstantOfShape", net.constant("eight", [8]), "zeros", value=onnx.numpy_helper.from_array(np.array([1])))
    net.op("Mul", f"zeros {net.constant('inner', [0, 0, 1, 1] * 2)}", "pads")
    net.op("Pad", "y pads", "padded")
    net.op("Conv", f"padded {net.weight('w', 2, 2, 3, 3)}", "c")
    unrolled = net.check({"x": (2, 3, 3)}, {"c": 4})
    assert spike_inputs(unrolled) == {"c": True}
    assert "ConstantOfShape" not in ops(unrolled)


@pytest.mark.parametrize(("divisor", "fmod", "left"), [(3, 0, 0), (-3, 0, 1), (3, 1, 1)])
def test_remainders_are_constants_where_all_runtimes_agree(divisor, fmod, left):
    # torch's unflatten(-1, …) computes its axis so; were it left, every rank behind the reshape would be unknown
    constants = {"axis": np.array([-1, 4]), "rank": np.array([divisor]), "zero": np.float32(0)}
    nodes = [node("Mod", "axis rank", "m", fmod=fmod), node("Cast", "m", "f", to=1), node("Add", "f zero", "y")]
    proto = build(nodes, {}, {"y": None}, constants)
    graph = spiking_graph(proto)
    compute_constants(graph)
    assert ops(graph).count("Mod") == left
    np.testing.assert_array_equal(run(gs.export_onnx(graph))[0], run(proto)[0])


def test_bodies_of_if_see_the_mean():
    net = Net()
    net.neuron("x", "y", (3,), amplitude=2)
    branches = [
        onnx.helper.make_graph(
            [node(op, "y", f"out_{op}")], op, [], [onnx.helper.make_tensor_value_info(f"out_{op}", FLOAT, None)]
        )
        for op in ("Neg", "Identity")
    ]
    net.constants["always"] = np.array(True)
    net.nodes.append(node("If", "always", "z", then_branch=branches[0], else_branch=branches[1]))
    net.op("MatMul", f"y {net.weight('w', 3, 2)}", "m")
    assert spike_inputs(net.check({"x": (3,)}, {"z": 2, "m": 2})) == {"m": True}


def test_a_graph_without_neurons_stays_as_it_is():
    net = Net()
    net.op("MatMul", f"x {net.weight('w', 3, 2)}", "m")
    assert ops(unroll(net.graph({"x": ["N", 3]}, {"m": 2}))) == ["MatMul"]


@every_code
def test_float64_behind_neurons_is_on_the_mean(coding, steps):
    """The operators of trains have no float64: a train ends at a Cast to it, and at the way back."""
    net = Net(coding, steps)
    net.neuron("x", "a", (4,), amplitude=np.array([1, 2, 1, 3]), offset=-2)
    net.op("MatMul", f"a {net.weight('w', 4, 3)}", "c")
    net.op("Cast", "c", "wide", to=onnx.TensorProto.DOUBLE)
    net.op("Cast", "wide", "narrow", to=onnx.TensorProto.FLOAT)
    net.op("Cast", "a", "also", to=onnx.TensorProto.DOUBLE)
    net.op("Cast", "also", "back", to=onnx.TensorProto.FLOAT)
    net.op("MatMul", f"back {net.weight('v', 4, 3)}", "d")
    unrolled = net.check({"x": (4,)}, {"narrow": 2, "d": 2})
    assert spike_inputs(unrolled) == {"c": True, "d": False}
    trains = {each.inputs[0].name for each in unrolled.nodes if each.op == operators.TIME_MEAN}
    assert trains and not trains & {"wide", "also"}
