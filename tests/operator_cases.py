"""Calls of operators as cases for tests: the operator, its inputs and attributes, and opsets in which it is like this.

A case holds for the opsets first … last, in which it is spelled like this. Arrays wrapped in `fixed` are initialisers;
the others are inputs of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper

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
