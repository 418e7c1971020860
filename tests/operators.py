"""One call of every operator of ONNX in every way that its versions differ in: attributes, inputs, ranks and types.

A case holds for the opsets first … last, in which it is spelled like this. Arrays wrapped in `fixed` are initialisers;
the others are inputs of the model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, defs, helper, numpy_helper

from graphpass.graph.domains import RUNTIME_OPERATORS

OLDEST, NEWEST = 7, defs.onnx_opset_version()
RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Fixed:
    """An array that the model holds."""

    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class OperatorCase:
    """A call of an operator. outputs: how many, or which are named (an empty name leaves one out)."""

    op: str
    inputs: tuple[NDArray[Any] | Fixed | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    first: int = OLDEST
    last: int = NEWEST
    outputs: int = 1

    def opsets(self) -> list[int]:
        """The oldest opset of each version of the operator that the case is a call of."""
        versions = versions_of(self.op)
        starts = {max(version, OLDEST) for version in (*versions, self.first)}  # a version may be older
        return sorted(each for each in starts if max(self.first, min(versions)) <= each <= self.last)

    def feeds(self) -> dict[str, NDArray[Any]]:
        """The inputs of the model."""
        return {f"i{k}": each for k, each in enumerate(self.inputs) if isinstance(each, np.ndarray)}

    def thawed(self) -> "OperatorCase":
        """The same with every array as an input of the model: nothing is known of them before it runs."""
        arrays = tuple(each.values if isinstance(each, Fixed) else each for each in self.inputs)
        return OperatorCase(self.op, arrays, self.attributes, self.first, self.last, self.outputs)

    def model(self, opset: int) -> onnx.ModelProto:
        """The call alone, as a model of this opset whose outputs have no types."""
        names = ["" if each is None else f"i{k}" for k, each in enumerate(self.inputs)]
        node = helper.make_node(self.op, names, [f"o{k}" for k in range(self.outputs)], "the_op", **self.attributes)
        graph = helper.make_graph(
            [node],
            "call",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
                for name, values in self.feeds().items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
            [
                numpy_helper.from_array(each.values, f"i{k}")
                for k, each in enumerate(self.inputs)
                if isinstance(each, Fixed)
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


HISTORY = [each for each in defs.get_all_schemas_with_history() if not each.domain and not each.deprecated]


def versions_of(op: str) -> list[int]:
    """The opsets from which on onnxruntime and ONNX have a version of an operator."""
    known = {each.since_version for each in HISTORY if each.name == op}
    return sorted(known | ({RUNTIME_OPERATORS[op]} if op in RUNTIME_OPERATORS else set()))


def fixed(values: Any, dtype: Any = None) -> Fixed:
    """An initialiser: lists of whole numbers are int64, others float32."""
    array = np.asarray(values, dtype)
    return Fixed(array.astype(np.float32) if dtype is None and array.dtype == np.float64 else array)


def floats(*shape: int) -> NDArray[np.float32]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> NDArray[np.float32]:
    return RANDOM.uniform(0.1, 0.9, shape).astype(np.float32)


def integers(*shape: int, high: int = 5, dtype: Any = np.int64) -> NDArray[Any]:
    return RANDOM.integers(0, high, shape).astype(dtype)


def call(
    op: str, *inputs: Any, first: int = OLDEST, last: int = NEWEST, outputs: int = 1, **attributes: Any
) -> OperatorCase:
    return OperatorCase(op, inputs, attributes, first, last, outputs)


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


def _layers() -> Iterator[OperatorCase]:
    for size, kernel in (((7,), (3,)), ((6, 7), (3, 2)), ((5, 4, 3), (2, 2, 2))):
        x, w = floats(2, 4, *size), floats(6, 2, *kernel)
        yield call("Conv", x, fixed(w), fixed(floats(6)), group=2)
        yield call("Conv", x, fixed(w), None, group=2, strides=[2] * len(size), pads=[1] * 2 * len(size))
        yield call("Conv", x, fixed(w), group=2, dilations=[1] * len(size), auto_pad="SAME_UPPER")
        yield call("Conv", x, fixed(w), group=2, strides=[2] * len(size), auto_pad="SAME_LOWER")
        yield call("Conv", x, fixed(w), group=2, auto_pad="VALID", kernel_shape=list(kernel))
        v = fixed(floats(4, 3, *kernel))
        yield call("ConvTranspose", x, v, fixed(floats(6)), group=2)
        yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), output_padding=[1] * len(size))
        yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), pads=[1] * 2 * len(size))
        for pad in ("SAME_UPPER", "SAME_LOWER"):
            yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), auto_pad=pad)
            shape = [2 * each + 1 for each in size]
            yield call("ConvTranspose", x, v, group=2, strides=[2] * len(size), auto_pad=pad, output_shape=shape)
        for pool in ("AveragePool", "MaxPool", "LpPool"):
            pooled = {"kernel_shape": list(kernel)}
            yield call(pool, x, **pooled)
            yield call(pool, x, **pooled, strides=[2] * len(size), pads=[1] * 2 * len(size))
            yield call(pool, x, **pooled, strides=[2] * len(size), auto_pad="SAME_UPPER")
            yield call(pool, x, **pooled, strides=[2] * len(size), auto_pad="SAME_LOWER")
            ceiled = {"AveragePool": 10, "MaxPool": 10, "LpPool": 18}[pool]
            yield call(pool, x, **pooled, strides=[2] * len(size), pads=[1] * 2 * len(size), first=ceiled, ceil_mode=1)
            dilated = {"AveragePool": 19, "MaxPool": 10, "LpPool": 18}[pool]
            yield call(
                pool, x, **pooled, first=dilated, dilations=[2] * len(size) if min(size) > 3 else [1] * len(size)
            )
        yield call("AveragePool", x, **pooled, pads=[1] * 2 * len(size), count_include_pad=1)
        yield call("AveragePool", x, **pooled, pads=[1] * 2 * len(size), strides=[2] * len(size), count_include_pad=1,
                   first=10, ceil_mode=1)  # fmt: skip
        yield call("MaxPool", x, **pooled, outputs=2)
        yield call("MaxPool", x, **pooled, outputs=2, first=8, storage_order=1)
        yield call("LpPool", x, **pooled, p=1)
        yield call("GlobalLpPool", x, p=1)
    yield call("MaxUnpool", floats(1, 1, 2, 2), fixed([[[[0, 2], [9, 15]]]]), kernel_shape=[2, 2], strides=[2, 2])
    yield call("MaxRoiPool", floats(1, 2, 8, 8), fixed([[0.0, 1.0, 1.0, 5.0, 6.0]]), pooled_shape=[2, 2])
    yield call("DeformConv", floats(1, 2, 4, 4), fixed(floats(3, 2, 2, 2)), fixed(floats(1, 8, 3, 3)))
    for attributes in ({}, {"transB": 1, "alpha": 0.5, "beta": 2.0}):
        b = floats(4, 3) if not attributes else floats(3, 4)
        yield call("Gemm", floats(2, 4), fixed(b), fixed(floats(3)), **attributes)
        yield call("Gemm", floats(2, 4), fixed(b), fixed(floats(2, 1)), **attributes)
    yield call("Gemm", floats(4, 2), fixed(floats(4, 3)), first=11, transA=1)
    yield call("MatMul", floats(2, 3, 4), fixed(floats(4, 5)))
    yield call("MatMul", fixed(floats(5, 3)), floats(2, 3, 4))
    yield call("MatMul", floats(2, 3, 4), floats(4))
    yield call("Einsum", floats(2, 3, 4), fixed(floats(4, 5)), equation="bij,jk->bik")
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        parts = (floats(5, 2, 3), fixed(floats(1, gates * 4, 3)), fixed(floats(1, gates * 4, 4)))
        yield call(op, *parts, fixed(floats(1, gates * 8)), hidden_size=4, outputs=2)
        yield call(op, *parts, None, fixed(integers(2, dtype=np.int32) % 4 + 1), hidden_size=4)
        if op != "RNN":
            both = (floats(5, 2, 3), fixed(floats(2, gates * 4, 3)), fixed(floats(2, gates * 4, 4)))
            yield call(op, *both, hidden_size=4, direction="bidirectional", outputs=2)


def _norms() -> Iterator[OperatorCase]:
    for shape in ((2, 4), (2, 4, 5), (2, 4, 3, 3)):
        x, constants = floats(*shape), [fixed(floats(4)) for _ in range(3)] + [fixed(positive(4))]
        yield call("BatchNormalization", x, *constants)
        yield call("BatchNormalization", x, *constants, epsilon=0.1)
        yield call("BatchNormalization", x, *constants, first=14, training_mode=1, outputs=3)
        if len(shape) > 2:
            yield call("InstanceNormalization", x, fixed(floats(4)), fixed(floats(4)), epsilon=0.01)
            yield call("LRN", x, size=3) if len(shape) == 4 else call("LpNormalization", x, axis=1, p=1)
            yield call("GroupNormalization", x, fixed(floats(2)), fixed(floats(2)), last=20, num_groups=2)
            yield call("GroupNormalization", x, fixed(floats(4)), fixed(floats(4)), first=21, num_groups=2, epsilon=0.1)
            yield call("MeanVarianceNormalization", x, axes=[0, 2], first=9)
        yield call("LayerNormalization", x, fixed(floats(shape[-1])), fixed(floats(shape[-1])), epsilon=0.01)
        yield call("LayerNormalization", x, fixed(floats(*shape[1:])), first=17, axis=1, outputs=3)
        yield call("SimplifiedLayerNormalization", x, fixed(floats(shape[-1])), axis=-1)
        yield call("RMSNormalization", x, fixed(floats(shape[-1])))
    x = floats(2, 2, 3, 3)
    each = [fixed(floats(2, 3, 3)) for _ in range(3)] + [fixed(positive(2, 3, 3))]
    yield call("BatchNormalization", x, *each, last=8, spatial=0)
    yield call("MeanVarianceNormalization", floats(2, 3, 4, 4), first=9)
    yield call("Dropout", x)
    yield call("Dropout", x, last=11, outputs=2)
    yield call("Dropout", x, last=11, ratio=0.3)
    yield call("Dropout", x, fixed(0.3), first=12, outputs=2)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for shape in ((3, 4), (2, 3, 4), (2, 3, 4, 2)):
            yield call(op, floats(*shape))
            yield call(op, floats(*shape), axis=len(shape) - 1)
            yield call(op, floats(*shape), axis=0)
            yield call(op, floats(*shape), first=11, axis=-1)
            yield call(op, floats(*shape), first=11, axis=-2)
    yield call("Clip", floats(3, 4), last=10, min=-0.5, max=0.5)
    yield call("Clip", floats(3, 4).astype(np.float16), last=10, min=-0.5)
    yield call("Clip", floats(3, 4), last=10)
    yield call("Clip", floats(3, 4), fixed(np.float32(-0.5)), fixed(np.float32(0.5)), first=11)
    yield call("Clip", floats(3, 4), None, fixed(np.float32(0.5)), first=11)


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


def _images() -> Iterator[OperatorCase]:
    x = floats(1, 2, 4, 5)
    for scale in (
        [1.0, 1.0, 2.0, 3.0],
        [1.0, 1.0, 1.5, 1.7],
        [1.0, 1.0, 0.5, 0.75],
        [1.0, 1.0, 2.0, 0.6],
        [1.0, 2.0, 2.0, 1.0],
    ):
        flat = scale[1] == 1.0
        for mode in ("nearest", "linear") if flat else ("nearest",):
            if min(scale) >= 1:
                yield call("Upsample", x, last=8, scales=scale, mode=mode)
                yield call("Upsample", x, fixed(scale), first=9, last=9, mode=mode)
            yield call("Resize", x, fixed(scale), last=10, mode=mode)
            places = "half_pixel asymmetric align_corners pytorch_half_pixel".split()
            for place in places if scale[2] != 1.5 else ():
                yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, mode=mode,
                           coordinate_transformation_mode=place)  # fmt: skip
        for rounding in "round_prefer_floor round_prefer_ceil floor ceil".split():
            yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, nearest_mode=rounding)
        yield call("Resize", x, fixed(np.float32([])), fixed(scale), first=11, last=12,
                   coordinate_transformation_mode="tf_half_pixel_for_nn")  # fmt: skip
    for size in ([1, 2, 8, 10], [1, 2, 3, 7]):
        for mode in ("nearest", "linear", "cubic"):
            yield call("Resize", x, fixed(np.float32([])), fixed(np.float32([])), fixed(size), first=11, mode=mode)
        yield call("Resize", x, None, None, fixed(size), first=13, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1)
    roi = fixed([0.0, 0.0, 0.1, 0.2, 1.0, 1.0, 0.8, 0.9])
    yield call("Resize", x, roi, None, fixed([1, 2, 3, 3]), first=13, mode="linear",
               coordinate_transformation_mode="tf_crop_and_resize")  # fmt: skip
    yield call("Resize", x, None, None, fixed([3, 3]), first=18, mode="linear", axes=[2, 3], antialias=1)
    boxes, batch = fixed([[0.0, 0.0, 3.0, 3.0], [1.0, 0.0, 4.0, 2.0]]), fixed([0, 0])
    for mode in ("avg", "max"):
        yield call("RoiAlign", x, boxes, batch, output_height=2, output_width=3, mode=mode, sampling_ratio=2)
    yield call("RoiAlign", x, boxes, batch, first=16, output_height=2, output_width=2, spatial_scale=0.5,
               coordinate_transformation_mode="half_pixel")  # fmt: skip
    grid = fixed(RANDOM.uniform(-1.1, 1.1, (1, 3, 4, 2)).astype(np.float32))
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        yield call("GridSample", x, grid, last=19, mode=old, padding_mode="border")
        yield call("GridSample", x, grid, first=20, mode=new, align_corners=1)
    yield call("GridSample", x, grid)
    yield call("AffineGrid", fixed(floats(1, 2, 3)), fixed([1, 2, 3, 4]), align_corners=1)


def _signals() -> Iterator[OperatorCase]:
    x = floats(1, 8, 1)
    yield call("DFT", x, last=19)
    yield call("DFT", x, last=19, axis=1, onesided=1)
    yield call("DFT", x, fixed(6), last=19)
    yield call("DFT", x, None, fixed(1), first=20)
    labels = fixed(integers(3, high=4))
    yield call("SoftmaxCrossEntropyLoss", floats(3, 4), labels, outputs=2, reduction="sum")
    yield call("NegativeLogLikelihoodLoss", floats(3, 4), labels)
    for op in "BlackmanWindow HammingWindow HannWindow".split():
        yield call(op, fixed(8))
    yield call("MelWeightMatrix", fixed(4), fixed(16), fixed(8000), fixed(0.0), fixed(4000.0))
    yield call("STFT", floats(1, 16, 1), fixed(4), fixed(positive(8)))


def _attention() -> Iterator[OperatorCase]:
    q, k, v = (floats(1, 2, 3, 4) for _ in range(3))
    yield call("Attention", q, k, v)
    yield call("RotaryEmbedding", floats(1, 2, 3, 4), fixed(floats(5, 2)), fixed(floats(5, 2)), fixed([[0, 1, 4]]))


CASES: tuple[OperatorCase, ...] = tuple(
    each
    for group in (
        _unary, _binary, _layers, _norms, _reductions, _shapes, _lookups, _images, _signals, _attention,
    )
    for each in group()
)  # fmt: skip
