"""Conversions without data: loudly, marked as such, and matched to the statistics that the network holds."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphpass.calibration.synthetic import Synthetic
from graphpass.conversion import ConversionWarning, convert
from graphpass.datasets.images import ImageOptions
from graphpass.errors import CalibrationError, OptionError, SessionError
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.evaluation.results import conversion_of
from graphpass.graph.plan import load_plan, save_plan
from graphpass.runtime.session import open_session, run
from tests.cli.test_cli import status
from tests.models import build, node

RANDOM = np.random.default_rng(0)
START = RANDOM.bit_generator.state
SIZES = (3, 8, 8, 6)


@pytest.fixture(autouse=True)
def the_same_values_in_any_order() -> None:
    RANDOM.bit_generator.state = START


def trained(folder: Path) -> Path:
    """Two convolutions with BatchNormalization, whose statistics are those of images of values about 40."""
    nodes, constants = [], {}
    images = 40 + 10 * RANDOM.normal(size=(64, 3, 12, 12)).astype(np.float32)
    tensor = "x"
    for k in (1, 2):
        weight = RANDOM.normal(size=(SIZES[k], SIZES[k - 1], 3, 3)).astype(np.float32)
        shape = ["N", *images.shape[1:]]
        layer = build([node("Conv", f"{tensor} w", "y", "c")], {tensor: shape}, {"y": None}, {"w": weight})
        raw = run(open_session(layer), {tensor: images})["y"]
        mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        scale, shift = (RANDOM.uniform(0.5, 1.5, SIZES[k]).astype(np.float32) for _ in range(2))
        constants |= {f"w{k}": weight, f"g{k}": scale, f"b{k}": shift, f"m{k}": mean, f"v{k}": variance}
        nodes += [
            node("Conv", f"{tensor} w{k}", f"c{k}", f"conv{k}"),
            node("BatchNormalization", f"c{k} g{k} b{k} m{k} v{k}", f"n{k}", f"norm{k}"),
            node("Relu", f"n{k}", f"r{k}", f"relu{k}"),
        ]
        normal = (raw - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
        images = np.maximum(normal * scale[:, None, None] + shift[:, None, None], 0)
        tensor = f"r{k}"
    constants["w3"] = RANDOM.normal(size=(SIZES[3], SIZES[2], 3, 3)).astype(np.float32)
    nodes.append(node("Conv", f"{tensor} w3", "y", "conv3"))
    onnx.save(build(nodes, {"x": ["N", 3, 12, 12]}, {"y": None}, constants), folder / "ann.onnx")
    return folder / "ann.onnx"


def real(count: int = 64) -> dict[str, np.ndarray]:
    return {"x": (40 + 10 * np.random.default_rng(1).normal(size=(count, 3, 12, 12))).astype(np.float32)}


def error(path: Path, proto: onnx.ModelProto) -> float:
    data = {"x": (40 + 10 * np.random.default_rng(2).normal(size=(64, 3, 12, 12))).astype(np.float32)}
    before, after = (run(open_session(each), data)["y"] for each in (onnx.load(path), proto))
    return float(np.linalg.norm(after - before) / np.linalg.norm(before - before.mean((0, 2, 3), keepdims=True)))


@pytest.mark.parametrize("method", ["optimal", "max"])
def test_statistics_of_the_network_make_up_for_inputs_of_another_range(tmp_path: Path, method: str) -> None:
    path = trained(tmp_path)
    with pytest.warns(ConversionWarning, match="CALIBRATED ON SYNTHETIC DATA"):
        done = convert(path, Synthetic(64), time_steps=16, method=method)
    images = np.concatenate([np.zeros((1, 3, 12, 12)), np.random.default_rng(3).random((63, 3, 12, 12))])
    blind = convert(path, {"x": images.astype(np.float32)}, time_steps=16, method=method)
    # White noise in 0 … 1, without the statistics, puts the thresholds where no real activation is.
    assert error(path, done.proto) < 0.5 * error(path, blind.proto)
    assert error(path, done.proto) < 3 * error(path, convert(path, real(), time_steps=16, method=method).proto)


def test_the_plan_and_the_file_say_that_the_data_was_made_up(tmp_path: Path) -> None:
    path = trained(tmp_path)
    with pytest.warns(ConversionWarning):
        done = convert(path, Synthetic(16), time_steps=4)
    assert done.plan.samples == 16 and done.plan.data_digest
    assert done.plan.notes == {"data": "synthetic", "synthetic": "2 normalisations matched"}
    assert conversion_of(done.proto).data == "synthetic"
    save_plan(done.plan, tmp_path / "plan.json")
    again = convert(path, plan=load_plan(tmp_path / "plan.json"))
    assert conversion_of(again.proto).data == "synthetic"
    assert conversion_of(convert(path, real(), time_steps=4).proto).data == "given"
    from graphpass.datasets.sources import from_arrays
    from graphpass.runtime.session import input_specs

    data = from_arrays(real(8), input_specs(open_session(path)))
    found = evaluate(done.network.source, done.proto, data, EvaluationSettings(rounds=1, threads=1))
    assert any("calibrated on synthetic data" in note for note in found.notes)


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    path = trained(tmp_path)
    with pytest.warns(ConversionWarning):
        one, two = (
            convert(path, Synthetic(16), time_steps=4).proto.SerializeToString(deterministic=True) for _ in "ab"
        )
    assert one == two


def test_a_network_without_normalisations_is_converted_on_what_is_made_up(tmp_path: Path) -> None:
    weights = {"w": RANDOM.normal(size=(4, 3, 3, 3)), "w2": RANDOM.normal(size=(2, 4, 3, 3))}
    nodes = [node("Conv", "x w", "c", "conv1"), node("Relu", "c", "r", "relu1"), node("Conv", "r w2", "y", "conv2")]
    proto = build(nodes, {"x": ["N", 3, "H", "W"]}, {"y": None}, {k: v.astype(np.float32) for k, v in weights.items()})
    onnx.save(proto, tmp_path / "plain.onnx")
    with pytest.warns(ConversionWarning, match=r"SYNTHETIC DATA \(no normalisation to match\)"):
        done = convert(tmp_path / "plain.onnx", Synthetic(8), time_steps=8, images=ImageOptions(size=20))
    assert done.plan.notes["synthetic"] == "no normalisation to match"


def test_the_command_line_says_so_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ("--synthetic", "--limit", "16", "--time-steps", "4", "--plan-out", "p.json")
    assert status("convert", "ann.onnx", "snn.onnx", *options) == 0
    assert "warning: CALIBRATED ON SYNTHETIC DATA" in capsys.readouterr().err
    plan = json.loads((tmp_path / "p.json").read_text())
    assert (plan["samples"], plan["notes"]["data"]) == (16, "synthetic")
    np.savez(tmp_path / "data.npz", **real(4))
    for other in (("--calibration", "data.npz"), ("--plan", "p.json")):
        assert status("convert", "ann.onnx", "snn.onnx", "--synthetic", *other) == 2
        assert "exclude each other" in capsys.readouterr().err


def test_a_size_that_made_up_inputs_do_not_meet_is_said(tmp_path: Path) -> None:
    weights = {"w": RANDOM.normal(size=(10, 4)).astype(np.float32), "w2": RANDOM.normal(size=(4, 2)).astype(np.float32)}
    nodes = [node("MatMul", "x w", "a", "one"), node("Relu", "a", "r", "relu"), node("MatMul", "r w2", "y", "two")]
    onnx.save(build(nodes, {"x": ["N", "L"]}, {"y": None}, weights), tmp_path / "ann.onnx")
    with pytest.raises(SessionError, match=r"does not run on made-up inputs: .*'one'") as refusal:
        convert(tmp_path / "ann.onnx", Synthetic(4))
    assert refusal.value.remedy.startswith("give data instead; made-up inputs have 64 positions")


@pytest.mark.parametrize(("name", "value"), [("v2", -1.0), ("v2", np.nan), ("m2", np.inf)])
def test_statistics_that_are_no_numbers_are_refused(tmp_path: Path, name: str, value: float) -> None:
    """The network that is matched has others, and would hide that the outputs of the given one are NaN."""
    model = onnx.load(trained(tmp_path))
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(CalibrationError, match=r"node 'norm2' \(BatchNormalization\)"):
        convert(tmp_path / "broken.onnx", Synthetic(8), time_steps=2)


def test_no_samples_are_refused() -> None:
    with pytest.raises(OptionError, match="0 synthetic samples"):
        Synthetic(0)


def clipped(folder: Path, low: float, high: float) -> Path:
    """Three convolutions with clips between, no normalisation; pre-activations of images about 40 are large."""
    weights = {f"w{k}": RANDOM.normal(size=(6, 3 if k == 1 else 6, 3, 3)) / (60 if k == 1 else 6) for k in (1, 2, 3)}
    nodes = [
        *(node("Conv", f"{x} w{k}", f"c{k}", f"conv{k}") for k, x in ((1, "x"), (2, "r1"), (3, "r2"))),
        *(node("Clip", f"c{k} low high", f"r{k}", f"clip{k}") for k in (1, 2)),
        node("Identity", "c3", "y", "end"),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    ends = {"low": np.float32(low), "high": np.float32(high)}
    nodes.sort(key=lambda each: ("c1 r1 c2 r2 c3 y".split()).index(each.output[0]))
    onnx.save(build(nodes, {"x": ["N", 3, 12, 12]}, {"y": None}, constants | ends), folder / "clipped.onnx")
    return folder / "clipped.onnx"


@pytest.mark.parametrize("method", ["optimal", "max", "da-qcfs", "percentile"])
def test_a_clip_knows_its_range_without_data(tmp_path: Path, method: str) -> None:
    path = clipped(tmp_path, 0, 6)
    with pytest.warns(ConversionWarning, match="2 clips by their own limits"):
        done = convert(path, Synthetic(32), time_steps=16, method=method)
    for site in done.plan.sites:
        np.testing.assert_array_equal(site.threshold, np.float32(6 / 16))
        np.testing.assert_array_equal(site.offset, 0)
    images = np.random.default_rng(3).random((64, 3, 12, 12)).astype(np.float32)
    blind = convert(path, {"x": images}, time_steps=16, method=method)
    # The images that it meets are forty times brighter than those it was calibrated on.
    assert error(path, done.proto) < 0.5 * error(path, blind.proto)


def test_limits_that_nothing_comes_near_are_not_the_range(tmp_path: Path) -> None:
    """Clip(0, 20) around activations of 0 to about 0.5: levels that span the clip would leave one of them in use."""
    path = clipped(tmp_path, 0, 20)
    with pytest.warns(ConversionWarning, match="2 clips by the made-up inputs, which come nowhere near their limits"):
        done = convert(path, Synthetic(32), time_steps=16)
    for site in done.plan.sites:
        assert 16 * float(site.threshold.max()) < 2 * site.highest < 4


def test_layers_between_clips_get_new_biases_alone(tmp_path: Path) -> None:
    path = clipped(tmp_path, 0, 6)
    with pytest.warns(ConversionWarning):
        done = convert(path, Synthetic(32), time_steps=4)
    given = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    assert [layer.name for layer in done.plan.layers] == ["conv2", "conv3"]
    for layer in done.plan.layers:
        np.testing.assert_array_equal(layer.weight, given[f"w{layer.name[-1]}"])
        assert np.abs(layer.bias_change).max() > 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.4028235e38), (-3.4028235e38, 6.0), (0.0, 65504.0)])
def test_a_side_that_is_open_is_no_limit_of_a_clip(tmp_path: Path, low: float, high: float) -> None:
    """Exporters write the largest number of a type for it; levels that span that are one level."""
    path = clipped(tmp_path, low, high)
    with pytest.warns(ConversionWarning) as warned:
        done = convert(path, Synthetic(32), time_steps=32)
    assert not any("limits" in str(each.message) for each in warned)
    assert all(float(site.threshold.max()) < 100 for site in done.plan.sites)  # not 65504 in 32 steps
