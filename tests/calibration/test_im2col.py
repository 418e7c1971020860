"""Layers as matrices: U·M + b at any positions is what onnxruntime computes there."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.calibration.im2col import from_matrix, geometry, to_matrix, unfold
from graphpass.graph.layers import weight_layers
from tests.models import build, node, run

# sums of at most 54 float32 products of normal numbers, in the runtime's own order
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def check(op, shape, weight, bias=None, left=False, **attributes):
    """Compares at random positions, and takes the weights there and back."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape).astype(np.float32), rng.normal(size=weight).astype(np.float32)
    constants = {"w": w} | ({} if bias is None else {"b": np.float32(bias)})
    inputs = " ".join([*("wx" if left else "xw"), *("b" if bias is not None else "")])
    model = build([node(op, inputs, "y", "layer", **attributes)], {"x": [None, *shape[1:]]}, {"y": None}, constants)
    (layer,) = weight_layers(gs.import_onnx(model))
    form = geometry(layer)
    assert not isinstance(form, str)
    y = run(model, x)[0]
    rows = np.moveaxis(y, layer.output_axis, -1)
    positions = tuple(rng.integers(0, size, 40) for size in rows.shape[:-1])
    matrix = to_matrix(w, form)
    assert matrix.dtype == np.float32
    assert matrix.shape[1] == layer.fan_in
    unfolded = np.empty((len(matrix), 40, layer.fan_in), np.float32)
    unfold(x, positions, form, unfolded)
    if op == "Conv":
        memory: dict[tuple[int, ...], np.ndarray] = {}
        again = np.empty_like(unfolded)
        for before in (rng.normal(size=shape).astype(np.float32), x[:1], x):  # another batch, and a shorter one
            unfold(before, [np.minimum(positions[0], len(before) - 1), *positions[1:]], form, again, memory)
        np.testing.assert_array_equal(again, unfolded)
    product = (unfolded @ matrix).transpose(1, 0, 2).reshape(40, -1)
    if bias is not None:
        product += np.float32(bias) * attributes.get("beta", 1.0)
    np.testing.assert_allclose(product, rows[positions], **CLOSE)
    back = from_matrix(matrix, w, form)
    assert back.dtype == w.dtype
    assert back.shape == w.shape
    # alpha multiplies and divides: two roundings
    np.testing.assert_allclose(back, w, rtol=0 if form.scale == 1 else 2.0**-22)


BIAS = [0.5, -1, 2, 3]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3]},
        {"dilations": [2, 1]},
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 2, 1, 0], "strides": [2, 2]},
        {"pads": [2, 2, 2, 2], "dilations": [2, 2], "strides": [1, 2]},
        {"auto_pad": "VALID", "strides": [2, 1]},
        {"auto_pad": "NOTSET", "pads": [1, 0, 0, 1]},
        *({"auto_pad": kind, "strides": strides} for kind in ("SAME_UPPER", "SAME_LOWER")
          for strides in ([1, 1], [2, 2], [3, 1])),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bias", [None, BIAS])
def test_conv_2d(attributes, bias):
    check("Conv", (3, 2, 9, 8), (4, 2, 3, 2), bias, **attributes)


def test_conv_1d():
    check("Conv", (3, 2, 11), (4, 2, 3), BIAS, pads=[2, 1], strides=[2], dilations=[2])


def test_conv_3d():
    check("Conv", (2, 2, 5, 6, 7), (4, 2, 3, 1, 2), BIAS, pads=[1, 0, 1, 0, 0, 1], strides=[1, 2, 2])


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 4, 2), (4, 8, 4), (4, 4, 4), (6, 4, 2)])
def test_grouped_and_depthwise_conv(inputs, outputs, groups):
    check("Conv", (3, inputs, 7, 7), (outputs, inputs // groups, 3, 3), np.arange(outputs), group=groups, pads=[1] * 4)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.3}, {"transB": 1, "alpha": -2.5, "beta": 0.5}])
@pytest.mark.parametrize("bias", [None, BIAS])
def test_gemm(attributes, bias):
    check("Gemm", (20, 6), (4, 6) if "transB" in attributes else (6, 4), bias, **attributes)


@pytest.mark.parametrize("shape", [(20, 6), (5, 7, 6), (3, 2, 5, 6)])
def test_matmul(shape):
    check("MatMul", shape, (6, 4))


@pytest.mark.parametrize("shape", [(6, 20), (5, 6, 7), (3, 2, 6, 5)])
def test_matmul_with_weights_on_the_left(shape):
    check("MatMul", shape, (4, 6), left=True)


def test_float16_weights_come_back_in_their_type():
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float16)
    model = build([node("Conv", "x w", "y", "layer")], {"x": ["N", 2, 5, 5]}, {"y": None}, {"w": weight}, dtype=10)
    (layer,) = weight_layers(gs.import_onnx(model))
    form = geometry(layer)
    back = from_matrix(to_matrix(weight, form), weight, form)
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back, weight)


@pytest.mark.parametrize(
    ("op", "inputs", "weight", "attributes", "reason"),
    [
        ("Gemm", "w x", (4, 20), {}, "its data is transposed"),
        ("Gemm", "x w", (20, 4), {"transA": 1}, "its data is transposed"),
        ("MatMul", "x w", (3, 6, 4), {}, "not one matrix"),
        ("MatMul", "w v", (4, 20), {}, "its data is one vector"),
        ("ConvTranspose", "x4 w", (2, 4, 3, 3), {}, "ConvTranspose is not compensated"),
    ],
)
def test_layers_without_a_matrix(op, inputs, weight, attributes, reason):
    shapes = {"x": [20, 6], "x4": [1, 2, 5, 5], "v": [20]}
    name = next(each for each in inputs.split() if each in shapes)
    model = build(
        [node(op, inputs, "y", "layer", **attributes)],
        {name: shapes[name]},
        {"y": None},
        {"w": np.ones(weight, np.float32)},
    )
    (layer,) = weight_layers(gs.import_onnx(model))
    assert reason in geometry(layer)
