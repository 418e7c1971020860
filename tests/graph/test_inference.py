"""Types and shapes that are inferred are those that a run gives, and are known wherever the operator alone tells."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphpass.api import inspect
from graphpass.graph.inference import with_shapes
from tests.models import FLOAT, build, node
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


LONG = 1 << 26
VECTORS = {  # what makes a long vector, and the constants of that
    "a Range": ([node("Range", "none many one", "v")], {}),
    "a Range of a product": ([node("Mul", "some some", "count"), node("Range", "none count one", "v")], {}),
    "an Expand": ([node("Expand", "ones size", "v")], {}),
    "a Range that is negated": ([node("Range", "none many one", "w"), node("Neg", "w", "v")], {}),
    "an input": ([], {"v": [LONG]}),
}
READERS = {
    "Add": node("Add", "v one", "z"), "Cast": node("Cast", "v", "z", to=FLOAT), "Gather": node("Gather", "v ones", "z"),
    "Concat": node("Concat", "v v", "z", axis=0), "Unsqueeze": node("Unsqueeze", "v ones", "z"),
    "Slice": node("Slice", "v ones size", "z"),
}  # fmt: skip
NUMBERS = {"none": 0, "one": 1, "some": 1 << 13, "many": LONG, "ones": [1], "size": [LONG]}


@pytest.mark.parametrize("what", VECTORS)
def test_long_vectors_are_not_followed(what: str, tmp_path: Path) -> None:
    """onnx takes some 150 bytes for a number: beyond 1 GiB of memory the process would end."""
    nodes, inputs = VECTORS[what]
    for reader in READERS.values():
        graph = helper.make_graph(
            [*nodes, reader], "long",
            [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, size) for name, size in inputs.items()],
            [helper.make_empty_tensor_value_info("z")],
            [numpy_helper.from_array(np.array(value), name) for name, value in NUMBERS.items()],
        )  # fmt: skip
        onnx.save(helper.make_model(graph, ir_version=10), tmp_path / f"{reader.op_type}.onnx")
    program = (
        "import resource, sys, onnx\n"
        "from graphpass.graph.inference import with_shapes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    print(with_shapes(onnx.load(path)).graph.output[0].type.tensor_type.elem_type)\n"
    )
    paths = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.split())) == (0, len(READERS)), done.stderr


def test_shapes_are_followed_into_reshapes() -> None:
    nodes = [
        node("Shape", "x", "s"), node("Slice", "s none one", "n"), node("Mul", "n one", "m"),
        node("Concat", "m four", "t", axis=0), node("Reshape", "x t", "y"),
    ]  # fmt: skip
    constants = {"none": np.array([0]), "one": np.array([1]), "four": np.array([4])}
    shapes = {
        value.name: value for value in with_shapes(build(nodes, {"x": [6, 2, 2]}, {"y": None}, constants)).graph.output
    }
    assert [size.dim_value for size in shapes["y"].type.tensor_type.shape.dim] == [6, 4]
