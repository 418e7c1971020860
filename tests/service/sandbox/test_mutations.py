"""Models that were damaged at random: each task ends with a clear result, and none ends the service."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.sandbox import runner
from service.sandbox.runner import Succeeded
from tests.models import build, node
from tests.properties import PLAIN, examples
from tests.service.sandbox.hostile_files import npz, zipped
from tests.service.sandbox.sandboxed import SMALL, Box

MANY = (sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("many_tasks.py")))
CLEAR = (
    "succeeded",
    "invalid-model",
    "unsupported-model",
    "invalid-data",
    "invalid-options",
    "coverage",
    "calibration",
)
LIMITS = ("memory-limit", "time-limit", "output-limit")
GENERATOR = np.random.default_rng(11)
X = GENERATOR.normal(size=(6, 2, 5, 5)).astype(np.float32)


def network() -> bytes:
    """A network with a little of everything: convolution, normalisation, pooling, a residual, constants, attributes."""
    weights = {
        "u": GENERATOR.normal(size=(3, 2, 3, 3)),
        "v": GENERATOR.normal(size=(3, 3, 3, 3)),
        "w": GENERATOR.normal(size=(3, 4)),
        "scale": np.ones(3),
        "bias": np.zeros(3),
        "mean": np.zeros(3),
        "var": np.ones(3),
    }
    nodes = [
        node("Conv", "x u", "c", "conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c scale bias mean var", "n", "norm"),
        node("Relu", "n", "a", "relu"),
        node("Conv", "a v", "d", "second", pads=[1, 1, 1, 1]),
        node("Add", "d a", "s", "sum"),
        node("Relu", "s", "b", "relu2"),
        node("GlobalAveragePool", "b", "p", "pool"),
        node("Flatten", "p", "f", "flatten"),
        node("Gemm", "f w", "scores", "gemm"),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    return build(nodes, {"x": ("N", 2, 5, 5)}, {"scores": ("N", 4)}, constants).SerializeToString()


MODEL = network()
PLACES = st.integers(0, len(MODEL) - 1)
DAMAGE = st.one_of(
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("set"), PLACES, st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])),
    st.tuples(st.just("cut"), PLACES, st.integers(1, 40)),
    st.tuples(st.just("repeat"), PLACES, st.integers(1, 40)),
    st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=9)),
)


def damaged(content: bytes, damages: list) -> bytes:
    for kind, place, more in damages:
        before, after = content[:place], content[place:]
        match kind:
            case "flip":
                content = before + (bytes([after[0] ^ 1 << more]) + after[1:] if after else b"")
            case "set":
                content = before + bytes([more]) + after[1:]
            case "cut":
                content = before + after[more:]
            case "repeat":
                content = before + after[:more] + after
            case _:
                content = before + more + after
    return content


def fields(content: bytes, seed: int) -> bytes:
    """Damage that keeps the file readable: one number, text or list of the proto is changed."""
    generator = np.random.default_rng(seed)
    proto = onnx.load_from_string(content)
    places = [*proto.graph.node, *proto.graph.initializer, *proto.graph.input, *proto.graph.output, *proto.opset_import]
    target = places[generator.integers(len(places))]
    numbers = [0, 1, -1, 7, 1 << 31, -(1 << 63), (1 << 63) - 1]
    texts = ["", "x", "relu", "Loop", "If", "Constant", "ai.onnx", "com.microsoft", "\0", "é" * 9]
    for field in [*target.DESCRIPTOR.fields]:
        if generator.random() < 0.6:
            continue
        try:
            if field.is_repeated:
                values = getattr(target, field.name)
                if len(values) and generator.random() < 0.7:
                    del values[int(generator.integers(len(values)))]
                elif field.cpp_type == field.CPPTYPE_STRING:
                    values.append(texts[generator.integers(len(texts))])
                elif field.cpp_type == field.CPPTYPE_INT64:
                    values.append(numbers[generator.integers(len(numbers))])
            elif field.cpp_type == field.CPPTYPE_STRING:
                setattr(target, field.name, texts[generator.integers(len(texts))])
            elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_INT32):
                setattr(target, field.name, numbers[generator.integers(len(numbers))])
        except (TypeError, ValueError, AttributeError):  # bytes, or a number out of range
            continue
    return proto.SerializeToString()


def check(box: Box, contents: list[bytes], ann: bytes | None = None) -> Counter[str]:
    """Describe and convert every model, or evaluate it beside an ANN; how many ended in which way."""
    names = [box.put(f"{number}.onnx", content) for number, content in enumerate(contents)]
    calibration = box.put("x.npz", npz(x=X))
    task, arguments = "convert", {"model": None, "calibration": calibration}
    if ann is not None:
        task, arguments = "evaluate", {"snn": None, "ann": box.put("ann.onnx", ann), "dataset": calibration}
    box.limits = replace(SMALL, wall_seconds=120, cpu_seconds=120)
    ends: Counter[str] = Counter()
    left = names
    with mock.patch.object(runner, "COMMAND", MANY):
        while left:
            box.events.clear()
            outcome = box.run("many", {"files": left, "task": task, "arguments": arguments})
            if isinstance(outcome, Succeeded):
                for key, end in outcome.result["outcomes"].items():
                    assert end.split(":")[0] in (*CLEAR, *LIMITS), (key, end)
                    assert "/in/" not in end and str(box.folder.parent) not in end
                    ends[end.split(":")[0]] += 1
                return ends
            # the process ended at one of them: that is an end, too, and the others have a right to theirs
            assert outcome.type in ("crashed", *LIMITS), outcome
            ends[outcome.type] += 1
            left = left[len(left) // 2 :] if len(left) > 1 else []
    return ends


BOUNDED = examples(
    3,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@BOUNDED
@given(st.lists(st.lists(DAMAGE, min_size=1, max_size=4), min_size=30, max_size=30))
def test_damaged_bytes(box: Box, damages: list) -> None:
    check(box, [damaged(MODEL, each) for each in damages])


@pytest.mark.slow
@BOUNDED
@given(st.integers(0, 1 << 30))
def test_damaged_fields(box: Box, seed: int) -> None:
    check(box, [fields(MODEL, seed + number) for number in range(30)])


@pytest.mark.slow
def test_many_damaged_models(box: Box) -> None:
    total: Counter[str] = Counter()
    snn = converted(box)
    for batch in range(2 * settings.default.max_examples // PLAIN):
        seeds = [1000 * batch + number for number in range(50)]
        total += check(box, [fields(MODEL, seed) for seed in seeds])
        total += check(box, [fields(snn, seed) for seed in seeds], MODEL)
        total += check(box, [metadata(snn, seed) for seed in seeds], MODEL)
    assert total["succeeded"] and total["invalid-model"], total


@pytest.mark.slow
def test_damaged_conversions(box: Box) -> None:
    """The model is damaged, or what it says about itself."""
    snn = converted(box)
    damaged_ones = [fields(snn, 646 + number) for number in range(20)]
    annotated = [metadata(snn, number) for number in range(20)]
    assert check(box, [snn, *damaged_ones, *annotated], MODEL)["succeeded"] > 1


def converted(box: Box) -> bytes:
    box.put("model.onnx", MODEL)
    box.result("convert", {"model": "model.onnx", "calibration": box.put("x.npz", npz(x=X))})
    return (box.folder / "out" / "snn.onnx").read_bytes()


def metadata(content: bytes, seed: int) -> bytes:
    """Change one entry of the metadata at one place of its text."""
    generator = np.random.default_rng(seed)
    proto = onnx.load_from_string(content)
    entry = proto.metadata_props[generator.integers(len(proto.metadata_props))]
    place = int(generator.integers(len(entry.value) + 1))
    other = ["", "0", "-1", "[", "]", "null", '"', "{}", "1e999", "9" * 30, "\0", "é"][generator.integers(12)]
    entry.value = entry.value[:place] + other + entry.value[place + int(generator.integers(3)) :]
    return proto.SerializeToString()


def test_the_model_itself_is_fine(box: Box) -> None:
    assert check(box, [MODEL]) == {"succeeded": 2}


def test_a_damaged_archive(box: Box) -> None:
    packed = zipped({"model.onnx": MODEL})
    generator = np.random.default_rng(1)
    contents = []
    for _ in range(40):
        content = bytearray(packed)
        for place in generator.integers(0, len(packed), 3):
            content[place] = generator.integers(256)
        contents.append(bytes(content))
    check(box, contents)
