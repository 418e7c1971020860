"""Levels of single sites: measured sensitivity, and what fewer levels mean in every form."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphpass.calibration import sensitivity as sensitivity_module
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.sensitivity import choose, held_out_errors, measure
from graphpass.conversion import convert, dataset_for
from graphpass.errors import OptionError
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import unroll
from graphpass.graph.model import load
from graphpass.graph.plan import load_plan, save_plan
from graphpass.maths.allocation import Auto
from graphpass.maths.neuron import CODINGS, levels_of
from graphpass.network import prepare
from graphpass.runtime.session import fixed_batch, input_specs, open_session, run
from graphpass.sites.sites import Selection
from graphpass.verification.forms import verify
from tests import test_conversion
from tests.cli.test_cli import status
from tests.verification.test_integer_counts import data, network

STEPS = {"rate": 8, "phase": 4}
FEWER = {"relu1": 4, "relu2": 6}


@pytest.fixture
def ann(tmp_path):
    onnx.save(network(), tmp_path / "ann.onnx")
    return tmp_path / "ann.onnx"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", ["optimal", "max"])
def test_fewer_levels_hold_in_every_form(ann, coding, method):
    made = {
        form: convert(
            ann, data(), time_steps=STEPS[coding], coding=coding, method=method, form=form, levels=FEWER
        ).proto
        for form in ("folded", "unrolled", "integer")
    }
    source = load(ann)
    dataset = dataset_for(source.proto, data())
    for form in ("folded", "unrolled"):
        assert verify(made[form], dataset).agrees
    results = {form: run(open_session(proto), data())["y"] for form, proto in made.items()}
    # float32 sums of some 50 products of size about 1, in another order
    np.testing.assert_allclose(results["unrolled"], results["folded"], atol=1e-4)
    found = evaluate(source, made["folded"], dataset)
    assert {site.name: site.levels for site in found.sites} == FEWER
    assert found.conversion.levels == levels_of(STEPS[coding], coding)
    assert all(site.error < 0.5 for site in found.sites)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_first_steps_of_a_site_with_fewer_levels_are_silent(ann, coding):
    steps = STEPS[coding]
    done = convert(ann, data(), time_steps=steps, coding=coding, levels={"relu2": 4})
    graph = unroll(spiking_graph(done.proto))
    train = next(node.outputs[0] for node in graph.nodes if node.name.startswith("relu2/neuron"))
    train.dtype = train.dtype or np.float32
    graph.outputs.append(train)
    spikes = run(open_session(assemble(graph, coding)), data())[train.name].reshape(steps, -1)
    needed = 3 if coding == "rate" else 2
    assert not spikes[: steps - needed].any()
    assert spikes[steps - needed :].any()


def test_levels_are_kept_by_a_plan(ann, tmp_path):
    done = convert(ann, data(), time_steps=8, levels=FEWER)
    save_plan(done.plan, tmp_path / "plan.json")
    assert {site.name: site.levels for site in load_plan(tmp_path / "plan.json").sites} == FEWER
    with pytest.raises(OptionError, match="exclude each other"):
        convert(ann, plan=tmp_path / "plan.json", levels=Auto())


@pytest.mark.parametrize("levels", [{"relu1": 1}, {"relu1": 10}, {"nothing": 4}])
def test_wrong_levels_are_refused(ann, levels):
    with pytest.raises(OptionError):
        convert(ann, data(), time_steps=8, levels=levels)


def sensitivity(path, **options):
    known = prepare(load(path))
    dataset = dataset_for(known.source.proto, data(24))
    batch = fixed_batch(input_specs(open_session(known.source.proto)))
    return measure(known.graph, known.coverage, dataset, CalibrationOptions(**options), batch)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", ["optimal", "da-qcfs", "percentile", "max"])
def test_errors_fall_and_costs_rise_with_levels(ann, coding, method):
    found = sensitivity(ann, time_steps=STEPS[coding], coding=coding, method=method)
    assert found.sites == ("relu1", "relu2")
    assert found.neurons == (6 * 8 * 8, 8 * 4 * 4)
    assert (found.errors[:, -1] < found.errors[:, 1]).all()
    assert (found.costs[:, -1] > found.costs[:, 0]).all()


def test_the_response_is_that_of_the_network_with_this_site_alone(ann):
    """A network converted at one site only, evaluated on the same samples, has the error that was measured."""
    found = sensitivity(ann, time_steps=4, method="max")  # 5 levels are both the most and the probed ones
    source = load(ann)
    for number, name in enumerate(found.sites):
        done = convert(ann, data(24), time_steps=4, method="max", selection=Selection(include=(name,)))
        before, after = (run(open_session(proto), data(24))["y"] for proto in (source.proto, done.proto))
        error = np.square(after - before).sum() / np.square(before - before.mean()).sum()
        assert found.errors[number, -1] == pytest.approx(error, rel=1e-4)  # float32 sums


def test_the_cost_is_what_evaluation_counts(tmp_path):
    """Additions of a layer that sees spikes; the sampled rows are all there are."""
    onnx.save(test_conversion.network(), tmp_path / "ann.onnx")
    known, samples = prepare(load(tmp_path / "ann.onnx")), test_conversion.data(24)
    dataset = dataset_for(known.source.proto, samples)
    found = measure(known.graph, known.coverage, dataset, CalibrationOptions(time_steps=8, method="max"))
    done = convert(known, samples, time_steps=8, method="max")
    counted = evaluate(known.source, done.proto, dataset, EvaluationSettings(operation_samples=24))
    # positions at the border meet fewer weights and may fire more or less than others
    assert found.costs[:, -1].sum() / 0.9 == pytest.approx(counted.operations.snn.effective_acs, rel=0.1)


def test_auto_keeps_its_budget_and_tells_what_it_chose(ann):
    for auto in (Auto(energy=0.4), Auto(mean_levels=5)):
        done = convert(ann, data(), time_steps=16, levels=auto)
        levels = {site.name: site.levels for site in done.plan.sites}
        assert max(levels.values()) == done.plan.levels <= 17
        how = "chosen by sensitivity" if len(set(levels.values())) > 1 else "equal at all sites"
        assert done.plan.notes["levels"].startswith(how)
        if auto.mean_levels:
            assert np.average(list(levels.values()), weights=[6 * 64, 8 * 16]) <= 5
        else:
            assert float(done.plan.notes["levels"].split(", ")[1].split()[0]) <= 0.4


def test_candidates_are_dealt_out_and_equal_levels_within_the_budget(ann, monkeypatch):
    monkeypatch.setattr(sensitivity_module, "GAIN", 0)
    found = sensitivity(ann, time_steps=16)
    for auto in (Auto(energy=0.5), Auto(mean_levels=6)):
        dealt, equal = found.candidates(auto, CalibrationOptions(time_steps=16))
        assert len(set(dealt.levels.values())) == 2 and len(set(equal.levels.values())) == 1
        for options in (dealt, equal):
            rungs = [found.rungs.index(options.levels[name]) for name in found.sites]
            if auto.mean_levels:
                assert np.average(list(options.levels.values()), weights=found.neurons) <= 6
            else:
                assert found.costs[range(2), rungs].sum() <= 0.5 * found.costs[:, -1].sum()
            assert options.time_steps == max(options.levels.values()) - 1
    assert len(found.candidates(Auto(energy=1.0), CalibrationOptions(time_steps=16))) == 1


def test_a_budget_that_is_too_small_names_the_least(ann):
    found, options = sensitivity(ann, time_steps=16), CalibrationOptions(time_steps=16)
    with pytest.raises(OptionError, match=r"below the cost of .*; give an energy of [\d.]+ or more") as no:
        found.candidates(Auto(energy=1e-3), options)
    assert no.value.option == "energy"
    least = float(no.value.remedy.split()[4])
    assert found.candidates(Auto(energy=least), options)
    with pytest.raises(OptionError):
        found.candidates(Auto(energy=least - 0.002), options)


def test_a_mean_of_two_levels_is_enough_for_any_network(ann):
    """The shares of neurons sum to 1 but for rounding, and 2.0000000000000004 was above the budget."""
    found, options = sensitivity(ann, time_steps=16), CalibrationOptions(time_steps=16)
    for sizes in np.random.default_rng(0).integers(1, 9000, (200, 2)).tolist():
        names = tuple(f"site {number}" for number in range(10))
        several = replace(found, sites=names, errors=np.tile(found.errors, (5, 1)), neurons=(*sizes, *[7] * 8))
        (choice, *_) = several.candidates(Auto(mean_levels=2), options)
        assert set(choice.levels.values()) == {2}


def test_where_dealing_out_promises_little_levels_are_equal_and_nothing_is_tried(ann):
    """Two sites that cost as much as they are worth: the two candidates would cost two calibrations to compare."""
    found = sensitivity(ann, time_steps=16)
    alike = replace(found, errors=np.tile(found.errors[:1], (2, 1)), costs=np.tile(found.costs[:1], (2, 1)))
    for energy in (0.3, 0.5):
        (chosen,) = alike.candidates(Auto(energy=energy), CalibrationOptions(time_steps=16))
        assert len(set(chosen.levels.values())) == 1
        assert "equal at all sites" in alike.note(chosen)


def test_the_held_out_error_is_that_of_samples_that_were_not_calibrated_on(ann):
    known, samples = prepare(load(ann)), data(24)
    dataset = dataset_for(known.source.proto, samples)
    both = [CalibrationOptions(time_steps=4, method="max"), CalibrationOptions(time_steps=16, method="max")]
    errors = held_out_errors(known.graph, known.coverage, dataset, both)
    first, last = ({name: values[part] for name, values in samples.items()} for part in (slice(18), slice(18, None)))
    for options, error in zip(both, errors, strict=True):
        done = convert(known, first, time_steps=options.time_steps, method="max")
        before, after = (run(open_session(proto), last)["y"] for proto in (known.source.proto, done.proto))
        expected = np.square(after - before).sum() / np.square(before - before.mean()).sum()
        assert error == pytest.approx(expected, rel=1e-4)  # float32 sums
    assert errors[1] < errors[0]
    assert held_out_errors(known.graph, known.coverage, dataset_for(known.source.proto, data(3)), both) == []


@pytest.mark.parametrize("best", [0, 1])
def test_what_errs_less_on_held_out_samples_is_chosen(ann, best, monkeypatch):
    monkeypatch.setattr(sensitivity_module, "GAIN", 0)
    known = prepare(load(ann))
    dataset = dataset_for(known.source.proto, data(24))
    monkeypatch.setattr(sensitivity_module, "held_out_errors", lambda *_: [0.2 + 0.1 * best, 0.25])
    options, summary = choose(known.graph, known.coverage, dataset, CalibrationOptions(time_steps=16), Auto())
    assert (len(set(options.levels.values())) == 1) is bool(best)
    assert summary.startswith("equal at all sites" if best else "chosen by sensitivity")
    assert summary.endswith(f"held-out error {0.2 + 0.1 * best:.4g}, of equal levels 0.25")


def test_auto_is_the_same_again(ann):
    one, two = (convert(ann, data(), time_steps=8, levels=Auto()).proto for _ in range(2))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


def test_auto_needs_data(ann):
    with pytest.raises(OptionError, match="calibration"):
        convert(ann, levels=Auto())


def test_a_fixed_batch_is_measured(ann):
    proto = network()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, ann)
    found = sensitivity(ann, time_steps=4)
    assert found.neurons == (6 * 8 * 8, 8 * 4 * 4)
    assert (found.errors[:, 0] > 0).all()


def test_an_output_without_axes_is_measured(ann):
    proto = network()
    mean = onnx.helper.make_node("ReduceMean", [proto.graph.output[0].name], ["mean"], "mean", keepdims=0)
    proto.graph.node.append(mean)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, []))
    onnx.save(proto, ann)
    assert (sensitivity(ann, time_steps=4).errors[:, 0] > 0).all()


def test_the_command_line(ann, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", **data())
    given = ("convert", "ann.onnx", "snn.onnx", "--calibration", "data.npz", "--time-steps", "16")
    assert status(*given, "--levels", "auto", "--energy", "0.5", "--plan-out", "plan.json") == 0
    assert "levels equal at all sites: mean 7.00" in capsys.readouterr().out  # dealing out promises too little
    assert json.loads((tmp_path / "plan.json").read_text())["notes"]["levels"]
    assert status(*given, "--energy", "0.3") == 2
    assert status(*given, "--levels", "8") == 2
    assert status(*given, "--levels", "auto", "--energy", "0.01") == 2
    assert "below" in capsys.readouterr().err
