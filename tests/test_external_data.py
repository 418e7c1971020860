"""Weights outside the file, wherever they hang: converted, and part of the digest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from graphpass.conversion import convert
from graphpass.errors import ModelError
from graphpass.graph.model import digest, load
from tests.legal import A, X, choice, function_with_weights, network, prepared, run, saved, sparse_initialiser, without
from tests.models import node


def external(tensor: TensorProto, folder: Path) -> None:
    """Its bytes in a file of its own."""
    (folder / f"{tensor.name or 'nameless'}.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, f"{tensor.name or 'nameless'}.bin", 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")


def held_in_a_function() -> tuple[ModelProto, TensorProto]:
    proto = function_with_weights()
    return proto, proto.functions[0].node[0].attribute[0].t


def held_in_a_constant() -> tuple[ModelProto, TensorProto]:
    proto = without(network(), "a")
    proto.graph.node.insert(0, node("Constant", "", "a", value=numpy_helper.from_array(A, "t")))
    return proto, proto.graph.node[0].attribute[0].t


def held_in_a_body() -> tuple[ModelProto, TensorProto]:
    proto = choice(constant=False)
    body = next(each for each in proto.graph.node if each.op_type == "If").attribute[0].g
    body.initializer.append(numpy_helper.from_array(A[0], "t"))
    body.node[1].CopyFrom(node("Add", "h t", body.output[0].name))
    return proto, body.initializer[0]


def held_in_a_sparse_one() -> tuple[ModelProto, TensorProto]:
    proto = sparse_initialiser(linear=True)
    return proto, proto.graph.sparse_initializer[0].values


@pytest.mark.parametrize("held", [held_in_a_function, held_in_a_constant, held_in_a_body, held_in_a_sparse_one])
def test_the_digest_covers_data_wherever_it_hangs(
    tmp_path: Path, held: Callable[[], tuple[ModelProto, TensorProto]]
) -> None:
    proto, tensor = held()
    plain = prepared(saved(proto, tmp_path)).graph
    external(tensor, tmp_path)
    path = saved(proto, tmp_path)
    before = digest(path)
    assert prepared(path).source.digest == before
    assert [each.op for each in prepared(path).graph.nodes] == [each.op for each in plain.nodes]
    (data,) = tmp_path.glob("*.bin")
    data.write_bytes((-np.frombuffer(data.read_bytes(), np.float32)).tobytes())
    assert digest(path) != before and prepared(path).source.digest == digest(path)
    data.unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: its external data cannot be read"):
        load(path)


@pytest.mark.parametrize("held", [held_in_a_function, held_in_a_constant, held_in_a_sparse_one])
def test_external_data_is_converted(tmp_path: Path, held: Callable[[], tuple[ModelProto, TensorProto]]) -> None:
    proto, tensor = held()
    wanted = run(saved(proto, tmp_path), {"x": X})[0]
    external(tensor, tmp_path)
    done = convert(prepared(saved(proto, tmp_path)), {"x": X}, tmp_path / "snn.onnx", time_steps=8, coding="phase")
    assert done.network.source.proto.ByteSize() > A.nbytes
    found = run(tmp_path / "snn.onnx", {"x": X})[0]
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.02


@pytest.mark.parametrize(
    "entry",
    [
        {"location": "w" * 400}, {"location": "a\0b"}, {"location": ""}, {"location": "."},
        {"location": "../../etc/passwd"}, {"location": "/dev/zero"}, {"offset": "-8"}, {"offset": "x"},
        {"offset": "1000000"}, {"length": str(10**15)}, {"length": "abc"},
    ],
)  # fmt: skip
def test_places_that_hold_no_data(tmp_path: Path, entry: dict[str, str]) -> None:
    proto, tensor = held_in_a_constant()
    external(tensor, tmp_path)
    stored = {each.key: each.value for each in tensor.external_data} | entry
    del tensor.external_data[:]
    for key, value in stored.items():
        tensor.external_data.add(key=key, value=value)
    with pytest.raises(ModelError, match=r"m\.onnx: its external data cannot be read") as caught:
        load(saved(proto, tmp_path))
    assert "\n" not in str(caught.value)
