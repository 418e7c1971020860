"""Types of tensors as graphsurgeon gives them: numpy's, or ONNX's number where numpy has none (bfloat16, float8)."""

import numpy as np
from onnx import TensorProto, helper

NUMBERS = frozenset(np.dtype(each) for each in "?bhilqBHILQefd")
FLOATS = frozenset(np.dtype(each) for each in "efd")
NARROW = frozenset(  # ONNX's numbers of the numeric types that numpy has not
    number
    for name, number in TensorProto.DataType.items()
    if name.startswith(("BFLOAT", "FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
)


def is_number(dtype: object) -> bool:
    """Whether it is a numeric type of numpy, so that values can be read, fed and fetched."""
    return _numpy_type(dtype) in NUMBERS


def is_float(dtype: object) -> bool:
    """Whether it is float16, float32 or float64."""
    return _numpy_type(dtype) in FLOATS


def onnx_type(dtype: object) -> int:
    """ONNX's number of a type."""
    return dtype if isinstance(dtype, int) else int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))  # type: ignore[call-overload]


def type_name(dtype: object) -> str:
    """The name of a type: float32, bfloat16 …"""
    return str(np.dtype(helper.tensor_dtype_to_np_dtype(onnx_type(dtype))).name)


def _numpy_type(dtype: object) -> np.dtype[np.generic] | None:
    return None if dtype is None or isinstance(dtype, int) else np.dtype(dtype)  # type: ignore[call-overload]
