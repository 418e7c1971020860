"""One call of every operator of ONNX in every way that its versions differ in: attributes, inputs, ranks and types."""

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.operator_cases import NEWEST, OLDEST, OperatorCase, call, fixed, floats, integers, positive
from tests.operator_layers import attention, images, layers, norms, signals


def _unary() -> Iterator[OperatorCase]:
    x = floats(2, 3, 4)
    for op in (
        "Abs Atan Ceil Cos Cosh Elu Erf Exp Floor Identity IsNaN LeakyRelu Neg Relu Round Selu Sigmoid Sign Sin Sinh "
        "Softplus Softsign Asinh Tanh Tan HardSigmoid ThresholdedRelu Celu HardSwish Mish Gelu Swish IsInf Reciprocal "
        "GlobalMaxPool GlobalAveragePool Shape Size NonZero Shrink Flatten"
    ).split():
        yield call(op, x)
    for op in "Acos Asin Atanh Log Sqrt".split():
        yield call(op, positive(2, 3, 4))
    yield call("Acosh", positive(3, 4) + 2)
    yield call("Not", floats(3, 4) > 0)
    yield call("BitwiseNot", integers(3, 4))
    yield call("Identity", integers(3, 4))
    yield call("Det", floats(2, 3, 3))
    yield call("Gelu", x, approximate="tanh")
    for op, attributes in (
        ("Elu", {"alpha": 0.5}), ("LeakyRelu", {"alpha": 0.3}), ("Selu", {"alpha": 1.2, "gamma": 0.9}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("ThresholdedRelu", {"alpha": 0.3}), ("Celu", {"alpha": 0.7}),
        ("Shrink", {"lambd": 0.4, "bias": 0.1}), ("Swish", {"alpha": 1.5}),
    ):  # fmt: skip
        yield call(op, x, **attributes)
    for axis in (0, 1, 2, 3):
        yield call("Flatten", x, axis=axis)
    yield call("Flatten", x, first=11, axis=-1)
    yield call("Shape", x, first=15, start=1, end=-1)
    yield call("IsInf", np.float32([1, -np.inf, np.inf]), detect_negative=0)


def _binary() -> Iterator[OperatorCase]:
    pairs = (
        (floats(2, 3, 4), floats(2, 3, 4)),
        (floats(2, 3, 4), fixed(floats(3, 1))),
        (fixed(floats(4)), floats(2, 3, 4)),
    )
    for a, b in pairs:
        for op in "Add Sub Mul Div Less Greater LessOrEqual GreaterOrEqual Sum Max Min Mean".split():
            yield call(op, a, b)
    for op in "Add Sub Mul Div".split():
        yield call(op, integers(3, 4) + 1, fixed(integers(4) + 1))
    yield call("Pow", positive(3, 4), fixed([1.5, 2.0, 3.0, 0.5]))
    yield call("Pow", positive(3, 4), fixed([2, 3, 1, 0]), first=12)
    for op in "And Or Xor".split():
        yield call(op, floats(3, 4) > 0, floats(4) > 0)
    yield call("Equal", integers(3, 4), integers(4))
    yield call("Equal", np.round(floats(3, 4)), np.round(floats(4)), first=11)
    for op in "BitwiseAnd BitwiseOr BitwiseXor".split():
        yield call(op, integers(3, 4), integers(4))
    for direction in ("LEFT", "RIGHT"):
        yield call("BitShift", integers(3, 4, dtype=np.uint8), integers(4, dtype=np.uint8), direction=direction)
    yield call("Mod", integers(3, 4) - 2, fixed([1, 2, 3, -2]))
    yield call("Mod", floats(3, 4), fixed([1.0, 2.0, -3.0, 0.7]), fmod=1)
    yield call("PRelu", floats(2, 3, 4), fixed(np.abs(floats(3, 1))))
    yield call("PRelu", floats(2, 3, 4), fixed(floats(1)))
    yield call("Where", floats(3, 4) > 0, floats(3, 4), fixed(floats(4)))
    for op in "Sum Max Min Mean".split():
        yield call(op, floats(3, 4), floats(4), floats(3, 1))
        yield call(op, floats(3, 4))
    for op in "Max Min".split():
        yield call(op, integers(3, 4), integers(4), first=12)


def _reductions() -> Iterator[OperatorCase]:
    x = positive(2, 3, 4)
    for op in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split():
        name, inputs = f"Reduce{op}", 13 if op == "Sum" else 18
        for axes, keep in (([1], 1), ([0, 2], 0), ([2], 0)):
            yield call(name, x, last=inputs - 1, axes=axes, keepdims=keep)
            yield call(name, x, fixed(axes), first=inputs, keepdims=keep)
        yield call(name, x, first=11, last=inputs - 1, axes=[-1])
        yield call(name, x, keepdims=0)
        yield call(name, x, last=inputs - 1, axes=np.empty(0, np.int64).tolist() or [0])
        yield call(name, x, fixed(np.empty(0, np.int64)), first=inputs, noop_with_empty_axes=1)
    for op in ("ArgMax", "ArgMin"):
        yield call(op, x)
        yield call(op, x, axis=2, keepdims=0)
        yield call(op, x, first=11, axis=-2)
        yield call(op, np.float32([[1, 1, 0]]), first=12, axis=1, select_last_index=1)
    yield call("CumSum", x, fixed(1), exclusive=1, reverse=1)
    yield call("CumProd", x, fixed(1))


def _shapes() -> Iterator[OperatorCase]:
    x = floats(2, 3, 4)
    yield call("Reshape", x, fixed([0, -1]))
    yield call("Reshape", x, fixed([4, 6]))
    yield call("Reshape", floats(0, 3), fixed([3, 0]), first=14, allowzero=1)
    yield call("Transpose", x)
    yield call("Transpose", x, perm=[2, 0, 1])
    for axis in (0, 1, 2):
        yield call("Concat", x, fixed(x), axis=axis)
    yield call("Concat", x, x, first=11, axis=-1)
    y = floats(1, 3, 1, 4)
    yield call("Squeeze", y, last=12, axes=[0])
    yield call("Squeeze", y, last=12, axes=[0, 2])
    yield call("Squeeze", y)
    yield call("Squeeze", y, first=11, last=12, axes=[-2])
    yield call("Squeeze", y, fixed([0, 2]), first=13)
    yield call("Unsqueeze", x, last=12, axes=[0, 3])
    yield call("Unsqueeze", x, first=11, last=12, axes=[-1])
    yield call("Unsqueeze", x, fixed([-1, 0]), first=13)
    yield call("Slice", x, last=9, starts=[0, 1], ends=[2, 3])
    yield call("Slice", x, last=9, starts=[-2], ends=[1 << 40], axes=[2])
    yield call("Slice", x, fixed([0, 1]), fixed([2, 3]), first=10)
    yield call("Slice", x, fixed([-1]), fixed([-5]), fixed([2]), fixed([-2]), first=10)
    yield call("Slice", x, fixed([1], np.int32), fixed([3], np.int32), fixed([-1], np.int32), first=11)
    for last, extra in ((17, {}), (NEWEST, {"num_outputs": 2})):
        yield call("Split", floats(4, 3), first=OLDEST if last == 17 else 18, last=last, outputs=2, **extra)
    yield call("Split", floats(5, 3), first=18, outputs=2, num_outputs=2)
    yield call("Split", x, last=12, outputs=2, axis=2, split=[1, 3])
    yield call("Split", x, first=11, last=12, outputs=2, axis=-1, split=[1, 3])
    yield call("Split", x, fixed([1, 3]), first=13, outputs=2, axis=2)
    yield call("Split", x, first=13, last=17, outputs=2, axis=2)
    yield call("Expand", floats(3, 1), fixed([2, 1, 4]))
    yield call("Tile", x, fixed([1, 2, 3]))
    for mode in ("constant", "reflect", "edge"):
        pads = [0, 1, 2, 0, 0, 1] if mode != "reflect" else [0, 1, 1, 0, 0, 2]
        yield call("Pad", x, last=10, pads=pads, mode=mode)
        yield call("Pad", x, fixed(pads), first=11, mode=mode)
    yield call("Pad", x, last=10, pads=[0, 0, 1, 0, 0, -2], value=1.5)
    yield call("Pad", x.astype(np.float64), last=10, pads=[0, 0, 1, 0, 0, 2], value=1.5)
    yield call("Pad", x, fixed([0, 0, 1, 0, 0, -2]), fixed(np.float32(1.5)), first=11)
    yield call("Pad", x, fixed([1, 2]), None, fixed([2]), first=18)
    yield call("Pad", x, fixed([0, 0, 1, 0, 0, 2]), first=19, mode="wrap")
    yield call("DepthToSpace", floats(1, 8, 2, 3), blocksize=2)
    for mode in ("DCR", "CRD"):
        yield call("DepthToSpace", floats(1, 8, 2, 3), first=11, blocksize=2, mode=mode)
    yield call("SpaceToDepth", floats(1, 2, 4, 6), blocksize=2)
    yield call("ConstantOfShape", fixed([2, 3]), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5]))
    yield call("ConstantOfShape", fixed([2, 3]))
    yield call("Constant", value=numpy_helper.from_array(floats(2, 2)))
    yield call("Constant", first=12, value_floats=[1.0, 2.0])
    yield call("Range", fixed(1), fixed(9), fixed(2))
    yield call("EyeLike", x[0], k=1)
    yield call("Trilu", floats(3, 4), fixed(1), upper=0)
    yield call("CenterCropPad", floats(5, 4), fixed([3, 6]))
    yield call("Col2Im", floats(1, 4, 4), fixed([3, 3]), fixed([2, 2]))
    for to in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE):
        yield call("Cast", x, to=to)
    yield call("CastLike", x, fixed(integers(1)))
    yield call("BitCast", x, to=TensorProto.INT32)


def _lookups() -> Iterator[OperatorCase]:
    x = floats(3, 4, 2)
    yield call("Gather", x, fixed([[0, 2], [1, 1]]))
    yield call("Gather", x, fixed([3, 0]), axis=1)
    yield call("Gather", x, fixed([-1]), first=11, axis=-1)
    yield call("GatherElements", floats(3, 4), fixed(integers(3, 4, high=3)), axis=0)
    yield call("GatherND", x, fixed([[0, 1], [2, 3]]))
    yield call("GatherND", x, fixed([[1], [2], [0]]), first=12, batch_dims=1)
    for axis in (0, 1):
        places = fixed([[0, 2, 1, 0]] if axis == 0 else [[0], [2], [1]])
        values = fixed(floats(*places.values.shape))
        yield call("Scatter", floats(3, 4), places, values, last=10, axis=axis)
        yield call("ScatterElements", floats(3, 4), places, values, axis=axis)
    yield call("ScatterElements", floats(3, 4), places, values, first=16, axis=1, reduction="add")
    yield call("ScatterND", x, fixed([[0, 1], [2, 3]]), fixed(floats(2, 2)))
    yield call("ScatterND", x, fixed([[0, 1], [0, 1]]), fixed(floats(2, 2)), first=16, reduction="add")
    yield call("TopK", floats(3, 6), last=9, outputs=2, k=2)
    yield call("TopK", floats(3, 6), last=9, outputs=2, k=2, axis=0)
    yield call("TopK", floats(3, 6), fixed([2]), first=10, outputs=2)
    yield call("TopK", floats(3, 6), fixed([2]), first=11, outputs=2, largest=0, axis=-1)
    yield call("OneHot", fixed([0, 2, 1]), fixed(3), fixed([0.5, 2.0]))
    yield call("OneHot", fixed([0, 2, -1]), fixed(3), fixed([0.5, 2.0]), first=11, axis=0)
    yield call("Compress", floats(3, 4), fixed([True, False, True]), axis=0)
    yield call("ReverseSequence", floats(4, 3), fixed([1, 2, 4]))
    yield call("Unique", np.float32([3, 1, 3, 2]), outputs=4)
    yield call("NonMaxSuppression", fixed([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [0.0, 10.0, 1.0, 11.0]]]),
               np.float32([[[0.9, 0.75, 0.6]]]), fixed([3]), fixed([0.5]), fixed([0.0]))  # fmt: skip
    yield call("TensorScatter", floats(2, 1, 4, 3), fixed(floats(2, 1, 1, 3)), fixed([1, 2]))


CASES: tuple[OperatorCase, ...] = tuple(
    each
    for group in (
        _unary, _binary, layers, norms, _reductions, _shapes, _lookups, images, signals, attention,
    )
    for each in group()
)  # fmt: skip
