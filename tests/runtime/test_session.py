"""Sessions: what cannot be opened or run is a SessionError that says why."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from graphpass.errors import SessionError
from graphpass.runtime import session as session_module
from graphpass.runtime.session import (
    ProviderWarning,
    fixed_batch,
    input_specs,
    open_session,
    run,
)
from tests.models import build, node

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def doubler(batch="N"):
    """y = 2·x, total = Σ x over everything"""
    return build(
        [node("Add", "x x", "y", "double"), node("ReduceSum", "x", "total", "sum", keepdims=0)],
        {"x": [batch, 4]}, {"y": [batch, 4], "total": []}, {},
    )  # fmt: skip


def test_files_and_protos_open(tmp_path):
    onnx.save(doubler(), tmp_path / "m.onnx")
    for model in (doubler(), tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
        outputs = run(open_session(model, threads=1), {"x": X})
        assert list(outputs) == ["y", "total"]
        np.testing.assert_array_equal(outputs["y"], 2 * X)
    assert list(run(open_session(doubler()), {"x": X}, ["total"])) == ["total"]


def test_a_large_proto_is_opened_from_a_file_and_stays_whole(monkeypatch):
    weight = np.arange(1600, dtype=np.float32).reshape(4, 400)
    model = build([node("MatMul", "x w", "y", "fc")], {"x": ["N", 4]}, {"y": ["N", 400]}, {"w": weight})
    monkeypatch.setattr(session_module, "LARGEST_PROTOBUF", 100)
    monkeypatch.setattr("graphpass.graph.model.LARGEST_PROTOBUF", 100)
    for _ in range(2):  # the second finds the proto as the first left it
        # sums of four float32 products
        np.testing.assert_allclose(run(open_session(model), {"x": X})["y"], X @ weight, rtol=1e-5)


def test_unknown_providers():
    with pytest.raises(
        SessionError, match=r"'WarpDriveExecutionProvider' is not in this onnxruntime; choose from .*CPU"
    ):
        open_session(doubler(), ["WarpDriveExecutionProvider"])


def test_a_provider_that_falls_back_gives_a_warning(monkeypatch):
    """onnxruntime itself uses the CPU and only logs that."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        session_module, "_create", lambda model, options, wanted: ort.InferenceSession(model.SerializeToString())
    )
    with pytest.warns(ProviderWarning, match="CUDAExecutionProvider could not be started, CPUExecutionProvider runs"):
        open_session(doubler(), ["CUDAExecutionProvider"])


def test_models_that_do_not_load(tmp_path):
    with pytest.raises(SessionError, match=r"missing\.onnx: onnxruntime cannot load it"):
        open_session(tmp_path / "missing.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(SessionError, match=r"junk\.onnx: onnxruntime cannot load it"):
        open_session(tmp_path / "junk.onnx")
    with pytest.raises(SessionError, match="the model: onnxruntime cannot load it"):
        open_session(onnx.ModelProto())


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({}, "x"),
        ({"x": X, "surplus": X}, "surplus"),
        ({"x": X[:, :3]}, "x"),
        ({"x": X.astype(np.float64)}, "double"),
        ({"x": X[0]}, "x"),
        ({"x": "text"}, "x"),
    ],
)
def test_wrong_inputs_are_named(inputs, named):
    with pytest.raises(SessionError, match=rf"onnxruntime failed .*\b{named}\b.*check the data"):
        run(open_session(doubler()), inputs)


def test_input_specs():
    kinds = {"f": TensorProto.FLOAT16, "i": TensorProto.INT32, "b": TensorProto.BOOL}
    graph = helper.make_graph(
        [node("Cast", f"{name}", f"o{name}", to=1) for name in kinds], "g",
        [helper.make_tensor_value_info(name, kind, [None, 3, "H"]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"o{name}", TensorProto.FLOAT, None) for name in kinds],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    specs = input_specs(open_session(model))
    assert [(spec.name, spec.dtype) for spec in specs] == [("f", np.float16), ("i", np.int32), ("b", np.bool_)]
    assert {spec.shape for spec in specs} == {(None, 3, None)}
    assert fixed_batch(specs) is None


def test_inputs_that_are_no_numbers():
    graph = helper.make_graph(
        [node("Identity", "words", "y")], "g", [helper.make_tensor_value_info("words", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    with pytest.raises(SessionError, match=r"input 'words' is a tensor\(string\), not a numeric tensor"):
        input_specs(open_session(model))


@pytest.mark.parametrize(("batch", "expected"), [("N", None), (3, 3), (1, 1)])
def test_fixed_batch(batch, expected):
    assert fixed_batch(input_specs(open_session(doubler(batch)))) == expected
