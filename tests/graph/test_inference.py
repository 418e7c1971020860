"""Types and shapes that are inferred are those that a run gives, and are known wherever the operator alone tells."""

import numpy as np
import pytest

from graphpass.api import inspect
from graphpass.graph.inference import with_shapes
from tests.models import build, node
from tests.operators import CASES


@pytest.mark.parametrize("op", ["GroupNormalization", "MeanVarianceNormalization", "SimplifiedLayerNormalization"])
def test_what_keeps_the_shape_of_its_input_is_known_to(op: str) -> None:
    """… and the model is as it was, but for that."""
    cases = [case for case in CASES if case.op == op]
    assert cases
    for case in cases:
        for opset in case.opsets():
            model = case.model(opset)
            expected = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
            for value in model.graph.output:
                value.type.tensor_type.ClearField("shape")
            found = with_shapes(model)
            assert [each.dim_value for each in found.graph.output[0].type.tensor_type.shape.dim] == expected
            assert list(found.graph.node) == list(model.graph.node)
            assert list(found.opset_import) == list(model.opset_import)


@pytest.mark.parametrize("opset", [18, 21])
def test_neurons_behind_a_group_normalisation_drive_the_layer(opset: int) -> None:
    parameters = np.ones(2 if opset == 18 else 4, np.float32)
    nodes = [
        node("Conv", "x a", "h", "one"), node("GroupNormalization", "h s b", "n", "norm", num_groups=2),
        node("Relu", "n", "r", "act"), node("Conv", "r c", "y", "two"),
    ]  # fmt: skip
    weights = {"a": np.ones((4, 3, 3, 3), np.float32), "c": np.ones((5, 4, 1, 1), np.float32)}
    constants = {**weights, "s": parameters, "b": parameters}
    model = build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 5, 8, 8]}, constants, opset=21)
    model.opset_import[0].version = opset  # 18: the checker calls it deprecated, onnxruntime runs it
    found = inspect(model)
    assert (found.spiking_layers, found.weight_layers) == (1, 2)
