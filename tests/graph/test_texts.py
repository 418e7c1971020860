"""Models whose texts are not UTF-8, or whose meaning is open, are refused at the door, with the field that is wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from graphpass.errors import ModelError
from graphpass.graph.model import load
from tests.models import build, node


def model() -> onnx.ModelProto:
    nodes = [node("Relu", "x", "r"), node("MatMul", "r m", "y")]
    return build(nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, {"m": np.ones((8, 8), np.float32)})


def batch_axis(proto: onnx.ModelProto) -> onnx.TensorShapeProto.Dimension:
    return proto.graph.input[0].type.tensor_type.shape.dim[0]


TEXTS = {
    "NodeProto.op_type": lambda proto: setattr(proto.graph.node[0], "op_type", "MARK"),
    "NodeProto.name": lambda proto: setattr(proto.graph.node[0], "name", "MARK"),
    "NodeProto.input": lambda proto: proto.graph.node[0].input.__setitem__(0, "MARK"),
    "NodeProto.output": lambda proto: proto.graph.node[0].output.append("MARK"),
    "NodeProto.domain": lambda proto: setattr(proto.graph.node[0], "domain", "MARK"),
    "AttributeProto.name": lambda proto: proto.graph.node[0].attribute.add(name="MARK"),
    "TensorProto.name": lambda proto: setattr(proto.graph.initializer[0], "name", "MARK"),
    "ValueInfoProto.name": lambda proto: setattr(proto.graph.output[0], "name", "MARK"),
    "Dimension.dim_param": lambda proto: setattr(batch_axis(proto), "dim_param", "MARK"),
    "GraphProto.name": lambda proto: setattr(proto.graph, "name", "MARK"),
    "OperatorSetIdProto.domain": lambda proto: proto.opset_import.add(domain="MARK", version=1),
    "FunctionProto.name": lambda proto: proto.functions.add(name="MARK"),
    "ModelProto.producer_name": lambda proto: setattr(proto, "producer_name", "MARK"),
    "ModelProto.doc_string": lambda proto: setattr(proto, "doc_string", "MARK"),
    "StringStringEntryProto.key": lambda proto: proto.metadata_props.add(key="MARK"),
    "StringStringEntryProto.value": lambda proto: proto.metadata_props.add(key="author", value="MARK"),
}  # fmt: skip


@pytest.mark.parametrize("where", TEXTS)
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "in memory"])
def test_texts_that_are_not_utf8(tmp_path: Path, where: str, in_memory: bool) -> None:
    proto = model()
    TEXTS[where](proto)
    (path := tmp_path / "a.onnx").write_bytes(proto.SerializeToString().replace(b"MARK", b"M\xff\xfeK"))
    with pytest.raises(ModelError, match=rf"the text b'M\\xff\\xfeK' is not UTF-8 \({where}\)"):
        load(onnx.ModelProto.FromString(path.read_bytes()) if in_memory else path)


@pytest.mark.parametrize("others", [[("", 9)], [("ai.onnx", 9)], [("new", 1), ("new", 2)]], ids=str)
def test_two_versions_of_a_domain(others: Sequence[tuple[str, int]]) -> None:
    proto = model()
    proto.opset_import.extend(helper.make_opsetid(*each) for each in others)
    with pytest.raises(
        ModelError, match=rf"imports domain '.*' in the versions \d+ and {others[-1][1]}; export it again"
    ):
        load(proto)
    del proto.opset_import[-1]
    load(proto)


def test_a_network_without_outputs() -> None:
    proto = model()
    del proto.graph.output[:]
    with pytest.raises(ModelError, match="the network has no outputs"):
        load(proto)
