"""Real trained networks from end to end: what a user gets, with the accuracy that it must keep."""

from pathlib import Path

import numpy as np
import pytest

from graphpass.conversion import convert, dataset_for
from graphpass.errors import CoverageError, UnsupportedModelError
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.runtime.session import open_session, run
from graphpass.verification.forms import verify

ROOT = Path(__file__).parent.parent
FASHION = ROOT / "examples" / "fashion_mnist"
TRAINED = ROOT / "benchmarks" / "trained"


@pytest.fixture(scope="module")
def fashion():
    return convert(FASHION / "fashion_mnist.onnx", FASHION / "calibration.npz", time_steps=8)


def test_fashion_mnist_keeps_its_accuracy(fashion):
    source = fashion.network.source
    data = dataset_for(source.proto, FASHION / "evaluation.npz")
    found = evaluate(source, fashion.proto, data, EvaluationSettings(batch=100, operation_samples=8))
    # 1.5 points: what is lost at T = 8 is below half a point, and 1,000 images have a standard error of 0.8.
    assert found.ann.top1 - found.snn.top1 <= 0.015
    assert found.snn.top1 > found.baseline.accuracy.top1
    assert found.energy_snn < found.energy_ann


def test_fashion_mnist_forms_agree(fashion):
    found = verify(fashion.proto, dataset_for(fashion.network.source.proto, FASHION / "evaluation.npz"), limit=32)
    assert found.agrees


@pytest.mark.parametrize("steps", [4, 8])
def test_networks_trained_with_qcfs_are_converted_without_data(steps):
    done = convert(TRAINED / f"resnet20_qcfs{steps}.onnx")
    assert done.plan.time_steps == steps
    assert len(done.plan.sites) == 19
    images = np.random.default_rng(0).random((32, 3, 32, 32), np.float32)
    before, after = (
        next(iter(run(open_session(proto), {"image": images}).values()))
        for proto in (done.network.source.proto, done.proto)
    )
    # The chain and the neuron round differently at exact ties, so a few pixels may move by one level.
    assert (before.argmax(1) == after.argmax(1)).mean() >= 31 / 32
    assert np.median(np.abs(after - before)) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::graphpass.graph.model.UpgradeWarning")
def test_magika_keeps_its_accuracy():
    """GELU network of the magika package on files of this machine: phase T = 4 within 2 points."""
    from benchmarks import file_types, networks

    calibration, evaluation = file_types.magika_files()
    done = convert(networks.magika_model(), calibration, time_steps=4, coding="phase")
    source = done.network.source
    data = dataset_for(source.proto, evaluation)
    found = evaluate(source, done.proto, data, EvaluationSettings(limit=400, operation_samples=2))
    # 1 point over all files is the aim (docs/results.md); 400 files have a standard error of half a point.
    assert found.ann.top1 - found.snn.top1 <= 0.02


# name → its inputs: of one sample, whose batch is the network's own
RECURRENT = {
    "silero/silero_vad_16k_sequence": {"input": (1, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "ddddocr/common": {"input1": (1, 1, 64, 160)},
}


@pytest.mark.filterwarnings(
    "ignore::graphpass.calibration.memory.MemoryBudgetWarning"
)  # one layer is large; tests of the budget are others
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::graphpass.graph.model.UpgradeWarning")
@pytest.mark.parametrize("name", RECURRENT)
def test_networks_with_recurrent_layers_are_refused_and_in_part_right(name):
    from benchmarks import networks

    path = networks.native_networks()[name]
    generator = np.random.default_rng(0)
    inputs = {key: generator.random(shape).astype(np.float32) for key, shape in RECURRENT[name].items()}
    with pytest.raises(CoverageError, match=r"\(LSTM\): recurrent layers are not converted; .*--allow-partial"):
        convert(path, inputs)
    done = convert(path, inputs, time_steps=8, coding="phase", allow_partial=True)
    assert {entry.op for entry in done.plan.left if not entry.expected} == {"LSTM"}
    before, after = (run(open_session(p), inputs) for p in (done.network.source.proto, done.proto))
    for key, values in before.items():
        # 256 levels on the sample that they were fitted to: a few thousandths; a garbled output is off by its size
        assert np.linalg.norm(after[key] - values) < 0.02 * np.linalg.norm(values)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::graphpass.graph.model.UpgradeWarning")
def test_networks_of_bodies_alone_and_quantised_ones_are_refused():
    from benchmarks import networks

    found = networks.native_networks()
    with pytest.raises(UnsupportedModelError, match=r"\(If\): bodies of If.* holds Conv, LSTM, Relu"):
        convert(found["silero/silero_vad"], {})
    with pytest.raises(UnsupportedModelError, match="already quantised; convert the float model"):
        convert(found["ddddocr/common_old"], {})
