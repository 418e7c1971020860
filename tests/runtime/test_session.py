"""Sessions: what cannot be opened or run is a SessionError that says why."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import graphpass
from graphpass.errors import OptionError, SessionError
from graphpass.runtime import session as session_module
from graphpass.runtime.session import (
    ProviderWarning,
    fixed_batch,
    input_specs,
    open_session,
    required,
    run,
)
from tests.models import build, node
from tests.public_names import images, network

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
    monkeypatch.setattr("graphpass.graph.tensors.LARGEST_PROTOBUF", 100)
    for _ in range(2):  # the second finds the proto as the first left it
        # sums of four float32 products
        np.testing.assert_allclose(run(open_session(model), {"x": X})["y"], X @ weight, rtol=1e-5)


@pytest.mark.parametrize("room", [True, False])
def test_a_large_proto_gives_the_same_from_a_file_and_from_memory(monkeypatch, room):
    weight = np.random.default_rng(0).normal(size=(4, 40000)).astype(np.float32)
    model = build([node("MatMul", "x w", "y", "fc")], {"x": ["N", 4]}, {"y": ["N", 40000]}, {"w": weight})
    expected = run(open_session(model, threads=1), {"x": X})["y"]
    monkeypatch.setattr(session_module, "LARGEST_IN_BYTES", 1000)
    if not room:
        monkeypatch.setattr(session_module, "save_apart", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    session = open_session(model, threads=1)
    np.testing.assert_array_equal(run(session, {"x": X})["y"], expected)
    assert (session._model_path is None) == (not room)


def test_a_session_keeps_no_copy_of_its_model():
    session = open_session(doubler(), threads=1)
    assert not [name for name, value in vars(session).items() if isinstance(value, bytes)]
    with pytest.raises(OptionError, match="cannot change its providers; open another one"):
        session.set_providers(["CPUExecutionProvider"])


def test_unknown_providers():
    with pytest.raises(
        SessionError, match=r"'WarpDriveExecutionProvider' is not in this onnxruntime; choose from .*CPU"
    ):
        open_session(doubler(), ["WarpDriveExecutionProvider"])


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def passed(monkeypatch):
    """What sessions pass to onnxruntime, in an onnxruntime that seems to have CUDA, whose sessions run on the CPU.

    "fails": the error that starting CUDA raises, if any; "reported": what sessions say of CUDA's options.
    """
    found = {"providers": [], "fails": None, "reported": None}
    create = ort.InferenceSession._create_inference_session

    def recorded(self, providers, provider_options, disabled_optimizers=None):
        found["providers"].append(providers)
        names = [name for name, _ in providers]
        if CUDA in names and found["fails"]:
            raise found["fails"]
        create(self, [CPU], None, disabled_optimizers)
        if CUDA in names and found["reported"] is not False:
            self._providers = names
            self._provider_options = {name: dict(options) for name, options in providers}

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", recorded)
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [(CPU, {})]),
        ([CPU], [(CPU, {})]),
        ([(CPU, {})], [(CPU, {})]),
        ([CUDA, CPU], [(CUDA, {"use_tf32": "0"}), (CPU, {})]),
        ((CUDA,), [(CUDA, {"use_tf32": "0"})]),
        ([(CUDA, {"device_id": 1}), CPU], [(CUDA, {"use_tf32": "0", "device_id": "1"}), (CPU, {})]),
        ([[CUDA, {"use_tf32": True}]], [(CUDA, {"use_tf32": "1"})]),
        ([(CUDA, {"use_tf32": 0, "enable_cuda_graph": True}), (CPU, {})],
         [(CUDA, {"use_tf32": "0", "enable_cuda_graph": "1"}), (CPU, {})]),
    ],
)  # fmt: skip
def test_providers_and_options_are_passed_on(passed, given, expected):
    session = open_session(doubler(), given, use_native=False)
    assert passed["providers"] == [expected]
    assert session.tf32 is (dict(expected).get(CUDA, {}).get("use_tf32") == "1")
    np.testing.assert_array_equal(run(session, {"x": X})["y"], 2 * X)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (CUDA, r"is the text 'CUDAExecutionProvider', not a list; write names or pairs"),
        ([CUDA, (CPU, {"arena_extend_strategy": "kSameAsRequested"})], "CPUExecutionProvider has no options"),
        ([(CPU, {"use_tf32": 1})], "'use_tf32' would have no effect"),
        ([CUDA, (CUDA, {})], "'CUDAExecutionProvider' appears twice"),
        ([(CUDA, "device_id")], "neither the name of an execution provider nor a pair"),
        ([1], "1 is neither the name"),
        ([(CUDA, {}, {})], "neither the name"),
        ([("WarpDrive", {"speed": 9}), CPU], "'WarpDrive' is not in this onnxruntime"),
    ],
)
def test_providers_that_would_be_ignored_are_refused(passed, given, said):
    with pytest.raises(SessionError, match=said):
        open_session(doubler(), given)
    assert passed["providers"] == []


def test_a_pair_of_the_cpu_is_the_cpu():
    """In the onnxruntime that is installed, blocks and native neurons included."""
    for given in ([CPU], [(CPU, {})], [[CPU, {}]]):
        session = open_session(doubler(), given)
        assert session.get_providers() == [CPU] and not session.tf32
        np.testing.assert_array_equal(run(session, {"x": X})["y"], 2 * X)


def test_a_provider_that_falls_back_gives_a_warning(passed):
    """onnxruntime itself uses the CPU and only logs that."""
    passed["reported"] = False
    with pytest.warns(ProviderWarning, match="CUDAExecutionProvider could not be started, CPUExecutionProvider runs"):
        assert not open_session(doubler(), [CUDA]).tf32


def test_a_provider_that_fails_gives_a_warning_that_says_why(passed, capsys):
    """onnxruntime itself prints, and goes on."""
    passed["fails"] = RuntimeError("CUDA failure 35: driver too old\nand a stack")
    with pytest.warns(ProviderWarning, match=r"could not be started \(CUDA failure 35: driver too old\), CPU"):
        session = open_session(doubler(), [CUDA, CPU])
    np.testing.assert_array_equal(run(session, {"x": X})["y"], 2 * X)
    assert capsys.readouterr().out == ""


def test_options_that_a_provider_does_not_take_are_refused(passed):
    """Where options were asked for, running elsewhere would ignore them."""
    passed["fails"] = RuntimeError("Unknown provider option: tf32")
    with pytest.raises(SessionError, match=r"Unknown provider option: tf32\); check the options of CUDA.*: tf32"):
        open_session(doubler(), [(CUDA, {"tf32": 1}), CPU])
    assert len(passed["providers"]) == 1


def test_a_model_that_does_not_load_is_no_fault_of_the_provider(passed):
    passed["fails"] = RuntimeError("no such operator")
    with pytest.raises(SessionError, match="the model: onnxruntime cannot load it"):
        open_session(onnx.ModelProto(), [CUDA, CPU])


def test_required_providers(passed):
    for given in (None, [CUDA], [(CUDA, {"device_id": 0})]):
        with required(given):
            assert open_session(doubler(), given, use_native=False)
    passed["reported"] = False
    given = [(CUDA, {"device_id": 0})]
    with pytest.raises(OptionError, match="provider: CUDAExecutionProvider could not be started"), required(given):
        open_session(doubler(), given)
    with pytest.raises(OptionError, match="provider: Other is not in this onnxruntime"), required([("Other", {})]):
        pass


@pytest.mark.parametrize(("options", "tf32"), [("", "0"), (":device_id=1", "0"), (":use_tf32=1,device_id=1", "1")])
def test_an_evaluation_turns_tf32_off_unless_it_is_asked_for(passed, monkeypatch, options, tf32):
    monkeypatch.setattr("graphpass.runtime.native.library", lambda: None)  # which has no kernels for CUDA here
    monkeypatch.setattr("graphpass.runtime.native.providers", lambda: ())
    done = graphpass.convert(network(), images(), time_steps=2, method="max")
    passed["providers"].clear()
    found = graphpass.evaluate(network(), done, images(), provider=f"cuda{options}")
    given = [dict(each)[CUDA] for each in passed["providers"] if CUDA in dict(each)]
    assert len(given) == 3 and {each["use_tf32"] for each in given} == {tf32}
    assert {each.get("device_id") for each in given} == ({"1"} if "device_id" in options else {None})
    assert any("rounded to TF32" in note for note in found.notes) is (tf32 == "1")


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


@pytest.mark.parametrize("order", [(1, 0, 2), (1, 2, 0)])
def test_float16_behind_a_transpose_of_the_first_axis(order, tmp_path):
    """onnxruntime's own optimiser ends the process there."""
    shape = [2, 3, 4]
    width = [shape[axis] for axis in order][-1]
    weights = {"w": np.ones((4, 4), np.float16), "v": np.ones((width, 4), np.float16)}
    nodes = [
        node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b w", "c"),
        helper.make_node("Transpose", ["c"], ["d"], perm=order), node("MatMul", "d v", "y"),
    ]  # fmt: skip
    model = build(nodes, {"x": shape}, {"y": None}, weights, dtype=TensorProto.FLOAT16)
    onnx.save(model, path := tmp_path / "half.onnx")
    x = {"x": np.random.default_rng(0).random(shape).astype(np.float16)}
    expected = (np.maximum(x["x"] @ weights["w"], 0) @ weights["w"]).transpose(order) @ weights["v"]
    written = onnx.ModelProto()  # weights as nodes, as older exporters have them, between casts
    written.CopyFrom(model)
    for name in ("x", "y"):
        value = next(each for each in (*written.graph.input, *written.graph.output) if each.name == name)
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for each in written.graph.node:
        for names in (each.input, each.output):
            names[:] = [f"half_{name}" if name in ("x", "y") else name for name in names]
    constants = [helper.make_node("Constant", [], [each.name], value=each) for each in written.graph.initializer]
    del written.graph.initializer[:]
    body = [*written.graph.node]
    del written.graph.node[:]
    written.graph.node.extend([
        *constants, helper.make_node("Cast", ["x"], ["half_x"], to=TensorProto.FLOAT16), *body,
        helper.make_node("Cast", ["half_y"], ["y"], to=TensorProto.FLOAT),
    ])  # fmt: skip
    found = run(session_module.open_session(written), {"x": x["x"].astype(np.float32)})["y"]
    np.testing.assert_allclose(found, expected, rtol=0.01)
    for each in (model, path):
        found = run(session_module.open_session(each), x)["y"]
        np.testing.assert_allclose(found, expected, rtol=0.01)
    assert graphpass.convert(model, x, time_steps=15).plan.sites


def test_a_failed_run_is_told_with_its_node_and_shapes_and_without_the_runtime_s_source() -> None:
    """All lines of the runtime's words count: here, the shapes are on the third."""
    nodes = [node("Reshape", "x s", "y", "to_ten")]
    session = open_session(build(nodes, {"x": ["N", "L", 4]}, {"y": None}, {"s": np.int64([1, 10, 4])}))
    with pytest.raises(SessionError, match=r"failed on x \[1, 12, 4\] .*'to_ten'.*\{1,12,4\}.*\{1,10,4\}") as caught:
        run(session, {"x": np.zeros((1, 12, 4), np.float32)})
    assert not any(noise in str(caught.value) for noise in ("onnxruntime_src", ".h:", ".cc:", "ONNXRuntimeError", "::"))
