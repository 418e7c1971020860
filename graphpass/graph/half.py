"""What of a network may be float16: types that ONNX gives operators, and constants that float16 can hold.

float16: 11 significant bits, largest 65504, normal from 2⁻¹⁴, smallest 2⁻²⁴.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, defs

LARGEST = 65504.0
MASK = f"{LARGEST:g}, the largest number of float16"  # what is said of a constant that was cut
SMALLEST = 2.0**-24
EXACT_ENOUGH = 2.0**-19  # a tensor whose largest value is smaller is rounded by more than 1/64 of it
HALF = "tensor(float16)"
# Operators for which a constant beyond float16 acts as the nearest number of float16: bounds, masks, what is added
CUT = frozenset("Add Sub Max Min Clip Where Pad ConstantOfShape Concat Expand ScatterND ScatterElements".split())
DIVIDES = frozenset({("Div", 1), ("Reciprocal", 0), ("Log", 0), ("Pow", 0), ("Mod", 1)})  # 0 in place of a number: ∞
FULL_INPUTS = {"Resize": (1, 2)}  # roi: onnxruntime reads it in the type of scales
FULL_OUTPUTS = {"LayerNormalization": (1, 2)}  # statistics, which the operator keeps in float32
SEQUENCES = frozenset("SplitToSequence ConcatFromSequence Optional OptionalHasElement OptionalGetElement".split())
CHOOSE = frozenset(["Cast", "ConstantOfShape", "If"])  # outputs of any type, whatever the inputs have
LIKE = frozenset("Bernoulli EyeLike RandomNormalLike RandomUniformLike".split())  # an attribute may choose the type
ADDS = frozenset(["ScatterElements", "ScatterND"])  # onnxruntime's CPU adds and multiplies no float16 here

Array = NDArray[Any]


@dataclass(frozen=True)
class Slots:
    """Which inputs and outputs of a node may be float16, by position. reason: why others may not, or ""."""

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    reason: str = ""


def slots_of(node: NodeProto, opset: int) -> Slots:
    """What ONNX allows; nothing for operators that it does not know."""
    nothing = Slots((False,) * len(node.input), (False,) * len(node.output))
    schema = _schema(node.op_type, opset, node.domain)
    if schema is None:
        return Slots(nothing.inputs, nothing.outputs, "which types it takes is not known")
    if node.op_type in SEQUENCES or node.op_type.startswith("Sequence"):
        return Slots(nothing.inputs, nothing.outputs, "sequences stay as they are")
    if node.op_type in LIKE:
        return Slots(nothing.inputs, nothing.outputs, "its type may be chosen by an attribute")
    if node.op_type == "Transpose" and any(_moves_first_inwards(each.ints) for each in node.attribute):
        return Slots(nothing.inputs, nothing.outputs, "onnxruntime does not load a float16 MatMul behind it on the CPU")
    if node.op_type in ADDS and any(each.name == "reduction" and each.s != b"none" for each in node.attribute):
        return Slots(nothing.inputs, nothing.outputs, "onnxruntime has no float16 of it on the CPU")
    kept_in, kept_out = FULL_INPUTS.get(node.op_type, ()), FULL_OUTPUTS.get(node.op_type, ())
    types = {each.type_str for each in schema.inputs}
    inputs = tuple(k not in kept_in and _takes_half(schema, schema.inputs, k) for k in range(len(node.input)))
    outputs = tuple(
        k not in kept_out
        and (node.op_type in CHOOSE or type_variable(node, opset, k, output=True) in types)
        and _takes_half(schema, schema.outputs, k)
        for k in range(len(node.output))
    )
    return Slots(inputs, outputs, "" if all(outputs) and inputs[:1] != (False,) else "ONNX has it in float32 alone")


def _moves_first_inwards(order: Sequence[int]) -> bool:
    """Whether a Transpose of three axes or more moves the first alone, as (1, 0, 2) and (1, 2, 0, 3) do.

    onnxruntime 1.32 dies while it loads a float16 MatMul behind such a float16 Transpose on the CPU.
    """
    others = [axis for axis in order if axis]
    return len(order) > 2 and order[0] != 0 and others == sorted(others)


@cache
def _schema(op: str, opset: int, domain: str) -> Any:
    return defs.get_schema(op, opset, domain) if defs.has(op, opset, domain) else None


def type_variable(node: NodeProto, opset: int, number: int, output: bool) -> str | None:
    """The name of the type of an input or output in ONNX's schema: "T", or a type such as tensor(float)."""
    schema = _schema(node.op_type, opset, node.domain)
    formal = _formal(schema.outputs if output else schema.inputs, number) if schema else None
    return None if formal is None else str(formal.type_str)


def _formal(formals: Any, number: int) -> Any:
    """The parameter at a position; the last one may be there many times."""
    return formals[min(number, len(formals) - 1)] if formals else None


def _takes_half(schema: Any, formals: Any, number: int) -> bool:
    formal = _formal(formals, number)
    if formal is None:
        return False
    allowed = next(
        (each.allowed_type_strs for each in schema.type_constraints if each.type_param_str == formal.type_str), None
    )
    return HALF in (allowed if allowed is not None else [formal.type_str])


@dataclass(frozen=True)
class Constant:
    """A constant in float16; None where the node that reads it has to stay float32. note: why, or what was changed."""

    values: Array | None
    note: str = ""


def half_constant(values: Array, op: str, number: int) -> Constant:
    """A float32 constant as input `number` of an operator.

    Rounding to 11 bits is what float16 is. What is more is said: values beyond 65504, and tensors of values that are
    all so small that little is left of them. Operators of CUT get the nearest numbers that float16 has, ±65504 and
    ±2⁻²⁴; others stay float32.
    """
    finite = np.isfinite(values)
    size = np.abs(np.where(finite, values, 0))
    largest = float(size.max(initial=0.0))
    cut, notes = op in CUT, []
    if largest > LARGEST:
        if not cut:
            return Constant(None, f"a constant of {largest:.3g} is beyond float16")
        values = np.where(finite, np.clip(values, -LARGEST, LARGEST), values)
        notes.append(f"{largest:.3g} becomes {MASK}")
    with np.errstate(under="ignore"):
        half = values.astype(np.float16)
    lost = (half == 0) & (values != 0)
    if 0 < largest < EXACT_ENOUGH or ((op, number) in DIVIDES and lost.any()):
        smallest = float(size[size > 0].min())
        if not cut:
            return Constant(None, f"a constant of {smallest:.3g} is too small for float16")
        if lost.any():
            half = np.where(lost, np.copysign(np.float16(SMALLEST), values).astype(np.float16), half)
            notes.append(f"{smallest:.3g} becomes {SMALLEST:.3g}, the smallest number of float16")
    return Constant(half, "; ".join(notes))
