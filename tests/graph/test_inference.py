"""Types and shapes that are inferred are those that a run gives, and are known wherever the operator alone tells."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphpass.api import inspect
from graphpass.graph.inference import KEEPS_SHAPE, with_shapes
from tests.models import FLOAT, build, node, run
from tests.operators import CASES
from tests.properties import examples


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


OTHERS = {  # of other domains: domain, inputs behind the first, attributes
    "Imputer": ("ai.onnx.ml", "", {"imputed_value_floats": [0.0]}),
    "Normalizer": ("ai.onnx.ml", "", {"norm": "L2"}),
    "Scaler": ("ai.onnx.ml", "", {"offset": [0.5], "scale": [2.0]}),
    "BiasGelu": ("com.microsoft", "b", {}),
    "FastGelu": ("com.microsoft", "b", {}),
    "Gelu": ("com.microsoft", "", {}),
    "Inverse": ("com.microsoft", "", {}),
    "QuickGelu": ("com.microsoft", "", {}),
    "RotaryEmbedding": ("com.microsoft", "k t t", {}),
    "SkipLayerNormalization": ("com.microsoft", "x b", {}),
    "SkipSimplifiedLayerNormalization": ("com.microsoft", "x b", {}),
    "Trilu": ("com.microsoft", "", {}),
}


@pytest.mark.parametrize("op", OTHERS)
def test_what_keeps_the_shape_of_its_input_in_other_domains(op: str) -> None:
    """The layer behind neurons behind it sees spikes: ranks are known there."""
    domain, more, attributes = OTHERS[op]
    flat = domain == "ai.onnx.ml"
    nodes = [
        node(op, f"x {more}", "n", "the_op", domain=domain, **attributes), node("Relu", "n", "r", "act"),
        node("MatMul", "r w", "y", "last"),
    ]  # fmt: skip
    random = np.random.default_rng(0)
    table = np.ones((4, 2), np.float32)
    constants = {"w": random.standard_normal((4, 3)).astype(np.float32), "b": np.ones(4, np.float32)}
    constants |= {"t": table, "k": np.array([0])} if "t" in more else {}
    shape = (4,) if flat else (4, 4)
    model = build(nodes, {"x": ["N", *shape]}, {"y": ["N", *shape[:-1], 3]}, constants, opset=17)
    found = inspect(model)
    assert (found.spiking_layers, found.weight_layers) == (1, 1)
    (inner,) = [each for each in with_shapes(model).graph.value_info if each.name == "n"]
    known = [each.dim_value or each.dim_param for each in inner.type.tensor_type.shape.dim]
    x = random.standard_normal((2, *shape)).astype(np.float32)
    model.graph.output.append(helper.make_empty_tensor_value_info("n"))
    made = run(model, x)[1]
    assert (known, inner.type.tensor_type.elem_type, made.dtype) == (["N", *made.shape[1:]], FLOAT, np.float32)


@examples(60)
@given(
    st.sampled_from(["AveragePool", "LpPool", "MaxPool"]), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2),
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(8, 24), st.sampled_from([19, 21, 22]),
)  # fmt: skip
def test_sizes_behind_pooling_with_ceil_mode_are_those_of_a_run(
    op: str, kernel: int, stride: int, dilation: int, pads: tuple[int, int], size: int, opset: int
) -> None:
    """Unknown only where the last window might begin behind all values."""
    pads = tuple(min(each, kernel - 1) for each in pads)
    pooling = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation], "pads": pads, "ceil_mode": 1}
    nodes = [node(op, "x", "p", **pooling), node("Relu", "p", "y")]
    model = build(nodes, {"x": ["N", 3, size]}, {"y": None}, {}, opset=opset)
    del model.graph.value_info[:]
    (pooled,) = (value for value in with_shapes(model).graph.value_info if value.name == "p")
    found = pooled.type.tensor_type.shape.dim[2].dim_value
    if opset < 22 and pads[1] + stride > (kernel - 1) * dilation + 1:
        assert found == 0
    else:
        (y,) = run(model, np.ones((2, 3, size), np.float32))
        assert found == y.shape[2]


def test_scalings_of_whole_numbers_are_floats() -> None:
    model = build(
        [node("Scaler", "x", "y", domain="ai.onnx.ml", offset=[0.5], scale=[2.0])],
        {"x": [2, 4]}, {"y": [2, 4]}, {}, opset=17,
    )  # fmt: skip
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.output[0].ClearField("type")
    assert with_shapes(model).graph.output[0].type.tensor_type.elem_type == FLOAT


def test_all_of_other_domains_are_tested() -> None:
    assert {op for domain, ops in KEEPS_SHAPE.items() if domain for op in ops} == set(OTHERS)


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
        "from graphpass.graph.inference import KEEPS_SHAPE, with_shapes\n"
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
