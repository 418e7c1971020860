"""The benchmark of distributed levels runs from files to rows, on a small member."""

import numpy as np
import onnx
import pytest

from benchmarks import levels
from benchmarks.results import ENERGIES, divergence
from benchmarks.zoo import tasks
from benchmarks.zoo.entry import Entry, Samples
from tests.models import build, node


def test_divergence_of_two_classes():
    """p = (1/2, 1/2), q = (3/4, 1/4): KL = (log 2/3 + log 2) / 2."""
    ann, snn = np.zeros((3, 2), np.float32), np.tile(np.log(np.float32([3, 1])), (3, 1))
    assert divergence(ann, snn) == pytest.approx((np.log(2 / 3) + np.log(2)) / 2, rel=1e-6)
    assert divergence(snn, snn) == 0


def test_a_row_has_the_energies_and_the_task(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in (("w", (4, 8)), ("v", (8, 3)))}
    nodes = [node("MatMul", "x w", "c", "c"), node("Relu", "c", "a", "a"), node("MatMul", "a v", "y", "d")]
    onnx.save(build(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, constants), tmp_path / "net.onnx")
    x = random.normal(size=(64, 4)).astype(np.float32)
    labels = (np.maximum(x @ constants["w"], 0) @ constants["v"]).argmax(1)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "truth.npz", labels=labels)
    samples = Samples(tmp_path / "x.npz", tmp_path / "x.npz", tmp_path / "truth.npz")
    entry = Entry("", "", (), lambda: tmp_path / "net.onnx", lambda: samples, tasks.TOP1, (1.0,), batch=16)
    monkeypatch.setitem(levels.MEMBERS, "tiny", entry)
    rows = list(levels.pairs("tiny", [8], threads=1))
    name, what, steps, _, *cells = rows[-1]
    total, quantised, alone = map(float, cells[: len(ENERGIES)])
    assert (name, what, steps) == ("tiny", "equal", 8)
    assert total > quantised > 0 and alone > 0
    assert 0 <= float(cells[-1].split()[0]) < 30 and cells[-1].endswith("(top-1, %)")
