"""Layers take in the scale and offset of their trains: W·(scale·s + o) + b, wherever o is not the same everywhere."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import shape_inference

from graphpass.graph.affine import Affine, arithmetic, fits, fold_into, joined, neuron_affine, through
from graphpass.graph.layers import weight_layers
from tests.models import build, node, run

RANDOM = np.random.default_rng(0)
LAYERS = {  # node, shape of the data, of the weights
    "conv": (node("Conv", "x w", "y", pads=[1] * 4), (2, 4, 5, 5), (6, 4, 3, 3)),
    "grouped conv": (node("Conv", "x w", "y", group=2), (2, 4, 5, 5), (6, 2, 3, 3)),
    "depthwise conv": (node("Conv", "x w", "y", group=4, auto_pad="SAME_UPPER"), (2, 4, 5, 5), (4, 1, 3, 3)),
    "conv 1d": (node("Conv", "x w", "y", dilations=[2]), (2, 4, 9), (3, 4, 3)),
    "transposed conv": (node("ConvTranspose", "x w", "y", strides=[2, 2], group=2), (2, 4, 3, 3), (4, 3, 2, 2)),
    "gemm": (node("Gemm", "x w", "y", alpha=0.5), (2, 4), (4, 3)),
    "transposed gemm": (node("Gemm", "x w", "y", transB=1, alpha=-2.0), (2, 4), (3, 4)),
    "matmul": (node("MatMul", "x w", "y"), (2, 5, 4), (4, 3)),
    "matmul from the left": (node("MatMul", "w x", "y"), (2, 4, 5), (3, 4)),
    "matmul by head": (node("MatMul", "x w", "y"), (2, 3, 5, 4), (3, 4, 2)),
    "matmul by head from the left": (node("MatMul", "w x", "y"), (2, 3, 4, 5), (3, 2, 4)),
}


def layer_of(name):
    each, shape, size = LAYERS[name]
    weight = RANDOM.standard_normal(size).astype(np.float32)
    model = build([each], {"x": shape}, {"y": None}, {"w": weight})
    (layer,) = weight_layers(gs.import_onnx(model))
    return model, layer, shape


def answer(model, weight, x):
    """Of the layer with other weights."""
    model.graph.initializer[0].raw_data = weight.tobytes()
    return run(model, x.astype(np.float32))[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wide", [False, True])
def test_a_layer_takes_in_scale_and_offset(name, wide):
    """wide: the offset differs from position to position, as behind a Pad."""
    model, layer, shape = layer_of(name)
    axis = layer.input_axis % len(shape)
    channels = [size if k == axis else 1 for k, size in enumerate(shape)]
    scale = RANDOM.uniform(0.5, 2, channels).astype(np.float32)
    offset = RANDOM.standard_normal([1, *shape[1:]] if wide else channels).astype(np.float32)
    s = RANDOM.integers(0, 2, shape).astype(np.float32)
    affine = Affine(scale, offset)
    assert fits(layer, affine)
    folded = fold_into(layer, affine)
    expected = run(model, (scale * s + offset).astype(np.float32))[0]
    plain = np.asarray(layer.weight.values)
    found = answer(model, folded.weight, s)
    if folded.field is not None:
        assert folded.bias is None
        found = found + answer(model, plain, np.broadcast_to(folded.field, shape))
    elif folded.bias is not None:
        after = len(shape) - 1 - layer.output_axis % len(shape)
        found = found + folded.bias.reshape(-1, *(1,) * after)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # some dozen float32 roundings


def test_scales_that_no_weight_can_take_in():
    for name in LAYERS:
        _, layer, shape = layer_of(name)
        for axis in range(1, len(shape)):
            scale = np.ones([size if k == axis else 1 for k, size in enumerate(shape)], np.float32)
            affine = Affine(scale, np.zeros_like(scale))
            assert fits(layer, affine) == (axis == layer.input_axis % len(shape))


def constant(op, *inputs, shape=(2, 3, 4)):
    x, y = gs.Variable("x", np.float32, list(shape)), gs.Variable("y", np.float32, list(shape))
    tensors = [x if each is None else gs.Constant("c", np.asarray(each, np.float32)) for each in inputs]
    return gs.Node(op, op, {}, tensors, [y])


@pytest.mark.parametrize(
    ("each", "scale", "offset"),
    [
        (constant("Add", None, 5), 2, 6), (constant("Sub", None, 5), 2, -4), (constant("Sub", 5, None), -2, 4),
        (constant("Mul", -3, None), -6, -3), (constant("Div", None, 4), 0.5, 0.25), (constant("Neg", None), -2, -1),
    ],
)  # fmt: skip
def test_arithmetic_with_constants(each, scale, offset):
    found = arithmetic(each, neuron_affine(np.array([2]), np.array([1]), 1.0, 3))
    assert found is not None
    assert (found.scale.item(), found.offset.item()) == (scale, offset)


def normalisation(scale=(2, -3, 1), rank=3, **attributes):
    values = [scale, (1, 0, -1), (0, 0.5, 0), (0.75, 0.75, 0.75)]
    each = constant("BatchNormalization", None, *values, shape=(2, 3, 4, 4)[:rank])
    each.attrs = {"epsilon": 0.25, **attributes}
    return each


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_a_normalisation_is_a_product_and_a_sum(rank):
    found = arithmetic(normalisation(rank=rank), neuron_affine(np.array([2]), np.array([1]), 1.0, rank))
    assert found is not None
    assert found.scale.shape == found.offset.shape == (1, 3, 1, 1)[:rank]
    assert (found.scale.ravel().tolist(), found.offset.ravel().tolist()) == ([4, -6, 2], [3, -1.5, 0])


@pytest.mark.parametrize("each", [normalisation(training_mode=1), normalisation((np.inf, 1, 1)), normalisation(rank=1)])
def test_normalisations_that_are_left(each):
    assert arithmetic(each, neuron_affine(np.array([2]), np.array([1]), 1.0, len(each.inputs[0].shape))) is None


@pytest.mark.parametrize(
    "each",
    [constant("Div", None, 0), constant("Div", 2, None), constant("Mul", None, [[[1]], [[2]]]),
     constant("Add", None, np.ones((1, 1, 1, 1)))],
)  # fmt: skip
def test_arithmetic_that_is_left(each):
    assert arithmetic(each, neuron_affine(np.array([2]), np.array([1]), 1.0, 3)) is None


def test_parts_of_one_train_have_one_scale_and_equal_ones_have_not():
    """Calibrated values may happen to be equal: that must not make spikes of what was said to be none."""
    x, y = (gs.Variable(name, np.float32, ["N", 2, 3]) for name in "xy")
    out = gs.Variable("out", np.float32, ["N", 2, 6])
    join = gs.Node("Concat", "join", {"axis": 2}, [x, y], [out])
    one, two = (neuron_affine(np.ones((2, 1)), np.ones((2, 1)), 1.0, 3) for _ in range(2))
    same, other = joined(join, [one, one]), joined(join, [one, two])
    assert same is not None and same.varying == {1}
    assert other is not None and other.varying == {1, 2}
    assert other.squashed.varying == set()


def test_parts_side_by_side_along_the_samples_have_no_scale_of_their_own():
    """A scale has size 1 on axis 0, where samples and time-steps lie."""
    x, y = (gs.Variable(name, np.float32, [2, 2, 3]) for name in "xy")
    join = gs.Node("Concat", "join", {"axis": -3}, [x, y], [gs.Variable("out", np.float32, [4, 2, 3])])
    one, two = (neuron_affine(np.ones((2, 1)), np.ones((2, 1)), 1.0, 3) for _ in range(2))
    same = joined(join, [one, one])
    assert same is not None and same.varying == {1}
    assert joined(join, [one, two]) is None


@pytest.mark.parametrize(
    ("each", "constants"),
    [
        (node("Transpose", "x", "y", perm=[1, 0, 2, 3]), {}),
        (node("Reshape", "x k", "y"), {"k": np.array([1, 8, 5, 5])}),
        (node("Pad", "x k f", "y"), {"k": np.array([1, 0, 0, 0, 0, 0, 0, 0]), "f": np.float32(7)}),
        (node("Squeeze", "x k", "y"), {"k": np.array([0])}),
    ],
    ids=["Transpose", "Reshape", "Pad", "Squeeze"],
)
def test_no_scale_or_offset_lies_along_the_samples_behind_a_move(each, constants):
    samples = 1 if each.op_type == "Squeeze" else 2
    model = build([each], {"x": [samples, 4, 5, 5]}, {"y": None}, constants)
    (move,) = gs.import_onnx(shape_inference.infer_shapes(model)).nodes
    before = neuron_affine(RANDOM.standard_normal((4, 1, 1)), RANDOM.standard_normal((4, 1, 1)), 1.0, 4)
    found = through(move, before)
    assert found is None or not any(0 in each.varying for each in found)
