"""Every form that is written is compared with the folded form, and refused where it is another function."""

import warnings

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from graphpass.calibration.synthetic import Synthetic
from graphpass.conversion import ConversionWarning, convert, dataset_for, metadata
from graphpass.errors import FormError
from graphpass.forms.registry import emit
from graphpass.graph.model import load
from graphpass.graph.plan import Plan, SitePlan
from graphpass.network import prepare
from graphpass.verification import distance as module
from graphpass.verification.distance import Distance, Forms, OutputDistance, measured
from graphpass.verification.source import SourceWarning
from tests.models import build, node, run
from tests.verification.test_integer_counts import data, network


@pytest.fixture
def ann(tmp_path):
    onnx.save(network(), tmp_path / "ann.onnx")
    return tmp_path / "ann.onnx"


@pytest.mark.parametrize("coding", ["rate", "phase"])
@pytest.mark.parametrize("form", ["unrolled", "integer"])
def test_the_distance_of_a_form_from_the_folded_one_is_measured(ann, form, coding):
    done = convert(ann, data(), form=form, coding=coding, time_steps=6)
    found = done.distance
    assert found is not None
    (output,) = found.outputs
    assert (found.form, found.data, output.name) == (form, "calibration", "y")
    assert found.samples == (12 if form == "integer" else 4)
    folded = convert(ann, plan=done.plan)
    assert folded.distance is None
    values = {"x": data()["x"][: found.samples]}
    session = module.open_session
    ours, theirs, given = (
        session(proto).run(None, values)[0] for proto in (done.proto, folded.proto, done.network.source.proto)
    )
    assert output.form == pytest.approx(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs), rel=1e-3, abs=1e-7)
    assert output.folded == pytest.approx(np.linalg.norm(theirs - given) / np.linalg.norm(given), rel=1e-3)
    # int8 weights move a few counts, which matters where there are few levels; float32 sums move next to none
    assert output.form < (0.05 + output.folded if form == "integer" else 1e-4)
    assert str(found).startswith(f"the {form} form differs from the folded form by ")


@pytest.mark.parametrize("form", ["unrolled", "integer"])
def test_without_data_inputs_are_made_up(ann, form):
    plan = convert(ann, data(), time_steps=6).plan
    found = convert(ann, plan=plan, form=form).distance
    assert found is not None and found.data == "made-up"
    low, high = plan.ranges["x"]
    seen = []
    original = module.distance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "distance", lambda forms, ann, batches, *rest: seen.extend(batches) or original(
            forms, ann, batches, *rest))  # fmt: skip
        convert(ann, plan=plan, form=form)
    assert all(low <= batch["x"].min() and batch["x"].max() <= high for batch in seen)


def test_a_network_that_inputs_cannot_be_made_up_for_is_not_measured(tmp_path):
    model = build(
        [node("Mul", "x scale", "s", "s"), node("MatMul", "s a", "h", "fc"), node("Relu", "h", "r", "relu"),
         node("MatMul", "r a", "y", "fc2")],
        {"x": ["N", 4], "scale": []}, {"y": None}, {"a": np.eye(4, dtype=np.float32)},
    )  # fmt: skip
    onnx.save(model, tmp_path / "ann.onnx")
    source = load(tmp_path / "ann.onnx")
    one = np.ones(1, np.float32)
    site = SitePlan("relu", "relu", "h", "r", ("fc2",), (1,), 5, one, one / 2, one, one * 0)
    plan = Plan(4, "rate", "by-hand", (site,), model_digest=source.digest)
    graph = prepare(source).graph
    protos = [emit(graph.copy(), plan, form, metadata(plan, form)) for form in ("unrolled", "folded")]
    assert measured(source, plan, Forms("unrolled", *protos), None) is None


def broken(proto: onnx.ModelProto, ending: str, factor: float) -> onnx.ModelProto:
    """The form with a mistake: constants whose names have this ending are scaled."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    found = [tensor for tensor in copy.graph.initializer if tensor.name.endswith(ending)]
    assert found
    for tensor in found:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
    return copy


@pytest.mark.parametrize(
    ("form", "ending", "site"),
    [("unrolled", "relu2/threshold", "relu2"), ("unrolled", "relu1/threshold", "relu1"),
     ("integer", "r1/count/whole/weight/scale", "relu1"), ("integer", "r2/count/whole/weight/scale", "relu2")],
)  # fmt: skip
@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_a_form_that_is_another_function_is_refused_where_it_begins(ann, form, ending, site, coding):
    done = convert(ann, data(), form=form, coding=coding, time_steps=5)
    folded = convert(ann, plan=done.plan).proto
    wrong = Forms(form, broken(done.proto, ending, 6), folded)
    dataset = dataset_for(done.network.source.proto, data())
    with pytest.raises(FormError, match=rf"the {form} form differs .* from site '{site}' on; .*--form folded"):
        measured(done.network.source, done.plan, wrong, dataset)


def test_what_is_notable_is_warned_of(ann, monkeypatch):
    monkeypatch.setattr(module, "NOTABLE", -1.0)
    with pytest.warns(ConversionWarning, match=r"by .*\(measured on 12 calibration samples\); .* shows where"):
        plan = convert(ann, data(), form="integer", time_steps=6).plan
    with pytest.warns(ConversionWarning) as shown:
        convert(ann, plan=plan, form="integer")
    (told,) = shown
    assert "(measured on 16 made-up samples); your data may be unlike them: `graphpass verify`" in str(told.message)
    assert "calibrat" not in str(told.message).lower()


def test_few_levels_are_no_reason_to_refuse():
    """d is judged beside the error of the folded form itself; NaN counts as too far."""
    for form, folded, notable, too_far in (
        (0.05, 0.0, False, False), (0.2, 0.0, True, False), (0.3, 0.0, True, True), (0.3, 0.25, False, False),
        (0.6, 0.4, True, False), (1.0, 0.5, True, True), (np.inf, 0.5, True, True), (np.nan, 0.5, True, True),
    ):  # fmt: skip
        found = Distance("integer", 4, "calibration", (OutputDistance("y", form, folded),))
        assert (found.notable, found.too_far) == (notable, too_far)
    classes = Distance("integer", 4, "calibration", (OutputDistance("y", 1.0, 0.0, integers=True),))
    assert classes.notable and not classes.too_far
    made_up = [Distance("integer", 4, "made-up", (OutputDistance("y", each, 0.0),)) for each in (0.5, 1.0)]
    assert [each.too_far for each in made_up] == [False, True]


def test_networks_of_any_scale_convert_in_every_form(tmp_path):
    """Activations of 10²⁰ and 10⁻²⁰, through weights or inputs: squares of them are not in float32."""
    random = np.random.default_rng(0)
    shapes = {"a": (6, 3, 3, 3), "b": (6, 6, 3, 3), "d": (4, 6, 3, 3)}
    x = random.standard_normal((48, 3, 6, 6)).astype(np.float32)
    for where, scale in (("x", 1e20), ("x", 1e-20), ("a", 1e20), ("b", 1e-30), ("d", 1e-39)):
        weights = {
            name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            * np.float32(scale if name == where else 1)
            for name, shape in shapes.items()
        }
        model = build(
            [node("Conv", "x a", "c", "one"), node("Relu", "c", "r", "relu"),
             node("Conv", "r b", "e", "two", pads=[1] * 4), node("Relu", "e", "q", "relu2"),
             node("Conv", "q d", "y", "three")],
            {"x": ["N", 3, 6, 6]}, {"y": None}, weights,
        )  # fmt: skip
        onnx.save(model, tmp_path / "ann.onnx")
        inputs = {"x": x * np.float32(scale if where == "x" else 1)}
        for form in ("unrolled", "integer"):
            found = convert(tmp_path / "ann.onnx", inputs, form=form, coding="phase", time_steps=8).distance
            assert found is not None and found.worst is not None
            assert found.worst.folded < 0.02  # 256 levels, the data itself as calibration data
            assert found.worst.form < (0.05 if form == "integer" else 1e-3)


@pytest.mark.parametrize("options", [{"form": "integer"}, {"form": "unrolled"}, {"precision": "float16"}])
def test_a_network_that_does_not_run_on_made_up_inputs_gets_the_forms_of_its_plan(options, tmp_path):
    """Its first layer is longer than the sounds that are made up for a free size."""
    nodes = [node("Conv", "x w", "c", "one"), node("Relu", "c", "r", "act"), node("Conv", "r v", "y", "two")]
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 1, 100)), "v": random.normal(size=(2, 4, 1))}
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    path = tmp_path / "sound.onnx"
    onnx.save(build(nodes, {"x": ["N", 1, "L"]}, {"y": ["N", 2, "M"]}, weights), path)
    sounds = random.normal(size=(8, 1, 300)).astype(np.float32)
    plan = convert(load(path), {"x": sounds}, time_steps=4).plan
    with pytest.warns(SourceWarning, match="could not be run on made-up inputs"):
        made = convert(load(path), None, plan=plan, **options)
    (y,) = run(made.proto, sounds)
    (folded,) = run(convert(load(path), {"x": sounds}, time_steps=4).proto, sounds)
    assert np.linalg.norm(y - folded) <= 0.2 * np.linalg.norm(folded)  # int8 flips a few of five levels


def test_the_sites_of_a_file_without_neurons_are_none():
    model = build([node("Relu", "x", "y", "r")], {"x": ["N", 2]}, {"y": None}, {})
    forms = Forms("unrolled", model, model)
    with warnings.catch_warnings():
        assert module.first_neurons_apart(forms, {"x": np.zeros((1, 2), np.float32)}) is None
    assert not gs.import_onnx(model).functions


@pytest.mark.parametrize(("apart", "refused"), [(1e-8, False), (0.5, True)])
def test_rounding_beside_outputs_that_are_0_is_no_other_function(ann, apart, refused):
    done = convert(ann, data(), time_steps=2)
    (output,) = done.proto.graph.output
    zero, moved = onnx.ModelProto(), onnx.ModelProto()
    for proto, value in ((zero, 0.0), (moved, apart)):
        proto.CopyFrom(done.proto)
        last = next(each for each in proto.graph.node if output.name in each.output)
        last.output[list(last.output).index(output.name)] = "before"
        for name, constant in (("of_zero", 0.0), ("of_shift", value)):
            proto.graph.initializer.append(numpy_helper.from_array(np.float32(constant), name))
        proto.graph.node.append(onnx.helper.make_node("Mul", ["before", "of_zero"], ["scaled"]))
        proto.graph.node.append(onnx.helper.make_node("Add", ["scaled", "of_shift"], [output.name]))
    found = module.distance(Forms("folded", moved, zero), zero, [{"x": data()["x"][:4]}], "calibration")
    assert found.too_far == refused


def test_samples_of_a_conversion_without_data_are_made_up_ones(ann):
    with pytest.warns(ConversionWarning, match="SYNTHETIC|made up|made-up"):
        found = convert(ann, Synthetic(4), form="unrolled", time_steps=2).distance
    assert found is not None and found.data == "made-up"


def test_outputs_of_other_sizes_are_0_beyond_their_end():
    long, short = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)
    assert module._squares(long, short) == (2.0, 6.0) and module._squares(short, long) == (2.0, 8.0)
    assert module._squares(long[0], long)[0] == np.inf
