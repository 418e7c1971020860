"""Every activation that becomes neurons, with usual and unusual parameters: more levels bring it as near as may be."""

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from onnx import defs, inliner

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import Conversion, convert
from graphpass.graph.model import load
from graphpass.maths.methods import METHODS
from tests.models import build, node, run

LEVELS = 256
NEAR = 3 / LEVELS  # of the outputs' deviation: even levels leave 1/√12 of a step, and a range is up to ten deviations
JUMPS = 0.1  # in the integer form: inputs of 8 bits put some values on the other side of the jump
TAILS = 0.05  # percentile cuts the 0.1 % of the largest values off, at any number of levels

CASES: tuple[tuple[str, Mapping[str, float]], ...] = (
    ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Softsign", {}), ("Mish", {}), ("HardSwish", {}),
    ("Gelu", {}), ("LeakyRelu", {"alpha": 0.1}), ("LeakyRelu", {"alpha": -0.5}), ("LeakyRelu", {"alpha": 2.0}),
    ("Elu", {}), ("Elu", {"alpha": -1.0}), ("Elu", {"alpha": 5.0}), ("Celu", {"alpha": 0.1}), ("Selu", {}),
    ("Selu", {"gamma": -1.0}), ("Swish", {"alpha": 0.5}), ("Swish", {"alpha": 10.0}),
    ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 3.0}), ("HardSigmoid", {"alpha": 0.7, "beta": -0.2}),
    ("HardSigmoid", {"alpha": 30.0}), ("HardSigmoid", {"alpha": 300.0}),
    ("Shrink", {}), ("Shrink", {"lambd": 0.4, "bias": 0.4}), ("Shrink", {"lambd": 1.0, "bias": 0.2}),
    ("ThresholdedRelu", {"alpha": 0.0}), ("ThresholdedRelu", {"alpha": 0.5}), ("ThresholdedRelu", {"alpha": 1.0}),
)  # fmt: skip
X = np.random.default_rng(0).normal(size=(256, 6)).astype(np.float32)


def converted(
    op: str, attributes: Mapping[str, float], method: str, form: str, spelled_out: bool = False
) -> tuple[Conversion, float]:
    """x → MatMul → activation → MatMul, and its error: √(Σ(y − a)² / Σ(a − ā)²).

    spelled_out: whether the activation is the nodes that ONNX defines it by.
    """
    random = np.random.default_rng(1)
    weights = {
        "w": random.normal(size=(6, 8)).astype(np.float32) / 2,
        "b": random.normal(size=8).astype(np.float32) / 2,
        "v": random.normal(size=(8, 4)).astype(np.float32),
    }
    nodes = [
        node("MatMul", "x w", "m", "first"), node("Add", "m b", "s", "bias"), node(op, "s", "a", "act", **attributes),
        node("MatMul", "a v", "y", "last"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 6]}, {"y": ["N", 4]}, weights, opset=24 if op == "Swish" else 21)
    if spelled_out:  # onnx's inliner leaves out attributes that are not given
        defaults = {name: each.default_value for name, each in defs.get_schema(op, 24).attributes.items()}
        missing = [value for name, value in defaults.items() if value.type and name not in attributes]
        next(each for each in model.graph.node if each.name == "act").attribute.extend(missing)
        model = inliner.inline_selected_functions(model, [("", op)], inline_schema_functions=True)
        assert op not in [each.op_type for each in model.graph.node]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of opsets that onnxruntime does not promise
        done = convert(
            load(model),
            {"x": X},
            time_steps=LEVELS - 1,
            method=method,
            form=form,
            options=CalibrationOptions(threads=1),
        )
    (truth,), (found,) = run(model, X), run(done.proto, X)
    return done, float(np.sqrt(np.square(found - truth).sum() / np.square(truth - truth.mean(0)).sum()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_many_levels_are_near(op: str, attributes: Mapping[str, float], method: str) -> None:
    done, error = converted(op, attributes, method, "folded")
    assert len(done.plan.sites) == 1
    assert error < (TAILS if method == "percentile" else NEAR)


def is_defined_by_nodes(op: str) -> bool:
    schema = defs.get_schema(op, 24)
    return bool(schema.has_function or schema.has_context_dependent_function)


@pytest.mark.parametrize(("op", "attributes"), [case for case in CASES if is_defined_by_nodes(case[0])])
def test_activations_that_are_spelled_out_as_onnx_defines_them(op: str, attributes: Mapping[str, float]) -> None:
    done, error = converted(op, attributes, "max", "folded", spelled_out=True)
    assert len(done.plan.sites) == 1
    assert error < NEAR


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_jump_is_where_it_is_in_every_form(alpha: float) -> None:
    """Every form has the same thresholds, and none of its neurons counts up to α and no further."""
    for form in ("folded", "unrolled", "integer"):
        _, error = converted("ThresholdedRelu", {"alpha": alpha}, "max", form)
        assert error < (JUMPS if form == "integer" else NEAR)
