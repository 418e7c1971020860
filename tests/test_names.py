"""Names that a conversion makes up never meet names of the network.

The networks are made by the converter itself: whatever names it makes up for a network are then names of tensors and
nodes of that network, which is converted again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from graphpass.conversion import convert, dataset_for
from graphpass.evaluation.evaluate import evaluate
from graphpass.graph.model import load
from graphpass.maths import outliers
from graphpass.runtime.session import open_session
from graphpass.sites.sites import Selection
from graphpass.verification.forms import verify
from tests.models import FLOAT, build, node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3, 8, 8)).astype(np.float32)
X[0] *= 20
SELECTION = Selection(identity_sites=True)
TRIED = (("folded", "rate"), ("unrolled", "phase"), ("integer", "rate"))  # forms and codes


def normal(*shape: int) -> NDArray[np.float32]:
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def network() -> onnx.ModelProto:
    """Convolutions, a normalisation, a sum, pooling, a gate and a product, so that every kind of name is made up."""
    nodes = [
        node("Conv", "x w1", "c1", "conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 g b m v", "n1", "norm"),
        node("Relu", "n1", "r1", "act1"),
        node("MaxPool", "r1", "p1", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p1 w2 b2", "c2", "conv2", pads=[1, 1, 1, 1]),
        node("Sigmoid", "c2", "s2", "gate"),
        node("Mul", "c2 s2", "r2", "act2"),
        node("Add", "r2 p1", "a2", "sum"),
        node("Softmax", "a2", "f2", "soft", axis=1),
        node("Concat", "a2 f2", "k2", "join", axis=1),
        node("Conv", "k2 w3", "c3", "conv3"),
        node("LeakyRelu", "c3", "r3", "act3"),
        node("GlobalAveragePool", "r3", "q3", "mean"),
        node("Flatten", "q3", "f3", "flat"),
        node("Gemm", "f3 w4 b4", "c4", "fc1", transB=1),
        node("Clip", "c4 low high", "r4", "act4"),
        node("MatMul", "r4 w5", "c5", "fc2"),
        node("Mul", "f3 f3", "g3", "square"),
        node("MatMul", "g3 w6", "c6", "fc3"),
        node("Add", "c5 c6", "y", "total"),
    ]
    shapes = {
        "w1": (4, 3, 3, 3),
        "w2": (4, 4, 3, 3),
        "b2": (4,),
        "w3": (6, 8, 1, 1),
        "w4": (7, 6),
        "b4": (7,),
        "w5": (7, 3),
        "w6": (6, 3),
    }
    constants = {name: normal(*shape) for name, shape in shapes.items()}
    constants |= {"g": normal(4) + 1, "b": normal(4), "m": normal(4), "v": normal(4) ** 2 + 1}
    constants |= {"low": np.float32(0), "high": np.float32(2)}
    return build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 3]}, constants)


def converted(path: Path, form: str, coding: str) -> onnx.ModelProto:
    done = convert(load(path), {"x": X}, time_steps=4, coding=coding, form=form, selection=SELECTION)
    return done.proto


def names_of(proto: onnx.ModelProto) -> set[str]:
    nodes = proto.graph.node
    names = {name for each in nodes for name in (each.name, *each.input, *each.output)}
    return names - {""}


def run(proto: onnx.ModelProto) -> NDArray[Any]:
    return open_session(proto, use_native=False).run(["y"], {"x": X})[0]


def crowded(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The network with nodes that bear these names, make tensors of these names, and change nothing of y."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.graph.node.extend(helper.make_node("Neg", ["x"], [name], name) for name in names)
    made.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    return made


def made_up(path: Path, proto: onnx.ModelProto) -> Iterator[tuple[str, str, set[str]]]:
    onnx.save(proto, path)
    for form, coding in TRIED:
        yield form, coding, names_of(converted(path, form, coding)) - names_of(proto)


@pytest.mark.filterwarnings("ignore::graphpass.verification.source.SourceWarning")
@pytest.mark.filterwarnings("ignore:the integer form differs")  # second neurons where they do not serve
def test_names_of_the_network_may_be_those_that_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nodes and as outputs, which keep their names."""
    monkeypatch.setattr(outliers, "PAYS", np.inf)  # second neurons wherever they serve
    path, proto = tmp_path / "m.onnx", network()
    for form, coding, names in list(made_up(path, proto)):
        assert len(names) > 20 and "g3/identity/neuron/beyond" in names
        plain = run(converted(path, form, coding))
        beside = tmp_path / "crowded.onnx"
        onnx.save(crowded(proto, sorted(names)), beside)
        source = load(beside)
        snn = convert(source, {"x": X}, time_steps=4, coding=coding, form=form, selection=SELECTION).proto
        assert {value.name for value in snn.graph.output} == {"y", *names}
        np.testing.assert_allclose(run(snn), plain, rtol=1e-4, atol=1e-5)  # calibrated in other pieces: float32 sums
        found = evaluate(source, snn, dataset_for(source, {"x": X}))
        assert len(found.sites) >= 4 and all(site.neurons for site in found.sites)
        if form != "integer":
            assert verify(snn, dataset_for(source, {"x": X}), limit=4).agrees


def test_a_site_inside_the_name_of_another(tmp_path: Path) -> None:
    """The neurons of a/neuron are not those of a."""
    nodes = [
        node("MatMul", "x w", "c", "one"), node("Relu", "c", "r", "a"),
        node("MatMul", "r w", "d", "a/neuron/neuron"), node("Relu", "d", "s", "a/neuron"),
        node("MatMul", "s w", "y", "a/neuron/1"),
    ]  # fmt: skip
    x = normal(16, 5)
    onnx.save(build(nodes, {"x": ["N", 5]}, {"y": ["N", 5]}, {"w": normal(5, 5)}), tmp_path / "m.onnx")
    source = load(tmp_path / "m.onnx")
    done = convert(source, {"x": x}, levels={"a": 3, "a/neuron": 5})
    assert [site.name for site in done.plan.sites] == ["a", "a/neuron"]
    found = evaluate(source, done.proto, dataset_for(source, {"x": x}))
    assert {site.name: site.levels for site in found.sites} == {"a": 3, "a/neuron": 5}
    assert [each.name for each in done.proto.graph.node if each.domain] == ["a/neuron", "a/neuron/neuron"]


@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_a_pooling_that_is_called_like_neurons(tmp_path: Path, coding: str) -> None:
    """Spikes of the neurons of a, which move behind the pooling in the phase code, are not those of a/neuron."""
    nodes = [
        node("Conv", "x w", "c", "one", pads=[1, 1, 1, 1]), node("Relu", "c", "r", "a"),
        node("MaxPool", "r", "p", "neuron/p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p w", "d", "two", pads=[1, 1, 1, 1]), node("Relu", "d", "s", "a/neuron"),
        node("MaxPool", "s", "q", "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "q w", "y", "a/neuron/pooled", pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    x = normal(16, 3, 8, 8)
    proto = build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 3, 2, 2]}, {"w": normal(3, 3, 3, 3)})
    rates = []
    for renamed in (False, True):
        if renamed:
            for each in proto.graph.node:
                each.name = "".join(chr(ord("k") + "xcrpdsqy".index(each.output[0])))
        onnx.save(proto, tmp_path / "m.onnx")
        source = load(tmp_path / "m.onnx")
        done = convert(source, {"x": x}, coding=coding, time_steps=4)
        rates.append([site.firing_rate for site in evaluate(source, done.proto, dataset_for(source, {"x": x})).sites])
    assert rates[0] == rates[1] and len(rates[0]) == 2
