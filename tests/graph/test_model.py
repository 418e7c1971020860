"""Loading, upgrading and saving: refusals name the file and the node."""

import os
import warnings

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.errors import ModelError, UnsupportedModelError
from graphpass.graph import model as model_module
from graphpass.graph.domains import SPIKING_DOMAIN, opset_of
from graphpass.graph.model import UpgradeWarning, digest, export, load, save
from graphpass.graph.tensors import walk
from tests.models import build, node, run

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def linear(*nodes, opset=17, **constants):
    """x → MatMul → Relu → y, with more nodes behind."""
    nodes = nodes or (node("Relu", "h", "y", "act"),)
    return build(
        [node("MatMul", "x w", "h", "fc"), *nodes],
        {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": WEIGHT, **constants}, opset=opset,
    )  # fmt: skip


def saved(proto, folder, name="m.onnx", **options):
    onnx.save(proto, folder / name, **options)
    return folder / name


def unchecked(nodes, inputs, outputs, opset=17, constants=()):
    """A model that the tests' builder would not let pass. inputs, outputs: value infos."""
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(constants))
    domains = sorted({each.domain for each in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def floats(name, shape=("N", 3)):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.mark.parametrize(("opset", "emitted"), [(15, 21), (17, 21), (21, 21), (22, 22), (23, 23)])
def test_opsets(tmp_path, opset, emitted):
    proto = linear(opset=opset)
    source = load(saved(proto, tmp_path))
    assert (source.opset, opset_of(source.upgraded)) == (opset, emitted)
    np.testing.assert_array_equal(run(source.upgraded, X)[0], run(proto, X)[0])
    if opset < 21:
        assert export(source.graph()).ir_version == model_module.TARGET_IR


@pytest.mark.parametrize("opset", [9, 11, 13, 14])
def test_old_opsets_are_upgraded_with_a_warning(tmp_path, opset):
    proto = linear(opset=opset)
    with pytest.warns(UpgradeWarning, match=rf"m\.onnx: opset {opset} is older"):
        source = load(saved(proto, tmp_path))
    assert (source.opset, opset_of(source.upgraded)) == (opset, 21)
    np.testing.assert_array_equal(run(source.upgraded, X)[0], run(proto, X)[0])


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "m.onnx"), (b"not a model at all\n", "m.onnx"), (b"\x00\xff" * 50, "m.onnx"), (b"{}", "m.json"),
     (b"{ nonsense", "m.json"), (b"nonsense", "m.textproto"), (b"nonsense <", "m.onnxtxt")],
)  # fmt: skip
def test_files_that_are_no_models(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load(path)


def test_a_damaged_model(tmp_path):
    path = saved(linear(), tmp_path)
    path.write_bytes(path.read_bytes()[:-25])
    with pytest.raises(ModelError, match=r"m\.onnx: not a readable ONNX model"):
        load(path)


def test_a_pipe_is_no_file(tmp_path):
    """It would be read several times."""
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(
        ModelError, match=r"pipe\.onnx: is a pipe or a device; give the path of an ONNX model, in a file"
    ):
        load(tmp_path / "pipe.onnx")


@pytest.mark.parametrize(("name", "what"), [("missing.onnx", "no such file"), (".", "is a folder")])
def test_no_file(tmp_path, name, what):
    with pytest.raises(ModelError, match=what):
        load(tmp_path / name)


def test_an_invalid_model_names_what_is_wrong(tmp_path):
    proto = unchecked([node("Relu", "nowhere", "y", "act")], [floats("x")], [floats("y")])
    with pytest.raises(ModelError, match=r"m\.onnx: invalid ONNX .*nowhere|nowhere"):
        load(saved(proto, tmp_path))


def test_missing_external_data(tmp_path):
    path = saved(linear(), tmp_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(
        ModelError, match=r"m\.onnx: its external data cannot be read .*; keep the data file in the folder"
    ):
        load(path)


def test_short_external_data(tmp_path):
    path = saved(linear(), tmp_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").write_bytes(b"1234")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load(path)


def test_external_data_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    proto = linear()
    (tmp_path / "w.bin").write_bytes(proto.graph.initializer[0].raw_data)
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "../w.bin")
    proto.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "inner" / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load(tmp_path / "inner" / "m.onnx")


def refusal(tmp_path, proto):
    with pytest.raises(UnsupportedModelError) as caught:
        load(saved(proto, tmp_path))
    return str(caught.value)


def test_custom_operators_are_named(tmp_path):
    proto = unchecked([node("Wiggle", "x", "y", "odd", domain="acme")], [floats("x")], [floats("y")])
    text = refusal(tmp_path, proto)
    assert "'odd' (Wiggle)" in text
    assert "'acme'" in text


def test_a_nameless_node_is_named_by_its_output(tmp_path):
    proto = unchecked([node("Wiggle", "x", "y", domain="acme")], [floats("x")], [floats("y")])
    assert "'y' (Wiggle)" in refusal(tmp_path, proto)


def test_a_node_without_name_and_outputs_is_refused(tmp_path):
    proto = unchecked([node("Wiggle", "x", "", domain="acme")], [floats("x")], [floats("x")])
    assert "(Wiggle)" in refusal(tmp_path, proto)


def test_quantised_models_are_refused(tmp_path):
    proto = linear(
        node("QuantizeLinear", "h s z", "q", "quantise"), node("DequantizeLinear", "q s z", "y", "back"),
        s=np.float32(0.1), z=np.uint8(128),
    )  # fmt: skip
    assert "'quantise' (QuantizeLinear): the model is already quantised" in refusal(tmp_path, proto)


def conditional(*inside):
    """y = x where flag, else the nodes `inside`, which end in "inner" and may read x."""
    branches = [
        helper.make_graph([node("Identity", "x", "plain")], "then", [], [floats("plain", None)]),
        helper.make_graph(list(inside), "else", [], [floats("inner", None)]),
    ]
    choice = helper.make_node("If", ["flag"], ["y"], "choice", then_branch=branches[0], else_branch=branches[1])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    return unchecked([choice], [flag, floats("x")], [floats("y")])


def test_refusals_look_into_bodies(tmp_path):
    proto = conditional(node("Wiggle", "x", "inner", "odd", domain="acme"))
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    assert "'odd' (Wiggle)" in refusal(tmp_path, proto)


def local_function(body):
    proto = unchecked([node("Twice", "x", "y", "call", domain="mine")], [floats("x")], [floats("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    proto.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, opsets))
    return proto


def test_local_functions_are_inlined(tmp_path):
    proto = local_function([node("Add", "a a", "b", "double")])
    source = load(saved(proto, tmp_path))
    assert [each.op_type for each in source.upgraded.graph.node] == ["Add"]
    assert not source.upgraded.functions
    np.testing.assert_array_equal(run(source.upgraded, X[:, :3])[0], 2 * X[:, :3])


def test_refusals_look_into_local_functions(tmp_path):
    assert "(Wiggle)" in refusal(tmp_path, local_function([node("Wiggle", "a", "b", "odd", domain="acme")]))


@pytest.mark.parametrize("called", [1, 3])
def test_functions_that_stand_for_too_many_nodes(tmp_path, called):
    """F20 calls F19 twice, and so on: it is 2²⁰ nodes. F19 is half as many, but there are three of it."""
    depth = 20 if called == 1 else 19
    proto = unchecked(
        [node(f"F{depth}", f"x{k}", f"x{k + 1}", domain="mine") for k in range(called)],
        [floats("x0")], [floats(f"x{called}")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    for number in range(depth + 1):
        inner = f"F{number - 1}"
        calls = [node(inner, "a", "c", domain="mine"), node(inner, "c", "b", domain="mine")]
        body = calls if number else [node("Relu", "a", "b")]
        proto.functions.append(helper.make_function("mine", f"F{number}", ["a"], ["b"], body, opsets))
    expected = "function 'F20' of domain 'mine' stands for more than" if called == 1 else "has 1,572,864 nodes with its"
    assert expected in refusal(tmp_path, proto)


@pytest.mark.parametrize("kind", ["sequence_type", "string"])
def test_inputs_that_are_no_numeric_tensors_are_refused(tmp_path, kind):
    if kind == "string":
        value = helper.make_tensor_value_info("words", TensorProto.STRING, ["N"])
    else:
        value = helper.make_tensor_sequence_value_info("words", TensorProto.FLOAT, ["N"])
    proto = unchecked([node("Relu", "x", "y", "act")], [floats("x"), value], [floats("y")])
    assert f"'words' is a {kind}, not a numeric tensor" in refusal(tmp_path, proto)


def test_spiking_networks_are_refused(tmp_path):
    proto = unchecked([node("ParallelNeuron", "x", "y", "n", domain=SPIKING_DOMAIN)], [floats("x")], [floats("y")])
    assert "already a spiking network" in refusal(tmp_path, proto)


def test_the_digest_covers_external_data(tmp_path):
    path = saved(linear(), tmp_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    first = load(path).digest
    assert first == digest(path)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert load(path).digest != first


def test_the_digest_covers_external_data_of_bodies(tmp_path):
    weights = numpy_helper.from_array(np.ones((1, 3), np.float32), "c")
    proto = conditional(node("Add", "x c", "inner", "add"))
    proto.graph.node[0].attribute[1].g.initializer.append(weights)
    path = saved(proto, tmp_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    first = digest(path)
    (tmp_path / "w.bin").write_bytes(bytes(12))
    assert digest(path) != first


@pytest.fixture
def small_protobufs(monkeypatch):
    """What is larger than 2 GiB in real life: everything over a hundred bytes."""
    monkeypatch.setattr("graphpass.graph.tensors.LARGEST_PROTOBUF", 100)


@pytest.mark.usefixtures("small_protobufs")
def test_large_models_keep_their_weights_beside_them(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 100)).astype(np.float32)
    proto = build([node("MatMul", "x w", "y", "fc")], {"x": ["N", 4]}, {"y": ["N", 100]}, {"w": weight})
    before = proto.SerializeToString()
    path = tmp_path / "large.onnx"
    (tmp_path / "large.onnx.data").write_bytes(b"left over from before")
    save(proto, path)
    assert (tmp_path / "large.onnx.data").stat().st_size == weight.nbytes
    assert path.stat().st_size < 1000
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(path).graph.initializer[0]), weight)
    source = load(path)
    np.testing.assert_array_equal(run(source.upgraded, X)[0], run(onnx.load_from_string(before), X)[0])


@pytest.mark.usefixtures("small_protobufs")
def test_saving_leaves_the_model_as_it_is(tmp_path):
    """It is used further: a conversion is saved, then checked."""
    weight = np.arange(400, dtype=np.float32).reshape(4, 100)
    proto = build([node("MatMul", "x w", "y", "fc")], {"x": ["N", 4]}, {"y": ["N", 100]}, {"w": weight})
    save(proto, tmp_path / "large.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), weight)
    np.testing.assert_allclose(run(proto, X)[0], X @ weight, rtol=1e-5)  # four float32 products


@pytest.mark.parametrize("place", ["no/folder/m.onnx", "."])
def test_places_that_cannot_be_written(tmp_path, place):
    with pytest.raises(ModelError, match=r"no such folder|cannot be written"):
        save(linear(), tmp_path / place)


def test_walk_visits_bodies():
    proto = conditional(node("Neg", "x", "inner", "minus"))
    assert sorted(each.op_type for each in walk(proto.graph)) == ["Identity", "If", "Neg"]


def test_initializers_listed_as_inputs(tmp_path):
    """IR version 3 wants every initializer among the inputs: they stay weights."""
    proto = linear()
    proto.ir_version = 3
    proto.graph.input.append(floats("w", [4, 3]))
    source = load(saved(proto, tmp_path))
    graph = source.graph()
    assert [tensor.name for tensor in graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(export(graph), X)[0], run(linear(), X)[0])


def test_graphs_of_a_source_are_apart(tmp_path):
    source = load(saved(linear(), tmp_path))
    first = source.graph()
    first.nodes.clear()
    first.inputs[0].name = "renamed"
    second = source.graph()
    assert [each.op for each in second.nodes] == ["MatMul", "Relu"]
    assert second.inputs[0].name == "x"


def test_constants_that_are_renamed_keep_their_names_in_the_source(tmp_path):
    source = load(saved(linear(), tmp_path))
    first = source.graph()
    (constant,) = (tensor for tensor in first.tensors().values() if isinstance(tensor, gs.Constant))
    name, constant.name = constant.name, "renamed"
    assert [each.name for each in export(first).graph.initializer] == ["renamed"]
    assert [each.name for each in export(source.graph()).graph.initializer] == [name]


def test_export_of_a_newer_opset_keeps_its_ir_version(tmp_path):
    assert export(load(saved(linear(opset=17), tmp_path)).graph()).ir_version == model_module.TARGET_IR
    newer = export(load(saved(linear(opset=23), tmp_path)).graph())
    onnx.checker.check_model(newer)
    assert opset_of(newer) == 23


def test_a_model_that_needs_no_upgrade_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved(linear(opset=15), tmp_path))


def test_a_file_is_parsed_once(tmp_path, monkeypatch):
    """A large one takes twice its size while it is parsed, beside what was parsed before."""
    save(build([node("Relu", "x", "y", "act")], {"x": ["N", 4]}, {"y": None}, {}), path := tmp_path / "net.onnx")
    parsed, parse = [], onnx.load
    monkeypatch.setattr(onnx, "load", lambda *given, **options: parsed.append(given) or parse(*given, **options))
    known = load(path).digest
    assert len(parsed) == 1 and known == digest(path)
