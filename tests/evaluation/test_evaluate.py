"""Evaluation of networks small enough to count by hand, and operation counts against plain loops."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray

import graphpass.evaluation.evaluate as module
from graphpass.conversion import convert
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluation.counting import probe
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.evaluation.results import Evaluation
from graphpass.forms.registry import assemble
from graphpass.graph.model import Source, load, save
from graphpass.graph.plan import Plan, SitePlan
from graphpass.maths.metrics import Operations
from graphpass.maths.neuron import levels_of
from graphpass.network import prepare
from graphpass.runtime.session import open_session, run
from tests import test_conversion as small
from tests.models import build, node

SAMPLES = np.array([[1, 3], [-1, 4.4]], np.float32)
LABELS = np.array([2, 1])
KEYS = """format version samples time_steps coding levels method form precision class_output ann snn agreement metrics
outputs firing_rate synaptic_operations energy_pj energy latency_ms sites baseline left provenance notes""".split()


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_TIMING", 0.0)


def network(folder: Path, batch: int | str = "N") -> Source:
    """x → ·1 → Relu → ·[[1, 0, 2], [1, 1, 1]] → scores: inputs of the last layer meet 2 and 3 weights."""
    model = build(
        [
            node("Gemm", "x one", "h", "first"),
            node("Relu", "h", "a", "relu"),
            node("Gemm", "a w", "scores", "last"),
        ],
        {"x": (batch, 2)},
        {"scores": (batch, 3)},
        {"one": np.eye(2, dtype=np.float32), "w": [[1, 0, 2], [1, 1, 1]]},
    )
    save(model, folder / "ann.onnx")
    return load(folder / "ann.onnx")


def plan_for(source: Source, time_steps: int, coding: str) -> Plan:
    """Neurons that round to whole numbers; the baseline's range is 0 … 2·(levels − 1): it rounds to even ones."""
    (site,) = prepare(source).coverage.sites
    one, half, zero = (np.array([value], np.float32) for value in (1, 0.5, 0))
    levels = levels_of(time_steps, coding)
    names = (site.name, site.kind, site.input, site.output, site.layers)
    neurons = SitePlan(*names, (1,), levels, one, half, one, zero, 0.0, 2.0 * (levels - 1))
    return Plan(time_steps, coding, "by-hand", (neurons,), model_digest=source.digest)


def data(labels: NDArray[np.integer] | None = LABELS, samples: NDArray[np.float32] = SAMPLES) -> Dataset:
    arrays = {"x": samples} if labels is None else {"x": samples, "labels": labels}
    return from_arrays(arrays, (InputSpec("x", np.dtype(np.float32), (None, 2)),))


def evaluated(
    folder: Path,
    samples: Dataset | None = None,
    time_steps: int = 4,
    coding: str = "rate",
    form: str = "folded",
    batch: int | str = "N",
    **options: int | str,
) -> Evaluation:
    source = network(folder, batch)
    proto = convert(source, plan=plan_for(source, time_steps, coding), form=form).proto
    settings = EvaluationSettings(threads=1, rounds=2, **options)  # type: ignore[arg-type]
    return evaluate(source, proto, samples or data(), settings, "digest")


@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_rate_code_by_hand(tmp_path: Path, form: str) -> None:
    """Counts [[1, 3], [0, 4]]: 8 spikes in 2 neurons · 4 steps · 2 samples; 1·2 + 3·3 + 4·3 = 23 additions."""
    found = evaluated(tmp_path, form=form)
    (site,) = found.sites
    assert (site.neurons, site.levels, site.time_steps) == (2, 5, 4)
    assert found.firing_rate == site.firing_rate == site.sparsity == 0.5
    assert found.operations.samples == 2
    assert found.operations.ann == Operations(0.0, (4 + 5 + 3) / 2, 4 + 6)
    assert found.operations.snn == Operations(23 / 2, 4 / 2, 4 + 4 * 6)
    inputs = {layer.name: layer.input for layer in found.operations.layers}
    assert inputs == {"first": "analogue", "last": "spikes"}
    assert found.operations.uncounted == ()
    # sums of a few products of short decimals: exact up to a few ulps
    assert found.energy_ann == pytest.approx(6 * 4.6, rel=1e-12)
    assert found.energy_snn == pytest.approx(2 * 4.6 + 11.5 * 0.9, rel=1e-12)
    # 4.4 becomes 4; Σ(a − ā)² of 1, 3, 0, 4.4 is 11.72. Float32 holds 4.4 to 1e-7, its square of the error 0.4 to 1e-6
    assert site.error == (None if form == "unrolled" else pytest.approx(0.16 / 11.72, rel=1e-5))


def test_phase_code_by_hand(tmp_path: Path) -> None:
    """Counts 1, 3, 0, 4 have 1, 2, 0, 1 ones in binary."""
    found = evaluated(tmp_path, time_steps=3, coding="phase")
    assert found.conversion.levels == found.sites[0].levels == 8
    assert found.firing_rate == pytest.approx(4 / 12)  # one division of whole numbers
    assert found.operations.snn == Operations((1 * 2 + 2 * 3 + 1 * 3) / 2, 4 / 2, 4 + 3 * 6)


def test_accuracy_and_baseline_by_hand(tmp_path: Path) -> None:
    """Scores [4, 3, 5] and [4.4]·3, where the first of equals wins."""
    found = evaluated(tmp_path)
    assert found.class_output == "scores"
    assert (found.samples, found.ann.top1, found.snn.top1, found.agreement) == (2, 0.5, 0.5, 1.0)
    assert found.ann.top5 is None  # three classes
    (output,) = found.outputs
    # float32 holds 4.4 to 1e-7 and the difference 0.4 to 1e-6
    assert output.relative_error == pytest.approx(np.sqrt(3 * 0.16 / (50 + 3 * 4.4**2)), rel=1e-5)
    assert output.cosine_similarity == pytest.approx(1.0)
    assert output.equal is None
    # the baseline rounds 1, 3, 4.4 to 2, 4, 4: scores [6, 4, 8] and [4]·3
    assert (found.baseline.levels, found.baseline.accuracy.top1, found.baseline.agreement) == (5, 0.5, 1.0)
    expected = np.sqrt((4 + 1 + 9 + 3 * 0.16) / (50 + 3 * 4.4**2))
    assert found.baseline.relative_error == pytest.approx(expected, rel=1e-5)


def test_without_labels(tmp_path: Path) -> None:
    found = evaluated(tmp_path, data(None))
    assert found.ann.top1 is found.snn.top1 is found.baseline.accuracy.top1 is None
    assert found.agreement == 1.0
    assert found.notes == ()


@pytest.mark.parametrize("count", [6, 4, 3, 1])
def test_texts_of_as_many_frames_as_a_batch_has_samples(tmp_path: Path, count: int) -> None:
    """[4 frames, N, C] with a fixed batch of 4: the last batch is cut along N, and every text is read."""
    random = np.random.default_rng(0)
    model = build(
        [
            node("MatMul", "x w", "h", "first"), node("Relu", "h", "a", "relu"), node("MatMul", "a v", "z", "last"),
            node("Transpose", "z", "scores", "frames", perm=[1, 0, 2]),
        ],
        {"x": (4, 4, 5)}, {"scores": (4, 4, 5)}, {"w": np.eye(5, dtype=np.float32), "v": np.eye(5, dtype=np.float32)},
    )  # fmt: skip
    save(model, tmp_path / "ann.onnx")
    classes = np.array([[1, 0, 2, 3], [1, 1, 0, 1], [2, 3, 4, 1], [0, 0, 0, 4], [3, 0, 3, 0], [4, 1, 2, 3]])[:count]
    texts = [[1, 2, 3, -1], [1, 1, -1, -1], [2, 3, 4, 1], [4, -1, -1, -1], [3, 3, -1, -1], [4, 1, 2, 3]][:count]
    x = np.eye(5, dtype=np.float32)[classes] + 0.1 * random.random((count, 4, 5), np.float32)
    source = load(tmp_path / "ann.onnx")
    made = convert(source, {"x": x}, method="max", time_steps=16)
    spec = (InputSpec("x", np.dtype(np.float32), (4, 4, 5)),)
    samples = from_arrays({"x": x, "labels": np.array(texts)}, spec)
    found = evaluate(
        source, made.proto, samples, EvaluationSettings(metrics=metrics_of(["ctc:axis=1"], allow_code=True))
    )
    figures = {(each.metric, each.name): (each.ann, each.snn) for each in found.metrics}
    assert figures["ctc:axis=1", "exact"] == (1.0, 1.0)
    assert figures["ctc:axis=1", "character_error_rate"] == (0.0, 0.0)
    assert not any("another shape" in note for note in found.notes)


def test_fixed_batch(tmp_path: Path) -> None:
    """Three samples in batches of two: all compared, the operations on the full batch only."""
    samples = np.concatenate([SAMPLES, SAMPLES[:1]])
    found = evaluated(tmp_path, data(np.array([2, 1, 2]), samples), batch=2)
    assert (found.samples, found.ann.top1) == (3, 2 / 3)
    assert (found.operations.samples, found.operations.snn.effective_acs) == (2, 11.5)
    assert found.latency.batch == 2


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("batch", ["N", 1])
def test_an_output_that_differs_little_between_samples_is_told(offset: float, batch: int | str, tmp_path: Path) -> None:
    """Ages, temperatures: next to 100 ± 1, an error of 0.5 looks like half a percent."""
    proto, arrays = small.network(batch), small.data(20)
    last = proto.graph.node[-1]
    last.output[0] = "sum"
    proto.graph.node.append(node("Add", "sum offset", "y"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(offset, np.float32), "offset"))
    onnx.save(proto, tmp_path / "ann.onnx")
    done = convert(tmp_path / "ann.onnx", arrays, time_steps=2)
    dataset = from_arrays(arrays, (InputSpec("x", np.dtype(np.float32), (None, 2, 6, 6)),))
    found = evaluate(done.network.source, done.proto, dataset, EvaluationSettings(threads=1, rounds=2))
    told = [note for note in found.notes if note.startswith("output 'y' differs little between samples: its error is")]
    assert len(told) == (offset > 0)


def test_limits(tmp_path: Path) -> None:
    found = evaluated(tmp_path, limit=1)
    assert (found.samples, found.operations.samples, found.operations.snn.effective_acs) == (1, 1, 11.0)
    assert found.provenance.evaluation_sha256 == ""  # not all of the data was used
    found = evaluated(tmp_path, operation_samples=1)
    assert (found.samples, found.operations.samples) == (2, 1)


def test_latency_and_provenance(tmp_path: Path) -> None:
    samples = data()
    found = evaluated(tmp_path, samples, latency_batch=2)
    for timing in (found.latency.ann, found.latency.snn):
        assert 0 < timing.lowest <= timing.median <= timing.highest
    assert (found.latency.batch, found.latency.rounds, found.latency.threads) == (2, 2, 1)
    provenance = found.provenance
    assert (provenance.ann, provenance.snn_sha256) == ("ann.onnx", "digest")
    assert provenance.ann_sha256 == network(tmp_path).digest
    assert provenance.evaluation_sha256 == samples.digest
    assert provenance.onnxruntime.startswith("onnxruntime")


def test_document(tmp_path: Path) -> None:
    document = evaluated(tmp_path).to_json()
    assert list(document) == KEYS
    assert document["synaptic_operations"]["effective_acs"] == 11.5
    assert document["synaptic_operations"]["ann"]["effective_macs"] == 6.0
    assert document["energy_pj"]["ratio"] == pytest.approx(19.55 / 27.6, rel=1e-12)  # a few roundings of float64
    assert document["baseline"]["top1"] == 0.5


def test_infinities_are_null_in_the_document(tmp_path: Path) -> None:
    found = replace(evaluated(tmp_path), firing_rate=float("nan"), agreement=float("inf"))
    assert found.to_json()["firing_rate"] is found.to_json()["agreement"] is None


def test_another_model(tmp_path: Path) -> None:
    source = network(tmp_path)
    proto = convert(source, plan=plan_for(source, 4, "rate")).proto
    with pytest.raises(ModelError, match=r"was not converted from .*; give the two models that belong together"):
        evaluate(replace(source, digest="0" * 64), proto, data())
    with pytest.raises(
        ModelError, match=r"not a converted network \(its metadata: graphpass\.version: is missing\); give"
    ):
        evaluate(source, source.proto, data())


def test_an_output_that_is_missing(tmp_path: Path) -> None:
    source = network(tmp_path)
    proto = convert(source, plan=plan_for(source, 4, "rate")).proto
    proto.graph.output[0].name = "h"
    with pytest.raises(ModelError, match="lacks the output 'scores' of"):
        evaluate(source, proto, data(), EvaluationSettings(threads=1))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_that_do_not_fit(tmp_path: Path, label: int) -> None:
    with pytest.raises(DataError, match=f"^arrays: label {label} is not one of the classes 0 … 2"):
        evaluated(tmp_path, data(np.array([0, label])))


def test_output_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no output 'boxes'; choose one of scores"):
        evaluated(tmp_path, output="boxes")


@pytest.mark.parametrize("option", ["batch", "rounds", "latency_batch", "operation_samples"])
def test_options_that_make_no_sense(option: str) -> None:
    with pytest.raises(OptionError, match="must be at least 1"):
        EvaluationSettings(**{option: 0})


def counted(op: str, x: NDArray, w: NDArray, inputs: str = "x w", **attributes: object) -> tuple[int, int]:
    """Operations of one layer as the probes count them: effective, dense."""
    model = build([node(op, inputs, "y", "layer", **attributes)], {"x": x.shape}, {"y": None}, {"w": w})
    return probed(model, {"x": x})


def probed(model: onnx.ModelProto, feeds: dict[str, NDArray]) -> tuple[int, int]:
    graph = gs.import_onnx(model)
    probes = probe(graph)
    for tensor in graph.outputs:
        tensor.dtype = tensor.dtype or np.float32  # the exporter wants one
    proto = assemble(graph.toposort(), "rate")
    for value in proto.graph.output:  # the type of an output is what its producer makes
        value.ClearField("type")
    counts = probes.operations(run(open_session(proto, threads=1), feeds, list(probes.names)))["layer"]
    return counts.effective, counts.dense


def sparse(*shape: int) -> NDArray[np.float32]:
    """Small whole numbers, about half of them zero."""
    random = np.random.default_rng(sum(shape))
    return (random.integers(-3, 4, shape) * random.integers(0, 2, shape)).astype(np.float32)


CONVOLUTIONS = [
    ("Conv", (2, 3, 5), (4, 3, 3), {}),
    ("Conv", (2, 3, 5), (4, 3, 3), {"pads": [1, 1]}),
    ("Conv", (1, 4, 6, 5), (6, 2, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1], "group": 2}),
    ("Conv", (1, 4, 7, 7), (4, 1, 3, 3), {"pads": [2] * 4, "dilations": [2, 2], "group": 4, "strides": [2, 3]}),
    ("Conv", (1, 2, 6, 5), (3, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (1, 2, 6, 5), (3, 2, 2, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("ConvTranspose", (2, 3, 4), (3, 2, 3), {"strides": [2]}),
    ("ConvTranspose", (1, 4, 3, 4), (4, 2, 3, 2), {"strides": [2, 1], "pads": [1, 0, 1, 1], "group": 2}),
    ("ConvTranspose", (1, 2, 4), (2, 3, 3), {"strides": [2], "pads": [1, 1], "output_padding": [1]}),
]


def met(op: str, x: NDArray, w: NDArray, attributes: dict) -> tuple[int, int]:
    """(input, weight) pairs of a convolution, by loops over outputs, weights and inputs: not zero, all."""
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    kernel, sizes = w.shape[2:], x.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = attributes.get("pads", [0] * 2 * rank)
    if "auto_pad" in attributes:
        outputs = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        needed = [
            max((out - 1) * stride + r - size, 0)
            for out, stride, r, size in zip(outputs, strides, reach, sizes, strict=True)
        ]
        upper = attributes["auto_pad"] == "SAME_UPPER"
        begin = [n // 2 if upper else n - n // 2 for n in needed]
    else:
        begin, ends = pads[:rank], pads[rank:]
        around = [b + e for b, e in zip(begin, ends, strict=True)]
        extra = attributes.get("output_padding", [0] * rank)
        outputs = [
            stride * (size - 1) + r - pad + more if op == "ConvTranspose" else (size + pad - r) // stride + 1
            for size, stride, r, pad, more in zip(sizes, strides, reach, around, extra, strict=True)
        ]
    inputs, outs = x.shape[1], (w.shape[1] * groups if op == "ConvTranspose" else w.shape[0])
    effective = dense = 0
    for n, c, o in itertools.product(range(x.shape[0]), range(inputs), range(outs)):
        if c // (inputs // groups) != o // (outs // groups):
            continue
        plane = w[c, o % w.shape[1]] if op == "ConvTranspose" else w[o, c % w.shape[1]]
        for place, tap in itertools.product(itertools.product(*map(range, outputs)), np.ndindex(*kernel)):
            if op == "ConvTranspose":
                parts = [
                    divmod(p + b - k * d, s)
                    for p, b, k, d, s in zip(place, begin, tap, dilations, strides, strict=True)
                ]
                if any(rest for _, rest in parts):
                    continue
                source = tuple(quotient for quotient, _ in parts)
            else:
                source = tuple(
                    p * s + k * d - b for p, b, k, d, s in zip(place, begin, tap, dilations, strides, strict=True)
                )
            if all(0 <= at < size for at, size in zip(source, sizes, strict=True)):
                dense += 1
                effective += bool(x[(n, c, *source)] != 0 and plane[tap] != 0)
    return effective, dense


@pytest.mark.parametrize(("op", "x", "w", "attributes"), CONVOLUTIONS)
def test_convolutions_against_loops(op: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict) -> None:
    values, weights = sparse(*x), sparse(*w)
    assert counted(op, values, weights, **attributes) == met(op, values, weights, attributes)


@pytest.mark.parametrize(
    ("inputs", "x", "w", "attributes"),
    [
        ("x w", (3, 4), (4, 5), {}),
        ("x w", (3, 4), (5, 4), {"transB": 1}),
        ("x w", (4, 3), (4, 5), {"transA": 1}),
        ("w x", (4, 3), (5, 4), {}),
    ],
)
def test_gemm_against_counting(inputs: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict) -> None:
    values, weights = sparse(*x), sparse(*w)
    left, right = (values, weights) if inputs == "x w" else (weights, values)
    left = (left.T if attributes.get("transA") else left) != 0
    right = (right.T if attributes.get("transB") else right) != 0
    expected = int((left.astype(int) @ right.astype(int)).sum())
    dense = left.shape[0] * left.shape[1] * right.shape[1]
    assert counted("Gemm", values, weights, inputs, **attributes) == (expected, dense)


def test_matmul_of_a_sequence_against_counting() -> None:
    values, weights = sparse(2, 3, 4), sparse(4, 5)
    expected = int(((values != 0).astype(int) @ (weights != 0).astype(int)).sum())
    assert counted("MatMul", values, weights) == (expected, 2 * 3 * 4 * 5)


def test_product_of_activations_against_counting() -> None:
    model = build([node("MatMul", "x z", "y", "layer")], {"x": (2, 3, 4), "z": (2, 4, 5)}, {"y": (2, 3, 5)}, {})
    x, z = sparse(2, 3, 4), sparse(2, 4, 5)
    expected = int(((x != 0).astype(int) @ (z != 0).astype(int)).sum())
    assert probed(model, {"x": x, "z": z}) == (expected, 2 * 3 * 4 * 5)
