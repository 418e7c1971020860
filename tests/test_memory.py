"""Memory of large networks: how many are open at a time, and how often their weights are held."""

import gc
from collections.abc import Iterator
from pathlib import Path

import google.protobuf
import numpy as np
import onnx
import pytest

import graphpass
from benchmarks.memory import in_a_process
from graphpass.runtime.session import Session
from tests.models import build, node

WIDE, NARROW, PAIRS = 16384, 256, 4  # weights of 134 MB, and few neurons
OLD_PROTOBUF = tuple(map(int, google.protobuf.__version__.split(".")[:2])) < (7, 36)  # with which it is 6.9 and 8.7


def network(wide: int, narrow: int, pairs: int) -> onnx.ModelProto:
    """Pairs of layers, wide → narrow, Relu, narrow → wide."""
    random = np.random.default_rng(0)
    nodes, weights, x = [], {}, "x"
    for k in range(pairs):
        weights[f"a{k}"] = random.normal(size=(wide, narrow)).astype(np.float32) / wide**0.5
        weights[f"b{k}"] = random.normal(size=(narrow, wide)).astype(np.float32) / narrow**0.5
        y = f"x{k}" if k + 1 < pairs else "y"
        nodes += [
            node("MatMul", f"{x} a{k}", f"h{k}", f"in{k}"),
            node("Relu", f"h{k}", f"r{k}", f"relu{k}"),
            node("MatMul", f"r{k} b{k}", y, f"out{k}"),
        ]
        x = y
    return build(nodes, {"x": ["N", wide]}, {"y": ["N", wide]}, weights)


def data(wide: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(8, wide)).astype(np.float32)}


def test_weights_are_held_few_times(tmp_path: Path) -> None:
    """Times the size of the file, and some half a copy more than was measured (2.0, 4.4 and 6.2)."""
    onnx.save(network(WIDE, NARROW, PAIRS), tmp_path / "ann.onnx")
    np.savez(tmp_path / "data.npz", **data(WIDE))
    found = {call: in_a_process(call, tmp_path) for call in ("inspect", "convert, max", "evaluate")}
    most = {"inspect": 2.6, "convert, max": 5.0, "evaluate": 6.8}
    if OLD_PROTOBUF:
        most = {"inspect": 2.6, "convert, max": 7.5, "evaluate": 9.3}
    assert not {call: times for call, times in found.items() if times > most[call]}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many sessions were open whenever one was opened."""
    counted: list[int] = []
    create = Session.__init__

    def counting(self: Session, *arguments: object, **more: object) -> None:
        create(self, *arguments, **more)
        gc.collect()  # what lies about in circles is not open
        counted.append(sum(isinstance(each, Session) for each in gc.get_objects()))

    monkeypatch.setattr(Session, "__init__", counting)
    return counted


def test_few_sessions_are_open_at_once(at_once: list[int]) -> None:
    gc.collect()
    others = sum(isinstance(each, Session) for each in gc.get_objects())
    ann = network(12, 4, 2)
    folded = graphpass.convert(ann, data(12), time_steps=2)
    assert max(at_once) - others == 1
    del at_once[:]
    for form in ("unrolled", "integer"):
        graphpass.convert(ann, plan=folded.plan, form=form)
    assert max(at_once) - others == 1
    del at_once[:]
    graphpass.evaluate(ann, folded, data(12))
    assert max(at_once) - others == 3
