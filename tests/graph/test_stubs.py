"""Large tensors stay where they are: models get stubs for them, and come out the same."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphpass.graph import stubs
from graphpass.graph.model import export, load, save_apart
from graphpass.graph.stubs import graph_of, is_stub, with_external_weights
from graphpass.graph.tensors import all_tensors
from tests.models import build, node, run

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
WEIGHTS = {name: np.random.default_rng(k).normal(size=(4, 4)).astype(np.float32) for k, name in enumerate("abc")}


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs, "LARGE", 16)
    monkeypatch.setattr("graphpass.graph.tensors.LARGE", 16)


def network() -> onnx.ModelProto:
    """y = ((x·a + (c or −c))·b, with a body that captures c; c is an output, too."""
    yes = onnx.helper.make_graph([node("Identity", "c", "t")], "yes", [], [onnx.ValueInfoProto(name="t")])
    no = onnx.helper.make_graph([node("Neg", "c", "f")], "no", [], [onnx.ValueInfoProto(name="f")])
    nodes = [
        node("MatMul", "x a", "h", "first"),
        node("If", "yes", "k", "choice", then_branch=yes, else_branch=no),
        node("ReduceMax", "k", "m", "largest", keepdims=0),
        node("Add", "h m", "s", "sum"),
        node("MatMul", "s b", "y", "last"),
        node("Identity", "c", "z", "shown"),
    ]
    return build(nodes, {"x": ["N", 4]}, {"y": ["N", 4], "z": [4, 4]}, {**WEIGHTS, "yes": np.array(True)})


def test_a_graph_refers_to_the_tensors_of_its_model() -> None:
    proto = network()
    found = {t.name: t._values for t in graph_of(proto).tensors().values() if isinstance(t, gs.Constant)}
    given = {tensor.name: tensor for tensor in proto.graph.initializer}
    assert found.keys() >= {"a", "b", "c"}
    assert all(isinstance(found[name], LazyValues) and found[name].tensor is given[name] for name in "abc")


def test_a_source_has_its_weights_once(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "n.onnx")
    source = load(tmp_path / "n.onnx")
    own = {id(tensor) for tensor in source.proto.graph.initializer}
    assert {tensor.name for tensor in source.weights} >= {"a", "b", "c"}
    assert {id(tensor) for tensor in source.weights} <= own
    assert all(is_stub(tensor) for tensor in source.bare.graph.initializer if tensor.name in WEIGHTS)
    for one, other in zip(run(source.upgraded, X), run(source.proto, X), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("edited", [False, True])
def test_an_export_has_the_bytes_that_graphsurgeon_gives(edited: bool) -> None:
    graph = graph_of(network())
    if edited:  # values in numpy, in another order of memory, with a name of their own
        layer = next(each for each in graph.nodes if each.name == "last")
        layer.inputs[1] = gs.Constant("new", np.asfortranarray(WEIGHTS["b"]))
    expected = gs.export_onnx(graph.copy(), do_type_check=False)
    expected.ir_version = 10
    made = export(graph)
    assert made.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert not [tensor.name for tensor in all_tensors(made) if is_stub(tensor)]
    constants = [
        t for t in graph.tensors().values() if isinstance(t, gs.Constant) and isinstance(t._values, LazyValues)
    ]
    assert not [t.name for t in constants if is_stub(t._values.tensor)]


def test_weights_are_in_a_file_page_by_page_and_the_model_is_not_changed(tmp_path: Path) -> None:
    proto = network()
    proto.graph.doc_string, proto.producer_name = "about", "somebody"
    before = proto.SerializeToString(deterministic=True)
    bare = with_external_weights(proto, tmp_path / "weights")
    assert proto.SerializeToString(deterministic=True) == before
    outside = [tensor for tensor in bare.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    assert [tensor.name for tensor in outside] == ["a", "b", "c"]
    offsets = [int(entry.value) for tensor in outside for entry in tensor.external_data if entry.key == "offset"]
    assert offsets == [0, stubs.PAGE, 2 * stubs.PAGE]
    onnx.load_external_data_for_model(bare, str(tmp_path))
    for tensor in bare.graph.initializer:
        tensor.ClearField("data_location")
    assert bare.SerializeToString(deterministic=True) == before


def test_what_is_no_initialiser_is_written_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphpass.graph.tensors.LARGEST_PROTOBUF", 600)
    constant = node("Constant", "", "w", value=numpy_helper.from_array(np.ones((4, 100), np.float32)))
    proto = build([constant, node("MatMul", "x w", "y")], {"x": ["N", 4]}, {"y": ["N", 100]}, {})
    found = onnx.load(save_apart(proto, tmp_path))
    np.testing.assert_array_equal(run(found, X)[0], run(proto, X)[0])
