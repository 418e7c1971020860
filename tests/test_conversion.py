"""Conversions of tiny networks: arguments, refusals, checks, and that nothing is lost on the way."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphpass import conversion
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.errors import CoverageError, ModelError, OptionError, PlanError, UnsupportedModelError
from graphpass.graph.model import load, read
from graphpass.graph.plan import save_plan
from graphpass.network import UNPLANNED, prepare
from graphpass.runtime.session import open_session, run
from tests.models import build, node


def network(batch="N", opset=17):
    generator = np.random.default_rng(0)
    return build(
        [
            node("Conv", "x w1", "c1", name="conv1", pads=[1, 1, 1, 1]),
            node("Relu", "c1", "r1", name="relu1"),
            node("Conv", "r1 w2", "y", name="conv2"),
        ],
        {"x": [batch, 2, 6, 6]},
        {"y": [batch, 3, 4, 4]},
        {
            "w1": generator.standard_normal((4, 2, 3, 3)).astype(np.float32),
            "w2": generator.standard_normal((3, 4, 3, 3)).astype(np.float32),
        },
        opset=opset,
    )


def data(count=10):
    return {"x": np.random.default_rng(1).standard_normal((count, 2, 6, 6)).astype(np.float32)}


@pytest.fixture
def ann(tmp_path):
    onnx.save(network(), tmp_path / "ann.onnx")
    return tmp_path / "ann.onnx"


def test_a_network_becomes_a_file_that_a_stock_runtime_runs(ann, tmp_path):
    done = convert(ann, data(), tmp_path / "snn.onnx", time_steps=16)
    proto = read(tmp_path / "snn.onnx")
    onnx.checker.check_model(proto)
    assert proto.ir_version == 10
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 21, "ai.graphpass": 1}
    stored = {entry.key: entry.value for entry in proto.metadata_props}
    assert stored["graphpass.time_steps"] == "16"
    assert stored["graphpass.model_sha256"] == done.network.source.digest
    before = run(open_session(ann), data())["y"]
    after = run(open_session(tmp_path / "snn.onnx"), data())["y"]
    # 17 levels leave a few percent of the output's variance here; 0.2 tells a working conversion from a broken one.
    assert np.square(after - before).sum() < 0.2 * np.square(before - before.mean()).sum()


def test_a_fixed_batch_of_one_is_converted(tmp_path):
    onnx.save(network(batch=1), tmp_path / "ann.onnx")
    assert len(convert(tmp_path / "ann.onnx", data(5), time_steps=4).plan.sites) == 1


def test_forms_have_the_same_outputs(ann):
    folded, unrolled = (convert(ann, data(), time_steps=4, form=form).proto for form in ("folded", "unrolled"))
    one, two = (run(open_session(proto), data(3))["y"] for proto in (folded, unrolled))
    np.testing.assert_allclose(one, two, atol=1e-4)  # float32 sums of 36 products of size about 1, in another order


def test_a_saved_plan_is_applied_without_data(ann, tmp_path):
    done = convert(ann, data(), time_steps=4)
    save_plan(done.plan, tmp_path / "plan.json")
    again = convert(ann, plan=tmp_path / "plan.json")
    assert again.proto.SerializeToString(deterministic=True) == done.proto.SerializeToString(deterministic=True)


def test_the_same_data_gives_the_same_file(ann):
    one, two = (convert(ann, data(), time_steps=4).proto.SerializeToString(deterministic=True) for _ in range(2))
    assert one == two


def test_any_number_of_threads_gives_the_same_file(tmp_path):
    """Layers with many inputs, whose sums BLAS shares out among its threads."""
    generator = np.random.default_rng(0)
    sizes = {"w0": (32, 3, 3, 3), "w1": (48, 32, 3, 3), "w2": (48 * 16, 500), "w3": (500, 900), "w4": (900, 10)}
    weights = {
        name: (generator.normal(size=size) / np.sqrt(np.prod(size) / size[len(size) == 2])).astype(np.float32)
        for name, size in sizes.items()
    }
    nodes = [
        node("Conv", "x w0", "c0", "conv0", pads=[1] * 4, strides=[2, 2]), node("Relu", "c0", "a0", "relu"),
        node("Conv", "a0 w1", "c1", "conv1", pads=[1] * 4, strides=[2, 2]), node("Gelu", "c1", "a1", "gelu"),
        node("Flatten", "a1", "f", "flatten"), node("MatMul", "f w2", "h0", "fc0"), node("Tanh", "h0", "m0", "tanh"),
        node("MatMul", "m0 w3", "h1", "fc1"), node("Relu", "h1", "m1", "relu1"), node("MatMul", "m1 w4", "y", "fc2"),
    ]  # fmt: skip
    onnx.save(build(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 10]}, weights, opset=21), tmp_path / "wide.onnx")
    images = {"x": generator.normal(size=(200, 3, 16, 16)).astype(np.float32)}
    files = {
        convert(tmp_path / "wide.onnx", images, time_steps=4, options=CalibrationOptions(threads=threads))
        .proto.SerializeToString(deterministic=True)
        for threads in (1, 2)
    }  # fmt: skip
    assert len(files) == 1


def test_a_plan_of_another_model_is_refused(ann, tmp_path):
    plan = convert(ann, data(), time_steps=4).plan
    other = network()
    other.doc_string = "another file"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(PlanError, match="another model"):
        convert(tmp_path / "other.onnx", plan=plan)


def test_a_plan_says_which_sites_were_taken_out_of_it():
    weights = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    nodes = [
        node("MatMul", "x w0", "c0", "fc0"), node("Relu", "c0", "a0", "relu0"), node("MatMul", "a0 w1", "c1", "fc1"),
        node("Relu", "c1", "a1", "relu1"), node("MatMul", "a1 w2", "y", "fc2"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {f"w{k}": each for k, each in enumerate(weights)})
    plan = convert(load(model), {"x": weights[0]}, time_steps=4).plan
    edited = convert(load(model), plan=replace(plan, sites=plan.sites[:1]))
    assert [(each.node, each.reason) for each in edited.network.coverage.left][-1] == ("relu1", UNPLANNED)
    stored = {entry.key: entry.value for entry in edited.proto.metadata_props}
    assert UNPLANNED in stored["graphpass.left"]


def test_a_range_of_no_tensor_is_refused(ann):
    plan = convert(ann, data(), time_steps=4).plan
    with pytest.raises(PlanError, match="the plan's range of 'gone'"):
        convert(ann, plan=replace(plan, ranges={**plan.ranges, "gone": (0.0, 1.0)}))


def test_no_data_and_no_plan_names_the_remedy(ann):
    with pytest.raises(OptionError, match="--calibration"):
        convert(ann)


@pytest.mark.parametrize(
    "arguments", [{"form": "spiral"}, {"method": "guess"}, {"coding": "morse"}, {"time_steps": 300}]
)
def test_wrong_options_are_refused(ann, arguments):
    with pytest.raises(OptionError):
        convert(ann, data(), **arguments)


def test_a_network_without_sites_is_refused(tmp_path):
    onnx.save(build([node("Relu", "x", "y", name="only")], {"x": [2]}, {"y": [2]}, {}), tmp_path / "relu.onnx")
    with pytest.raises(UnsupportedModelError, match="'only'"):
        convert(tmp_path / "relu.onnx", {"x": np.zeros(2, np.float32)})


def test_what_should_convert_and_cannot_needs_consent(tmp_path):
    model = build(
        [
            node("Gemm", "x w", "h", name="fc1"),
            node("Relu", "h", "r", name="relu"),
            node("Gemm", "r w", "z", name="fc2"),
            node("Unsqueeze", "z axes", "s", name="sequence"),
            node("RNN", "s rw rr", "y -", name="recurrent", hidden_size=2),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 1, 1, 2]},
        {
            "w": np.eye(4, dtype=np.float32),
            "axes": np.array([1]),
            "rw": np.ones((1, 2, 4), np.float32),
            "rr": np.ones((1, 2, 2), np.float32),
        },
    )
    onnx.save(model, tmp_path / "rnn.onnx")
    samples = {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    with pytest.raises(CoverageError, match="'recurrent'"):
        convert(tmp_path / "rnn.onnx", samples)
    assert len(convert(tmp_path / "rnn.onnx", samples, allow_partial=True).plan.sites) == 1
    assert not prepare(load(tmp_path / "rnn.onnx")).coverage.complete


@pytest.mark.parametrize("form", ["folded", "integer"])
def test_a_form_that_the_runtime_does_not_load_names_an_opset(ann, monkeypatch, form):
    made = conversion.spiking_model

    def newer(*arguments, **options):
        proto = made(*arguments, **options)
        next(each for each in proto.opset_import if not each.domain).version = 99
        return proto

    monkeypatch.setattr(conversion, "spiking_model", newer)
    with pytest.raises(ModelError, match=r"does not load the network that it was .*; export the model with opset 21"):
        convert(ann, data(), form=form, options=CalibrationOptions(threads=1))
